"""How 1.x's document stores were searched, over today's stores."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from haystack import logging
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from numpy.typing import ArrayLike, NDArray

from rom_haystack.compat.arguments import HEADERS, Unused, warn_of_unused
from rom_haystack.compat.documents import Document, from_haystack
from rom_haystack.compat.filters import convert_filters
from rom_haystack.document_stores import SQLiteFAISSDocumentStore

logger = logging.getLogger(__name__)

_QUERY = {
    "custom_query": Unused(None, "The query is plain text; use filters for conditions."),
    "all_terms_must_match": Unused(default=False, instead="Documents with more of the words rank higher."),
    **HEADERS,
}

#: The stores of today that hold the documents of one index.
Backend = InMemoryDocumentStore | SQLiteFAISSDocumentStore


class Searches(ABC):
    """Search the store of today that lies behind an index.

    Attributes:
        index: The index that is meant where a call names none.
        return_embedding: Whether documents come with their embeddings where a call does not say.
    """

    index: str
    return_embedding: bool

    @abstractmethod
    def _backend(self, index: str) -> Backend | None:
        """Return the store of an index; None where nothing was ever written to it."""

    @abstractmethod
    def _count(self, index: str, filters: dict[str, Any] | None, *, embedded: bool | None) -> int:
        """Count an index's documents: all of them, or those with an embedding, or without."""

    def query_by_embedding(
        self,
        query_emb: ArrayLike,
        filters: Any = None,
        top_k: int = 10,
        index: str | None = None,
        return_embedding: bool | None = None,
        headers: dict[str, str] | None = None,
        scale_score: bool = True,
    ) -> list[Document]:
        """Find the documents whose embeddings are nearest to a query's.

        Args:
            query_emb: The query's embedding, of the shape `(dim,)` or `(1, dim)`.
            filters: What the documents must match.
            top_k: Most documents.
            index: Where to search; None for the store's own.
            return_embedding: Give them their embeddings; None for the store's own value.
            headers: Without effect.
            scale_score: Bring scores into the range from 0 to 1, as 1.x did: a cosine `c` becomes `(c + 1) / 2`, a dot
                product `d` the logistic function of `d / 100`.

        Returns:
            Documents with scores, best first.

        Raises:
            DocumentStoreError: The embedding's length is not the store's.
        """
        warn_of_unused(f"{type(self).__name__}.query_by_embedding", HEADERS, {"headers": headers})
        index = index or self.index
        backend = self._backend(index)
        if backend is None or not top_k or not backend.count_documents():
            return []
        try:
            found = backend.embedding_retrieval(
                [float(value) for value in np.asarray(query_emb).reshape(-1)],
                filters=convert_filters(filters),
                top_k=top_k,
                scale_score=scale_score,
                return_embedding=self.return_embedding if return_embedding is None else return_embedding,
            )
        except DocumentStoreError:
            if self._count(index, None, embedded=True):
                raise
            found = []  # nothing has said yet how long the embeddings are
        if not found and not self._count(index, None, embedded=True):
            logger.warning(
                "None of the {count} documents of the index {index} has an embedding: call update_embeddings first.",
                count=backend.count_documents(),
                index=index,
            )
        return [from_haystack(document) for document in found]

    def query_by_embedding_batch(
        self,
        query_embs: Sequence[ArrayLike] | NDArray[Any],
        filters: Any = None,
        top_k: int = 10,
        index: str | None = None,
        return_embedding: bool | None = None,
        headers: dict[str, str] | None = None,
        scale_score: bool = True,
    ) -> list[list[Document]]:
        """Do what `query_by_embedding` does for several queries.

        Args:
            query_embs: One embedding per query.
            filters: For every query, or a list of one for each.
            top_k: As there, and so are the others.
            index: As there.
            return_embedding: As there.
            headers: As there.
            scale_score: As there.

        Raises:
            ValueError: `filters` is a list of another length.
        """
        each = filters_for_each(filters, len(query_embs))
        return [
            self.query_by_embedding(embedding, own, top_k, index, return_embedding, headers, scale_score)
            for embedding, own in zip(query_embs, each, strict=True)
        ]

    def query(
        self,
        query: str | None,
        filters: Any = None,
        top_k: int = 10,
        custom_query: str | None = None,
        index: str | None = None,
        headers: dict[str, str] | None = None,
        all_terms_must_match: bool = False,
        scale_score: bool = True,
    ) -> list[Document]:
        """Find the documents that match a query's words best, by BM25.

        Args:
            query: The question, or words.
            filters: What the documents must match.
            top_k: Most documents.
            custom_query: Without effect.
            index: Where to search; None for the store's own.
            headers: Without effect.
            all_terms_must_match: Without effect.
            scale_score: Bring scores into the range from 0 to 1.

        Returns:
            Documents with scores, best first.
        """
        given = {"custom_query": custom_query, "all_terms_must_match": all_terms_must_match, "headers": headers}
        warn_of_unused(f"{type(self).__name__}.query", _QUERY, given)
        backend = self._backend(index or self.index)
        if backend is None or not query or not top_k:
            return []
        found = backend.bm25_retrieval(query, filters=convert_filters(filters), top_k=top_k, scale_score=scale_score)
        return [from_haystack(replace(document, embedding=None)) for document in found]


def filters_for_each(filters: Any, queries: int) -> list[Any]:
    """Spread filters over queries: a list has one, or None, for each; anything else holds for all.

    Raises:
        ValueError: The list is of another length.
    """
    if not isinstance(filters, list):
        return [filters] * queries
    if len(filters) != queries:
        raise ValueError(f"There are {len(filters)} filters for {queries} queries; give one for each, or one for all.")
    return filters
