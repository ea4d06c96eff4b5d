"""Span decoding over many windows, against plain code for one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference import spans as spans_module
from rom_haystack.inference.spans import decode_spans
from rom_haystack.inference.tokenization import Window

LOGITS = st.floats(-20, 20, width=32) | st.integers(-2, 2)  # whole numbers make for ties


def window_of(may_start, may_end):
    return Window(
        np.zeros((len(may_start), 2), dtype=np.int64),
        np.array(may_start, dtype=np.bool_),
        np.array(may_end, dtype=np.bool_),
    )


@st.composite
def read_windows(draw):
    """Start logits, end logits and the window itself."""
    length = draw(st.integers(1, 25))
    logits = st.lists(LOGITS, min_size=length, max_size=length).map(lambda values: np.array(values, dtype=np.float32))
    mask = st.lists(st.booleans(), min_size=length, max_size=length)
    return draw(logits), draw(logits), window_of([False, *draw(mask)[1:]], [False, *draw(mask)[1:]])


def plain(starts, ends, window, longest, count):
    """Score every span of one window and sort: by score, then by place."""
    length = len(window.may_start)
    null = float(starts[0]) + float(ends[0])
    scored = [
        (-(float(starts[first]) + float(ends[last])), first, last)
        for first in range(length)
        for last in range(first, min(first + longest, length))
        if window.may_start[first] and window.may_end[last]
    ]
    return [(first, last, (-score - null) / 2) for score, first, last in sorted(scored)[:count]]


def decoded(problems, longest, count):
    starts, ends, windows = zip(*problems, strict=True) if problems else ((), (), ())
    found = decode_spans(starts, ends, windows, max_answer_length=longest, count=count)
    return [list(zip(s.first.tolist(), s.last.tolist(), s.score.tolist(), strict=True)) for s in found]


@given(st.lists(read_windows(), max_size=8), st.integers(1, 30), st.integers(1, 40), st.sampled_from([1, 300, 10**6]))
def test_equals_plain_code_window_by_window(problems, longest, count, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans_module, "_SPANS_AT_ONCE", at_once)
        assert decoded(problems, longest, count) == [plain(*problem, longest, count) for problem in problems]


def test_score_is_the_mean_log_odds_against_the_null_position():
    starts = np.array([1.0, 0.0, 5.0, 0.0], dtype=np.float32)
    ends = np.array([2.0, 0.0, 0.0, 4.0], dtype=np.float32)
    window = window_of([False, True, True, True], [False, True, True, True])
    assert decoded([(starts, ends, window)], 5, 1) == [[(2, 3, 3.0)]]


def test_no_token_may_start():
    logits = np.zeros(4, dtype=np.float32)
    (none,) = decode_spans([logits], [logits], [window_of([False] * 4, [True] * 4)], max_answer_length=3, count=5)
    assert len(none) == 0


def test_span_as_long_as_the_limit_and_no_longer():
    starts, ends = np.zeros(10, dtype=np.float32), np.zeros(10, dtype=np.float32)
    starts[1] = ends[6] = 9
    problem = (starts, ends, window_of([False] + [True] * 9, [False] + [True] * 9))
    assert [span[:2] for span in decoded([problem], 6, 1)[0]] == [(1, 6)]
    assert max(last - first + 1 for first, last, _ in decoded([problem], 5, 100)[0]) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_no_answer(value):
    starts, ends = np.zeros(6, dtype=np.float32), np.zeros(6, dtype=np.float32)
    starts[2] = value
    window = window_of([False] + [True] * 5, [False] + [True] * 5)
    sound = (np.ones(6, dtype=np.float32), np.ones(6, dtype=np.float32), window)
    broken, beside = decoded([(starts, ends, window), sound], 3, 4)
    assert all(np.isfinite(score) for _, _, score in broken)
    assert beside == plain(*sound, 3, 4)


def test_thousands_of_windows_in_bounded_memory():
    rng = np.random.default_rng(3)
    window = window_of([False] + [True] * 383, [False] + [True] * 383)
    logits = list(rng.normal(size=(2000, 384)).astype(np.float32))
    tracemalloc.start()
    try:
        found = decode_spans(logits, logits[::-1], [window] * 2000, max_answer_length=30, count=8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert all(len(spans) == 8 for spans in found)
    assert peak < 20_000_000  # all bands at once would take 180 MB, all L×L matrices 2.4 GB
