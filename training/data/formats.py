"""Data sets in whatever format they come, and from one format to another."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from training.data.beir import beir_files, read_beir, write_beir
from training.data.dataset import DataSet, Draft
from training.data.dpr import read_dpr, write_dpr
from training.data.json_files import first_character
from training.data.jsonl import jsonl_files, read_jsonl, write_jsonl
from training.data.numbered import in_order
from training.data.squad import read_squad, write_squad
from training.data.stores import is_large, kept_in
from training.data.text import is_text, read_text, text_files
from training.errors import DataError

Format = Literal["squad", "dpr", "jsonl", "beir"]


def read_data(path: Path, store: Path | None = None) -> DataSet:
    """Read a folder of JSON lines or of BEIR's form, a SQuAD or DPR file, told apart by what they hold, or text files.

    A folder of JSON lines may lack questions: then only tasks that learn from passages can use it, as with text.

    Args:
        path: File or folder.
        store: Folder for what is too large for memory; None keeps everything in memory. See `training.data.stores`.

    Raises:
        DataError: It is none of these, can't be read, or a field is missing or wrong; or a question names a passage
            that is not there.
    """
    if store is not None and is_large([path]):
        return kept_in(store, [path], lambda draft: _read(path, draft))
    return _read(path, Draft())


def read_together(paths: Sequence[Path], store: Path | None = None) -> DataSet:
    """Read data sets as one. Sets may share passages, which have the same id then.

    Args:
        paths: Files or folders.
        store: As in `read_data`.

    Raises:
        DataError: As `read_data`, or an id belongs to different texts.
    """
    if len(paths) == 1:
        return read_data(paths[0], store)
    if store is not None and is_large(paths):
        return kept_in(store, paths, lambda draft: _unite(paths, draft, store))
    return _unite(paths, Draft(), None)


def write_data(data: DataSet, path: Path, kind: Format, name: str = "") -> Counter[str]:
    """Write a data set in a format; nothing that is there already is touched.

    Args:
        data: What to write.
        path: File to write, or folder for `jsonl` and `beir`.
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
            case "beir":
                left_out = write_beir(data, partial)
        partial.rename(path)  # an interrupted conversion leaves no half file of that name
    except OSError as error:
        raise DataError(f"{path} can't be written ({error}).") from error
    return +left_out


def _unite(paths: Sequence[Path], draft: Draft, store: Path | None) -> DataSet:
    for path in paths:
        data = read_data(path, store)
        for passage in in_order(data.passages):
            before = draft.passage(passage.id)
            if before is None:
                draft.keep(passage)
            elif before.text != passage.text:
                raise DataError(
                    f"{path}: passage '{passage.id}' has another text than in the sets before it. Sets that are used "
                    "together need ids of their own."
                )
        for question in data.questions:
            draft.ask(question)
        draft.left_out.update(data.left_out)
    return draft.finished()


def _read(path: Path, draft: Draft) -> DataSet:
    if path.is_dir() and not jsonl_files(path) and beir_files(path):
        return read_beir(path, draft)
    if is_text(path) or (path.is_dir() and not jsonl_files(path) and text_files(path)):
        return read_text(path, draft)
    if not path.is_file():
        return read_jsonl(path, draft)
    opening = first_character(path)
    if opening == "[" or (opening == "{" and ".jsonl" in path.suffixes):
        return read_dpr(path, draft)
    if opening == "{":
        return read_squad(path, draft)
    raise DataError(
        f"{path}: neither SQuAD's JSON (an object with a list 'data') nor DPR's (a list of questions): it begins with "
        f"{opening!r}."
    )
