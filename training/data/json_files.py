"""JSON and text files, plain or gzip'd: whole, or item by item, so that a file may be larger than memory."""

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


def load_json(path: Path) -> Any:
    """Read a file's value.

    Raises:
        DataError: The file can't be read or is no JSON.
    """
    with _opened(path) as file:
        text = file.read()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}).") from error


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


def json_items(path: Path) -> Iterator[tuple[int, Any]]:
    """Read the items of a file's list, keeping one at a time: `(item number, value)`.

    The standard library's parser does it: unlike streaming parsers (ijson) it takes whatever `json.dump` writes, NaN
    and halves of surrogate pairs included.

    Raises:
        DataError: The file can't be read, or is no JSON list up to its end.
    """
    number = 0
    with _opened(path) as file:
        window = _Window(file)
        try:
            window.take("[")
            if window.next() == "]":
                window.take("]")
            else:
                while True:
                    number += 1
                    yield number, window.value()
                    if window.take(",]") == "]":
                        break
            if rest := window.next():
                raise json.JSONDecodeError("Extra data", rest, 0)
        except json.JSONDecodeError as error:
            place = error.doc[error.pos : error.pos + 40]
            raise DataError(f"{path}, item {number}: not JSON ({error.msg} at {place!r}).") from error
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            raise DataError(f"{path}, item {number}: not JSON ({error}).") from error


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


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a file as text, behind its byte order mark if it has one; its troubles become errors of ours."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            yield file
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read ({error}).") from error
