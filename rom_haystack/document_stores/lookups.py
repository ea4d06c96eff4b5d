"""Reading and marking rows of the table `documents` by id, by condition and by slot."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from haystack import Document
from numpy.typing import NDArray

from rom_haystack.document_stores import rows
from rom_haystack.document_stores.filters import Condition
from rom_haystack.document_stores.vectors import VectorFile

# Rows asked for by one statement.
_BATCH = 1000


def slots_of(connection: sqlite3.Connection, ids: Sequence[str | bytes]) -> dict[str | bytes, int]:
    """Look up the slots of ids, as they are stored; those that are not there are left out."""
    slots: dict[str | bytes, int] = {}
    for start in range(0, len(ids), _BATCH):
        part = ids[start : start + _BATCH]
        marks = ",".join("?" * len(part))
        slots.update(connection.execute(f"SELECT id, slot FROM documents WHERE id IN ({marks})", part))
    return slots


def slots_where(connection: sqlite3.Connection, condition: Condition) -> NDArray[np.int64]:
    """Find the slots of the documents that meet a condition, in rising order."""
    found = connection.execute(f"SELECT slot FROM documents WHERE {condition.sql}", condition.parameters)
    return np.sort(np.array(found.fetchall(), np.int64).reshape(-1))


def doom(connection: sqlite3.Connection, slots: Iterable[int]) -> None:
    """Mark the documents of some slots in `doomed`."""
    connection.executemany("INSERT INTO temp.doomed VALUES (?)", ((slot,) for slot in slots))


def doom_where(connection: sqlite3.Connection, condition: Condition) -> None:
    """Mark the documents that meet a condition in `doomed`."""
    connection.execute(
        f"INSERT INTO temp.doomed SELECT slot FROM documents WHERE {condition.sql}",
        condition.parameters,
    )


def fetch(
    connection: sqlite3.Connection,
    slots: NDArray[np.int64],
    scores: NDArray[np.float32],
    vectors: VectorFile | None,
) -> list[Document]:
    """Read the documents of some slots, in that order; those that are not there are left out."""
    wanted = dict(zip(slots.tolist(), scores.tolist(), strict=True))
    found: dict[int, Document] = {}
    ids = list(wanted)
    for start in range(0, len(ids), _BATCH):
        part = ids[start : start + _BATCH]
        marks = ",".join("?" * len(part))
        query = f"SELECT {rows.COLUMNS}, slot, norm FROM documents WHERE slot IN ({marks})"
        batch = connection.execute(query, part).fetchall()
        for row, document in zip(batch, decoded(batch, vectors, wanted), strict=True):
            found[row[-2]] = document
    return [found[slot] for slot in ids if slot in found]


def decoded(
    batch: Sequence[Sequence[Any]], vectors: VectorFile | None, scores: Mapping[int, float] | None = None
) -> list[Document]:
    """Turn rows of (COLUMNS, slot, norm) into documents, with embeddings where a vector file is given.

    Raises:
        DamagedRowError: A row holds what was never written there.
    """
    embeddings: dict[int, list[float]] = {}
    if vectors is not None:
        norms = {row[-2]: row[-1] for row in batch if row[-1] is not None}
        matrix = vectors.gather(np.array(list(norms), np.int64)) * np.array(list(norms.values()), np.float64)[:, None]
        embeddings = dict(zip(norms, matrix.tolist(), strict=True))
    return [_decoded(row, None if scores is None else scores[row[-2]], embeddings.get(row[-2])) for row in batch]


def _decoded(row: Sequence[Any], score: float | None, embedding: list[float] | None) -> Document:
    try:
        return rows.decode(row[:-2], score=score, embedding=embedding)
    except rows.DamagedRowError as error:
        raise rows.DamagedRowError(f"slot {row[-2]}: {error}") from error
