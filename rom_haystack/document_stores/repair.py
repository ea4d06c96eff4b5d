"""Repair of a damaged store: what can be read is written to a new one, which takes the old one's place."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray

from rom_haystack.document_stores import rows
from rom_haystack.document_stores.collection import Collection
from rom_haystack.document_stores.database import DamagedStoreError, read_state
from rom_haystack.document_stores.settings import DATABASE
from rom_haystack.document_stores.sqlite_faiss import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.vectors import VectorFile, chunks

_BATCH = 1000
# A stored unit vector in fp16 may be off by so much; more means that it is not what was written.
_LENGTH_TOLERANCE = 0.02


@dataclass
class RepairReport:
    """What a repair found and did.

    Attributes:
        problems: What was wrong; empty where nothing was, and nothing was changed.
        kept: Documents in the store now.
        without_embedding: Ids of documents whose embedding was lost.
        damaged_folder: Where the damaged files were put; None where nothing was changed.
    """

    problems: list[str] = field(default_factory=list)
    kept: int = 0
    without_embedding: list[str] = field(default_factory=list)
    damaged_folder: Path | None = None


def repair(store: SQLiteFAISSDocumentStore) -> RepairReport:
    """Check a store in full and, where it is damaged, replace it by a new one with all that is readable.

    Nobody may have the store open meanwhile. The damaged files are kept beside it.

    Args:
        store: A store object with the settings that the store was made with.

    Returns:
        What was found.

    Raises:
        DocumentStoreError: There is no store, or not one of its documents can be read.
    """
    store.close()
    folder = Path(store.path).expanduser().resolve()
    if not (folder / DATABASE).exists():
        raise DocumentStoreError(f"There is no store in {folder}: it has no {DATABASE}. Check the path.")
    problems = find_problems(store)
    if not problems:
        return RepairReport(kept=store.count_documents())
    new = _free_name(folder, "repaired")
    report = RepairReport(problems, damaged_folder=_free_name(folder, "damaged"))
    salvaged = SQLiteFAISSDocumentStore.from_dict({**store.to_dict(), "init_parameters": _parameters(store, new)})
    try:
        for documents, lost in _readable(folder, store):
            salvaged.write_documents(documents, DuplicatePolicy.OVERWRITE)
            report.without_embedding.extend(lost)
        report.kept = salvaged.count_documents()
        if not report.kept:
            raise DocumentStoreError(
                f"The store in {folder} can't be repaired: none of its documents can be read ({problems[0]}). Remove "
                "the folder and index the documents again."
            )
        salvaged.optimize()
    except BaseException:
        salvaged.close()
        shutil.rmtree(new, ignore_errors=True)
        raise
    salvaged.close()
    folder.rename(report.damaged_folder or folder)
    new.rename(folder)
    return report


def find_problems(store: SQLiteFAISSDocumentStore) -> list[str]:
    """Check everything in a store that can be checked: both files, and that they and the keyword index agree.

    Returns:
        What is wrong, in words; empty where nothing is.
    """
    try:
        return [*_database_problems(store.collection), *_vector_problems(store.collection)]
    except DamagedStoreError as error:
        return [error.problem]
    finally:
        store.close()


def _database_problems(collection: Collection) -> Iterator[str]:
    with collection.database.reading() as connection:
        result = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        if result != ["ok"]:
            yield f"{collection.database.path} is damaged ({'; '.join(result)})"
            return
        state = read_state(connection)
        count, last = connection.execute("SELECT count(*), coalesce(max(slot), -1) FROM documents").fetchone()
    if count != state.documents or last >= state.next_slot:
        yield f"{collection.database.path} has {count} documents up to slot {last}, and counts {state}"
    with collection.database.writing() as connection:
        try:
            collection.keywords.check(connection)
        except sqlite3.DatabaseError as error:
            yield f"the keyword index does not agree with the documents ({error})"


def _vector_problems(collection: Collection) -> Iterator[str]:
    with collection.snapshot() as (connection, _, vectors):
        found = connection.execute("SELECT slot, norm FROM documents WHERE norm IS NOT NULL ORDER BY slot").fetchall()
        slots = np.array([slot for slot, _ in found], np.int64)
        norms = np.array([norm for _, norm in found])
        wrong = slots[~_sound(vectors.vectors, slots, norms, unit=collection.settings.similarity == "cosine")]
    if len(wrong):
        yield f"{vectors.vectors.path} has {len(wrong)} damaged vectors, the first in slot {wrong[0]}"


def _sound(
    vectors: VectorFile, slots: NDArray[np.int64], norms: NDArray[np.float64], *, unit: bool
) -> NDArray[np.bool_]:
    """Tell which vectors may be what was written: finite, and where unit vectors are stored, of length 1."""
    parts: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
    for part, lengths in zip(chunks(slots), np.split(norms, range(16_384, len(norms), 16_384)), strict=False):
        matrix = vectors.gather(part)
        sound = np.asarray(np.isfinite(matrix).all(axis=1))
        if unit:
            measured = np.linalg.norm(np.where(np.isfinite(matrix), matrix, 0), axis=1)
            sound &= np.abs(measured - (lengths != 0)) < _LENGTH_TOLERANCE
        parts.append(sound)
    return np.concatenate(parts)


def _readable(folder: Path, store: SQLiteFAISSDocumentStore) -> Iterator[tuple[list[Document], list[str]]]:
    """Read whatever documents can be read, slot by slot, with the ids of those whose embedding is lost."""
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    try:
        vectors = _readable_vectors(folder, store, connection)
        slots = range(_slot_count(connection, vectors))
        for start in slots[::_BATCH]:
            yield _salvaged(connection, slots[start : start + _BATCH], vectors, unit=store.similarity == "cosine")
    finally:
        connection.close()


def _salvaged(
    connection: sqlite3.Connection, slots: range, vectors: VectorFile | None, *, unit: bool
) -> tuple[list[Document], list[str]]:
    documents, lost = [], []
    for slot in slots:
        row = _row(connection, slot)
        if row is None:
            continue
        *columns, norm = row
        embedding = None
        if norm is not None:
            embedding = _embedding(vectors, slot, norm, unit=unit)
        try:
            document = rows.decode(columns, embedding=embedding)
        except (ValueError, TypeError):  # a page may hold something else than it should
            continue
        documents.append(document)
        if norm is not None and embedding is None:
            lost.append(document.id)
    return documents, lost


def _row(connection: sqlite3.Connection, slot: int) -> Any:
    try:
        query = f"SELECT {rows.COLUMNS}, norm FROM documents WHERE slot = ?"
        return connection.execute(query, (slot,)).fetchone()
    except sqlite3.Error:
        return None


def _embedding(vectors: VectorFile | None, slot: int, norm: float, *, unit: bool) -> list[float] | None:
    if vectors is None:
        return None
    slots = np.array([slot], np.int64)
    try:
        vector = vectors.gather(slots)[0]
        sound = _sound(vectors, slots, np.array([norm]), unit=unit)[0]
    except DocumentStoreError:  # the file ends before
        return None
    embedding: list[float] = (vector * np.float32(norm)).tolist()
    return embedding if sound else None


def _readable_vectors(
    folder: Path, store: SQLiteFAISSDocumentStore, connection: sqlite3.Connection
) -> VectorFile | None:
    """Open the vector file that the database names; None where either can't be read."""
    try:
        generation = connection.execute("SELECT generation FROM state").fetchone()[0]
        identity = json.loads(connection.execute("SELECT value FROM settings WHERE name = 'identity'").fetchone()[0])
        path = folder / f"vectors-{generation}.bin"
        return VectorFile(path, store.embedding_dim, store.vector_dtype, generation, identity, read_only=True)
    except (sqlite3.Error, TypeError, ValueError, DocumentStoreError):
        return None


def _slot_count(connection: sqlite3.Connection, vectors: VectorFile | None) -> int:
    """Find how many slots there may be, by whichever way still works."""
    counts = [vectors.slots() if vectors is not None else 0]
    for query in ("SELECT next_slot FROM state", "SELECT max(slot) + 1 FROM documents"):
        try:
            counts.append(int(connection.execute(query).fetchone()[0]))
        except (sqlite3.Error, TypeError, ValueError):
            continue
    return max(counts)


def _parameters(store: SQLiteFAISSDocumentStore, path: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = store.to_dict()["init_parameters"]
    return {**parameters, "path": str(path), "read_only": False, "auto_optimize": False}


def _free_name(folder: Path, suffix: str) -> Path:
    number = 1
    while (path := folder.with_name(f"{folder.name}.{suffix}-{number}")).exists():
        number += 1
    return path
