"""Scoring and overlap removal, without a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference import Answer, ReadingOptions
from rom_haystack.inference.reading import ReadWindow, best_answers, sigmoid
from rom_haystack.inference.spans import Spans
from rom_haystack.inference.tokenization import Window

PASSAGE = (
    "The old  red house\tby the caf\u00e9 e\u0301te\u0301 burned \n down in 1898, said \U0001f469\u200d\U0001f4bb. "
)


def read_window(places, relevance=0.0):
    """A window with these (start, end, score), each span a token of its own."""
    offsets = np.array([place[:2] for place in places], dtype=np.int64).reshape(-1, 2)
    every = np.ones(len(places), dtype=np.bool_)
    tokens = np.arange(len(places))
    scores = np.array([score for *_, score in places], dtype=np.float64)
    return ReadWindow(Window(offsets, every, every), Spans(tokens, tokens, scores), relevance)


def plain_answers(passage, windows, options):
    """Make every answer, sort them all, by their own scores where they tie, and drop what clashes with a better one."""
    answers = []
    for read in windows:
        for token, score in zip(read.spans.first, read.spans.score, strict=True):
            start, end = quote(passage, *read.window.offsets[token].tolist())
            weight = options.passage_score_weight
            logit = (1 - weight) * float(score) + weight * read.relevance
            if start < end:
                answer = Answer(start, end, passage[start:end], logit, sigmoid(options.calibration_factor * logit))
                answers.append((float(score), answer))
    kept = []
    for _, answer in sorted(answers, key=lambda a: (-a[1].logit, -a[0], a[1].start, a[1].end)):
        if not any(clash(answer, other, options.overlap_threshold) for other in kept):
            kept.append(answer)
    return kept[: options.answers_per_seq]


def quote(passage, start, end):
    """Trim and complete one quote of `PASSAGE`, whose marks are few."""
    while start and passage[start : start + 1] in ("\u0301", "\u200d", "\U0001f4bb"):
        start -= 1
    while passage[end : end + 1] in ("\u0301", "\u200d", "\U0001f4bb"):
        end += 1
    text = passage[start:end]
    return end - len(text.lstrip()), start + len(text.rstrip())


def clash(answer, other, threshold):
    if (answer.start, answer.end) == (other.start, other.end):
        return True
    shared = len(set(range(answer.start, answer.end)) & set(range(other.start, other.end)))
    shorter = min(answer.end - answer.start, other.end - other.start)
    return threshold is not None and shared > threshold * shorter


@st.composite
def problems(draw):
    scores = st.floats(-9, 9) | st.integers(-1, 1)  # whole numbers make for ties
    starts = st.integers(0, len(PASSAGE) - 1)
    places = st.tuples(starts, st.integers(1, 15), scores).map(lambda p: (p[0], min(p[0] + p[1], len(PASSAGE)), p[2]))
    windows = st.builds(read_window, st.lists(places, max_size=25), st.floats(-9, 9) | st.integers(-1, 1))
    options = st.builds(
        ReadingOptions,
        answers_per_seq=st.integers(1, 12),
        passage_score_weight=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
        overlap_threshold=st.none() | st.floats(0, 1),
    )
    return draw(st.lists(windows, min_size=1, max_size=3)), draw(options)


class TestBestAnswers:
    @given(problems())
    def test_equals_plain_code(self, problem):
        assert best_answers(PASSAGE, *problem) == plain_answers(PASSAGE, *problem)

    @given(problems(), st.randoms(use_true_random=False))
    def test_order_of_windows_does_not_matter(self, problem, random):
        windows, options = problem
        shuffled = windows.copy()
        random.shuffle(shuffled)
        assert best_answers(PASSAGE, shuffled, options) == best_answers(PASSAGE, windows, options)

    def test_combines_span_and_relevance(self):
        text = "the red house"
        for weight, factor in [(0.0, 1.0), (0.3, 2.0), (1.0, 0.5)]:
            options = ReadingOptions(passage_score_weight=weight, calibration_factor=factor)
            (got,) = best_answers(text, [read_window([(4, 13, 1.5)], relevance=-0.8)], options)
            logit = (1 - weight) * 1.5 + weight * -0.8
            assert (got.start, got.end, got.text) == (4, 13, "red house")
            assert got.logit == pytest.approx(logit)
            assert got.score == pytest.approx(1 / (1 + math.exp(-factor * logit)))

    def test_windows_compete_by_their_relevance_too(self):
        windows = [read_window([(0, 3, 2.0)], relevance=-1.0), read_window([(4, 7, 1.0)], relevance=1.0)]
        got = best_answers(PASSAGE, windows, ReadingOptions(passage_score_weight=0.5))
        assert [(a.text, a.logit) for a in got] == [("old", 1.0), ("The", 0.5)]

    def test_the_same_span_in_two_windows_is_one_answer(self):
        windows = [read_window([(4, 7, score)]) for score in (1.0, 2.0, 0.5)]
        for threshold in (None, 0.0, 0.5, 1.0):
            options = ReadingOptions(overlap_threshold=threshold, passage_score_weight=0.0)
            assert [a.logit for a in best_answers(PASSAGE, windows, options)] == [2.0]

    def test_threshold_is_a_fraction_of_the_shorter(self):
        text = "x" * 25
        windows = [read_window([(0, 20, 2.0), (15, 25, 1.0)])]  # 5 of 10 characters are shared
        for threshold, expected in [(0.49, [20]), (0.5, [20, 10]), (None, [20, 10])]:
            answers = best_answers(text, windows, ReadingOptions(overlap_threshold=threshold))
            assert [len(a.text) for a in answers] == expected

    def test_no_span_is_no_answer(self):
        assert best_answers("red", [read_window([]), read_window([])], ReadingOptions()) == []

    def test_a_span_of_mere_space_is_no_answer(self):
        assert best_answers("a \u3000\t b", [read_window([(1, 4, 9.0)])], ReadingOptions()) == []

    def test_answers_hold_plain_numbers(self):
        (got,) = best_answers("red", [read_window([(0, 3, 1.0)])], ReadingOptions())
        assert [type(value) for value in (got.start, got.end, got.logit, got.score)] == [int, int, float, float]


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
