"""The core of the store: documents in SQLite, their vectors in a file, a FAISS index of them, kept in step."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray

from rom_haystack.document_stores import lookups, metadata, rows
from rom_haystack.document_stores.database import Database, State, read_state, write_state
from rom_haystack.document_stores.filters import Condition, register_functions
from rom_haystack.document_stores.indexed_vectors import IndexedVectors
from rom_haystack.document_stores.keywords import KeywordIndex
from rom_haystack.document_stores.settings import DATABASE, Settings, prepare_folder
from rom_haystack.document_stores.vectors import VectorFile, as_matrix, storable

# Embeddings turned into vectors together.
_BATCH = 1000


class Collection:
    """Documents of one folder.

    Every search sees one snapshot: filter, search and fetch run in one read transaction. Every write is one
    transaction, too: vectors are on the disk before SQLite commits the documents that have them.

    Args:
        folder: Where the files lie; made where there is none, unless `read_only`.
        settings: What the store is made with, or must have been made with.
        index: `auto` or a FAISS factory string.
        read_only: Refuse to write.
        lock_timeout: Seconds to wait for another process that writes.

    Raises:
        DocumentStoreError: The folder holds something else, a damaged store, or one with other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        index: str = "auto",
        read_only: bool = False,
        lock_timeout: float = 10.0,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.index = index
        self.read_only = read_only
        self.keywords = KeywordIndex(settings.tokenizer, settings.keyword_meta_fields)
        prepare_folder(folder, read_only=read_only)
        self.database = Database(
            folder / DATABASE,
            settings=settings.to_dict(),
            schema=[*self.keywords.schema(), *metadata.index_statements([])],
            prepare=_preparation(self.keywords),
            read_only=read_only,
            lock_timeout=lock_timeout,
        )
        self._vectors: IndexedVectors | None = None
        self._opening = threading.Lock()
        self.upkeep: threading.Thread | None = None
        self.upkeep_lock = threading.Lock()
        try:
            self.check_settings(settings, index)
            if not read_only:
                self._create_vectors()
            with self.snapshot() as (_, state, vectors):
                vectors.vectors.check_size(state.next_slot)
        except BaseException:  # the error's traceback may keep the object, and with it the file open
            self.close()
            raise

    def check_settings(self, settings: Settings, index: str) -> None:
        """Check that the store is what somebody takes it for.

        Raises:
            DocumentStoreError: It was made, or is open in this process, with other settings.
        """
        for name, (there, asked) in settings.differences(self.database.settings).items():
            raise DocumentStoreError(
                f"The store in {self.folder} was made with {name}={there!r}; {name}={asked!r} was asked for. Open it "
                f"with {name}={there!r}, or make another store and copy the documents with copy_documents."
            )
        if index != self.index:
            raise DocumentStoreError(
                f"The store in {self.folder} is open in this process with index={self.index!r}; index={index!r} was "
                "asked for. Name the same index, or close the other store first."
            )

    # Writing

    def index_fields(self, fields: Sequence[str]) -> None:
        """Have SQL indexes on just these metadata fields."""
        with self.database.reading() as connection:
            if metadata.has_indexes(connection, fields):
                return
        with self.database.writing() as connection:
            metadata.sync_indexes(connection, fields)

    def write(self, documents: Sequence[Document], policy: DuplicatePolicy) -> int:
        """Write documents, all or none.

        Args:
            documents: The documents.
            policy: What to do with those whose id is there already, or comes twice: FAIL, SKIP (the first stays) or
                OVERWRITE (the last wins).

        Returns:
            Number of documents written.

        Raises:
            DuplicateDocumentError: With FAIL, an id is there already or comes twice.
            DocumentStoreError: An embedding does not fit, or nothing can be written.
            ValueError: Metadata have no form in JSON.
        """
        documents = _unique(documents, policy)
        encoded = [rows.encode(document) for document in documents]
        vectors, norms = self._storable_vectors(documents)
        if not documents:
            return 0
        with self.database.writing() as connection:
            state = read_state(connection)
            known = lookups.slots_of(connection, [row[0] for row in encoded])
            if known and policy == DuplicatePolicy.FAIL:
                name = next(document.id for document, row in zip(documents, encoded, strict=True) if row[0] in known)
                raise DuplicateDocumentError(f"ID '{name}' already exists.")
            kept = [i for i, row in enumerate(encoded) if not (policy == DuplicatePolicy.SKIP and row[0] in known)]
            if policy == DuplicatePolicy.OVERWRITE:
                lookups.doom(connection, known.values())
                state = self._remove_doomed(connection, state)
            first = state.next_slot
            self._write_vectors(state, vectors[kept], [norms[i] for i in kept])
            connection.executemany(
                "INSERT INTO documents(slot, norm, id, content, meta, blob, extra) VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((first + offset, norms[i], *encoded[i]) for offset, i in enumerate(kept)),
            )
            self.keywords.add(connection, first)
            vacant = connection.execute(
                "INSERT INTO vacant(slot) SELECT slot FROM documents WHERE slot >= ? AND norm IS NULL", (first,)
            ).rowcount
            write_state(
                connection,
                state._replace(
                    next_slot=first + len(kept),
                    vacancies=state.vacancies + vacant,
                    documents=state.documents + len(kept),
                ),
            )
        return len(kept)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents by id; ids that are not there are passed over.

        Returns:
            Number of documents deleted.
        """
        with self.database.writing() as connection:
            lookups.doom(connection, lookups.slots_of(connection, [rows.stored_id(name) for name in ids]).values())
            return self._delete_doomed(connection)

    def delete_where(self, condition: Condition) -> int:
        """Delete the documents that meet a condition, and return their number."""
        with self.database.writing() as connection:
            lookups.doom_where(connection, condition)
            return self._delete_doomed(connection)

    def clear(self) -> None:
        """Delete all documents and give their space back."""
        with self.database.writing() as connection:
            state = read_state(connection)
            connection.execute("DELETE FROM documents")
            self.keywords.clear(connection)
            self.new_generation(connection, state).close()

    def update_meta(self, condition: Condition, meta: Mapping[str, Any]) -> int:
        """Set metadata fields of the documents that meet a condition, and return their number."""
        rows.to_json(dict(meta), "the new metadata")
        with self.database.writing() as connection:
            lookups.doom_where(connection, condition)
            text_changes = not meta.keys().isdisjoint(self.settings.keyword_meta_fields)
            if text_changes:
                self.keywords.remove(connection)
            found = connection.execute("SELECT slot, meta FROM documents WHERE slot IN (SELECT slot FROM temp.doomed)")
            changed = [(rows.merged_meta(old, meta), slot) for slot, old in found.fetchall()]
            connection.executemany("UPDATE documents SET meta = ? WHERE slot = ?", changed)
            if text_changes:
                self.keywords.restore(connection)
            connection.execute("DELETE FROM temp.doomed")
            write_state(connection, read_state(connection))
            return len(changed)

    # Reading

    def state(self) -> State:
        """Read the state."""
        with self.database.reading() as connection:
            return read_state(connection)

    def count(self, condition: Condition) -> int:
        """Count the documents that meet a condition."""
        with self.database.reading() as connection:
            count: int = connection.execute(
                f"SELECT count(*) FROM documents WHERE {condition.sql}",
                condition.parameters,
            ).fetchone()[0]
            return count

    def iterate(self, condition: Condition, *, return_embedding: bool, batch_size: int) -> Iterator[list[Document]]:
        """Read the documents that meet a condition, in the order in which they were written, all of one moment."""
        query = f"SELECT {rows.COLUMNS}, slot, norm FROM documents WHERE {condition.sql} ORDER BY slot"
        with (
            self.snapshot() as (connection, _, vectors),
            closing(connection.execute(query, condition.parameters)) as found,  # else an error's traceback keeps it
        ):
            while batch := found.fetchmany(batch_size):
                yield lookups.decoded(batch, vectors.vectors if return_embedding else None)

    def nearest(
        self,
        embedding: Sequence[float],
        top_k: int,
        *,
        condition: Condition | None = None,
        parameters: Mapping[str, float] | None = None,
        return_embedding: bool = False,
    ) -> list[Document]:
        """Find the documents whose embeddings are most similar to a query's.

        Args:
            embedding: The query's embedding.
            top_k: Most documents.
            condition: What the documents must meet.
            parameters: Search parameters: `candidates`, and those of the FAISS index (`nprobe`, `efSearch`, …).
            return_embedding: Give the documents their embeddings.

        Returns:
            Documents with scores (cosine or inner product), best first.

        Raises:
            DocumentStoreError: The embedding has the wrong length, or is not finite.
        """
        query = as_matrix([list(embedding)], self.settings.embedding_dim, ["the query"])[0]
        if not top_k:
            return []
        if self.settings.similarity == "cosine":
            query = storable(query[None], ["the query"], "float32", unit=True)[0][0].astype(np.float32)
        with self.snapshot() as (connection, state, vectors):
            vectors.synchronize(connection, state)
            allowed = None if condition is None else lookups.slots_where(connection, condition)
            slots, scores = vectors.nearest(query, top_k, parameters or {}, state, allowed)
            return lookups.fetch(connection, slots, scores, vectors.vectors if return_embedding else None)

    def keyword_search(self, query: str, top_k: int, *, condition: Condition | None = None) -> list[Document]:
        """Find the documents that match a query's words best, by BM25.

        Returns:
            Documents with scores, best first.
        """
        with self.database.reading() as connection:
            allowed = None if condition is None else lookups.slots_where(connection, condition)
            next_slot = read_state(connection).next_slot
            slots, scores = self.keywords.search(connection, query, top_k, next_slot, allowed)
            return lookups.fetch(connection, slots, scores, None)

    def close(self) -> None:
        """Close all files."""
        self.database.close()
        if self._vectors is not None:
            self._vectors.vectors.close()
            self._vectors = None

    def __del__(self) -> None:
        if hasattr(self, "database"):
            self.close()

    def _create_vectors(self) -> None:
        """Make the vector file of a store that was just created."""
        with self.database.reading() as connection:
            state = read_state(connection)
        if state.next_slot or VectorFile.is_whole(self.vector_path(state.generation)):
            return
        with self.database.writing() as connection:
            state = read_state(connection)
            if not state.next_slot and not VectorFile.is_whole(self.vector_path(state.generation)):
                self.vector_file(state.generation, create=True).close()

    @contextmanager
    def snapshot(self) -> Iterator[tuple[sqlite3.Connection, State, IndexedVectors]]:
        """Begin a read transaction and find the vectors that belong to it."""
        while True:
            with self.database.reading() as connection:
                state = read_state(connection)
                vectors = self._vectors_of(state.generation)
                if vectors is not None:
                    yield connection, state, vectors
                    return

    def _vectors_of(self, generation: int) -> IndexedVectors | None:
        """Find the vectors of a generation; None if slots were numbered anew since the caller looked."""
        current = self._vectors
        if current is None or current.generation < generation:
            with self._opening:
                current = self._vectors
                if current is None or current.generation < generation:
                    try:
                        vectors = self.vector_file(generation)
                    except DocumentStoreError:
                        if self.state().generation != generation:
                            return None
                        raise
                    current = self._vectors = IndexedVectors(vectors, generation, self.index, self.folder)
        return current if current.generation == generation else None

    def vector_path(self, generation: int) -> Path:
        """Name the vector file of a generation."""
        return self.folder / f"vectors-{generation}.bin"

    def vector_file(self, generation: int, *, create: bool = False) -> VectorFile:
        """Open the vector file of a generation, or make it."""
        with self.database.explained():
            return VectorFile(
                self.vector_path(generation),
                self.settings.embedding_dim,
                self.settings.vector_dtype,
                generation,
                self.database.settings["identity"],
                create=create,
                read_only=self.read_only,
            )

    def _storable_vectors(self, documents: Sequence[Document]) -> tuple[NDArray[np.generic], list[float | None]]:
        """Bring the embeddings into the form they are stored in; rows of documents without one are zero."""
        settings = self.settings
        vectors = np.zeros((len(documents), settings.embedding_dim), settings.vector_dtype)
        norms: list[float | None] = [None] * len(documents)
        embedded = [i for i, document in enumerate(documents) if document.embedding is not None]
        for start in range(0, len(embedded), _BATCH):
            part = embedded[start : start + _BATCH]
            ids = [f"document {documents[i].id}" for i in part]
            matrix = as_matrix([documents[i].embedding or [] for i in part], settings.embedding_dim, ids)
            stored, lengths = storable(matrix, ids, settings.vector_dtype, unit=settings.similarity == "cosine")
            vectors[part] = stored
            for i, length in zip(part, lengths, strict=True):
                norms[i] = length
        return vectors, norms

    def current_vectors(self, state: State) -> VectorFile:
        """Find the vector file inside a write transaction, during which nobody numbers slots anew."""
        vectors = self._vectors_of(state.generation)
        if vectors is None:
            raise DocumentStoreError(f"The store in {self.folder} changed while it was being written. Try again.")
        return vectors.vectors

    def _write_vectors(self, state: State, rows: NDArray[np.generic], norms: Sequence[float | None]) -> None:
        file = self.current_vectors(state)
        if any(norm is not None for norm in norms):
            file.write(state.next_slot, rows)
        else:
            file.reserve(state.next_slot + len(rows))

    def _delete_doomed(self, connection: sqlite3.Connection) -> int:
        state = read_state(connection)
        left = self._remove_doomed(connection, state)
        write_state(connection, left)
        return state.documents - left.documents

    def _remove_doomed(self, connection: sqlite3.Connection, state: State) -> State:
        """Delete the documents whose slots are in `doomed`, and return the state without them."""
        doomed = "SELECT slot FROM temp.doomed"
        self.keywords.remove(connection)
        vacated = connection.execute(
            f"INSERT INTO vacant(slot) SELECT slot FROM documents WHERE slot IN ({doomed}) AND norm IS NOT NULL"
        ).rowcount
        deleted = connection.execute(f"DELETE FROM documents WHERE slot IN ({doomed})").rowcount
        connection.execute("DELETE FROM temp.doomed")
        return state._replace(vacancies=state.vacancies + vacated, documents=state.documents - deleted)

    def new_generation(self, connection: sqlite3.Connection, state: State) -> VectorFile:
        """Begin a generation whose slots are those the documents have now, and return its vector file, still empty."""
        for table in ("vacant", "vector_indexes"):
            connection.execute(f"DELETE FROM {table}")
        vacancies = connection.execute(
            "INSERT INTO vacant(slot) SELECT slot FROM documents WHERE norm IS NULL ORDER BY slot"
        ).rowcount
        count = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
        write_state(
            connection,
            state._replace(generation=state.generation + 1, next_slot=count, vacancies=vacancies, documents=count),
        )
        return self.vector_file(state.generation + 1, create=True)


def _preparation(keywords: KeywordIndex) -> Callable[[sqlite3.Connection], None]:
    """Make the function that prepares connections; it must not hold the collection, which would never be freed."""

    def prepare(connection: sqlite3.Connection) -> None:
        register_functions(connection)
        keywords.prepare(connection)

    return prepare


def _unique(documents: Sequence[Document], policy: DuplicatePolicy) -> list[Document]:
    """Settle ids that come twice."""
    by_id: dict[str, Document] = {}
    for document in documents:
        if document.id in by_id:
            if policy == DuplicatePolicy.FAIL:
                raise DuplicateDocumentError(f"ID '{document.id}' comes twice among the documents to write.")
            if policy == DuplicatePolicy.SKIP:
                continue
        by_id[document.id] = document
    return list(by_id.values())
