"""Upkeep of a collection: renewing outgrown indexes, closing the gaps that deletions left, removing old files."""

import re
from contextlib import suppress

import numpy as np

from rom_haystack.document_stores.collection import Collection
from rom_haystack.document_stores.database import State, read_state
from rom_haystack.document_stores.indexed_vectors import IndexedVectors
from rom_haystack.document_stores.vectors import chunks

_DERIVED_FILE = re.compile(r"vectors-\d+\.bin|index-\d+-\d+\.faiss(?:\.new)?")
#: The FAISS index is saved when at least so many slots, and a fifth of all, have come since the last time.
SAVE_FROM = 20_000
# Slots are numbered anew when more than this share of them is vacant.
_COMPACT_ABOVE = 0.1


def improvable(collection: Collection) -> bool:
    """Tell whether the collection has outgrown an index."""
    with collection.snapshot() as (connection, state, vectors):
        vectors.synchronize(connection, state)
        return (
            vectors.due() is not None
            or _worth_saving(vectors.unsaved(), state)
            or collection.keywords.due(connection, state.next_slot)
        )


def improve(collection: Collection, *, everything: bool = False) -> None:
    """Train and save the FAISS index and pack keyword scores, where the collection has outgrown them.

    Args:
        collection: The collection.
        everything: Also where it has not.
    """
    with collection.snapshot() as (connection, state, vectors):
        vectors.synchronize(connection, state)
        factory = vectors.due()
        packing = everything or collection.keywords.due(connection, state.next_slot)
        packed = collection.keywords.read_packable(connection, state.next_slot) if packing else None
    if factory is not None:
        vectors.train(factory)
    unsaved = vectors.unsaved()
    if unsaved and (everything or _worth_saving(unsaved, state)):
        _save(collection, vectors)
    if packed is not None:
        with collection.database.writing() as connection:
            if read_state(connection).generation == state.generation:
                collection.keywords.write_packed(connection, packed)


def optimize(collection: Collection) -> None:
    """Compact what deletions left, merge the keyword index, renew both derived indexes, and tidy the files."""
    state = collection.state()
    if state.next_slot - state.documents > _COMPACT_ABOVE * state.next_slot:
        _compact(collection)
    with collection.database.writing() as connection:
        collection.keywords.merge(connection)
    improve(collection, everything=True)
    tidy(collection)
    collection.database.checkpoint()


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
    tidy(collection)


def _save(collection: Collection, vectors: IndexedVectors) -> None:
    """Save the FAISS index and tell the database of it, unless slots have been numbered anew."""
    with collection.database.writing() as connection:  # so that nobody else saves it too, or tidies it away
        if read_state(connection).generation != vectors.generation:
            return
        name, factory, slots, size, crc32 = vectors.save()
        connection.execute("DELETE FROM vector_indexes")
        connection.execute(
            "INSERT INTO vector_indexes VALUES (?, ?, ?, ?, ?, ?)",
            (name, vectors.generation, factory, slots, size, crc32),
        )
    vectors.mark_saved(slots)
    tidy(collection)


def tidy(collection: Collection) -> None:
    """Remove vector and index files that no generation and no index needs any more."""
    with collection.database.writing() as connection:  # so that no other process is about to commit such a file
        generation = read_state(connection).generation
        needed = {collection.vector_path(generation).name}
        needed |= {row[0] for row in connection.execute("SELECT file FROM vector_indexes")}
        for path in collection.folder.iterdir():
            if _DERIVED_FILE.fullmatch(path.name) and path.name not in needed:
                with suppress(OSError):  # where another process has it open, on Windows; the next one to tidy will
                    path.unlink()


def _worth_saving(unsaved: int, state: State) -> bool:
    """Tell whether opening the store would have to add so much to the saved index that saving it again pays."""
    return unsaved > max(SAVE_FROM, state.next_slot // 5)
