"""The searchable vectors of one generation of a store: which slots are live, and a FAISS index of them."""

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from rom_haystack.document_stores import faiss_index
from rom_haystack.document_stores.database import State
from rom_haystack.document_stores.vectors import VectorFile

#: Up to so many documents that a filter lets through are all scored: results are exact.
EXACT_UP_TO = 32_768
# The index finds this many times `top_k` candidates, at least; they are scored again from the stored vectors.
_CANDIDATES_PER_RESULT, _MIN_CANDIDATES = 30, 300
_NEVER = np.iinfo(np.int64).max


@dataclass
class TrainedIndex:
    """A FAISS index with what must be known to judge whether it has become too small.

    Attributes:
        index: Covers all slots that were live when they were added.
        factory: What it is.
        slots: Slots below this number are covered by the file it was read from or saved to.
        parameters: Search parameters that hold where none are given.
    """

    index: faiss.Index
    factory: str
    slots: int = 0
    parameters: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = faiss_index.default_parameters(self.index)


class IndexedVectors:
    """Nearest-neighbour search in the vectors of one generation.

    What is in memory may lag behind the database or, when another thread has seen a newer state, be ahead of it;
    `synchronize` brings it at least to the state of the caller's snapshot, and `nearest` looks back to that.

    Args:
        vectors: The vectors.
        generation: Their generation.
        factory: `auto` or a FAISS factory string.
        folder: Where index files lie.
    """

    def __init__(self, vectors: VectorFile, generation: int, factory: str, folder: Path) -> None:
        self.vectors = vectors
        self.generation = generation
        self._factory = factory
        self._folder = folder
        self._lock = threading.Lock()
        self._vacated = np.zeros(0, np.int64)  # for each slot, where the log of vacant slots names it
        self._slots = 0
        self._sequence = 0
        self._trained: TrainedIndex | None = None

    def synchronize(self, connection: sqlite3.Connection, state: State) -> None:
        """Take in what was written and deleted up to a state."""
        if self._slots >= state.next_slot and self._sequence >= state.vacancies and self._trained is not None:
            return
        with self._lock:
            first = self._slots
            if state.next_slot > first:
                self._grow(state.next_slot)
            if state.vacancies > self._sequence:
                rows = connection.execute("SELECT slot, sequence FROM vacant WHERE sequence > ?", (self._sequence,))
                vacant = np.array(rows.fetchall(), np.int64).reshape(-1, 2)
                self._vacated[vacant[:, 0]] = vacant[:, 1]
                self._sequence = state.vacancies
            if self._trained is None:
                self._trained, first = self._open(connection)
            if self._slots > first:
                faiss_index.add(self._trained.index, self.vectors, self._live_between(first, self._slots))

    def nearest(
        self,
        query: NDArray[np.float32],
        top_k: int,
        parameters: Mapping[str, float],
        state: State,
        allowed: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the vectors with the largest inner product.

        Few allowed slots are all scored. Else the index finds candidates, of which those that are deleted or not
        allowed are dropped; where too few remain, more are asked for, and in the end all are scored.

        Args:
            query: Vector, shape `[dim]`.
            top_k: Most results.
            parameters: `candidates` (vectors to score again from their stored form), and parameters of the index.
            state: State of the caller's snapshot.
            allowed: Slots that a filter lets through; None for all.

        Returns:
            Slots and their scores, best first.
        """
        vacated = self._vacated[: state.next_slot]
        if allowed is not None:
            allowed = allowed[vacated[allowed] > state.vacancies]
            if len(allowed) <= EXACT_UP_TO:
                return self.vectors.best(allowed, query, top_k)
            vacated = np.zeros(state.next_slot, np.int64)
            vacated[allowed] = _NEVER
        found = self._candidates(query, top_k, parameters, vacated, state.vacancies, allowed)
        return self.vectors.best(found, query, top_k)

    def count(self) -> int:
        """Count the live vectors."""
        return int(np.count_nonzero(self._vacated == _NEVER))

    def due(self) -> str | None:
        """Name the FAISS index that should be trained now; None while the one in use will do."""
        vectors = self.count()
        if self._factory == "auto":
            wanted = faiss_index.auto_factory(self.vectors.dim, self.vectors.dtype.name, vectors)
        elif vectors >= faiss_index.training_size(faiss_index.make_index(self._factory, self.vectors.dim))[0]:
            wanted = self._factory
        else:
            wanted = faiss_index.exact_factory(self.vectors.dtype.name)
        return None if self._trained is not None and self._trained.factory == wanted else wanted

    def train(self, factory: str) -> None:
        """Make a new FAISS index of the live vectors and put it in the place of the one in use.

        Searches go on with the old one meanwhile.
        """
        with self._lock:
            slots = self._slots
        index = faiss_index.build(factory, self.vectors, self._live_between(0, slots))
        with self._lock:
            faiss_index.add(index, self.vectors, self._live_between(slots, self._slots))
            self._trained = TrainedIndex(index, factory)

    def unsaved(self) -> int:
        """Count the slots that opening the store would have to add to the saved index; 0 where none is worth saving."""
        if self._trained is None or self._trained.factory == faiss_index.exact_factory(self.vectors.dtype.name):
            return 0
        return self._slots - self._trained.slots

    def save(self) -> tuple[str, str, int, int, int]:
        """Write the index to a file.

        Returns:
            Name of the file, factory, number of slots covered, size and CRC-32.
        """
        with self._lock:
            if self._trained is None:
                raise RuntimeError("there is no index to save before synchronize()")
            name = f"index-{self.generation}-{self._slots}.faiss"
            size, crc32 = faiss_index.save(self._trained.index, self._folder / name)
            return name, self._trained.factory, self._slots, size, crc32

    def mark_saved(self, slots: int) -> None:
        """Note that the index was saved with this many slots."""
        if self._trained is not None:
            self._trained.slots = slots

    def _grow(self, slots: int) -> None:
        """Make room in `_vacated` for more slots; it is replaced, as searches may be looking at the old one."""
        vacated = np.full(slots, _NEVER)
        vacated[: self._slots] = self._vacated[: self._slots]
        self._vacated, self._slots = vacated, slots

    def _open(self, connection: sqlite3.Connection) -> tuple[TrainedIndex, int]:
        """Read the newest saved index that is whole, or begin an exact one."""
        saved = connection.execute(
            "SELECT file, factory, slots, size, crc32 FROM vector_indexes WHERE generation = ? AND slots <= ? "
            "ORDER BY slots DESC",
            (self.generation, self._slots),
        )
        for name, factory, slots, size, crc32 in saved.fetchall():
            if self._factory not in ("auto", factory):
                continue
            index = faiss_index.load(self._folder / name, size, crc32)
            if index is not None:
                return TrainedIndex(index, factory, slots), slots
        factory = faiss_index.exact_factory(self.vectors.dtype.name)
        return TrainedIndex(faiss_index.make_index(factory, self.vectors.dim), factory), 0

    def _live_between(self, first: int, end: int) -> NDArray[np.int64]:
        return np.flatnonzero(self._vacated[first:end] == _NEVER) + first

    def _candidates(
        self,
        query: NDArray[np.float32],
        top_k: int,
        parameters: Mapping[str, float],
        vacated: NDArray[np.int64],
        vacancies: int,
        allowed: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Find slots to score: from the index where it finds enough that count, else all that count.

        Those count that were vacated, if at all, later than a snapshot that knows so many vacancies.
        """
        wanted = int(parameters.get("candidates", max(_CANDIDATES_PER_RESULT * top_k, _MIN_CANDIDATES)))
        share = 1.0 if allowed is None else len(allowed) / len(vacated)
        with self._lock:
            if self._trained is None:
                raise RuntimeError("there is no index to search before synchronize()")
            index = self._trained.index
            options = {**self._trained.parameters, **parameters}
            k = max(top_k, round(wanted / share))
            while k < index.ntotal:
                found = faiss_index.search(index, query, k, options)
                exhausted = len(found) < k
                found = found[found < len(vacated)]
                found = found[vacated[found] > vacancies]
                if len(found) >= top_k:
                    return found
                if exhausted:
                    break
                k *= 4
        return np.flatnonzero(vacated > vacancies) if allowed is None else allowed
