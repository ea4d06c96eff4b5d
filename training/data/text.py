"""Plain text: each paragraph is a passage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.dataset import DataSet, Draft
from training.data.json_files import text_lines
from training.errors import DataError

_SUFFIXES = (".txt", ".md", ".txt.gz", ".md.gz")


def is_text(path: Path) -> bool:
    """Tell whether a file is read as plain text, by its name."""
    return path.name.endswith(_SUFFIXES)


def text_files(folder: Path) -> list[Path]:
    """Return the text files in a folder and those below it, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and is_text(path))


def read_text(path: Path, draft: Draft | None = None) -> DataSet:
    """Read a text file, or all text files of a folder and those below it.

    Paragraphs end at blank lines; their lines are joined. Each is a passage whose title is the file's name without its
    suffixes. There are no questions, so only tasks that learn from passages can use it.

    Args:
        path: The file or folder.
        draft: What is read into; None for memory.

    Raises:
        DataError: A file can't be read, or there is no text.
    """
    draft = draft or Draft()
    for file in text_files(path) if path.is_dir() else [path]:
        for paragraph in _paragraphs(file):
            draft.merge(paragraph, file.name.partition(".")[0])
    data = draft.finished()
    if not data.passages:
        raise DataError(f"{path}: no text there.")
    return data


def _paragraphs(file: Path) -> Iterator[str]:
    lines: list[str] = []
    for line in text_lines(file):
        if line.strip():
            lines += line.split()
        elif lines:
            yield " ".join(lines)
            lines = []
    if lines:
        yield " ".join(lines)
