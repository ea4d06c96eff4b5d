"""The searchable vectors of one generation of a store: which slots are live, and a FAISS index of them."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from rom_haystack.document_stores import faiss_index
from rom_haystack.document_stores.database import State
from rom_haystack.document_stores.shared_lock import SharedLock
from rom_haystack.document_stores.vectors import VectorFile

#: Up to so many documents that a filter lets through are all scored: results are exact.
EXACT_UP_TO = 32_768
# The index finds this many times `top_k` candidates, at least; they are scored again from the stored vectors.
_CANDIDATES_PER_RESULT, _MIN_CANDIDATES = 30, 300
#: An index is saved again when opening the store would have to add so many vectors to it, and a fifth.
SAVE_AGAIN_FROM = 20_000
_NEVER = np.iinfo(np.int64).max


@dataclass
class TrainedIndex:
    """A FAISS index with what must be known to judge whether it has become too small.

    Attributes:
        index: The index.
        factory: What it is.
        added: The live slots below this number are in it.
        saved: The number that held for the file it was read from or last saved to; 0 for none.
        parameters: Search parameters that hold where none are given.
    """

    index: faiss.Index
    factory: str
    added: int = 0
    saved: int = 0
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
        self._lock = SharedLock()
        self._vacated = np.zeros(0, np.int64)  # for each slot, where the log of vacant slots names it
        self._slots = 0
        self._sequence = 0
        self._indexes = 0
        self._trained: TrainedIndex | None = None

    def synchronize(self, connection: sqlite3.Connection, state: State) -> None:
        """Take in what was written and deleted up to a state, and a better index that another process has saved."""
        if (
            self._trained is not None
            and self._slots >= state.next_slot
            and self._sequence >= state.vacancies
            and self._indexes >= state.indexes
        ):
            return
        with self._lock.alone():
            self._grow(state.next_slot)
            if state.vacancies > self._sequence:
                rows = connection.execute("SELECT slot, sequence FROM vacant WHERE sequence > ?", (self._sequence,))
                vacant = np.array(rows.fetchall(), np.int64).reshape(-1, 2)
                self._vacated[vacant[:, 0]] = vacant[:, 1]
                self._sequence = state.vacancies
            if self._trained is None or state.indexes > self._indexes:
                self._trained = self._saved(connection) or self._trained or self._exact()
                self._indexes = max(self._indexes, state.indexes)
            if self._slots > self._trained.added:
                new = self._live_between(self._trained.added, self._slots)
                faiss_index.add(self._trained.index, self.vectors, new)
                self._trained.added = self._slots

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
        if allowed is None:
            found = self._candidates(
                query, top_k, parameters, state, lambda slots: vacated[slots] > state.vacancies, 1.0
            )
            return self.vectors.best(
                np.flatnonzero(vacated > state.vacancies) if found is None else found, query, top_k
            )
        allowed = allowed[vacated[allowed] > state.vacancies]
        found = None
        if len(allowed) > EXACT_UP_TO:
            mask = np.zeros(state.next_slot, bool)
            mask[allowed] = True
            found = self._candidates(query, top_k, parameters, state, lambda slots: mask[slots], mask.mean())
        return self.vectors.best(allowed if found is None else found, query, top_k)

    def count(self) -> int:
        """Count the live vectors."""
        return self._slots - self._sequence

    def due(self) -> str | None:
        """Name the FAISS index that should be trained now; None while the one in use will do."""
        vectors = self.count()
        dim, dtype = self.vectors.dim, self.vectors.dtype.name
        if self._factory == "auto":
            # One for somewhat more will do, so that a collection that swings about a boundary is not trained each time.
            fitting = [faiss_index.auto_factory(dim, dtype, round(vectors * factor)) for factor in (1, 1.4)]
        elif vectors >= faiss_index.training_size(faiss_index.make_index(self._factory, dim))[0]:
            fitting = [self._factory]
        else:
            fitting = [faiss_index.exact_factory(dtype)]
        return None if self._trained is not None and self._trained.factory in fitting else fitting[0]

    def train(self, factory: str) -> None:
        """Make a new FAISS index of the live vectors and put it in the place of the one in use.

        Searches go on with the old one meanwhile.
        """
        with self._lock.shared():
            slots = self._slots
            live = self._live_between(0, slots)
        index = faiss_index.build(factory, self.vectors, live)
        with self._lock.alone():
            faiss_index.add(index, self.vectors, self._live_between(slots, self._slots))
            self._trained = TrainedIndex(index, factory, added=self._slots)

    def worth_saving(self) -> bool:
        """Tell whether opening the store would have to train an index, or add much to the saved one."""
        trained = self._trained
        if trained is None or trained.factory == faiss_index.exact_factory(self.vectors.dtype.name):
            return False
        return trained.saved == 0 or trained.added - trained.saved > max(SAVE_AGAIN_FROM, trained.added // 5)

    def unsaved(self) -> bool:
        """Tell whether there is a trained index that no file holds as it is."""
        trained = self._trained
        exact = faiss_index.exact_factory(self.vectors.dtype.name)
        return trained is not None and trained.factory != exact and trained.added > trained.saved

    def save(self) -> tuple[str, str, int, int, int]:
        """Write the index to a file; searches go on meanwhile.

        Returns:
            Name of the file, factory, number of slots covered, size and CRC-32.
        """
        with self._lock.shared():
            trained = self._trained or self._exact()
            name = f"index-{self.generation}-{trained.added}.faiss"
            size, crc32 = faiss_index.save(trained.index, self._folder / name)
            trained.saved = trained.added
            return name, trained.factory, trained.added, size, crc32

    def _grow(self, slots: int) -> None:
        """Count more slots. The array is replaced when it is full, as searches may be looking at the old one."""
        if slots > len(self._vacated):
            vacated = np.full(max(slots, 2 * len(self._vacated)), _NEVER)
            vacated[: self._slots] = self._vacated[: self._slots]
            self._vacated = vacated
        self._slots = max(self._slots, slots)

    def _saved(self, connection: sqlite3.Connection) -> TrainedIndex | None:
        """Read the saved index where it is whole and better than the one in use: of another kind, or the first."""
        saved = connection.execute(
            "SELECT file, factory, slots, size, crc32 FROM vector_indexes WHERE generation = ?", (self.generation,)
        )
        for name, factory, slots, size, crc32 in saved.fetchall():
            if self._factory not in ("auto", factory) or (self._trained and self._trained.factory == factory):
                continue
            index = faiss_index.load(self._folder / name, size, crc32)
            if index is not None:
                return TrainedIndex(index, factory, added=slots, saved=slots)
        return None

    def _exact(self) -> TrainedIndex:
        factory = faiss_index.exact_factory(self.vectors.dtype.name)
        return TrainedIndex(faiss_index.make_index(factory, self.vectors.dim), factory)

    def _live_between(self, first: int, end: int) -> NDArray[np.int64]:
        return np.flatnonzero(self._vacated[first:end] == _NEVER) + first

    def _candidates(
        self,
        query: NDArray[np.float32],
        top_k: int,
        parameters: Mapping[str, float],
        state: State,
        counts: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
        share: float,
    ) -> NDArray[np.int64] | None:
        """Find slots worth scoring among those that count; None where the index finds too few of them.

        Args:
            query: Vector.
            top_k: Slots that are needed.
            parameters: Search parameters.
            state: State of the caller's snapshot; later slots don't count.
            counts: Tells which slots count.
            share: Share of all slots that count.
        """
        wanted = parameters.get("candidates", max(_CANDIDATES_PER_RESULT * top_k, _MIN_CANDIDATES))
        with self._lock.shared():
            trained = self._trained or self._exact()
            options = {**trained.parameters, **parameters}
            k = max(top_k, round(wanted / share))
            while k < trained.index.ntotal:
                found = faiss_index.search(trained.index, query, k, options)
                exhausted = len(found) < k
                found = found[found < state.next_slot]
                found = found[counts(found)]
                if len(found) >= top_k:
                    return found
                if exhausted:
                    break
                k *= 4
        return None
