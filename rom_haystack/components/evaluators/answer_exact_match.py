"""Share of questions whose answer is a gold answer."""

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
from rom_haystack.metrics import exact_match


@component
class AnswerExactMatchEvaluator:
    """Compare answers to gold answers by SQuAD's exact match.

    Takes the place of Haystack's evaluator of the same name. That one compares the bare texts; this one first lowers
    the case and drops punctuation, articles and extra white space, takes any of several gold answers, and knows
    questions without an answer.

    ```python
    from rom_haystack import AnswerExactMatchEvaluator

    result = AnswerExactMatchEvaluator().run(
        ground_truth_answers=[["Michael Collins", "Collins"], [], "1898"],
        predicted_answers=["collins.", "", "1899"],
    )
    print(result["individual_scores"])  # [1, 1, 0]
    ```
    """

    @component.output_types(individual_scores=list[int], score=float)
    def run(self, ground_truth_answers: GroundTruth, predicted_answers: Predictions) -> dict[str, Any]:
        """Score one prediction per question.

        Args:
            ground_truth_answers: By question, the gold answer or a list of alternatives; `""` or `[]` for no answer.
            predicted_answers: By question, the predicted text, an answer object, or a list of those, best first, of
                which the first counts. Empty, None and an answer whose `data` is None say that there is no answer.

        Returns:
            `individual_scores`, 1 or 0 per question, and `score`, their mean.

        Raises:
            TypeError: An input or an item is of another type; the message names it.
            ValueError: There are no questions, or not as many predictions; the message names the numbers.
        """
        check_lists(ground_truth_answers=ground_truth_answers, predicted_answers=predicted_answers)
        golds, predicted = gold_answers(ground_truth_answers), predictions(predicted_answers)
        scores = [int(exact_match(one.text, gold)) for one, gold in zip(predicted, golds, strict=True)]
        return {"individual_scores": scores, "score": fmean(scores)}
