"""Figures on questions without an answer, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rom_haystack.inference import Answer
from rom_haystack.inference.reading import sigmoid
from training.data.dataset import Question
from training.unanswerable import (
    Judged,
    answer_probabilities,
    auroc,
    cross_fitted_error,
    expected_error,
    no_answer_threshold,
    squad2,
)

#: Two answerable questions, one answered rightly, and two without an answer; the last is hard to tell.
JUDGED = Judged(
    answerable=np.array([True, True, False, False]),
    logits=np.array([3.0, -1.0, -2.0, 1.0]),
    em=np.array([1.0, 1.0, 0.0, 0.0]),
    f1=np.array([1.0, 1.0, 0.0, 0.0]),
)


def figures(judged):
    return {name: statistic(judged) for name, statistic in squad2(judged).items()}


def test_squad2_withholds_what_no_answer_beats():
    found = figures(JUDGED)
    # the second question's right answer is withheld, the fourth gets a wrong one
    assert found["SQuAD 2.0 EM"] == found["SQuAD 2.0 F1"] == 0.5
    # answers from 3 on, or from -1 on
    assert found["SQuAD 2.0 best EM"] == found["SQuAD 2.0 best F1"] == 0.75
    assert found["no-answer AUROC, adversarial"] == 0.75
    assert no_answer_threshold(JUDGED) == 3.0


def test_at_the_threshold_an_answer_is_given():
    kept = JUDGED.logits >= no_answer_threshold(JUDGED)
    right = np.where(kept, JUDGED.f1, ~JUDGED.answerable)
    assert right.mean() == figures(JUDGED)["SQuAD 2.0 best F1"]


def test_without_both_kinds_there_are_no_figures():
    assert squad2(JUDGED.take(np.array([0, 1]))) == {}
    assert squad2(JUDGED.take(np.array([2, 3]))) == {}
    assert auroc(JUDGED.take(np.array([2, 3]))) is None


def test_answers_are_judged_and_empty_passages_have_none():
    questions = [Question("a", "?", ("Nile",), "p"), Question("b", "?", (), "p"), Question("c", "?", ("x",), "p")]
    answers = [Answer(0, 8, "The Nile", 2.0, 0.9), Answer(0, 1, "y", -1.0, 0.1), None]
    judged = Judged.of(questions, answers, np.array(["Nile", "Nile", "Moon"]))
    assert judged.take(np.array([2, 0])).articles.tolist() == ["Moon", "Nile"]
    assert Judged.joined([judged, judged]).articles.tolist() == ["Nile", "Nile", "Moon"] * 2
    assert judged.answerable.tolist() == [True, False, True]
    assert judged.logits.tolist() == [2.0, -1.0, -np.inf]
    assert judged.em.tolist() == judged.f1.tolist() == [1.0, 0.0, 0.0]
    found = figures(judged)
    assert found["SQuAD 2.0 EM"] == pytest.approx(2 / 3)
    assert len(Judged.joined([judged, JUDGED])) == 7


def test_scores_are_those_of_the_reader():
    logits = np.array([-np.inf, -800.0, -1.0, 0.0, 2.5, 800.0])
    expected = [sigmoid(0.3 * logit) for logit in logits]
    assert answer_probabilities(logits, 0.3).tolist() == pytest.approx(expected)


def test_calibration_error():
    rng = np.random.default_rng(2)
    logits = rng.normal(1, 6, size=20_000)
    right = (rng.random(20_000) < answer_probabilities(logits, 0.4)).astype(float)
    assert expected_error(logits, right, 0.4) < 0.015
    assert expected_error(logits, right, 2.0) > 0.1
    assert cross_fitted_error(logits, right, [str(row) for row in range(20_000)]) < 0.02
    assert cross_fitted_error(logits, right, ["one"] * 20_000) < 0.02
    assert 0 <= cross_fitted_error(np.array([-np.inf, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]), ["a", "b", "c"]) <= 1


def test_halves_that_are_fitted_and_judged_share_no_article():
    # all answers about one article are right, all about the other wrong: what fits one half fits the other not
    about_nile = np.arange(1000) % 2 == 0
    logits, right = np.ones(1000), about_nile.astype(float)
    articles = np.where(about_nile, "Nile", "Moon").tolist()
    assert cross_fitted_error(logits, right, articles) == pytest.approx(0.75, abs=0.01)
