"""Span decoding, scoring and overlap removal, without a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference import Answer, ReadingOptions
from rom_haystack.inference.reading import Span, Window, best_answers, decode_spans, make_answer, sigmoid, splits_word


def window_of(may_start, may_end):
    length = len(may_start)
    offsets = np.stack([np.arange(length), np.arange(length) + 1], axis=1)
    return Window(offsets, np.array(may_start, dtype=np.bool_), np.array(may_end, dtype=np.bool_))


def words(text):
    """A window whose tokens are the words of a text, after one null token."""
    offsets, position = [(0, 0)], 0
    for word in text.split(" "):
        offsets.append((position, position + len(word)))
        position += len(word) + 1
    inside = np.array([False] + [True] * (len(offsets) - 1))
    return Window(np.array(offsets), inside, inside)


def answer(start, end, logit):
    return Answer(start, end, "x" * (end - start), logit, sigmoid(logit))


@st.composite
def decoding_problems(draw):
    length = draw(st.integers(1, 25))
    logits = st.lists(st.floats(-20, 20, width=32), min_size=length, max_size=length)
    mask = st.lists(st.booleans(), min_size=length, max_size=length)
    window = window_of([False, *draw(mask)[1:]], [False, *draw(mask)[1:]])
    padding = draw(st.lists(st.floats(20, 30, width=32), max_size=4))  # padding must never win
    starts, ends = (np.array(draw(logits) + padding, dtype=np.float32) for _ in range(2))
    return starts, ends, window, draw(st.integers(1, 30)), draw(st.integers(1, 40))


class TestDecodeSpans:
    @given(decoding_problems())
    def test_equals_brute_force(self, problem):
        starts, ends, window, longest, count = problem
        length = len(window.may_start)
        null = float(starts[0]) + float(ends[0])
        expected = {
            (first, last): (float(starts[first]) + float(ends[last]) - null) / 2
            for first in range(length)
            for last in range(first, min(first + longest, length))
            if window.may_start[first] and window.may_end[last]
        }
        spans = decode_spans(starts, ends, window, max_answer_length=longest, count=count)
        assert len(spans) == min(count, len(expected)) == len({(s.first, s.last) for s in spans})
        for span in spans:
            assert span.score == pytest.approx(expected[span.first, span.last], abs=1e-4)
        best = sorted(expected.values(), reverse=True)[:count]
        assert [span.score for span in spans] == pytest.approx(best, abs=1e-4)
        assert [span.score for span in spans] == sorted((span.score for span in spans), reverse=True)

    def test_score_is_the_mean_log_odds_against_the_null_position(self):
        starts = np.array([1.0, 0.0, 5.0, 0.0], dtype=np.float32)
        ends = np.array([2.0, 0.0, 0.0, 4.0], dtype=np.float32)
        window = window_of([False, True, True, True], [False, True, True, True])
        assert decode_spans(starts, ends, window, max_answer_length=5, count=1) == [Span(2, 3, 3.0)]

    def test_no_token_may_start(self):
        logits = np.zeros(4, dtype=np.float32)
        assert decode_spans(logits, logits, window_of([False] * 4, [True] * 4), max_answer_length=3, count=5) == []

    def test_span_as_long_as_the_limit_and_no_longer(self):
        starts, ends = np.zeros(10, dtype=np.float32), np.zeros(10, dtype=np.float32)
        starts[1] = ends[6] = 9
        window = window_of([False] + [True] * 9, [False] + [True] * 9)
        (within,) = decode_spans(starts, ends, window, max_answer_length=6, count=1)
        assert (within.first, within.last) == (1, 6)
        shorter = decode_spans(starts, ends, window, max_answer_length=5, count=100)
        assert max(span.last - span.first + 1 for span in shorter) == 5


class TestMakeAnswer:
    def test_combines_span_and_relevance(self):
        text = "the red house"
        for weight, factor in [(0.0, 1.0), (0.3, 2.0), (1.0, 0.5)]:
            options = ReadingOptions(passage_score_weight=weight, calibration_factor=factor)
            got = make_answer(text, words(text), Span(2, 3, 1.5), -0.8, options)
            logit = (1 - weight) * 1.5 + weight * -0.8
            assert (got.start, got.end, got.text) == (4, 13, "red house")
            assert got.logit == pytest.approx(logit)
            assert got.score == pytest.approx(1 / (1 + math.exp(-factor * logit)))

    @pytest.mark.parametrize(
        ("passage", "start", "end", "text"),
        [
            ("  red \n", 0, 7, "red"),
            ("\u3000red\u2003", 0, 5, "red"),
            ("cafe\u0301 noir", 0, 4, "cafe\u0301"),  # the accent stays with its letter
            ("le cafe\u0301\u0323", 3, 7, "cafe\u0301\u0323"),
            ("हिन्दी भाषा", 0, 1, "हि"),  # a spacing vowel sign
            ("हिन्दी भाषा", 1, 2, "हि"),
            ("a ❤\ufe0f b", 2, 3, "❤\ufe0f"),
            ("a 👩\u200d💻 b", 2, 3, "👩\u200d💻"),  # joined to what follows
            ("a 👩\u200d💻 b", 4, 5, "👩\u200d💻"),
            ("a 👍🏽 b", 2, 3, "👍🏽"),  # a skin tone
            ("a 👍🏽 b", 3, 4, "👍🏽"),
        ],
    )
    def test_trims_space_and_keeps_characters_whole(self, passage, start, end, text):
        window = Window(np.array([[start, end]]), np.array([True]), np.array([True]))
        got = make_answer(passage, window, Span(0, 0, 1.0), 0.0, ReadingOptions())
        assert got.text == text
        assert passage[got.start : got.end] == text

    @pytest.mark.parametrize("passage", [" \t\n ", "\u3000", ""])
    def test_nothing_but_space(self, passage):
        window = Window(np.array([[0, len(passage)]]), np.array([True]), np.array([True]))
        assert make_answer(passage, window, Span(0, 0, 1.0), 0.0, ReadingOptions()) is None

    @given(st.text(max_size=30), st.data())
    def test_offset_law_for_any_token(self, passage, data):
        start = data.draw(st.integers(0, len(passage)))
        end = data.draw(st.integers(start, len(passage)))
        window = Window(np.array([[start, end]]), np.array([True]), np.array([True]))
        got = make_answer(passage, window, Span(0, 0, 1.0), 0.0, ReadingOptions())
        if got is None:
            assert not passage[start:end].strip()
        else:
            assert passage[got.start : got.end] == got.text == got.text.strip() != ""


class TestBestAnswers:
    answers = st.lists(
        st.builds(
            lambda start, size, logit: answer(start, start + size, logit),
            st.integers(0, 30),
            st.integers(1, 12),
            st.floats(-9, 9),
        ),
        max_size=40,
    )
    thresholds = st.none() | st.floats(0, 1)

    @given(answers, thresholds, st.integers(1, 10))
    def test_best_first_without_overlap(self, found, threshold, limit):
        options = ReadingOptions(overlap_threshold=threshold, answers_per_seq=limit)
        kept = best_answers(found, options)
        assert len(kept) <= limit
        assert bool(kept) == bool(found)
        assert all(a in found for a in kept)
        assert [a.logit for a in kept] == sorted((a.logit for a in kept), reverse=True)
        assert len({(a.start, a.end) for a in kept}) == len(kept)
        for i, one in enumerate(kept):
            for other in kept[:i]:
                shared = max(0, min(one.end, other.end) - max(one.start, other.start))
                shorter = min(one.end - one.start, other.end - other.start)
                assert threshold is None or shared <= threshold * shorter

    @given(answers, thresholds)
    def test_whatever_is_dropped_clashes_with_something_better(self, found, threshold):
        kept = best_answers(found, ReadingOptions(overlap_threshold=threshold, answers_per_seq=100))
        for dropped in (a for a in found if a not in kept):
            better = [k for k in kept if k.logit >= dropped.logit]
            assert any(min(k.end, dropped.end) > max(k.start, dropped.start) for k in better)

    @given(answers, st.randoms(use_true_random=False))
    def test_order_of_windows_does_not_matter(self, found, random):
        shuffled = found.copy()
        random.shuffle(shuffled)
        assert best_answers(shuffled, ReadingOptions()) == best_answers(found, ReadingOptions())

    def test_the_same_span_in_two_windows_is_one_answer(self):
        found = [answer(3, 8, 1.0), answer(3, 8, 2.0), answer(3, 8, 0.5)]
        for threshold in (None, 0.0, 0.5, 1.0):
            assert best_answers(found, ReadingOptions(overlap_threshold=threshold)) == [found[1]]

    def test_threshold_is_a_fraction_of_the_shorter(self):
        long, short = answer(0, 20, 2.0), answer(15, 25, 1.0)  # 5 of 10 characters are shared
        assert best_answers([long, short], ReadingOptions(overlap_threshold=0.49)) == [long]
        assert best_answers([long, short], ReadingOptions(overlap_threshold=0.5)) == [long, short]
        assert best_answers([long, short], ReadingOptions(overlap_threshold=None)) == [long, short]


@given(st.floats(allow_nan=False))
def test_sigmoid_takes_any_number(logit):
    assert 0 <= sigmoid(logit) <= 1
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_query_length": 0}, "max_query_length is 0; it must be at least 1"),
        ({"max_answer_length": -1}, "max_answer_length is -1; it must be at least 1"),
        ({"answers_per_seq": 0}, "answers_per_seq is 0; it must be at least 1"),
        ({"max_seq_length": 68}, "max_seq_length is 68 and max_query_length 64: no room"),
        ({"max_seq_length": 100, "stride": 32}, "stride is 32; it must be from 0 to 31"),
        ({"stride": -1}, "stride is -1; it must be from 0"),
        ({"passage_score_weight": 1.01}, "passage_score_weight is 1.01; it must be from 0 to 1"),
        ({"passage_score_weight": -0.1}, "passage_score_weight is -0.1"),
        ({"passage_score_weight": math.nan}, "passage_score_weight is nan"),
        ({"calibration_factor": 0}, "calibration_factor is 0; it must be above 0"),
        ({"calibration_factor": math.nan}, "calibration_factor is nan"),
        ({"max_batch_size": 0}, "max_batch_size is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        ReadingOptions(**options)


def test_options_at_their_limits():
    ReadingOptions(max_seq_length=69, stride=0, max_answer_length=1, answers_per_seq=1, passage_score_weight=0)
    ReadingOptions(max_seq_length=100, stride=31, passage_score_weight=1, max_batch_size=1, overlap_threshold=None)


@pytest.mark.parametrize(
    ("text", "position", "parted"),
    [
        ("Marie Curie.", 11, False),
        ("Marie Curie.", 3, True),
        ("(Paris), 1898", 1, False),
        ("1990s", 4, True),
        ("e\u0301te\u0301", 2, True),  # a combining mark is part of its word
        ("居里夫人发现镭", 4, False),
        ("привет", 2, True),
        ("word", 0, False),
        ("word", 4, False),
    ],
)
def test_words_are_told_by_the_text(text, position, parted):
    assert splits_word(text, position) is parted
