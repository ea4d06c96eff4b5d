"""Data sets in whatever format they come, and from one format to another."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from training.data.dataset import DataSet, Passage
from training.data.dpr import read_dpr, write_dpr
from training.data.json_files import first_character
from training.data.jsonl import has_jsonl, read_jsonl, write_jsonl
from training.data.squad import read_squad, write_squad
from training.data.text import is_text, read_text, text_files
from training.errors import DataError

Format = Literal["squad", "dpr", "jsonl"]


def read_data(path: Path) -> DataSet:
    """Read a folder of JSON lines, a SQuAD file or a DPR file, told apart by what they hold, or text files.

    A folder of JSON lines may lack questions: then only tasks that learn from passages can use it, as with text.

    Raises:
        DataError: It is none of these, can't be read, or a field is missing or wrong; or a question names a passage
            that is not there.
    """
    data = _read(path)
    for question in data.questions:
        for passage_id in (*question.positive_ids, *question.hard_negative_ids):
            if passage_id not in data.passages:
                raise DataError(f"{path}: question '{question.id}' names passage '{passage_id}', which is missing.")
    return data


def read_together(paths: Sequence[Path]) -> DataSet:
    """Read data sets as one. Sets may share passages, which have the same id then.

    Raises:
        DataError: As `read_data`, or an id belongs to different texts.
    """
    sets = [read_data(path) for path in paths]
    if len(sets) == 1:
        return sets[0]
    passages: dict[str, Passage] = {}
    for path, data in zip(paths, sets, strict=True):
        for passage in data.passages.values():
            if passages.setdefault(passage.id, passage).text != passage.text:
                raise DataError(
                    f"{path}: passage '{passage.id}' has another text than in the sets before it. Sets that are used "
                    "together need ids of their own."
                )
    left_out = sum((data.left_out for data in sets), Counter[str]())
    return DataSet(passages, [question for data in sets for question in data.questions], left_out)


def write_data(data: DataSet, path: Path, kind: Format, name: str = "") -> Counter[str]:
    """Write a data set in a format; nothing that is there already is touched.

    Args:
        data: What to write.
        path: File to write, or folder for `jsonl`.
        kind: The format.
        name: Name of the data set, for formats that hold it.

    Returns:
        What the format has no place for, counted by its description.

    Raises:
        DataError: `path` exists, or can't be written.
    """
    if path.exists():
        raise DataError(f"{path} exists already; choose another output, or delete it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        if partial.is_dir():
            shutil.rmtree(partial)
        match kind:
            case "squad":
                left_out = write_squad(data, partial)
            case "dpr":
                left_out = write_dpr(data, partial, name)
            case "jsonl":
                left_out = write_jsonl(data, partial)
        partial.rename(path)  # an interrupted conversion leaves no half file of that name
    except OSError as error:
        raise DataError(f"{path} can't be written ({error}).") from error
    return +left_out


def _read(path: Path) -> DataSet:
    if is_text(path) or (path.is_dir() and not has_jsonl(path) and text_files(path)):
        return read_text(path)
    if not path.is_file():
        return read_jsonl(path)
    opening = first_character(path)
    if opening == "[" or (opening == "{" and ".jsonl" in path.suffixes):
        return read_dpr(path)
    if opening == "{":
        return read_squad(path)
    raise DataError(
        f"{path}: neither SQuAD's JSON (an object with a list 'data') nor DPR's (a list of questions): it begins with "
        f"{opening!r}."
    )
