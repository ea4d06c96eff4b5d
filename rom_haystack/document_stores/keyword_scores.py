"""Scores of frequent terms in a compact form, and the best of a million scores, with NumPy alone."""

import tempfile
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

_IN_MEMORY_BYTES = 16 * 2**20
_BLOCK_SLOTS = 2**16
# Scores of which `best` looks at the highest first.
_WIDTH = 1024


class PackedTerm(NamedTuple):
    """Scores of the documents that hold a term; a row of the table `keyword_scores`.

    Attributes:
        term: The term.
        first: The documents have this slot or a later one.
        scale: The highest score.
        counts: Number of documents in each block of 65,536 slots, from slot 0 on, as uint32.
        slots: Places of the documents in their blocks, as uint16.
        scores: Scores as fp16 shares of `scale`.
    """

    term: str
    first: int
    scale: float
    counts: bytes
    slots: bytes
    scores: bytes


def pack_term(term: str, first: int, slots: NDArray[np.int64], scores: NDArray[np.float64]) -> PackedTerm:
    """Pack the scores of a term.

    Args:
        term: The term.
        first: No slot is lower.
        slots: At least one slot, rising.
        scores: A positive score for each.
    """
    scale = float(scores.max())
    return PackedTerm(
        term,
        first,
        scale,
        np.bincount(slots // _BLOCK_SLOTS).astype("<u4").tobytes(),
        (slots % _BLOCK_SLOTS).astype("<u2").tobytes(),
        (scores / scale).astype("<f2").tobytes(),
    )


def unpack_term(packed: PackedTerm) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the slots and scores of a packed term."""
    counts = np.frombuffer(packed.counts, "<u4")
    starts = np.arange(len(counts), dtype=np.int64) * _BLOCK_SLOTS
    slots = np.repeat(starts, counts) + np.frombuffer(packed.slots, "<u2")
    return slots, np.frombuffer(packed.scores, "<f2").astype(np.float32) * np.float32(packed.scale)


class PackedScores:
    """Packed terms on their way from the index to the table; beyond 16 MB they wait in a temporary file.

    Args:
        cover: The scores cover the slots below this one.
        complete: They replace all that were packed before; otherwise they add to them.
        basis: Number of the packed scores that they add to or replace.
        changes: Number of the last change of a document's text that they know of.
    """

    def __init__(self, *, cover: int, complete: bool, basis: int, changes: int) -> None:
        self.cover = cover
        self.complete = complete
        self.basis = basis
        self.changes = changes
        self._terms: list[tuple[str, int, float, tuple[int, int, int]]] = []
        self._blobs: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115

    def append(self, packed: PackedTerm) -> None:
        """Add a term."""
        term, first, scale, counts, slots, scores = packed
        self._terms.append((term, first, scale, (len(counts), len(slots), len(scores))))
        self._blobs.writelines((counts, slots, scores))

    def __iter__(self) -> Iterator[PackedTerm]:
        """Give the terms, in the order in which they came."""
        self._blobs.seek(0)
        for term, first, scale, (counts, slots, scores) in self._terms:
            yield PackedTerm(
                term, first, scale, self._blobs.read(counts), self._blobs.read(slots), self._blobs.read(scores)
            )

    def close(self) -> None:
        """Delete the temporary file."""
        self._blobs.close()


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Give the positions of the highest positive scores.

    Args:
        scores: Scores, one per position.
        count: Most positions.

    Returns:
        Positions, the highest score first, and the lower position first among equal scores.
    """
    # The best of each stretch is a score that occurs, so the count-th best of them bounds the count-th best of all.
    width = max(1, min(_WIDTH, len(scores) // (4 * count)))
    highest = np.maximum.reduceat(scores, np.arange(0, len(scores), width)) if len(scores) else scores
    bound = np.partition(highest, -count)[-count] if len(highest) > count else 0
    positions = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    order = np.argsort(-scores[positions], kind="stable")[:count]
    return positions[order].astype(np.int64, copy=False)
