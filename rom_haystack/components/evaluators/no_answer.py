"""How well questions with and without an answer are told apart."""

import math
from statistics import fmean
from typing import Any, Self

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
from rom_haystack.metrics import average_precision, best_threshold, exact_match, f1, roc_auc, withhold_above


@component
class NoAnswerEvaluator:
    """Score answers to questions of which some have none, as SQuAD 2.0 does.

    ```python
    from rom_haystack import NoAnswerEvaluator

    result = NoAnswerEvaluator().run(
        ground_truth_answers=["1898", "Nile", ""],
        predicted_answers=["1898", "the Nile", "Amazon"],
        no_answer_scores=[0.1, 0.3, 0.8],
    )
    print(result["f1"], result["best_f1"], result["best_f1_threshold"])  # 0.6666666666666666 1.0 0.3
    ```

    Args:
        no_answer_threshold: Take as "no answer" what has a no-answer score above this, and else the best answer. None
            takes the predictions as they are.

    Raises:
        ValueError: The threshold is not finite.
    """

    def __init__(self, no_answer_threshold: float | None = None) -> None:
        self.no_answer_threshold = no_answer_threshold
        if no_answer_threshold is not None and not math.isfinite(no_answer_threshold):
            raise ValueError(f"no_answer_threshold is {no_answer_threshold}; it must be finite, or None.")

    def to_dict(self) -> dict[str, Any]:
        """Serialise the component."""
        return default_to_dict(self, no_answer_threshold=self.no_answer_threshold)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from `to_dict`'s output."""
        return default_from_dict(cls, data)

    @component.output_types(
        score=float,
        individual_scores=list[float],
        exact_match=float,
        f1=float,
        has_answer_count=int,
        has_answer_exact_match=float | None,
        has_answer_f1=float | None,
        no_answer_count=int,
        no_answer_exact_match=float | None,
        no_answer_f1=float | None,
        best_exact_match=float | None,
        best_exact_match_threshold=float | None,
        best_f1=float | None,
        best_f1_threshold=float | None,
        roc_auc=float | None,
        average_precision=float | None,
    )
    def run(
        self,
        ground_truth_answers: GroundTruth,
        predicted_answers: Predictions,
        no_answer_scores: list[float] | None = None,
    ) -> dict[str, Any]:
        """Score one prediction per question.

        Args:
            ground_truth_answers: By question, the gold answer or a list of alternatives; `""` or `[]` for no answer.
            predicted_answers: By question, the predicted text, an answer object, or a list of those, best first. For
                thresholds, texts are best given for all questions, those that are better not answered too; in a
                reader's list the best answer is there beside the no-answer if `top_k` is 2 or more.
            no_answer_scores: By question, how likely it has no answer, as a probability or any other number. None
                takes the score of the reader's no-answer, or 1 minus its best answer's where it gave none; where
                predictions have no scores, what needs them is None.

        Returns:
            `exact_match` and `f1` of all questions, `has_answer_…` of those with an answer, `no_answer_…` of those
            without; `best_…` with the threshold that serves best, and `best_…_threshold`; `roc_auc` and
            `average_precision` of the no-answer scores in finding questions without an answer. `individual_scores`
            are F1 per question, `score` their mean. None where it can't be known.

        Raises:
            TypeError: An input or an item is of another type; the message names it.
            ValueError: There are no questions, the inputs differ in length, a no-answer score is not finite, or there
                is a threshold but no score; the message names what is wrong.
        """
        check_lists(ground_truth_answers=ground_truth_answers, predicted_answers=predicted_answers)
        golds, predicted = gold_answers(ground_truth_answers), predictions(predicted_answers)
        if no_answer_scores is not None:
            check_lists(predicted_answers=predicted_answers, no_answer_scores=no_answer_scores)
        scores = _no_answer_scores(predicted, no_answer_scores)
        if scores is None and self.no_answer_threshold is not None:
            raise ValueError(
                f"no_answer_threshold is {self.no_answer_threshold}, but the predictions have no scores. Give "
                "no_answer_scores, or a reader's answers as they are."
            )
        has = [bool(gold) for gold in golds]
        by_metric = {}
        figures: dict[str, Any] = {"has_answer_count": sum(has), "no_answer_count": len(has) - sum(has)}
        for name, metric in (("exact_match", exact_match), ("f1", f1)):
            values = [metric(one.text, gold) for one, gold in zip(predicted, golds, strict=True)]
            best = None
            if scores is not None:
                quoted = [metric(one.quote, gold) for one, gold in zip(predicted, golds, strict=True)]
                best = best_threshold(quoted, has, scores)
                if self.no_answer_threshold is not None:
                    values = withhold_above(self.no_answer_threshold, quoted, has, scores)
            by_metric[name] = values
            figures |= {
                name: fmean(values),
                f"has_answer_{name}": _mean([value for value, yes in zip(values, has, strict=True) if yes]),
                f"no_answer_{name}": _mean([value for value, yes in zip(values, has, strict=True) if not yes]),
                f"best_{name}": best.value if best else None,
                f"best_{name}_threshold": best.threshold if best else None,
            }
        return {
            "score": figures["f1"],
            "individual_scores": by_metric["f1"],
            **figures,
            "roc_auc": None if scores is None else roc_auc(has, scores),
            "average_precision": None if scores is None else average_precision(has, scores),
        }


def _no_answer_scores(predicted: list[Prediction], given: list[float] | None) -> list[float] | None:
    """Return the scores that were given, else those of the predictions, None where one has none."""
    if given is not None:
        return check_numbers("no_answer_scores", given)
    if any(one.no_answer_score is None for one in predicted):
        return None
    return check_numbers("no-answer scores of predicted_answers", [one.no_answer_score for one in predicted])


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
