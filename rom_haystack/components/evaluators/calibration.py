"""Whether answers are right as often as their scores say."""

from dataclasses import asdict
from statistics import fmean
from typing import Any, Literal, Self, get_args

from haystack import component, default_from_dict, default_to_dict

from rom_haystack.components.evaluators._answers import (
    GroundTruth,
    Prediction,
    Predictions,
    check_lists,
    check_numbers,
    gold_answers,
    predictions,
)
from rom_haystack.metrics import (
    calibration_error,
    calibration_factor,
    equal_mass_bins,
    equal_width_bins,
    exact_match,
    f1,
    log_loss,
    log_odds,
)

#: What makes an answer right: 1 or 0, or any amount between.
Correctness = Literal["exact_match", "f1"]


@component
class CalibrationEvaluator:
    """Compare the probabilities of answers with how often they are right. Lower is better, unlike in other evaluators.

    ```python
    from rom_haystack import CalibrationEvaluator

    result = CalibrationEvaluator(bins=2).run(
        ground_truth_answers=["Nile", "1898", "Rome"],
        predicted_answers=["the Nile", "1898", "Paris"],
        scores=[0.9, 0.7, 0.4],
    )
    print(result["score"], result["expected_calibration_error"])  # 0.0867 and 0.2667, rounded
    ```

    Args:
        correctness: Whether an answer is as right as its exact match or as its F1.
        bins: Bins in which probabilities are compared.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    def __init__(self, correctness: Correctness = "exact_match", bins: int = 15) -> None:
        self.correctness = correctness
        self.bins = bins
        if correctness not in get_args(Correctness):
            raise ValueError(f"correctness is '{correctness}'; choose one of {', '.join(get_args(Correctness))}.")
        if bins < 1:
            raise ValueError(f"bins is {bins}; it must be at least 1.")

    def to_dict(self) -> dict[str, Any]:
        """Serialise the component."""
        return default_to_dict(self, correctness=self.correctness, bins=self.bins)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from `to_dict`'s output."""
        return default_from_dict(cls, data)

    @component.output_types(
        score=float,
        individual_scores=list[float],
        expected_calibration_error=float,
        equal_mass_calibration_error=float,
        negative_log_likelihood=float,
        calibration_factor=float,
        reliability=list[dict[str, Any]],
        equal_mass_reliability=list[dict[str, Any]],
    )
    def run(
        self, ground_truth_answers: GroundTruth, predicted_answers: Predictions, scores: list[float] | None = None
    ) -> dict[str, Any]:
        """Compare one prediction's score per question with the gold answers.

        Args:
            ground_truth_answers: By question, the gold answer or a list of alternatives; `""` or `[]` for no answer.
            predicted_answers: By question, an `ExtractedAnswer` or a list of those, best first, of which the first
                counts. A no-answer is right where the question has no answer. Texts need `scores`.
            scores: By question, the probability that the prediction is right. None takes the answers' own.

        Returns:
            `score`, the Brier score: the mean of `individual_scores`, each answer's squared distance between its
            probability and how right it is. `expected_calibration_error` over bins of equal width,
            `equal_mass_calibration_error` over bins of equally many answers, and the bins that are not empty as
            `reliability` and `equal_mass_reliability`: each with its ends `low` and `high`, the `count` of answers,
            their `confidence` and `accuracy`. `negative_log_likelihood`, in nats. `calibration_factor`: multiply a
            reader's by it for the least negative log-likelihood on these questions, searched from 0.01 to 10; above 1
            the scores are too timid, below 1 too bold. It is the inverse of the best temperature.

        Raises:
            TypeError: An input or an item is of another type; the message names it.
            ValueError: There are no questions, the inputs differ in length, or an answer has no score or none from 0
                to 1; the message names what is wrong.
        """
        check_lists(ground_truth_answers=ground_truth_answers, predicted_answers=predicted_answers)
        golds, predicted = gold_answers(ground_truth_answers), predictions(predicted_answers)
        if scores is not None:
            check_lists(predicted_answers=predicted_answers, scores=scores)
            probabilities = check_numbers("scores", scores, low=0, high=1)
        else:
            probabilities = check_numbers("scores of predicted_answers", _own_scores(predicted), low=0, high=1)
        metric = exact_match if self.correctness == "exact_match" else f1
        outcomes = [metric(one.text, gold) for one, gold in zip(predicted, golds, strict=True)]
        squares = [(p - outcome) ** 2 for p, outcome in zip(probabilities, outcomes, strict=True)]
        widths = equal_width_bins(probabilities, outcomes, self.bins)
        masses = equal_mass_bins(probabilities, outcomes, self.bins)
        return {
            "score": fmean(squares),
            "individual_scores": squares,
            "expected_calibration_error": calibration_error(widths),
            "equal_mass_calibration_error": calibration_error(masses),
            "negative_log_likelihood": log_loss(probabilities, outcomes),
            "calibration_factor": calibration_factor(log_odds(probabilities), outcomes),
            "reliability": [asdict(b) for b in widths],
            "equal_mass_reliability": [asdict(b) for b in masses],
        }


def _own_scores(predicted: list[Prediction]) -> list[float]:
    scores = [one.score for one in predicted if one.score is not None]
    if len(scores) < len(predicted):
        number = next(number for number, one in enumerate(predicted) if one.score is None)
        raise ValueError(
            f"predicted_answers[{number}] has no score. Give `scores`, or answers of a reader that always gives one "
            "(no_answer=True, no score_threshold)."
        )
    return scores
