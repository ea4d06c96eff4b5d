"""Questions with the texts that answer them, from a file."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path}: not a text file in UTF-8, or a damaged one ({error}).") from error
    found = [question for where, row in _rows(text) if (question := _question(row, f"{path}, {where}"))[1]]
    if not found:
        raise ValueError(f"{path}: no question with an answer there.")
    return found


def _rows(text: str) -> Iterator[tuple[str, Any]]:
    """Give the objects of each question, with words for their places."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"line {number}", _parsed(line)
        return
    rows = _squad_rows(whole) if isinstance(whole, dict) and "data" in whole else whole
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        yield f"question {number}", row


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return error


def _squad_rows(whole: dict[str, Any]) -> list[Any]:
    try:
        return [row for article in whole["data"] for paragraph in article["paragraphs"] for row in paragraph["qas"]]
    except (KeyError, TypeError):
        return [None]


def _question(row: Any, where: str) -> tuple[str, tuple[str, ...]]:
    question, answers = (row.get("question"), row.get("answers", [])) if isinstance(row, dict) else (None, None)
    texts = [a.get("text") if isinstance(a, dict) else a for a in answers] if isinstance(answers, list) else [None]
    known = [text for text in texts if isinstance(text, str)]
    if not isinstance(question, str) or not question.strip() or len(known) < len(texts):
        why = f" ({row})" if isinstance(row, json.JSONDecodeError) else ""
        raise ValueError(f"{where}: not an object with a 'question' and a list of 'answers'{why}.")
    return question, tuple(dict.fromkeys(text for text in known if text.strip()))
