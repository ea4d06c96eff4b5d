"""Calibration of answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rom_haystack import CalibrationEvaluator

GOLDS = [["red fox"], ["blue"], [], ["green"]]


@pytest.fixture
def read(answer):
    return [
        [answer("fox", 0.6), answer(None, 0.4)],
        [answer("blue", 0.9), answer(None, 0.1)],
        [answer(None, 0.7), answer("white", 0.3)],
        [answer(None, 0.8), answer("green", 0.2)],
    ]


def test_by_exact_match(read):
    result = CalibrationEvaluator(bins=2).run(GOLDS, read)
    assert result["individual_scores"] == pytest.approx([0.6**2, 0.1**2, 0.3**2, 0.8**2])
    assert result["score"] == pytest.approx((0.36 + 0.01 + 0.09 + 0.64) / 4)
    assert result["negative_log_likelihood"] == pytest.approx(-np.mean(np.log([0.4, 0.9, 0.7, 0.2])))
    (bin_,) = result["reliability"]
    assert bin_ == {"low": 0.5, "high": 1.0, "count": 4, "confidence": pytest.approx(0.75), "accuracy": 0.5}
    assert result["expected_calibration_error"] == pytest.approx(0.25)
    assert [b["count"] for b in result["equal_mass_reliability"]] == [2, 2]
    assert result["equal_mass_calibration_error"] == pytest.approx((abs(0.65 - 0.5) + abs(0.85 - 0.5)) / 2)


def test_by_f1(read):
    result = CalibrationEvaluator(correctness="f1").run(GOLDS, read)
    assert result["individual_scores"] == pytest.approx([(2 / 3 - 0.6) ** 2, 0.1**2, 0.3**2, 0.8**2])


def test_given_scores_take_the_place_of_the_answers_own(read):
    result = CalibrationEvaluator().run(GOLDS, read, [0, 1, 1, 0])
    assert result["score"] == result["expected_calibration_error"] == 0
    assert result == CalibrationEvaluator().run(GOLDS, ["fox", "blue", "", ""], [0, 1, 1, 0])


def test_the_factor_calibrates(answer):
    rng = np.random.default_rng(11)
    logits = rng.normal(0.5, 1.5, size=4000)
    right = rng.random(4000) < 1 / (1 + np.exp(-0.5 * logits))
    golds = [["yes"] if yes else ["no"] for yes in right]

    def measure(factor):
        scores = 1 / (1 + np.exp(-factor * logits))
        return CalibrationEvaluator().run(golds, [answer("yes", float(score)) for score in scores])

    bold = measure(1.0)
    assert bold["calibration_factor"] == pytest.approx(0.5, rel=0.1)
    fitted = measure(bold["calibration_factor"])
    assert fitted["calibration_factor"] == pytest.approx(1, rel=0.03)
    for name in ("negative_log_likelihood", "expected_calibration_error", "equal_mass_calibration_error", "score"):
        assert fitted[name] < bold[name]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, 1.1])
def test_scores_that_are_no_probabilities(wrong, answer):
    with pytest.raises(ValueError, match=rf"scores\[1\] is {wrong}; it must be from 0 to 1"):
        CalibrationEvaluator().run(["a", "b"], ["a", "b"], [0.5, wrong])
    with pytest.raises(ValueError, match=rf"scores of predicted_answers\[1\] is {wrong}; it must be from 0 to 1"):
        CalibrationEvaluator().run(["a", "b"], [answer("a"), answer("b", wrong)])


@pytest.mark.parametrize("prediction", ["a", [], None])
def test_predictions_without_a_score(prediction, answer):
    with pytest.raises(ValueError, match=r"predicted_answers\[1\] has no score.*no_answer=True"):
        CalibrationEvaluator().run(["a", "b"], [answer("a"), prediction])


def test_lengths_and_options():
    with pytest.raises(ValueError, match="1 predicted_answers and 2 scores"):
        CalibrationEvaluator().run(["a"], ["a"], [0.5, 0.5])
    with pytest.raises(ValueError, match="correctness is 'sas'"):
        CalibrationEvaluator(correctness="sas")
    with pytest.raises(ValueError, match="bins is 0"):
        CalibrationEvaluator(bins=0)
    evaluator = CalibrationEvaluator("f1", bins=4)
    assert evaluator.to_dict()["init_parameters"] == {"correctness": "f1", "bins": 4}
