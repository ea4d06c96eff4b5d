"""What the benchmark of the demo's words counts, and what it is held to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.expectations import read_expectations
from benchmarks.likelihoods import EXPECTATIONS, by_word
from demo.core.wording import further_likelihood, likelihood

SCORES = [score / 100 for score in range(50, 100)]


def test_right_answers_are_counted_by_word():
    judged = [(0.1, False), (0.2, True), (0.3, False), (0.9, True)]
    assert by_word(judged, lambda score: "high" if score > 0.5 else "low") == {
        "high": {"answers": 1, "right": 100.0},
        "low": {"answers": 3, "right": 33.3},
    }


def test_expectations_are_about_figures_that_are_measured():
    results = {
        "best": by_word([(score, True) for score in SCORES], likelihood),
        "further": by_word([(score, False) for score in SCORES], further_likelihood),
    }
    values = [expectation.value(results) for expectation in read_expectations(EXPECTATIONS)]
    assert values
    assert None not in values
    named = {expectation.figure.split(".")[1] for expectation in read_expectations(EXPECTATIONS)}
    assert named == {*results["best"], *results["further"]}


@pytest.mark.parametrize("kind", ["best", "further"])
def test_limits_of_words_do_not_overlap(kind):
    limits: dict[str, dict[bool, float]] = {}
    for expectation in read_expectations(EXPECTATIONS):
        group, word, _ = expectation.figure.split(".")
        if group == kind:
            limits.setdefault(word, {})[expectation.upper] = expectation.limit
    ranges = sorted((found.get(False, 0), found.get(True, 100)) for found in limits.values())
    assert all(high <= low for (_, high), (low, _) in pairwise(ranges))
