"""Tables from 64-bit digests to row numbers, 12 bytes a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Digests that a growing table keeps in a dictionary before it sorts them in.
_RECENT = 1 << 17
_DIGESTS = 1 << 64


class Lookup:
    """Sorted digests and their rows; a file of them is mapped, not loaded."""

    def __init__(self, digests: NDArray[np.uint64], rows: NDArray[np.uint32]) -> None:
        self._digests, self._rows = digests, rows

    @classmethod
    def sorted(cls, digests: NDArray[np.uint64], rows: NDArray[np.uint32]) -> Lookup:
        """Make a table; rows of the same digest stay in their order."""
        order = np.argsort(digests, kind="stable")
        return cls(digests[order], rows[order])

    @classmethod
    def load(cls, stem: Path) -> Lookup:
        """Open what `save` wrote."""
        return cls(*(load_array(_named(stem, name)) for name in ("digests", "rows")))

    def save(self, stem: Path) -> None:
        """Write the table to two files whose names begin with `stem`'s."""
        np.save(_named(stem, "digests"), self._digests)
        np.save(_named(stem, "rows"), self._rows)

    def get(self, key: int) -> int | None:
        """Return the first row of a digest, if there is one."""
        rows = self.rows(key)
        return int(rows[0]) if len(rows) else None

    def rows(self, key: int) -> NDArray[np.uint32]:
        """Return all rows of a digest."""
        wanted = np.uint64(key)
        first = self._digests.searchsorted(wanted)
        if first == len(self._digests) or self._digests[first] != wanted:
            return self._rows[:0]
        return self._rows[first : self._digests.searchsorted(wanted, side="right")]


class GrowingLookup(Lookup):
    """A table that takes further digests, each once."""

    def __init__(self) -> None:
        super().__init__(np.empty(0, np.uint64), np.empty(0, np.uint32))
        self._recent: dict[int, int] = {}

    def get(self, key: int) -> int | None:
        """Return the row of a digest, if there is one."""
        row = self._recent.get(key)
        return super().get(key) if row is None else row

    def add(self, key: int, row: int) -> None:
        """Take a digest that is not there yet."""
        self._recent[key] = row
        if len(self._recent) == _RECENT:
            self._sort_in()

    def save(self, stem: Path) -> None:
        """Write the table to two files whose names begin with `stem`'s."""
        self._sort_in()
        super().save(stem)

    def _sort_in(self) -> None:
        count = len(self._recent)
        digests = np.fromiter(self._recent, np.uint64, count)
        rows = np.fromiter(self._recent.values(), np.uint32, count)
        self._recent.clear()
        order = np.argsort(digests)
        places = self._digests.searchsorted(digests[order])
        self._digests = np.insert(self._digests, places, digests[order])
        self._rows = np.insert(self._rows, places, rows[order])


def find(lookup: Lookup, key: int, fits: Callable[[int], bool]) -> tuple[int | None, int]:
    """Find a row whose digest may be shared by others: then the next digests were taken for them.

    Args:
        lookup: The table.
        key: The digest.
        fits: Whether a row is the one.

    Returns:
        The row, None where there is none, and the digest under which it stands, or may be added.
    """
    while (row := lookup.get(key)) is not None and not fits(row):
        key = (key + 1) % _DIGESTS
    return row, key


def load_array(path: Path) -> NDArray[Any]:
    """Map a file of `np.save`; what is read of it the system may forget again."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _named(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}.{name}.npy")
