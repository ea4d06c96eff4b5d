"""Repair of a damaged store: what can be read is written to a new one, which takes the old one's place."""

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray

from rom_haystack.document_stores import metadata, rows
from rom_haystack.document_stores.collection import Collection
from rom_haystack.document_stores.database import DamagedStoreError, read_state
from rom_haystack.document_stores.settings import DATABASE, repaired_siblings
from rom_haystack.document_stores.sqlite_faiss import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.synchronous import release
from rom_haystack.document_stores.vectors import LONGEST, VectorFile, chunks

_BATCH = 1000
# A stored unit vector in fp16 may be off by so much; more means that it is not what was written.
_LENGTH_TOLERANCE = 0.02
_VECTORS = re.compile(r"vectors-(\d+)\.bin")


@dataclass
class RepairReport:
    """What a repair found and did.

    Attributes:
        problems: What was wrong; empty where nothing was, and nothing was changed.
        kept: Documents in the store now.
        without_embedding: Ids of documents whose embedding was lost; where only the end of an interrupted repair was
            left to do, of all that have none.
        damaged_folder: Where the damaged files were put; None where nothing was changed.
    """

    problems: list[str] = field(default_factory=list)
    kept: int = 0
    without_embedding: list[str] = field(default_factory=list)
    damaged_folder: Path | None = None


class UnreadableStoreError(DocumentStoreError):
    """Not one document of a damaged store can be read."""


def repair(store: SQLiteFAISSDocumentStore) -> RepairReport:
    """Check a store in full and, where it is damaged, replace it by a new one with all that is readable.

    Nobody may have the store open meanwhile. The damaged files are kept beside it. A repair that was killed is taken
    up by the next.

    Args:
        store: A store object with the settings that the store was made with.

    Returns:
        What was found.

    Raises:
        UnreadableStoreError: Not one of its documents can be read.
        DocumentStoreError: There is no store, or somebody else has it open.
    """
    store.close()
    folder = Path(store.path).expanduser().resolve()
    release(folder)
    interrupted = _finish(folder)
    if not (folder / DATABASE).exists():
        raise DocumentStoreError(f"There is no store in {folder}: it has no {DATABASE}. Check the path.")
    problems = find_problems(store)
    if problems:
        release(folder)
        return _replace(folder, store, [*interrupted, *problems])
    report = RepairReport(interrupted, kept=store.count_documents())
    if interrupted:
        batches = store.iter_documents()
        report.without_embedding = [found.id for batch in batches for found in batch if found.embedding is None]
        report.damaged_folder = _newest(folder, "damaged")
    return report


def remove_unfinished(folder: Path) -> None:
    """Remove the new stores that repairs of a folder's store made before they were killed."""
    for path in (*_siblings(folder, "repairing"), *repaired_siblings(folder)):
        shutil.rmtree(path)


def _finish(folder: Path) -> list[str]:
    """Put the store that a repair made in its place, if the repair was killed when it had moved the damaged one."""
    repaired = repaired_siblings(folder)
    if folder.exists() or not repaired:
        return []
    repaired[-1].rename(folder)
    return [f"a repair of {folder} was killed before its end, with all done but {repaired[-1].name} put in its place"]


