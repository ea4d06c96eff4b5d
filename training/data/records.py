"""Records in a file, a line of JSON each, read by their number from any process."""

from __future__ import annotations

import json
import os
import sys
import weakref
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from training.data.lookup import load_array


class RecordWriter:
    """Writes records, 12 bytes of memory each, and reads them back meanwhile.

    Args:
        stem: What the files' names begin with.
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._file = _lines(stem).open("wb")
        self._reading = _Reading(_lines(stem))
        self._end = self._written = 0
        self._starts, self._sizes = array("q"), array("I")

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, record: list[Any]) -> int:
        """Write a record and return its number."""
        self._starts.append(0)
        self._sizes.append(0)
        self.replace(len(self) - 1, record)
        return len(self) - 1

    def replace(self, number: int, record: list[Any]) -> None:
        """Write a record in place of another; the place of the old one on disk is lost."""
        line = _packed(record)
        self._file.write(line)
        self._starts[number], self._sizes[number] = self._end, len(line)
        self._end += len(line)

    def __getitem__(self, number: int) -> list[Any]:
        start, size = self._starts[number], self._sizes[number]
        if start + size > self._written:
            self._file.flush()
            self._written = self._end
        return _unpacked(self._reading.at(start, size))

    def close(self, *, save: bool) -> None:
        """Close the file, and write beside it where its records stand, unless they are not wanted."""
        self._file.close()
        if save:
            np.save(_places(self._stem, "starts"), np.asarray(self._starts, np.int64))
            np.save(_places(self._stem, "sizes"), np.asarray(self._sizes, np.uint32))


class RecordReader:
    """Reads records by number; where they stand is mapped, 12 bytes each.

    Args:
        stem: What the files' names begin with.
    """

    def __init__(self, stem: Path) -> None:
        self._starts, self._sizes = (load_array(_places(stem, name)) for name in ("starts", "sizes"))
        self._reading = _Reading(_lines(stem))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> list[Any]:
        return _unpacked(self._reading.at(int(self._starts[number]), int(self._sizes[number])))


class _Reading:
    """A file that is read at places, without a position in it, so that forked processes and threads may share it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)

    def at(self, start: int, size: int) -> bytes:
        if sys.platform == "win32":  # which can't, and where nothing forks
            os.lseek(self._file, start, os.SEEK_SET)
            return os.read(self._file, size)
        return os.pread(self._file, size, start)


def _packed(record: list[Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _unpacked(line: bytes) -> list[Any]:
    record: list[Any] = json.loads(line.decode("utf-8", "surrogatepass"))
    return record


def _lines(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.jsonl")


def _places(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}.{name}.npy")
