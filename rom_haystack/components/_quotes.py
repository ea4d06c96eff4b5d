"""From what was read in documents to answers that quote them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, ExtractedAnswer, logging

from rom_haystack.inference import Answer
from rom_haystack.inference.context import sentence_around, window_around
from rom_haystack.inference.reading import sigmoid

logger = logging.getLogger(__name__)


Ranked = list[tuple[Answer, Document | None]]


def rank(
    documents: Sequence[Document], found: Sequence[Sequence[Answer]], factor: float = 1.0, threshold: float = 0.0
) -> Ranked:
    """Bring the answers of all documents into one order.

    Ranked by log-odds, which still differ where probabilities have both rounded to 1. Where a threshold was measured,
    scores count from it, so that an answer above it has more than one half and beats the no-answer.

    Args:
        documents: What was read.
        found: By document, its answers.
        factor: What log-odds are multiplied by to become scores.
        threshold: Log-odds at which an answer is as good as none; at 0 the answers have their scores already.
    """
    ranked: Ranked = [
        (answer if threshold == 0 else replace(answer, score=sigmoid(factor * (answer.logit - threshold))), document)
        for document, answers in zip(documents, found, strict=True)
        for answer in answers
    ]
    return sorted(ranked, key=lambda pair: -pair[0].logit)


def with_no_answer(ranked: Ranked, factor: float, threshold: float) -> Ranked:
    """Put the no-answer (without document) among answers, first where the best one's log-odds are below a threshold.

    It ranks as far above the threshold as the best answer lies below it, and the other way round, so its score is
    1 minus the best answer's.
    """
    best = ranked[0][0].logit if ranked else None
    logit, score = (0.0, 1.0) if best is None else (2 * threshold - best, sigmoid(factor * (threshold - best)))
    place = sum(answer.logit >= logit for answer, _ in ranked)
    return [*ranked[:place], (Answer(0, 0, "", logit, score), None), *ranked[place:]]


def quote(query: str, answer: Answer, document: Document | None, context_size: int | None) -> ExtractedAnswer:
    """Make an answer, or the no-answer where there is no document, with its place and its context.

    Args:
        query: The question.
        answer: Where it stands.
        document: In which.
        context_size: Most characters of the context; None for the sentence.
    """
    if document is None:
        return ExtractedAnswer(query=query, score=answer.score)
    text = document.content or ""
    if context_size is None:
        left, right = sentence_around(text, answer.start, answer.end)
    else:
        left, right = window_around(text, answer.start, answer.end, context_size)
    return ExtractedAnswer(
        query=query,
        score=answer.score,
        data=answer.text,
        document=document if document.embedding is None else replace(document, embedding=None),
        context=text[left:right],
        document_offset=ExtractedAnswer.Span(answer.start, answer.end),
        context_offset=ExtractedAnswer.Span(answer.start - left, answer.end - left),
        meta=_page_number(document, answer.start),
    )


def _page_number(document: Document, start: int) -> dict[str, Any]:
    """Count form feeds from the document's first page to the answer's."""
    first = document.meta.get("page_number")
    if first is None:
        return {}
    if not isinstance(first, int):
        logger.warning(
            "Document {doc_id} has the page_number {value}, which is no int: its answers go without page number.",
            doc_id=document.id,
            value=first,
        )
        return {}
    return {"answer_page_number": first + (document.content or "").count("\f", 0, start)}
