"""Where a process that works on a store is killed: at a moment of the parent's choosing, or inside a chosen call."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import faiss
import numpy as np

from rom_haystack.document_stores import faiss_index, lookups
from rom_haystack.document_stores.collection import Collection
from rom_haystack.document_stores.database import Database
from rom_haystack.document_stores.keywords import KeywordIndex
from rom_haystack.document_stores.vectors import VectorFile

Moment = Literal["before", "during", "after"]
_MOMENTS: tuple[Moment, ...] = ("before", "during", "after")
#: The parent kills after a number of acknowledged operations and a delay.
BY_THE_CLOCK = "by the clock"


@dataclass(frozen=True)
class Kill:
    """A moment of death.

    Args:
        place: `BY_THE_CLOCK` or a name in `PLACES`.
        call: Which call of the place; by the clock: the number of operations that are acknowledged before.
        moment: Before the call, while it runs, or after it.
        delay: Seconds from there on; not before or after a call.
    """

    place: str
    call: int
    moment: Moment
    delay: float


class _Connection(sqlite3.Connection):
    """A connection whose methods can be replaced, unlike those of its base."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return super().executemany(*arguments)


class Place(NamedTuple):
    """Calls in which a process can be killed.

    Attributes:
        owner: Module or class.
        name: Name of the function in it.
        most: Calls are chosen among the first so many; there are few of some in a round.
        counts: Tells from the arguments whether a call counts.
    """

    owner: Any
    name: str
    most: int
    counts: Callable[..., bool] = lambda *_: True


def _is(statement: str) -> Callable[..., bool]:
    return lambda _, given, *__: given.startswith(statement)


def _creates_vectors(path: Path, mode: str = "r", *_: Any) -> bool:
    return path.suffix == ".bin" and mode.startswith("w")


def _is_derived(path: Any, *_: Any) -> bool:
    return str(path).endswith((".bin", ".faiss", ".new"))


PLACES = {
    "beginning to write": Place(_Connection, "execute", 25, _is("BEGIN IMMEDIATE")),
    "an SQL statement": Place(_Connection, "execute", 400),
    "inserting, updating rows": Place(_Connection, "executemany", 40),
    "committing": Place(_Connection, "execute", 25, _is("COMMIT")),
    "creating a vector file": Place(Path, "open", 2, _creates_vectors),
    "writing vectors": Place(VectorFile, "write", 20),
    "making room for vectors": Place(VectorFile, "reserve", 1),
    "syncing vectors or an index": Place(os, "fsync", 20),
    "beginning a generation": Place(Collection, "new_generation", 2),
    "training": Place(faiss_index, "build", 2),
    "saving an index": Place(faiss, "write_index", 3),
    "renaming an index": Place(Path, "replace", 3, _is_derived),
    "removing a file": Place(Path, "unlink", 3, _is_derived),
    "indexing keywords": Place(KeywordIndex, "add", 10),
    "removing keywords": Place(KeywordIndex, "remove", 8),
    "restoring keywords": Place(KeywordIndex, "restore", 2),
    "rebuilding keywords": Place(KeywordIndex, "rebuild", 2),
    "merging keywords": Place(KeywordIndex, "merge", 3),
    "scoring keywords to pack": Place(KeywordIndex, "read_packable", 3),
    "packing keywords": Place(KeywordIndex, "write_packed", 3),
    "marking rows to delete": Place(lookups, "doom", 8),
    "a checkpoint": Place(Database, "checkpoint", 3),
}
# Share of kills by the clock.
_BY_THE_CLOCK = 0.25
_LONGEST_DELAY = 0.1


def draw_kill(rng: np.random.Generator, operations: int, *, early: bool) -> Kill:
    """Choose where and when to kill a process that does so many operations; `early`: in the first of them."""
    hurry = 10 if early else 1
    delay = float(_LONGEST_DELAY * 10 ** rng.uniform(-4, 0))
    if rng.random() < _BY_THE_CLOCK:
        return Kill(BY_THE_CLOCK, int(rng.integers(operations)) // hurry, "during", delay)
    place = list(PLACES)[rng.integers(len(PLACES))]
    moment = _MOMENTS[rng.integers(len(_MOMENTS))]
    return Kill(place, int(rng.integers(PLACES[place].most)) // hurry + 1, moment, delay)


def arm(kill: Kill) -> None:
    """Let this process kill itself where it is told to; by the clock is the parent's part."""
    sqlite3.connect = partial(sqlite3.connect, factory=_Connection)  # type: ignore[assignment]
    if kill.place == BY_THE_CLOCK:
        return
    place = PLACES[kill.place]
    original = getattr(place.owner, place.name)
    calls = itertools.count(1)

    def armed(*arguments: Any, **options: Any) -> Any:
        if not place.counts(*arguments) or next(calls) != kill.call:
            return original(*arguments, **options)
        if kill.moment == "before":
            _die()
        if kill.moment == "during":
            threading.Timer(kill.delay, _die).start()
        result = original(*arguments, **options)
        if kill.moment == "after":
            _die()
        return result

    setattr(place.owner, place.name, armed)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
