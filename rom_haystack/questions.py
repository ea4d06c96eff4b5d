"""Questions with the texts that answer them, from a file."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Question:
    """A question on a paragraph.

    Attributes:
        query: The question.
        context: The paragraph.
        answers: Right answers; none where the paragraph has none.
        spans: Where they stand: first character, and the one after the last.
    """

    query: str
    context: str
    answers: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def read_questions(file: str | Path) -> list[tuple[str, tuple[str, ...]]]:
    """Read questions that have answers.

    Args:
        file: JSON lines, a JSON list of the same objects (DPR's form), or SQuAD's JSON; each also gzip'd. An object has
            a `question` and `answers`, a list of texts or of `{"text": …}`. Questions without answers are left out.

    Returns:
        Questions with their answers, in file order.

    Raises:
        ValueError: The file is none of these, or has no question with an answer.
        OSError: It can't be read.
    """
    path = Path(file)
    found = [question for where, row in _rows(_text(path)) if (question := _question(row, f"{path}, {where}"))[1]]
    if not found:
        raise ValueError(f"{path}: no question with an answer there.")
    return found


def read_squad(file: str | Path) -> list[Question]:
    """Read the questions of a file of SQuAD's form, 1.1 or 2.0, which may be gzip'd, with their paragraphs.

    Raises:
        ValueError: The file is of another form, or has no question.
        OSError: It can't be read.
    """
    path = Path(file)
    whole = _parsed(_text(path))
    if isinstance(whole, Exception):
        raise ValueError(f"{path}: not JSON ({whole}).")
    rows = enumerate(_squad_rows(whole), start=1)
    found = [_on_paragraph(context, row, f"{path}, question {number}") for number, (context, row) in rows]
    if not found:
        raise ValueError(f"{path}: no question there.")
    return found


def _text(path: Path) -> str:
    """Read a text in UTF-8, behind its byte order mark if it has one; a gzip'd one is known by its first bytes."""
    data = path.read_bytes()
    try:
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path}: not a text file in UTF-8, or a damaged one ({error}).") from error


def _parsed(text: str) -> Any:
    """Parse JSON; return the error where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # huge numbers and deep nesting have errors of their own
        return error


def _rows(text: str) -> Iterator[tuple[str, Any]]:
    """Give the objects of each question, with words for their places."""
    whole = _parsed(text)
    if isinstance(whole, Exception):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"line {number}", _parsed(line)
        return
    rows = [row for _, row in _squad_rows(whole)] if isinstance(whole, dict) and "data" in whole else whole
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        yield f"question {number}", row


def _squad_rows(whole: Any) -> list[tuple[Any, Any]]:
    """Give the paragraphs' texts with the objects of their questions; nothing with nothing, in another form."""
    try:
        return [
            (paragraph.get("context"), row)
            for article in whole["data"]
            for paragraph in article["paragraphs"]
            for row in paragraph["qas"]
        ]
    except (AttributeError, KeyError, TypeError):
        return [(None, None)]


def _question(row: Any, where: str) -> tuple[str, tuple[str, ...]]:
    question, answers = (row.get("question"), _answers(row)) if isinstance(row, dict) else (None, None)
    texts = [a.get("text") if isinstance(a, dict) else a for a in answers] if isinstance(answers, list) else [None]
    known = [text for text in texts if isinstance(text, str)]
    if not isinstance(question, str) or not question.strip() or len(known) < len(texts):
        why = f" ({row})" if isinstance(row, Exception) else ""
        raise ValueError(f"{where}: not an object with a 'question' and a list of 'answers'{why}.")
    return question, tuple(dict.fromkeys(text for text in known if text.strip()))


def _on_paragraph(context: Any, row: Any, where: str) -> Question:
    if not isinstance(context, str):
        raise ValueError(
            f"{where}: no question of SQuAD's form, a JSON object whose 'data' has 'paragraphs' with 'context' and "
            "'qas'."
        )
    query, answers = _question(row, where)
    try:
        spans = [(answer["answer_start"], answer["answer_start"] + len(answer["text"])) for answer in _answers(row)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: an answer without a number 'answer_start'.") from error
    return Question(query, context, answers, tuple(spans))


def _answers(row: dict[str, Any]) -> Any:
    return [] if row.get("is_impossible") else row.get("answers", [])
