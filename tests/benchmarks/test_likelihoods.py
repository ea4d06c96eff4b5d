"""What the benchmark of the demo's words counts, and what it is held to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.expectations import read_expectations
from benchmarks.likelihoods import EXPECTATIONS, by_word, error, shares
from demo.core.wording import chance, further_likelihood, likelihood

SCORES = [score / 100 for score in range(50, 100)]


def test_right_answers_are_counted_by_word():
    judged = [(0.1, False), (0.2, True), (0.3, False), (0.9, True)]
    assert by_word(judged, lambda score: "high" if score > 0.5 else "low") == {
        "high": {"answers": 1, "right": 100.0},
        "low": {"answers": 3, "right": 33.3},
    }


def answers(*rights: int) -> list[tuple[float, bool]]:
    """Fifty answers per number, of which so many are right, each group with a higher score than the one before."""
    return [(group + 0.01 * place, place < right) for group, right in enumerate(rights) for place in range(50)]


def test_shares_never_fall_as_the_score_rises():
    assert [(group["right"], group["answers"]) for group in shares(answers(10, 30, 20, 45))] == [
        (20.0, 50),
        (50.0, 100),
        (90.0, 50),
    ]
    assert shares(answers(5, 5))[0]["score"] == pytest.approx(0.745)


def test_few_answers_at_the_end_join_the_last_group():
    assert [group["answers"] for group in shares([*answers(10, 40), (9.0, True)])] == [50, 51]
    assert [group["answers"] for group in shares([(0.5, True), (0.6, False)])] == [2]


def test_the_error_is_how_far_what_is_shown_is_from_what_is_right():
    assert error(answers(10, 40), lambda score: 0.2 if score < 1 else 0.8) == 0
    assert error(answers(10, 40), lambda _: 0.5) == 30


def test_expectations_are_about_figures_that_are_measured():
    results = {
        "best": by_word([(score, True) for score in SCORES], likelihood),
        "further": by_word([(score, False) for score in SCORES], further_likelihood),
        "shown": {"error": error([(score, True) for score in SCORES], chance)},
    }
    values = [expectation.value(results) for expectation in read_expectations(EXPECTATIONS)]
    assert values
    assert None not in values
    named = {expectation.figure.split(".")[1] for expectation in read_expectations(EXPECTATIONS)}
    assert named == {*results["best"], *results["further"], "error"}


@pytest.mark.parametrize("kind", ["best", "further"])
def test_limits_of_words_do_not_overlap(kind):
    limits: dict[str, dict[bool, float]] = {}
    for expectation in read_expectations(EXPECTATIONS):
        group, word = expectation.figure.split(".")[:2]
        if group == kind:
            limits.setdefault(word, {})[expectation.upper] = expectation.limit
    ranges = sorted((found.get(False, 0), found.get(True, 100)) for found in limits.values())
    assert all(high <= low for (_, high), (low, _) in pairwise(ranges))
