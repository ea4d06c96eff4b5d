"""What evaluators take: gold answers and predictions in every form in which they come."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from haystack import ExtractedAnswer, GeneratedAnswer

#: Gold answers: one text per question, or its alternatives.
GroundTruth = list[str] | list[list[str]]

#: Predictions: one text per question, or a reader's or builder's list of answers. A flat list of answer objects, one
#: per question, is taken too, but is left out of the type: so a pipeline that answers one question may connect its
#: reader, and Haystack wraps the reader's answers as those of the one question.
Predictions = list[str] | list[list[ExtractedAnswer]] | list[list[GeneratedAnswer]]


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one question.

    Attributes:
        text: The answer, empty for "no answer".
        score: Its probability; None where it has none.
        quote: The best answer that is one, empty where there is none: `text`, unless "no answer" was rated higher.
        no_answer_score: The probability of "no answer"; None where it is unknown.
    """

    text: str
    score: float | None = None
    quote: str = ""
    no_answer_score: float | None = None


def check_lists(**lists: Any) -> None:
    """Check that inputs are lists, of one length, and not empty, as Haystack's evaluators do.

    Raises:
        TypeError: One is no list; the message names it.
        ValueError: One is empty, or they differ in length; the message names the lengths.
    """
    for name, values in lists.items():
        if isinstance(values, str) or not (isinstance(values, Sequence) or hasattr(values, "__array__")):
            raise TypeError(f"{name} is of type {type(values).__name__}; give a list with an item per question.")
    lengths = " and ".join(f"{len(values)} {name}" for name, values in lists.items())
    different = {len(values) for values in lists.values()}
    if len(different) > 1:
        raise ValueError(f"There are {lengths}: give one of each per question.")
    if 0 in different:
        raise ValueError(f"There are {lengths}: there is nothing to evaluate.")


def gold_answers(ground_truth_answers: Sequence[Any]) -> list[list[str]]:
    """Return each question's alternatives, without blank ones; none where the question has no answer.

    Raises:
        TypeError: An item is neither text nor a list of texts; the message names it.
    """
    golds = []
    for number, item in enumerate(ground_truth_answers):
        alternatives = [item] if isinstance(item, str) else item
        if not isinstance(alternatives, Sequence) or not all(isinstance(text, str) for text in alternatives):
            raise TypeError(
                f"ground_truth_answers[{number}] is {item!r}; it must be a str or a list of them, empty for no answer."
            )
        golds.append([text for text in alternatives if text.strip()])
    return golds


def predictions(predicted_answers: Sequence[Any]) -> list[Prediction]:
    """Return each question's prediction: its text, or the first of its answers.

    Raises:
        TypeError: An item is neither text nor an answer nor a list of answers; the message names it.
    """
    return [_prediction(item, f"predicted_answers[{number}]") for number, item in enumerate(predicted_answers)]


def check_numbers(name: str, values: Sequence[Any], *, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Return numbers as floats.

    Args:
        name: What they are called in errors.
        values: The numbers.
        low: The least that is allowed.
        high: The greatest that is allowed.

    Raises:
        TypeError: One is no number; the message names it.
        ValueError: One is NaN, infinite or out of range; the message names it.
    """
    for number, value in enumerate(values):
        try:
            allowed = math.isfinite(value) and low <= value <= high
        except TypeError as error:
            raise TypeError(f"{name}[{number}] is {value!r}; it must be a number.") from error
        if not allowed:
            span = "finite" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise ValueError(f"{name}[{number}] is {value}; it must be {span}.")
    return [float(value) for value in values]


def _prediction(item: Any, name: str) -> Prediction:
    if item is None or isinstance(item, str):
        return Prediction(text=item or "", quote=item or "")
    answers = item if isinstance(item, Sequence) else [item]
    for answer in answers:
        if not isinstance(answer, ExtractedAnswer | GeneratedAnswer):
            raise TypeError(
                f"{name} holds {answer!r}; it must be a str, an ExtractedAnswer or GeneratedAnswer, or a list of "
                "these answers."
            )
        if not isinstance(answer.data, str | None):
            raise TypeError(f"{name} holds an answer whose data is {answer.data!r}; it must be a str, or None.")
    if not answers:
        return Prediction(text="")
    quotes = [answer.data or "" for answer in answers if answer.data is not None]
    scores = [getattr(answer, "score", None) for answer in answers]  # a GeneratedAnswer has none
    return Prediction(
        text=answers[0].data or "",
        score=scores[0],
        quote=quotes[0] if quotes else "",
        no_answer_score=_no_answer_score(answers, scores),
    )


def _no_answer_score(answers: Sequence[ExtractedAnswer | GeneratedAnswer], scores: list[float | None]) -> float | None:
    """Take the no-answer's score, or where `top_k` cut it off, 1 minus the best answer's: our reader's definition."""
    named = [score for answer, score in zip(answers, scores, strict=True) if answer.data is None]
    if named:
        return named[0]
    return None if scores[0] is None else 1 - scores[0]
