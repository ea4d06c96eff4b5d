"""JSON and text files, plain or gzip'd, item by item, so that a file may be larger than memory."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from training.errors import DataError

#: Characters that are read at once.
_CHUNK = 1 << 20
#: An error this near to the end of what was read may mean that the rest is still to be read.
_LONGEST_TOKEN = 16
_SPACE = " \t\n\r"


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Read a file with a value per line: `(line number, value)`. Empty lines are passed over.

    Raises:
        DataError: The file can't be read, or a line is no JSON.
    """
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error}).") from error
                yield number, value


def text_lines(path: Path) -> Iterator[str]:
    """Read a text file line by line.

    Raises:
        DataError: The file can't be read.
    """
    with _opened(path) as file:
        yield from file


def json_items(path: Path, key: str | None = None, noun: str = "item") -> Iterator[tuple[int, Any]]:
    """Read the items of a file's list, keeping one at a time: `(item number, value)`.

    The standard library's parser does it: unlike streaming parsers (ijson) it takes whatever `json.dump` writes, NaN
    and halves of surrogate pairs included.

    Args:
        path: The file.
        key: Where the list stands in the file's object, which has no items where there is no list; None where the file
            is the list.
        noun: What errors call an item.

    Raises:
        DataError: The file can't be read, or is no JSON list, or object, up to its end.
    """
    number = 0
    with _opened(path) as file:
        window = _Window(file)
        try:
            for _ in [None] if key is None else _lists(window, key):
                for _ in window.elements("[", "]"):
                    number += 1
                    yield number, window.value()
            if rest := window.next():
                raise json.JSONDecodeError("Extra data", rest, 0)
        except json.JSONDecodeError as error:
            place = error.doc[error.pos : error.pos + 40]
            raise DataError(f"{path}, {noun} {number}: not JSON ({error.msg} at {place!r}).") from error
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            raise DataError(f"{path}, {noun} {number}: not JSON ({error}).") from error


def first_character(path: Path) -> str:
    """Return what a text file begins with, white space aside; "" where there is nothing else.

    Raises:
        DataError: The file can't be read.
    """
    with _opened(path) as file:
        while piece := file.read(64):
            if stripped := piece.strip(_SPACE):
                return stripped[0]
    return ""


def _lists(window: _Window, key: str) -> Iterator[None]:
    """Go through an object; where a list stands under the key, the caller goes past it."""
    for _ in window.elements("{", "}"):
        name = window.value()
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no name of a member")
        window.take(":")
        if name == key and window.next() == "[":
            yield
        else:
            window.value()


class _Window:
    """The part of a file from the current place on that has been read."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._place = 0

    def next(self) -> str:
        """Go to the next character that is no white space, and return it; "" at the end of the file."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _SPACE:
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def take(self, expected: str) -> str:
        """Go past the next character, which must be one of the expected."""
        character = self.next()
        if not character or character not in expected:
            raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, expected))}", self._text, self._place)
        self._place += 1
        return character

    def elements(self, opening: str, closing: str) -> Iterator[None]:
        """Go through a list or an object; at each element the caller goes past it."""
        self.take(opening)
        if self.next() == closing:
            self.take(closing)
            return
        yield
        while self.take("," + closing) == ",":
            yield

    def value(self) -> Any:
        """Parse the next value and go past it."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _LONGEST_TOKEN
                if not (cut_off and self._read_on()):
                    raise
            else:
                if end < len(self._text) or not self._read_on():  # else digits may follow
                    self._place = end
                    return value

    def _read_on(self) -> bool:
        """Read as much again as is kept, so that a long value is parsed a few times only."""
        kept = self._text[self._place :]
        more = self._file.read(max(_CHUNK, len(kept)))
        self._text, self._place = kept + more, 0
        return bool(more)


def written_to(path: Path) -> TextIO:
    """Open a file to be written, gzip'd where `.gz` is one of its suffixes."""
    if ".gz" in path.suffixes:
        return gzip.open(path, "wt", encoding="utf-8", compresslevel=6)
    return path.open("w", encoding="utf-8")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a file as text, behind its byte order mark if it has one; its troubles become errors of ours."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            yield file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({error}).") from error
