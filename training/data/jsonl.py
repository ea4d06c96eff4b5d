"""Questions and passages as gzip'd or plain JSON lines.

A data set is a folder with `passages.jsonl[.gz]` (`id`, `title`, `text`) and `questions.jsonl[.gz]` (`id`, `question`,
`answers` as a list of `{text, start}`, `passage_id`). `start` counts code points in the passage's text.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import DataError


@dataclass(frozen=True)
class Passage:
    """One passage: a unit of retrieval and of reading."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """One question with its gold passage and the texts that answer it (empty where nothing answers it)."""

    id: str
    text: str
    answers: tuple[str, ...]
    passage_id: str


def read_passages(folder: Path) -> dict[str, Passage]:
    """Read a data set's passages, by id.

    Raises:
        DataError: The file is missing, or a line lacks a field.
    """
    passages = {}
    for where, row in _rows(folder, "passages"):
        passage = Passage(_text(row, "id", where), str(row.get("title") or ""), _text(row, "text", where))
        passages[passage.id] = passage
    return passages


def read_questions(folder: Path) -> list[Question]:
    """Read a data set's questions in file order.

    Raises:
        DataError: The file is missing, a line lacks a field, or an answer is not text.
    """
    questions = []
    for where, row in _rows(folder, "questions"):
        answers = row.get("answers", [])
        if not isinstance(answers, list):
            raise DataError(f"{where}: field 'answers' must be a list, not {type(answers).__name__}.")
        texts = [_text(answer, "text", where) for answer in answers]
        questions.append(
            Question(
                id=_text(row, "id", where),
                text=_text(row, "question", where),
                answers=tuple(dict.fromkeys(texts)),
                passage_id=_text(row, "passage_id", where),
            )
        )
    return questions


def _rows(folder: Path, stem: str) -> Iterator[tuple[str, dict[str, Any]]]:
    path = next((p for p in (folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl") if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: no {stem}.jsonl.gz or {stem}.jsonl there. Is the --data folder right?")
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, found {type(row).__name__}.")
        yield where, row


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({error}).") from error


def _text(row: Any, field: str, where: str) -> str:
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: field '{field}' must be non-empty text, found {value!r}.")
    return value
