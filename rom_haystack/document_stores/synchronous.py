"""The store's operations, as a thin adapter over the core; their async twins are in `sqlite_faiss`."""

import gc
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from weakref import WeakKeyDictionary, WeakValueDictionary

from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack.document_stores import metadata, upkeep
from rom_haystack.document_stores.collection import Collection
from rom_haystack.document_stores.connections import check_not_inherited
from rom_haystack.document_stores.faiss_index import SEARCH_PARAMETERS, make_index
from rom_haystack.document_stores.filters import to_sql
from rom_haystack.document_stores.settings import DATABASE, Settings

# Cores by folder and by whether they are read-only; each lives as long as a store object uses it.
_COLLECTIONS: WeakValueDictionary[tuple[Path, bool], Collection] = WeakValueDictionary()
# The store objects that use one, with its key.
_USERS: WeakKeyDictionary["SynchronousStore", tuple[Path, bool]] = WeakKeyDictionary()
_OPENING = threading.Lock()
_LONGEST_TIMEOUT = 86_400
# Scores are divided by these before the logistic function, as Haystack's in-memory store does.
_BM25_SCALE, _DOT_PRODUCT_SCALE = 8.0, 100.0


def _open_anew() -> None:
    """Let a forked process have cores of its own; a thread that it does not have may have held the lock."""
    global _COLLECTIONS, _USERS, _OPENING  # noqa: PLW0603
    _COLLECTIONS = WeakValueDictionary()
    _USERS = WeakKeyDictionary()
    _OPENING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_anew)