def _replace(folder: Path, store: SQLiteFAISSDocumentStore, problems: list[str]) -> RepairReport:
    with _locked(folder / DATABASE, store.lock_timeout) as connection:
        remove_unfinished(folder)
        # Called so until it is whole, so that what is called "repaired" is whole for certain.
        unfinished = _free_name(folder, "repairing")
        try:
            report = _salvage(connection, folder, store, unfinished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        if not report.kept:
            shutil.rmtree(unfinished)
            raise UnreadableStoreError(
                f"The store in {folder} can't be repaired: none of its documents can be read ({problems[0]}). Remove "
                "the folder and index the documents again."
            )
        repaired = _free_name(folder, "repaired")
        unfinished.rename(repaired)
    report.problems = problems
    report.damaged_folder = folder.rename(_free_name(folder, "damaged"))
    repaired.rename(folder)
    return report


@contextmanager
def _locked(database: Path, timeout: float) -> Iterator[sqlite3.Connection]:
    """Open a database so that nobody else can, if it is not too damaged for that.

    Raises:
        DocumentStoreError: Somebody has it open.
    """
    connection = sqlite3.connect(database, timeout=timeout, isolation_level=None)
    try:
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # without it readers and idle connections are let in
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")  # the lock stays until the connection is closed
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise DocumentStoreError(
                    f"The store in {database.parent} can't be repaired while it is open in another process, or read by "
                    "an iter_documents that has not ended: what is written meanwhile would be lost. Close it there, "
                    "then repair it again."
                ) from error
        yield connection
        # Who waits for the lock gets it when the file has another place. In this mode SQLite then refuses to write.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()


def _salvage(connection: sqlite3.Connection, folder: Path, store: SQLiteFAISSDocumentStore, new: Path) -> RepairReport:
    """Write all that is readable to a new store."""
    report = RepairReport()
    parameters = _parameters(connection, store, new)
    with SQLiteFAISSDocumentStore.from_dict({**store.to_dict(), "init_parameters": parameters}) as salvaged:
        for documents, lost in _readable(connection, folder, store):
            salvaged.write_documents(documents, DuplicatePolicy.OVERWRITE)
            report.without_embedding.extend(lost)
        report.kept = salvaged.count_documents()
        salvaged.optimize()
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
        slots = [slot for (slot,) in connection.execute("SELECT slot FROM documents ORDER BY slot")]
        damaged = [slot for slot in slots if not _is_readable(connection, slot)]
    if damaged:
        yield f"{collection.database.path} has {len(damaged)} damaged documents, the first in slot {damaged[0]}"
    if count != state.documents or last >= state.next_slot:
        yield f"{collection.database.path} has {count} documents up to slot {last}, and counts {state}"
    with collection.database.writing() as connection:
        try:
            collection.keywords.check(connection)
        except sqlite3.DatabaseError as error:
            yield f"the keyword index does not agree with the documents ({error})"


def _is_readable(connection: sqlite3.Connection, slot: int) -> bool:
    document, norm = _document(connection, slot)
    return document is not None and (norm is None or _is_length(norm))


def _vector_problems(collection: Collection) -> Iterator[str]:
    with collection.snapshot() as (connection, _, vectors):
        found = connection.execute(
            "SELECT slot, norm FROM documents WHERE typeof(norm) = 'real' ORDER BY slot"
        ).fetchall()
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


def _readable(
    connection: sqlite3.Connection, folder: Path, store: SQLiteFAISSDocumentStore
) -> Iterator[tuple[list[Document], list[str]]]:
    """Read whatever documents can be read, slot by slot, with the ids of those whose embedding is lost."""
    vectors = _readable_vectors(folder, store, connection)
    slots = range(_slot_count(connection, vectors))
    try:
        for start in slots[::_BATCH]:
            yield _salvaged(connection, slots[start : start + _BATCH], vectors, unit=store.similarity == "cosine")
    finally:
        if vectors is not None:
            vectors.close()


def _salvaged(
    connection: sqlite3.Connection, slots: range, vectors: VectorFile | None, *, unit: bool
) -> tuple[list[Document], list[str]]:
    documents, lost = [], []
    for slot in slots:
        document, norm = _document(connection, slot)
        if document is None:
            continue
        if norm is not None:
            embedding = _embedding(vectors, slot, norm, unit=unit)
            document = replace(document, embedding=embedding)
            if embedding is None:
                lost.append(document.id)
        documents.append(document)
    return documents, lost


def _document(connection: sqlite3.Connection, slot: int) -> tuple[Document | None, Any]:
    """Read a document, and what its vector must be multiplied by; None where there is none that can be read."""
    valid = "json_valid(meta) AND (extra IS NULL OR json_valid(extra))"
    try:
        query = f"SELECT {rows.COLUMNS}, norm, {valid} FROM documents WHERE slot = ?"
        row = connection.execute(query, (slot,)).fetchone()
        if row is None or not row[-1]:
            return None, None
        document = rows.decode(row[:-2])
    except sqlite3.Error:
        return None, None
    sound = isinstance(document.id, str) and isinstance(document.content, str | None)
    return document if sound else None, row[-2]


def _embedding(vectors: VectorFile | None, slot: int, norm: Any, *, unit: bool) -> list[float] | None:
    if vectors is None or not _is_length(norm):
        return None
    slots = np.array([slot], np.int64)
    try:
        vector = vectors.gather(slots)[0]
        sound = _sound(vectors, slots, np.array([norm]), unit=unit)[0]
    except DocumentStoreError:  # the file ends before
        return None
    embedding: list[float] = (vector * np.float64(norm)).tolist()
    return embedding if sound else None


def _is_length(norm: Any) -> bool:
    return isinstance(norm, float) and 0 <= norm <= LONGEST


def _readable_vectors(
    folder: Path, store: SQLiteFAISSDocumentStore, connection: sqlite3.Connection
) -> VectorFile | None:
    """Open the vector file that the database names or, where it names none any more, the only one there is.

    Of several nobody can tell then to which the slots belong, and wrong embeddings are worse than none.
    """
    generation = _value(connection, "SELECT generation FROM state")
    identity = _value(connection, "SELECT value FROM settings WHERE name = 'identity'")
    files = {path: int(found[1]) for path in folder.iterdir() if (found := _VECTORS.fullmatch(path.name))}
    if isinstance(generation, int):
        files = {path: number for path, number in files.items() if number == generation}
    opened = []
    for path, number in files.items():
        with suppress(OSError, TypeError, ValueError, DocumentStoreError):
            owner = VectorFile.identity_of(path) if identity is None else json.loads(identity)
            opened.append(VectorFile(path, store.embedding_dim, store.vector_dtype, number, owner, read_only=True))
    if len(opened) == 1:
        return opened[0]
    for file in opened:
        file.close()
    return None


def _value(connection: sqlite3.Connection, query: str) -> Any:
    try:
        return (connection.execute(query).fetchone() or [None])[0]
    except sqlite3.Error:
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


def _parameters(connection: sqlite3.Connection, store: SQLiteFAISSDocumentStore, path: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = store.to_dict()["init_parameters"]
    if store.indexed_meta_fields is None:  # which leaves the indexes as they are
        with suppress(sqlite3.Error, ValueError):
            parameters["indexed_meta_fields"] = metadata.indexed_fields(connection)
    return {**parameters, "path": str(path), "read_only": False, "auto_optimize": False}


def _siblings(folder: Path, suffix: str) -> dict[Path, int]:
    name = re.compile(rf"{re.escape(folder.name)}\.{suffix}-(\d+)")
    return {path: int(found[1]) for path in folder.parent.iterdir() if (found := name.fullmatch(path.name))}


def _newest(folder: Path, suffix: str) -> Path | None:
    there = _siblings(folder, suffix)
    return max(there, key=lambda path: there[path], default=None)


def _free_name(folder: Path, suffix: str) -> Path:
    number = 1
    while (path := folder.with_name(f"{folder.name}.{suffix}-{number}")).exists():
        number += 1
    return path
