"""Upkeep of a collection: renewing outgrown indexes, closing the gaps that deletions left, removing old files."""

import threading
from contextlib import suppress

import numpy as np
from haystack import logging

from rom_haystack.document_stores import faiss_index
from rom_haystack.document_stores.collection import Collection
from rom_haystack.document_stores.database import State, read_state
from rom_haystack.document_stores.indexed_vectors import IndexedVectors
from rom_haystack.document_stores.settings import DERIVED_FILE
from rom_haystack.document_stores.vectors import chunks

logger = logging.getLogger(__name__)

# `optimize` numbers slots anew when more than this share of them is vacant.
_COMPACT_ABOVE = 0.1
# By itself a collection does so when most are vacant, and so few documents are left that writers wait for seconds only.
_COMPACT_ALONE_ABOVE, _COMPACT_ALONE_UP_TO = 0.5, 50_000


def start(collection: Collection) -> None:
    """Renew outgrown indexes in a thread, unless one is at it or the collection is small."""
    if collection.state().next_slot < faiss_index.AUTO_TRAINED_FROM:
        return
    with collection.upkeep_lock:
        if collection.upkeep is None or not collection.upkeep.is_alive():
            collection.upkeep = threading.Thread(target=_improve_all, args=(collection,), name="rom-store-upkeep")
            collection.upkeep.start()


def wait(collection: Collection) -> None:
    """Wait until the thread has ended."""
    with collection.upkeep_lock:
        thread = collection.upkeep
    if thread is not None:
        thread.join()


def _improve_all(collection: Collection) -> None:
    """Improve as long as there is something to; a failure costs speed and nothing else."""
    try:
        while improvable(collection):
            improve(collection)
    except Exception as error:  # noqa: BLE001 (nobody could catch it here)
        logger.warning(
            "The indexes of the store in {folder} could not be renewed: {error}", folder=collection.folder, error=error
        )


def improvable(collection: Collection) -> bool:
    """Tell whether the collection has outgrown an index, or is mostly gaps."""
    with collection.snapshot() as (connection, state, vectors):
        vectors.synchronize(connection, state)
        return (
            _gappy(state)
            or vectors.due() is not None
            or vectors.worth_saving()
            or collection.keywords.due(connection, state.next_slot)
        )


def improve(collection: Collection, *, everything: bool = False) -> None:
    """Train and save the FAISS index and pack keyword scores, where the collection has outgrown them.

    Args:
        collection: The collection.
        everything: Also where it has not.
    """
    if _gappy(collection.state()):
        _compact(collection)
    with collection.snapshot() as (connection, state, vectors):
        vectors.synchronize(connection, state)
        factory = vectors.due()
        packing = everything or collection.keywords.due(connection, state.next_slot)
        packed = collection.keywords.read_packable(connection, state.next_slot) if packing else None
    if factory is not None:
        vectors.train(factory)
    if vectors.worth_saving() or (everything and vectors.unsaved()):
        _save(collection, vectors)
    if packed is not None:
        with collection.database.writing() as connection:
            if read_state(connection).generation == state.generation:
                collection.keywords.write_packed(connection, packed)


def optimize(collection: Collection) -> None:
    """Compact what deletions left, merge the keyword index, renew both derived indexes, and give space back."""
    wait(collection)
    state = collection.state()
    if state.next_slot - state.documents > _COMPACT_ABOVE * state.next_slot:
        _compact(collection)
    with collection.database.writing() as connection:
        collection.keywords.merge(connection)
    improve(collection, everything=True)
    give_space_back(collection)


def give_space_back(collection: Collection) -> None:
    """Remove files that are not needed any more, and free parts of the database."""
    _tidy(collection)
    collection.database.shrink()
    collection.database.checkpoint()


def _gappy(state: State) -> bool:
    """Tell whether so many slots are vacant that searches suffer."""
    gaps = state.next_slot - state.documents
    return (
        state.next_slot >= faiss_index.AUTO_TRAINED_FROM
        and gaps > _COMPACT_ALONE_ABOVE * state.next_slot
        and state.documents <= _COMPACT_ALONE_UP_TO
    )


def _compact(collection: Collection) -> None:
    """Number the slots anew without gaps, with a vector file to match."""
    with collection.database.writing() as connection:
        state = read_state(connection)
        old = collection.current_vectors(state)
        slots = np.fromiter(
            (row[0] for row in connection.execute("SELECT slot FROM documents ORDER BY slot")), np.int64
        )
        # In rising order every new number is free: it is at most the old one, and those before have moved.
        connection.executemany(
            "UPDATE documents SET slot = ? WHERE slot = ?",
            ((new, int(slot)) for new, slot in enumerate(slots) if new != slot),
        )
        collection.keywords.rebuild(connection)
        vectors = collection.new_generation(connection, state)
        first = 0
        for part in chunks(slots, 16_384):
            vectors.write(first, old.raw(part))
            first += len(part)
        vectors.close()
    _tidy(collection)


def _save(collection: Collection, vectors: IndexedVectors) -> None:
    """Save the FAISS index and tell the database of it, unless slots have been numbered anew."""
    with collection.database.writing() as connection:  # so that nobody else saves it too, or tidies it away
        if read_state(connection).generation != vectors.generation:
            return
        name, factory, slots, size, crc32 = vectors.save()
        connection.execute("DELETE FROM vector_indexes")
        connection.execute("UPDATE state SET indexes = indexes + 1")
        connection.execute(
            "INSERT INTO vector_indexes VALUES (?, ?, ?, ?, ?, ?)",
            (name, vectors.generation, factory, slots, size, crc32),
        )
    _tidy(collection)


def _tidy(collection: Collection) -> None:
    """Remove vector and index files that no generation and no index needs any more."""
    with collection.database.writing() as connection:  # so that no other process is about to commit such a file
        generation = read_state(connection).generation
        needed = {collection.vector_path(generation).name}
        needed |= {row[0] for row in connection.execute("SELECT file FROM vector_indexes")}
        for path in collection.folder.iterdir():
            if DERIVED_FILE.fullmatch(path.name) and path.name not in needed:
                with suppress(OSError):  # where another process has it open, on Windows; the next one to tidy will
                    path.unlink()
