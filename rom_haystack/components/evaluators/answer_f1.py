"""How many words answers share with gold answers."""

from statistics import fmean
from typing import Any

from haystack import component

from rom_haystack.components.evaluators._answers import (
    GroundTruth,
    Predictions,
    check_lists,
    gold_answers,
    predictions,
)
from rom_haystack.metrics import f1


@component
class AnswerF1Evaluator:
    """Compare answers to gold answers by SQuAD's F1 over words.

    Case, punctuation, articles and extra white space don't matter; of several gold answers the nearest counts. Where
    a question has no answer, only "no answer" scores 1.

    ```python
    from rom_haystack import AnswerF1Evaluator

    result = AnswerF1Evaluator().run(
        ground_truth_answers=["the red fox", ["Nile", "River Nile"], []],
        predicted_answers=["a fox", "the River Nile", "Amazon"],
    )
    print(result["individual_scores"])  # [0.6666666666666666, 1.0, 0.0]
    ```
    """

    @component.output_types(individual_scores=list[float], score=float)
    def run(self, ground_truth_answers: GroundTruth, predicted_answers: Predictions) -> dict[str, Any]:
        """Score one prediction per question.

        Args:
            ground_truth_answers: By question, the gold answer or a list of alternatives; `""` or `[]` for no answer.
            predicted_answers: By question, the predicted text, an answer object, or a list of those, best first, of
                which the first counts. Empty, None and an answer whose `data` is None say that there is no answer.

        Returns:
            `individual_scores`, from 0 to 1 per question, and `score`, their mean.

        Raises:
            TypeError: An input or an item is of another type; the message names it.
            ValueError: There are no questions, or not as many predictions; the message names the numbers.
        """
        check_lists(ground_truth_answers=ground_truth_answers, predicted_answers=predicted_answers)
        golds, predicted = gold_answers(ground_truth_answers), predictions(predicted_answers)
        scores = [f1(one.text, gold) for one, gold in zip(predicted, golds, strict=True)]
        return {"individual_scores": scores, "score": fmean(scores)}