class SynchronousStore:
    """What `SQLiteFAISSDocumentStore` does without awaiting; its documentation is there."""

    def __init__(
        self,
        path: str | Path,
        embedding_dim: int = 384,
        *,
        index: str = "auto",
        similarity: Literal["cosine", "dot_product"] = "cosine",
        vector_dtype: Literal["float16", "float32"] = "float16",
        search_parameters: dict[str, float] | None = None,
        indexed_meta_fields: list[str] | None = None,
        keyword_meta_fields: list[str] | None = None,
        tokenizer: str = "porter unicode61 remove_diacritics 2",
        return_embedding: bool = False,
        read_only: bool = False,
        auto_optimize: bool = True,
        lock_timeout: float = 10.0,
    ) -> None:
        if embedding_dim < 1:
            raise ValueError(f"embedding_dim is {embedding_dim}; it must be at least 1.")
        if not 0 <= lock_timeout <= _LONGEST_TIMEOUT:
            raise ValueError(f"lock_timeout is {lock_timeout}; it must be from 0 to {_LONGEST_TIMEOUT:,} seconds.")
        _check_choice("similarity", similarity, ("cosine", "dot_product"))
        _check_choice("vector_dtype", vector_dtype, ("float16", "float32"))
        if index != "auto":
            make_index(index, embedding_dim)
        _check_search_parameters(search_parameters)
        metadata.index_statements(indexed_meta_fields or [])
        self.path = path
        self.embedding_dim = embedding_dim
        self.index = index
        self.similarity = similarity
        self.vector_dtype = vector_dtype
        self.search_parameters = search_parameters
        self.indexed_meta_fields = indexed_meta_fields
        self.keyword_meta_fields = keyword_meta_fields
        self.tokenizer = tokenizer
        self.return_embedding = return_embedding
        self.read_only = read_only
        self.auto_optimize = auto_optimize
        self.lock_timeout = lock_timeout
        self._opened: Collection | None = None

    # The protocol

    def count_documents(self) -> int:
        """Count the documents."""
        return self.collection.state().documents

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Read the documents that match filters, in the order in which they were written.

        Args:
            filters: Haystack filters; None for all documents.

        Raises:
            FilterError: The filters are malformed.
        """
        batches = self.iter_documents(filters, return_embedding=self.return_embedding)
        return [document for batch in batches for document in batch]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents: all of them, on the disk, when the call returns, or none when it raises.

        Args:
            documents: The documents; those without embedding are found by filters and keywords only.
            policy: What to do with ids that are there already, or come twice: FAIL (also for NONE), SKIP, OVERWRITE.

        Returns:
            Number of documents written.

        Raises:
            ValueError: `documents` are no documents, or metadata can't be stored.
            DuplicateDocumentError: With FAIL, an id is there already or comes twice.
            DocumentStoreError: An embedding does not fit, or nothing can be written.
        """
        documents = _documents(documents)
        policy = DuplicatePolicy.FAIL if policy == DuplicatePolicy.NONE else policy
        written = self.collection.write(documents, policy)
        self._changed()
        return written

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by id; ids that are not there are passed over.

        Raises:
            ValueError: `document_ids` is no list of strings.
        """
        self.collection.delete(_ids(document_ids))
        self._changed()

    # Further operations

    def delete_all_documents(self) -> None:
        """Delete all documents and give their space back."""
        self.collection.clear()
        upkeep.give_space_back(self.collection)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match filters, and return their number."""
        deleted = self.collection.delete_where(to_sql(filters))
        self._changed()
        return deleted

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set metadata fields of the documents that match filters, and return their number."""
        updated = self.collection.update_meta(to_sql(filters), meta)
        self._changed()
        return updated

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Count the documents that match filters."""
        return self.collection.count(to_sql(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Count the different values of metadata fields among the documents that match filters."""
        condition = to_sql(filters)
        with self.collection.database.reading() as connection:
            return metadata.count_unique_metadata_by_filter(connection, condition, metadata_fields)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Name the metadata fields and their types (`keyword`, `int`, `float`, `boolean`)."""
        with self.collection.database.reading() as connection:
            return metadata.get_metadata_fields_info(connection)

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the least (`min`) and the greatest (`max`) value of a metadata field."""
        with self.collection.database.reading() as connection:
            return metadata.get_metadata_field_min_max(connection, metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """List the different values of a metadata field, a page at a time.

        Args:
            metadata_field: The field, with or without `meta.`.
            search_term: Text that values must contain, in any case.
            from_: Values to pass over.
            size: Most values.
            filters: Haystack filters on the documents.

        Returns:
            The values, and how many there are on all pages.
        """
        condition = to_sql(filters)
        with self.collection.database.reading() as connection:
            return metadata.get_metadata_field_unique_values(
                connection, condition, metadata_field, search_term, from_, size
            )

    def iter_documents(
        self, filters: dict[str, Any] | None = None, *, return_embedding: bool = True, batch_size: int = 1000
    ) -> Iterator[list[Document]]:
        """Read documents in batches, as they were at the first; memory does not grow with their number.

        Args:
            filters: Haystack filters; None for all documents.
            return_embedding: Give documents their embeddings.
            batch_size: Most documents per batch.

        Raises:
            ValueError: `batch_size` is out of range.
            FilterError: The filters are malformed.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
        return self.collection.iterate(to_sql(filters), return_embedding=return_embedding, batch_size=batch_size)

    # Search

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        search_parameters: dict[str, float] | None = None,
    ) -> list[Document]:
        """Find the documents whose embeddings are most similar to a query's.

        Args:
            query_embedding: The query's embedding.
            filters: Haystack filters; documents are selected by them before the search. Results are exact where they
                select at most 32,768.
            top_k: Most documents; 0 for none.
            scale_score: Bring scores to between 0 and 1.
            return_embedding: Give the documents their embeddings.
            search_parameters: For this search, over those of the store.

        Returns:
            Documents with scores, best first.

        Raises:
            ValueError: `query_embedding` is no list of floats, or a value is out of range.
            FilterError: The filters are malformed.
            DocumentStoreError: The embedding has the wrong length, or is not finite.
        """
        if len(query_embedding) == 0 or not isinstance(query_embedding[0], float):
            raise ValueError("query_embedding should be a non-empty list of floats.")
        _check_top_k(top_k)
        _check_search_parameters(search_parameters)
        documents = self.collection.nearest(
            query_embedding,
            top_k,
            condition=to_sql(filters) if filters else None,
            parameters={**(self.search_parameters or {}), **(search_parameters or {})},
            return_embedding=return_embedding,
        )
        if scale_score:
            cosine = self.similarity == "cosine"
            return _scale(
                documents,
                (lambda s: min(max((s + 1) / 2, 0), 1)) if cosine else (lambda s: _logistic(s / _DOT_PRODUCT_SCALE)),
            )
        return documents

    def bm25_retrieval(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int = 10, scale_score: bool = False
    ) -> list[Document]:
        """Find the documents that match a query's words best, by BM25.

        Args:
            query: Text; operators of FTS5 have no meaning in it.
            filters: Haystack filters.
            top_k: Most documents; 0 for none.
            scale_score: Bring scores to between 0 and 1.

        Returns:
            Documents with scores, best first.

        Raises:
            ValueError: The query is empty, or a value is out of range.
            FilterError: The filters are malformed.
        """
        if not query:
            raise ValueError("Query should be a non-empty string")
        _check_top_k(top_k)
        condition = to_sql(filters) if filters else None
        documents = self.collection.keyword_search(query, top_k, condition=condition)
        return _scale(documents, lambda score: _logistic(score / _BM25_SCALE)) if scale_score else documents

    # Upkeep

    @property
    def version(self) -> int:
        """Number of changes of documents so far, by any process."""
        return self.collection.state().version

    def optimize(self) -> None:
        """Renew the indexes, compact what deletions left, and merge the keyword index.

        Searches go on meanwhile; writes wait, up to a minute or so per million documents.

        Worth calling after a large import; later the store renews its indexes by itself (see `auto_optimize`).

        Raises:
            DocumentStoreError: Nothing can be written.
        """
        upkeep.optimize(self.collection)

    def close(self) -> None:
        """Close the files, after background work has ended; later use opens them again."""
        if self._opened is not None and not self._opened.database.inherited:
            upkeep.wait(self._opened)
        self._opened = None  # the core closes its files when no store object uses it any more
        with _OPENING:
            _USERS.pop(self, None)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open: a copy opens the store by itself."""
        return {**self.__dict__, "_opened": None, "_improving": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def to_dict(self) -> dict[str, Any]:
        """Serialize to a dictionary."""
        return default_to_dict(
            self,
            path=str(self.path),
            embedding_dim=self.embedding_dim,
            index=self.index,
            similarity=self.similarity,
            vector_dtype=self.vector_dtype,
            search_parameters=self.search_parameters,
            indexed_meta_fields=self.indexed_meta_fields,
            keyword_meta_fields=self.keyword_meta_fields,
            tokenizer=self.tokenizer,
            return_embedding=self.return_embedding,
            read_only=self.read_only,
            auto_optimize=self.auto_optimize,
            lock_timeout=self.lock_timeout,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the store from the dictionary that `to_dict` made."""
        return default_from_dict(cls, data)

    @property
    def collection(self) -> Collection:
        """The core, which is opened when it is first used."""
        opened = self._opened
        if opened is None or opened.database.inherited:
            opened = self._opened = self._open()
        return opened

    def _open(self) -> Collection:
        settings = Settings(
            self.embedding_dim,
            self.vector_dtype,
            self.similarity,
            self.tokenizer,
            tuple(self.keyword_meta_fields or ()),
        )
        folder = Path(self.path).expanduser().resolve()
        check_not_inherited(folder / DATABASE)
        with _OPENING:
            collection = _COLLECTIONS.get((folder, self.read_only))
            if collection is None:
                collection = Collection(
                    folder, settings, index=self.index, read_only=self.read_only, lock_timeout=self.lock_timeout
                )
                _COLLECTIONS[folder, self.read_only] = collection
            _USERS[self] = folder, self.read_only
        collection.check_settings(settings, self.index)
        if self.indexed_meta_fields is not None and not self.read_only:
            collection.index_fields(self.indexed_meta_fields)
        return collection

    def _changed(self) -> None:
        """Let upkeep see whether it has become due."""
        if self.auto_optimize:
            upkeep.start(self.collection)


def release(folder: Path) -> None:
    """Forget the cores of a folder whose files are about to be replaced, so that nobody opens the old ones again.

    Raises:
        DocumentStoreError: A store object of this process uses one.
    """
    keys = [(folder, read_only) for read_only in (False, True)]
    with _OPENING:
        if any(key in _USERS.values() for key in keys):
            gc.collect()  # which frees store objects that only cycles refer to
        for key in keys:
            if key in _USERS.values():
                raise DocumentStoreError(
                    f"The store in {folder} is open in this process, in another store object. Call its close() first."
                )
            core = _COLLECTIONS.pop(key, None)
            if core is not None:  # kept by an exception's traceback, say
                core.close()


def _ids(given: Any) -> list[str]:
    if isinstance(given, str):
        raise ValueError(f"document_ids is the string {given!r}; please provide a list of ids.")
    ids = list(given)
    for name in ids:
        if not isinstance(name, str):
            raise ValueError(f"document_ids has {name!r} in it; ids are strings.")
    return ids


def _documents(given: Any) -> list[Document]:
    """Check that something is documents; callers pass all sorts of things."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise ValueError("Please provide a list of Documents.")
    documents = list(given)
    for document in documents:
        if not isinstance(document, Document):
            raise ValueError(f"Please provide a list of Documents; there is a {type(document).__name__} in it.")
    return documents


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}.")


def _check_top_k(top_k: int) -> None:
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}; it must be at least 0.")


def _check_search_parameters(parameters: Mapping[str, float] | None) -> None:
    for name, value in (parameters or {}).items():
        if name != "candidates" and name not in SEARCH_PARAMETERS:
            known = ", ".join(("candidates", *SEARCH_PARAMETERS))
            raise ValueError(f"search_parameters has {name!r}; it can have {known}.")
        if value < 1:
            raise ValueError(f"search_parameters[{name!r}] is {value}; it must be at least 1.")


def _scale(documents: list[Document], scaled: Callable[[float], float]) -> list[Document]:
    return [replace(document, score=scaled(document.score or 0.0)) for document in documents]


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
