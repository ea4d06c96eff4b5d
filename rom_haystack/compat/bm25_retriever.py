"""1.x's `BM25Retriever` on the stores' keyword search."""

from typing import Any

from rom_haystack.compat.documents import Document
from rom_haystack.compat.searches import filters_for_each
from rom_haystack.compat.stores import DocumentStore, check_store, needed_store
from rom_haystack.components._queries import check_queries


class BM25Retriever:
    """1.x's `BM25Retriever`: documents that share words with a query, by the store's own keyword search.

    Args:
        document_store: Where to search: a store of `rom_haystack.compat`.
        top_k: Most documents per query.
        all_terms_must_match: Without effect.
        custom_query: Without effect.
        scale_score: Bring scores into the range from 0 to 1.

    Raises:
        TypeError: The document store is of another kind.
    """

    def __init__(
        self,
        document_store: DocumentStore | None = None,
        top_k: int = 10,
        all_terms_must_match: bool = False,
        custom_query: str | None = None,
        scale_score: bool = True,
    ) -> None:
        check_store(document_store)
        self.document_store = document_store
        self.top_k = top_k
        self.all_terms_must_match = all_terms_must_match
        self.custom_query = custom_query
        self.scale_score = scale_score

    def retrieve(
        self,
        query: str,
        filters: Any = None,
        top_k: int | None = None,
        index: str | None = None,
        headers: dict[str, str] | None = None,
        scale_score: bool | None = None,
        document_store: DocumentStore | None = None,
    ) -> list[Document]:
        """Find documents for one query; arguments are those of `DensePassageRetriever.retrieve`."""
        check_queries([query])
        return needed_store(document_store or self.document_store).query(
            query,
            filters=filters,
            top_k=self.top_k if top_k is None else top_k,
            custom_query=self.custom_query,
            index=index,
            headers=headers,
            all_terms_must_match=self.all_terms_must_match,
            scale_score=self.scale_score if scale_score is None else scale_score,
        )

    def retrieve_batch(
        self,
        queries: list[str],
        filters: Any = None,
        top_k: int | None = None,
        index: str | None = None,
        headers: dict[str, str] | None = None,
        batch_size: int | None = None,
        scale_score: bool | None = None,
        document_store: DocumentStore | None = None,
    ) -> list[list[Document]]:
        """Find documents for several queries; arguments are those of `DensePassageRetriever.retrieve_batch`."""
        del batch_size  # queries are not embedded
        check_queries(queries)
        return [
            self.retrieve(query, own, top_k, index, headers, scale_score, document_store)
            for query, own in zip(queries, filters_for_each(filters, len(queries)), strict=True)
        ]
