"""Queries to documents, over any store's embedding retriever."""

from copy import deepcopy
from typing import Any, ClassVar, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.components.embedders.types import TextEmbedder
from haystack.components.retrievers.types import EmbeddingRetriever
from haystack.core.serialization import component_to_dict

from rom_haystack.components._inner import Wrapper, best_first, call_async, check_inputs, given, without_embedding
from rom_haystack.components._queries import check_queries, check_query, check_top_k
from rom_haystack.components.text_embedder import ROMTextEmbedder
from rom_haystack.store_similarity import score_to_similarity


@component
class ROMRetriever(Wrapper):
    """Retrieve documents by a text query: ROM embeds it, any embedding retriever searches its store.

    Takes the place of `TextEmbeddingRetriever`. Documents come best first; those without a score come last. Scores are
    similarities, where higher is better, also over stores that are known to return distances. The first warm-up, or
    run, warns if the store's metric does not fit the embeddings, see `check_store_similarity`.

    ```python
    from haystack.components.retrievers import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore
    from rom_haystack import ROMRetriever

    store = InMemoryDocumentStore()
    retriever = ROMRetriever(retriever=InMemoryEmbeddingRetriever(store, top_k=5))
    documents = retriever.run("Who discovered radium?")["documents"]
    ```

    Args:
        retriever: An embedding retriever of any document store. Its own filters and `top_k` hold where a run gives
            none.
        text_embedder: Embeds the query. None for `ROMTextEmbedder()`. It must use the model that embedded the
            documents.
        return_embedding: Let documents keep the embeddings that `retriever` returned. They are dropped by default,
            as pipelines copy whatever passes between components.

    Raises:
        ValueError: `retriever` can't be asked by an embedding.
    """

    _wraps: ClassVar[tuple[str, ...]] = ("text_embedder", "retriever")

    def __init__(
        self,
        *,
        retriever: EmbeddingRetriever,
        text_embedder: TextEmbedder | None = None,
        return_embedding: bool = False,
    ) -> None:
        check_inputs(retriever, "retriever", ("query_embedding",))
        self.retriever = retriever
        self.text_embedder: TextEmbedder = ROMTextEmbedder() if text_embedder is None else text_embedder
        self.return_embedding = return_embedding
        self._checked_store = False

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Retrieve documents for one query.

        Args:
            query: The question.
            filters: Haystack filters. None for the inner retriever's own.
            top_k: Most documents; 0 for none. None for the inner retriever's own.

        Returns:
            `documents`, best first.

        Raises:
            ValueError: The query is blank, or `top_k` is negative.
        """
        return {"documents": self.run_batch([query], filters, top_k)["documents"][0]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Do what `run` does without blocking the event loop; inner parts run async where they can."""
        check_query(query)
        check_top_k(top_k)
        if top_k == 0:
            return {"documents": []}
        await self.warm_up_async()
        embedded = await call_async(self.text_embedder, "run", text=query)
        options = given(filters, top_k)
        found = await call_async(self.retriever, "run", query_embedding=embedded["embedding"], **options)
        return {"documents": self._finish(found["documents"])}

    def run_batch(
        self, queries: list[str], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[list[Document]]]:
        """Retrieve documents for several queries, embedded together where the embedder can.

        Args:
            queries: The questions.
            filters: As in `run`, for every query.
            top_k: As in `run`, for every query.

        Returns:
            `documents`: one list per query, best first.

        Raises:
            TypeError: `queries` is a single text.
            ValueError: A query is blank, or `top_k` is negative.
        """
        check_queries(queries)
        check_top_k(top_k)
        if top_k == 0:  # several stores' retrievers read 0 as "not given"
            return {"documents": [[] for _ in queries]}
        self.warm_up()
        options = given(filters, top_k)
        results = [self.retriever.run(query_embedding=e, **options) for e in self._embed(queries)]
        return {"documents": [self._finish(result["documents"]) for result in results]}

    def to_dict(self) -> dict[str, Any]:
        """Serialize to a dictionary, inner parts included."""
        return default_to_dict(
            self,
            retriever=component_to_dict(self.retriever, "retriever"),
            text_embedder=component_to_dict(self.text_embedder, "text_embedder"),
            return_embedding=self.return_embedding,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from the dictionary that `to_dict` made; `data` stays as it is."""
        return default_from_dict(cls, deepcopy(data))

    def _warmed(self) -> None:
        self._check_store()

    def _check_store(self) -> None:
        if not self._checked_store and isinstance(self.text_embedder, ROMTextEmbedder):
            self._checked_store = self.text_embedder.check_store(self.retriever)

    def _embed(self, queries: list[str]) -> list[list[float]]:
        if isinstance(self.text_embedder, ROMTextEmbedder):
            embeddings: list[list[float]] = self.text_embedder.run_batch(queries)["embeddings"]
            return embeddings
        return [self.text_embedder.run(text=query)["embedding"] for query in queries]

    def _finish(self, documents: list[Document]) -> list[Document]:
        self._check_store()  # some stores' metric is known once they were used
        ranked = best_first(documents, score_to_similarity(self.retriever))
        return ranked if self.return_embedding else [without_embedding(document) for document in ranked]
