"""A reader's figures on SQuAD's questions."""

from collections.abc import Callable, Sequence
from statistics import fmean

from rom_haystack.compat.documents import Answer
from rom_haystack.metrics import exact_match, f1
from rom_haystack.questions import Question


def evaluate(questions: Sequence[Question], found: Sequence[Sequence[Answer]], top_n: int) -> dict[str, float]:
    """Compare answers with the right ones.

    Args:
        questions: The questions.
        found: For each its answers, best first, with an empty one for "there is no answer here".
        top_n: How many of them count for the figures of several.

    Returns:
        The figures that `FARMReader.eval_on_file` describes.
    """
    pairs = [(question, list(answers[:top_n])) for question, answers in zip(questions, found, strict=True)]
    kinds = {
        "": pairs,
        "_text_answer": [pair for pair in pairs if pair[0].answers],
        "_no_answer": [pair for pair in pairs if not pair[0].answers],
    }
    figures: dict[str, float] = {"top_n": top_n}
    for kind, group in kinds.items():
        figures[f"EM{kind}"] = _percent([_best(exact_match, question, answers[:1]) for question, answers in group])
        figures[f"f1{kind}"] = _percent([_best(f1, question, answers[:1]) for question, answers in group])
        figures[f"top_n_accuracy{kind}"] = _percent([_hit(question, answers) for question, answers in group])
        if kind:
            figures[f"Total{kind}"] = len(group)
    text = kinds["_text_answer"]
    figures["top_n_EM_text_answer"] = _percent([_best(exact_match, question, answers) for question, answers in text])
    figures["top_n_f1_text_answer"] = _percent([_best(f1, question, answers) for question, answers in text])
    return figures


def _best(metric: Callable[[str, Sequence[str]], float], question: Question, answers: Sequence[Answer]) -> float:
    return max((metric(answer.answer, question.answers) for answer in answers), default=0.0)


def _hit(question: Question, answers: Sequence[Answer]) -> float:
    """Tell whether an answer overlaps with a right one, or is the no-answer where that is right."""
    if not question.answers:
        return float(any(not answer.answer for answer in answers))
    places = [
        (place.start, place.end) for answer in answers if answer.answer for place in answer.offsets_in_document or []
    ]
    return float(any(start < right and left < end for start, end in places for left, right in question.spans))


def _percent(values: Sequence[float]) -> float:
    return 100 * fmean(values) if values else float("nan")
