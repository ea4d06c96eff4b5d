"""Questions and passages as gzip'd or plain JSON lines.

A data set is a folder with `passages.jsonl[.gz]` (`id`, `title`, `text`) and `questions.jsonl[.gz]` (`id`, `question`,
`answers` as a list of `{text, start}`, `passage_id`). `start` counts code points in the passage's text. Where they
apply, questions have `unanswerable` (true), `other_positive_ids` and `hard_negative_ids` (lists of passage ids), too.
A corpus, which only tasks that learn from passages can use, has no questions file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.dataset import DataSet, Draft, Passage, Question
from training.data.fields import (
    an_object,
    count_unread,
    flag_field,
    label_field,
    list_field,
    offset_field,
    text_field,
)
from training.data.json_files import json_lines
from training.data.numbered import in_order
from training.errors import DataError

_ID_LISTS = ("other_positive_ids", "hard_negative_ids")
_FIELDS = ("id", "question", "answers", "passage_id", "unanswerable", *_ID_LISTS)


def read_jsonl(folder: Path, draft: Draft | None = None) -> DataSet:
    """Read a folder's passages, and its questions if it has any.

    Args:
        folder: The folder.
        draft: What is read into; None for memory.

    Raises:
        DataError: A file is missing, a line lacks a field, an id belongs to two passages, or a question names a passage
            that is not there.
    """
    draft = draft or Draft()
    for where, passage in _passages(folder, draft.left_out):
        draft.keep_new(passage, where)
    for where, question in _questions(folder, draft.left_out) if _file(folder, "questions") else ():
        for passage_id in (*question.positive_ids, *question.hard_negative_ids):
            if draft.passage(passage_id) is None:
                raise DataError(f"{where}: question '{question.id}' names passage '{passage_id}', which is missing.")
        draft.ask(question)
    return draft.finished()


def jsonl_files(folder: Path) -> list[Path]:
    """Return the files of a folder's data set; none where it holds no passages as JSON lines."""
    files = [_file(folder, stem) for stem in ("passages", "questions")]
    return [file for file in files if file is not None] if files[0] else []


def read_passages(folder: Path) -> dict[str, Passage]:
    """Read a data set's passages, by id, into memory.

    Raises:
        DataError: The file is missing, a line lacks a field, or an id belongs to two passages.
    """
    draft = Draft()
    for where, passage in _passages(folder, Counter()):
        draft.keep_new(passage, where)
    return dict(draft.finished().passages)


def read_questions(folder: Path) -> list[Question]:
    """Read a data set's questions in file order, into memory.

    Raises:
        DataError: The file is missing, a line lacks a field, or an answer is not text.
    """
    return [question for _, question in _questions(folder, Counter())]


def write_jsonl(data: DataSet, folder: Path) -> Counter[str]:
    """Write a data set as a folder of JSON lines. Everything has its place there, so nothing is left out."""
    folder.mkdir(parents=True)
    with (folder / "passages.jsonl").open("w", encoding="utf-8") as lines:
        for passage in in_order(data.passages):
            row: dict[str, Any] = {"id": passage.id, "title": passage.title, "text": passage.text}
            lines.write(json.dumps(row) + "\n")
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as lines:
        for question in data.questions:
            starts = question.starts or (None,) * len(question.answers)
            answers = [
                {"text": text} if start is None else {"text": text, "start": start}
                for text, start in zip(question.answers, starts, strict=True)
            ]
            row = {"id": question.id, "question": question.text, "answers": answers, "passage_id": question.passage_id}
            optional = {field: getattr(question, field) for field in ("unanswerable", *_ID_LISTS)}
            lines.write(json.dumps(row | {field: value for field, value in optional.items() if value}) + "\n")
    return Counter()


def _passages(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Passage]]:
    for where, row in folder_rows(folder, "passages"):
        title = label_field(row, ["title"], where)
        yield where, Passage(text_field(row, "id", where), title, text_field(row, "text", where))
        count_unread(row, ("id", "title", "text"), "a passage", left_out)


def _questions(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, Question]]:
    for where, row in folder_rows(folder, "questions"):
        starts: dict[str, int | None] = {}
        for answer in list_field({"answers": [], **row}, "answers", where):
            text = text_field(answer, "text", where)
            start = offset_field(answer, "start", where)
            if starts.get(text) is None:
                starts[text] = start
            count_unread(answer, ("text", "start"), "an answer", left_out)
        others, negatives = (_ids(row, field, where) for field in _ID_LISTS)
        question = Question(
            id=text_field(row, "id", where),
            text=text_field(row, "question", where),
            answers=tuple(starts),
            passage_id=text_field(row, "passage_id", where),
            starts=tuple(starts.values()),
            unanswerable=flag_field(row, "unanswerable", where),
            other_positive_ids=others,
            hard_negative_ids=negatives,
        )
        yield where, question
        left_out["repeated answer of a question"] += len(row.get("answers", [])) - len(starts)
        count_unread(row, _FIELDS, "a question", left_out)


def _ids(row: dict[str, Any], field: str, where: str) -> tuple[str, ...]:
    ids = list_field(row, field, where, optional=True)
    for value in ids:
        if not isinstance(value, str) or not value:
            raise DataError(f"{where}: field '{field}' must hold passage ids, found {value!r}.")
    return tuple(ids)


def _file(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl") if p.is_file()), None)


def _missing(folder: Path, stem: str) -> str:
    if folder.is_dir():
        return f"no {stem}.jsonl.gz or {stem}.jsonl there."
    if folder.is_file():
        return (
            "a file, where it takes a folder of JSON lines; "
            f"`python -m training convert-data {folder} FOLDER --to jsonl` makes one."
        )
    return "no such file or folder. Are its name and the folder before it right?"


def folder_rows(folder: Path, stem: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the rows of a folder's file, gzip'd or plain, each after its place for messages.

    Raises:
        DataError: The file is missing, or a line is no JSON object.
    """
    path = _file(folder, stem)
    if path is None:
        raise DataError(f"{folder}: {_missing(folder, stem)}")
    for number, row in json_lines(path):
        where = f"{path}, line {number}"
        yield where, an_object(row, where)
