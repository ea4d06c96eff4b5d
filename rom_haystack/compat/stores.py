"""What the document stores of Haystack 1.x did, over one of today's stores per index."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol, TypeVar

import haystack
import numpy as np
from haystack import logging
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray
from tqdm.auto import tqdm

from rom_haystack.compat.arguments import HEADERS, warn_of_unused
from rom_haystack.compat.documents import Document, as_documents, from_haystack, to_haystack
from rom_haystack.compat.filters import convert_filters
from rom_haystack.compat.searches import Backend, Searches

logger = logging.getLogger(__name__)

_POLICIES = {"skip": DuplicatePolicy.SKIP, "overwrite": DuplicatePolicy.OVERWRITE, "fail": DuplicatePolicy.FAIL}


class EmbedsDocuments(Protocol):
    """What makes embeddings of documents."""

    def embed_documents(self, documents: list[Document]) -> NDArray[np.float32]:
        """Return one row per document."""
        ...


Item = TypeVar("Item")


class DocumentStore(Searches):
    """What both stores share; they differ in where an index lies.

    Filters are 1.x's (see `convert_filters`), and hold in every search, dense ones too. Documents go in and out as
    copies.

    Attributes:
        index: The index that is meant where a call names none.
        similarity: `dot_product` or `cosine`.
    """

    def __init__(
        self,
        *,
        index: str,
        embedding_dim: int | None,
        similarity: str,
        return_embedding: bool,
        duplicate_documents: str,
        progress_bar: bool,
    ) -> None:
        if similarity not in ("dot_product", "cosine"):
            raise ValueError(
                f"similarity is {similarity!r}; it must be 'dot_product' or 'cosine'. ROM's embeddings have unit "
                "length, so either ranks as 'l2' did."
            )
        _policy(duplicate_documents)
        self.index = index
        self.embedding_dim = embedding_dim
        self.similarity = similarity
        self.return_embedding = return_embedding
        self.duplicate_documents = duplicate_documents
        self.progress_bar = progress_bar

    # Where the kinds of store differ

    @abstractmethod
    def _backend_for(self, index: str, dim: int | None, *, renew: bool = False) -> Backend:
        """Return the store of an index, made if need be, that takes embeddings of `dim` components, if that is known.

        With `renew` all embeddings that are there may go.

        Raises:
            ValueError: The store takes embeddings of another length.
        """

    @abstractmethod
    def _read(
        self, index: str, filters: dict[str, Any] | None, *, embedding: bool, only_without: bool, batch_size: int
    ) -> Iterator[list[haystack.Document]]:
        """Read an index's documents in batches, with embeddings or not, or only those that have none."""

    @abstractmethod
    def delete_index(self, index: str) -> None:
        """Delete an index with all that is in it."""

    # Writing

    def write_documents(
        self,
        documents: Sequence[Document | dict[str, Any]],
        index: str | None = None,
        batch_size: int = 10_000,
        duplicate_documents: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Write documents.

        Args:
            documents: Documents, or dictionaries such as `{"content": "…", "meta": {"name": "…"}}`. Of those with the
                same id the first counts.
            index: Where to; None for the store's own.
            batch_size: Documents per write.
            duplicate_documents: What to do with ids that are there already: `skip`, `overwrite` (their embedding goes,
                too) or `fail`. None for the store's own.
            headers: Without effect.

        Raises:
            DuplicateDocumentError: With `fail`, an id is there already; batches before that one stay.
            TypeError: Something is no document.
            ValueError: A document has no content, or a value is out of range.
        """
        warn_of_unused(f"{type(self).__name__}.write_documents", HEADERS, {"headers": headers})
        policy = _policy(duplicate_documents or self.duplicate_documents)
        unique: dict[str, Document] = {}
        for document in as_documents(documents):
            unique.setdefault(document.id, document)
        found = list(unique.values())
        dims = {len(document.embedding) for document in found if document.embedding is not None}
        if len(dims) > 1:
            raise ValueError(f"The documents' embeddings have different lengths: {', '.join(map(str, sorted(dims)))}.")
        backend = self._backend_for(index or self.index, dims.pop() if dims else None)
        for batch in in_batches(found, batch_size):
            backend.write_documents([to_haystack(document) for document in batch], policy)

    def update_embeddings(
        self,
        retriever: EmbedsDocuments,
        index: str | None = None,
        update_existing_embeddings: bool = True,
        filters: Any = None,
        batch_size: int = 10_000,
    ) -> None:
        """Embed the documents with a retriever's passage model, and store the embeddings.

        Args:
            retriever: A `DensePassageRetriever`.
            index: Whose documents; None for the store's own.
            update_existing_embeddings: With False, embed only documents that have no embedding yet.
            filters: Embed only documents that match.
            batch_size: Documents that are embedded and written together.

        Raises:
            ValueError: The embeddings' length is not the store's.
        """
        index = index or self.index
        only_without = not update_existing_embeddings
        conditions = convert_filters(filters)
        first = next(self._read(index, conditions, embedding=False, only_without=only_without, batch_size=1), None)
        if first is None:
            logger.warning("{store}.update_embeddings: there is no document to embed.", store=type(self).__name__)
            return
        # A store may have to be made anew for embeddings of this length, and must not be read meanwhile.
        dim = _embedded(retriever, [from_haystack(document) for document in first]).shape[1]
        backend = self._backend_for(index, dim, renew=update_existing_embeddings and conditions is None)
        total = self._count(index, conditions, embedded=False if only_without else None)
        read = self._read(index, conditions, embedding=False, only_without=only_without, batch_size=batch_size)
        with tqdm(total=total, unit=" docs", desc="Updating embeddings", disable=not self.progress_bar) as bar:
            for batch in read:
                documents = [from_haystack(document) for document in batch]
                for document, embedding in zip(documents, _embedded(retriever, documents), strict=True):
                    document.embedding = embedding
                backend.write_documents([to_haystack(document) for document in documents], DuplicatePolicy.OVERWRITE)
                bar.update(len(documents))

    def update_document_meta(self, id: str, meta: dict[str, Any], index: str | None = None) -> None:  # noqa: A002
        """Set metadata fields of one document; its other fields and its embedding stay.

        Raises:
            ValueError: There is no such document.
        """
        backend, found = self._backend(index or self.index), self._by_id(id, index or self.index)
        if backend is None or found is None:
            raise ValueError(f"There is no document {id!r} in the index {index or self.index!r}.")
        changed = replace(found, meta={**found.meta, **deepcopy(meta)})
        backend.write_documents([changed], DuplicatePolicy.OVERWRITE)

    def delete_documents(
        self,
        index: str | None = None,
        ids: Sequence[str] | None = None,
        filters: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Delete documents: all of an index, or those that are named, or match filters, or both.

        Args:
            index: Whose; None for the store's own.
            ids: Their ids. An empty list deletes nothing, where 1.x deleted everything.
            filters: What they must match.
            headers: Without effect.
        """
        warn_of_unused(f"{type(self).__name__}.delete_documents", HEADERS, {"headers": headers})
        index = index or self.index
        backend = self._backend(index)
        if backend is None:
            return
        if not filters and ids is None:
            backend.delete_all_documents()
            return
        named = None if ids is None else set(ids)
        if named is not None and not filters:
            doomed = list(named)
        else:
            found = chain.from_iterable(self._batches_of(index, filters, embedding=False))
            doomed = [document.id for document in found if named is None or document.id in named]
        for batch in in_batches(doomed, 10_000):
            backend.delete_documents(batch)

    def delete_all_documents(
        self, index: str | None = None, filters: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        """Delete documents as `delete_documents` does, under its older name."""
        self.delete_documents(index=index, filters=filters, headers=headers)

    # Reading

    def get_all_documents(
        self,
        index: str | None = None,
        filters: Any = None,
        return_embedding: bool | None = None,
        batch_size: int = 10_000,
        headers: dict[str, str] | None = None,
    ) -> list[Document]:
        """Return the documents of an index, in the order in which they were last written.

        Args:
            index: Whose; None for the store's own.
            filters: What they must match.
            return_embedding: Give them their embeddings; None for the store's own value.
            batch_size: Documents that are read together.
            headers: Without effect.
        """
        return list(self.get_all_documents_generator(index, filters, return_embedding, batch_size, headers))

    def get_all_documents_generator(
        self,
        index: str | None = None,
        filters: Any = None,
        return_embedding: bool | None = None,
        batch_size: int = 10_000,
        headers: dict[str, str] | None = None,
    ) -> Iterator[Document]:
        """Do what `get_all_documents` does, one document after the other."""
        warn_of_unused(f"{type(self).__name__}.get_all_documents", HEADERS, {"headers": headers})
        embedding = self.return_embedding if return_embedding is None else return_embedding
        for batch in self._batches_of(index or self.index, filters, embedding=embedding, batch_size=batch_size):
            yield from map(from_haystack, batch)

    def get_document_by_id(
        self,
        id: str,  # noqa: A002 (1.x's name)
        index: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Document | None:
        """Return the document of an id; None where there is none."""
        found = self.get_documents_by_id([id], index, headers=headers)
        return found[0] if found else None

    def get_documents_by_id(
        self,
        ids: Sequence[str],
        index: str | None = None,
        batch_size: int = 10_000,
        headers: dict[str, str] | None = None,
    ) -> list[Document]:
        """Return the documents of ids, in the order of these; those that are not there are passed over.

        Args:
            ids: The ids.
            index: Where; None for the store's own.
            batch_size: Documents that are read together.
            headers: Without effect.
        """
        warn_of_unused(f"{type(self).__name__}.get_documents_by_id", HEADERS, {"headers": headers})
        found: dict[str, Document] = {}
        for batch in in_batches([str(name) for name in ids], batch_size):
            condition = {"field": "id", "operator": "in", "value": batch}
            for documents in self._batches_of(index or self.index, condition, embedding=self.return_embedding):
                found |= {document.id: from_haystack(document) for document in documents}
        return [found[str(name)] for name in ids if str(name) in found]

    def get_document_count(
        self,
        filters: Any = None,
        index: str | None = None,
        only_documents_without_embedding: bool = False,
        headers: dict[str, str] | None = None,
    ) -> int:
        """Count the documents of an index.

        Args:
            filters: What they must match.
            index: Whose; None for the store's own.
            only_documents_without_embedding: Count only those.
            headers: Without effect.
        """
        warn_of_unused(f"{type(self).__name__}.get_document_count", HEADERS, {"headers": headers})
        embedded = False if only_documents_without_embedding else None
        return self._count(index or self.index, convert_filters(filters), embedded=embedded)

    def get_embedding_count(self, index: str | None = None, filters: Any = None) -> int:
        """Count the documents that have an embedding."""
        return self._count(index or self.index, convert_filters(filters), embedded=True)

    def _by_id(self, name: str, index: str) -> haystack.Document | None:
        condition = {"field": "id", "operator": "==", "value": str(name)}
        return next(chain.from_iterable(self._batches_of(index, condition, embedding=True)), None)

    def _batches_of(
        self, index: str, filters: Any, *, embedding: bool, batch_size: int = 10_000
    ) -> Iterator[list[haystack.Document]]:
        conditions = convert_filters(filters)
        return self._read(index, conditions, embedding=embedding, only_without=False, batch_size=batch_size)


def needed_store(store: DocumentStore | None) -> DocumentStore:
    """Check that there is a store, and that it is one of ours.

    Raises:
        TypeError: It is of another kind.
        ValueError: There is none.
    """
    if store is None:
        raise ValueError("There is no document store: give one to the retriever, or to the call.")
    check_store(store)
    return store


def check_store(store: object) -> None:
    """Check that a store, if there is one, is one of ours.

    Raises:
        TypeError: It is of another kind.
    """
    if store is not None and not isinstance(store, DocumentStore):
        raise TypeError(
            f"A {type(store).__name__} can't be searched by the retrievers of rom_haystack.compat, which take its own "
            "InMemoryDocumentStore and FAISSDocumentStore. For a store of Haystack 3 take ROMRetriever."
        )


def _policy(duplicate_documents: str) -> DuplicatePolicy:
    if duplicate_documents not in _POLICIES:
        raise ValueError(f"duplicate_documents is {duplicate_documents!r}; it must be one of {', '.join(_POLICIES)}.")
    return _POLICIES[duplicate_documents]


def _embedded(retriever: EmbedsDocuments, documents: list[Document]) -> NDArray[Any]:
    embeddings = np.asarray(retriever.embed_documents(documents))
    if embeddings.ndim != 2 or len(embeddings) != len(documents):
        raise ValueError(f"{len(documents)} documents came back as embeddings of the shape {embeddings.shape}.")
    return embeddings


def in_batches(items: list[Item], size: int) -> Iterator[list[Item]]:
    """Cut a list into lists of at most `size`.

    Raises:
        ValueError: `size` is less than 1.
    """
    if size < 1:
        raise ValueError(f"batch_size is {size}; it must be at least 1.")
    for start in range(0, len(items), size):
        yield items[start : start + size]
