"""Answers and passages as plain values, the same ones on the command line and from a server."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line imports this before it knows whether Haystack is needed
    from haystack import Document, ExtractedAnswer

NO_ANSWER_FOUND = "No answer found in these documents."


def result_fields(question: str, result: dict[str, Any], top_k: int, model: str) -> dict[str, Any]:
    """Return what `ROMExtractiveQA` found for a question.

    Args:
        question: The question.
        result: What the pipeline's `run` returned.
        top_k: Most answers.
        model: Name of the model that found them.
    """
    answers = quotes(result["answers"], top_k)
    return {
        "question": question,
        "answered": bool(answers),
        "answers": [answer_fields(answer) for answer in answers],
        "passages": [passage_fields(document) for document in result["documents"]],
        "model": model,
    }


def answer_fields(answer: "ExtractedAnswer") -> dict[str, Any]:
    """Return an answer's quote with its places in sentence and document, and the document.

    Args:
        answer: One with a quote, not the no-answer.

    Raises:
        TypeError: It has no place.
    """
    span, context = answer.document_offset, answer.context_offset
    if answer.document is None or span is None or context is None:
        raise TypeError(f"The reader gave an answer without its place: {answer}.")
    return {
        "answer": answer.data,
        "score": answer.score,
        "start": span.start,
        "end": span.end,
        "sentence": answer.context,
        "sentence_start": context.start,
        "sentence_end": context.end,
        "document": {
            "id": answer.document.id,
            "title": answer.document.meta.get("title"),
            "file_path": answer.document.meta.get("file_path"),
            "page": answer.meta.get("answer_page_number"),
            "content": answer.document.content,
        },
    }


def passage_fields(document: "Document") -> dict[str, Any]:
    """Return where a passage stands and its score, without its text and its embedding."""
    return {
        "id": document.id,
        "title": document.meta.get("title"),
        "file_path": document.meta.get("file_path"),
        "page": document.meta.get("page_number"),
        "score": document.score,
    }


def place(fields: Mapping[str, Any]) -> str:
    """Say where a passage stands, from the fields of its document: title, file, page."""
    page = None if fields["page"] is None else f"page {fields['page']}"
    return ", ".join(str(part) for part in (fields["title"], fields["file_path"], page) if part)


def quotes(answers: "list[ExtractedAnswer]", top_k: int) -> "list[ExtractedAnswer]":
    """Return the best answers that have a quote; none if "there is no answer here" is the best of all.

    Args:
        answers: As from `ROMExtractiveQA`, best first, the no-answer among them.
        top_k: Most answers.
    """
    if not answers or answers[0].data is None:
        return []
    return [answer for answer in answers if answer.data is not None][:top_k]
