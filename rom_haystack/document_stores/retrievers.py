"""Search in a `SQLiteFAISSDocumentStore`, by embedding and by keywords, as Haystack components."""

import asyncio
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from rom_haystack.document_stores.sqlite_faiss import SQLiteFAISSDocumentStore


class _StoreRetriever:
    """What both retrievers share: the store, and a run's values over the component's own."""

    def __init__(
        self,
        document_store: SQLiteFAISSDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, SQLiteFAISSDocumentStore):
            raise TypeError(
                f"{type(self).__name__} searches a SQLiteFAISSDocumentStore, not a {type(document_store).__name__}. "
                "Search any other store with the retriever that belongs to it."
            )
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be at least 1.")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.scale_score = scale_score
        self.filter_policy = FilterPolicy.from_str(str(filter_policy))

    def close(self) -> None:
        """Release what the store keeps open."""
        self.document_store.close()

    async def close_async(self) -> None:
        """Release what the store keeps open, in a thread."""
        await asyncio.to_thread(self.document_store.close)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from the dictionary that `to_dict` made; `data` stays as it is."""
        return default_from_dict(cls, data)

    def _to_dict(self, **own: Any) -> dict[str, Any]:
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            scale_score=self.scale_score,
            filter_policy=self.filter_policy.value,
            **own,
        )

    def _options(self, filters: dict[str, Any] | None, top_k: int | None, scale_score: bool | None) -> dict[str, Any]:
        """Put a run's values over the component's own."""
        if top_k is not None and top_k < 0:
            raise ValueError(f"top_k is {top_k}; it must be at least 0.")
        return {
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "scale_score": self.scale_score if scale_score is None else scale_score,
        }


@component
class SQLiteFAISSEmbeddingRetriever(_StoreRetriever):
    """Retrieve the documents whose embeddings are nearest to a query's.

    Takes the place of `InMemoryEmbeddingRetriever` and `FAISSEmbeddingRetriever`. Filters hold before the search, so
    that as many documents are found as pass them, up to `top_k`.

    ```python
    from haystack import Document
    from rom_haystack import SQLiteFAISSDocumentStore, SQLiteFAISSEmbeddingRetriever

    store = SQLiteFAISSDocumentStore("my-store", embedding_dim=3)
    store.write_documents([Document(content="The Nile flows north.", embedding=[1.0, 0.0, 0.0])])
    retriever = SQLiteFAISSEmbeddingRetriever(store, top_k=5)
    documents = retriever.run(query_embedding=[0.9, 0.1, 0.0])["documents"]
    ```

    Args:
        document_store: Where to search.
        filters: Haystack filters on the documents; `filter_policy` says what becomes of them when a run brings its own.
        top_k: Most documents.
        scale_score: Bring scores into the range from 0 to 1. By default they are cosines, or dot products.
        return_embedding: Let documents keep their embeddings.
        filter_policy: `REPLACE` (a run's filters take the place of these) or `MERGE` (Haystack combines the two), or
            its name.
        search_parameters: How hard to search, such as `nprobe`, over what the store was given.

    Raises:
        TypeError: `document_store` is of another kind.
        ValueError: `top_k` is less than 1, or there is no such filter policy.
    """

    def __init__(
        self,
        document_store: SQLiteFAISSDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        search_parameters: dict[str, float] | None = None,
    ) -> None:
        # Not super(): the decorator builds the class anew, and super() would still mean the old one.
        _StoreRetriever.__init__(self, document_store, filters, top_k, scale_score, filter_policy)
        self.return_embedding = return_embedding
        self.search_parameters = search_parameters

    def to_dict(self) -> dict[str, Any]:
        """Serialize to a dictionary; of the store, where it lies and how it is opened."""
        return self._to_dict(return_embedding=self.return_embedding, search_parameters=self.search_parameters)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
        search_parameters: dict[str, float] | None = None,
    ) -> dict[str, list[Document]]:
        """Retrieve documents for one query; what is None is as the component was made.

        Args:
            query_embedding: The query's embedding, `embedding_dim` floats.
            filters: Haystack filters on the documents.
            top_k: Most documents; 0 for none.
            scale_score: Bring scores into the range from 0 to 1.
            return_embedding: Let documents keep their embeddings.
            search_parameters: How hard to search, over what the store was given.

        Returns:
            `documents`, best first.

        Raises:
            ValueError: The embedding is no list of floats, or a value is out of range.
            FilterError: The filters are malformed.
            DocumentStoreError: The embedding has the wrong length, or is not finite.
        """
        options = self._search(filters, top_k, scale_score, return_embedding, search_parameters)
        if top_k == 0:
            return {"documents": []}
        return {"documents": self.document_store.embedding_retrieval(query_embedding, **options)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
        return_embedding: bool | None = None,
        search_parameters: dict[str, float] | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does, in a thread, so that the event loop goes on."""
        options = self._search(filters, top_k, scale_score, return_embedding, search_parameters)
        if top_k == 0:
            return {"documents": []}
        return {"documents": await self.document_store.embedding_retrieval_async(query_embedding, **options)}

    def _search(
        self,
        filters: dict[str, Any] | None,
        top_k: int | None,
        scale_score: bool | None,
        return_embedding: bool | None,
        search_parameters: dict[str, float] | None,
    ) -> dict[str, Any]:
        return {
            **self._options(filters, top_k, scale_score),
            "return_embedding": self.return_embedding if return_embedding is None else return_embedding,
            "search_parameters": self.search_parameters if search_parameters is None else search_parameters,
        }


@component
class SQLiteFAISSBM25Retriever(_StoreRetriever):
    """Retrieve documents that share words with a query, ranked by BM25.

    Takes the place of `InMemoryBM25Retriever`. The query is plain text: no word or sign in it is an operator.

    ```python
    from haystack import Document
    from rom_haystack import SQLiteFAISSBM25Retriever, SQLiteFAISSDocumentStore

    store = SQLiteFAISSDocumentStore("my-texts")
    store.write_documents([Document(content="The Nile flows north.")])
    documents = SQLiteFAISSBM25Retriever(store, top_k=5).run("Which rivers flow north?")["documents"]
    ```

    Args:
        document_store: Where to search.
        filters: Haystack filters on the documents; `filter_policy` says what becomes of them when a run brings its own.
        top_k: Most documents.
        scale_score: Bring scores into the range from 0 to 1.
        filter_policy: `REPLACE` (a run's filters take the place of these) or `MERGE` (Haystack combines the two), or
            its name.

    Raises:
        TypeError: `document_store` is of another kind.
        ValueError: `top_k` is less than 1, or there is no such filter policy.
    """

    def to_dict(self) -> dict[str, Any]:
        """Serialize to a dictionary; of the store, where it lies and how it is opened."""
        return self._to_dict()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Retrieve documents for one query; what is None is as the component was made.

        Args:
            query: The question, or words.
            filters: Haystack filters on the documents.
            top_k: Most documents; 0 for none.
            scale_score: Bring scores into the range from 0 to 1.

        Returns:
            `documents`, best first; only such as share a word with the query.

        Raises:
            ValueError: The query is empty, or a value is out of range.
            FilterError: The filters are malformed.
        """
        options = self._options(filters, top_k, scale_score)
        if top_k == 0:
            return {"documents": []}
        return {"documents": self.document_store.bm25_retrieval(query, **options)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        scale_score: bool | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does, in a thread, so that the event loop goes on."""
        options = self._options(filters, top_k, scale_score)
        if top_k == 0:
            return {"documents": []}
        return {"documents": await self.document_store.bm25_retrieval_async(query, **options)}
