"""Keyword and dense search, fused, over any document store."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.components.retrievers.types import EmbeddingRetriever, TextRetriever
from haystack.core.serialization import component_to_dict
from haystack.document_stores.types import DocumentStore
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMRetriever, ROMTextEmbedder
from rom_haystack.components._encoder_user import BackendName
from rom_haystack.components._inner import (
    Wrapper,
    best_first,
    call_async,
    check_inputs,
    given,
    retrieve_batch,
    searches_by_embedding,
)
from rom_haystack.components._queries import check_queries, check_query, check_top_k
from rom_haystack.fusion import Found, Fusion, FusionFit, check_join_mode, check_weights, fit_weights, fuse
from rom_haystack.metrics import answer_tokens, has_answer
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.searches import retrievers_of
from rom_haystack.store_similarity import score_to_similarity

#: How many documents each search contributes where nothing else is asked for.
CANDIDATES = 50
_OTHER_STORES = "give keyword_retriever and dense_retriever, made with it or others, instead of the store."


@component
class ROMHybridRetriever(Wrapper):
    """Retrieve documents by keywords (BM25) and by meaning (ROM's embeddings) at once, and fuse the two rankings.

    Keywords find names, numbers and rare terms; embeddings find what is said in other words.

    ```python
    from rom_haystack import ROMHybridRetriever, ROMIndexer, SQLiteFAISSDocumentStore

    store = SQLiteFAISSDocumentStore("my-store", embedding_dim=384)
    ROMIndexer(store).run(sources=["README.md"])
    documents = ROMHybridRetriever(store, top_k=5).run(query="What is ROM?")["documents"]
    ```

    Other stores are searched by retrievers of their own, also by such as search two different stores:
    `ROMHybridRetriever(keyword_retriever=OpenSearchBM25Retriever(…), dense_retriever=QdrantEmbeddingRetriever(…))`.

    Documents leave without embeddings. Their scores compare the documents of one query only.

    Args:
        document_store: A `SQLiteFAISSDocumentStore` or an `InMemoryDocumentStore`. For others give the two retrievers.
        model: Bundled name, folder or hub id of the ROM checkpoint that embedded the documents.
        device: Where the model runs; None picks the machine's default.
        top_k: Most documents.
        candidates: How many documents each of the two searches contributes at most; at least `top_k`. None for 50, or
            for `top_k` where that is more.
        join_mode: `z_score` adds up how far the two scores of a document are above the worst candidate's, in standard
            deviations of the search's scores; `min_max` the same relative to the best candidate's; what a search did
            not find counts as its worst, and where it gives no scores, ranks count. `reciprocal_rank_fusion` counts
            ranks only.
        weights: Weights of the keyword and the dense search, such as `[0.3, 0.7]`; `fit` finds them. A search of weight
            0 contributes nothing. None for equal ones.
        keyword_retriever: A retriever whose run takes `query`, `filters` and `top_k`, such as `InMemoryBM25Retriever`.
        dense_retriever: A retriever whose run takes `query_embedding`, `filters` and `top_k`, such as
            `QdrantEmbeddingRetriever`, for queries embedded by `model`; or one that takes `query` and embeds it itself.
            Distances of stores that are known to give such become similarities, as in `ROMRetriever`.
        backend: Inference engine, `auto` for the fastest faithful one; see `ROMTextEmbedder`.

    Raises:
        ValueError: Neither a store nor both retrievers are given, or more than that; the store needs retrievers; a
            retriever lacks an input, or needs others; or a value is out of range.
    """

    _wraps: ClassVar[tuple[str, ...]] = ("_keyword", "_dense")

    def __init__(
        self,
        document_store: DocumentStore | None = None,
        model: str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        top_k: int = 10,
        candidates: int | None = None,
        join_mode: Fusion = "z_score",
        weights: list[float] | None = None,
        *,
        keyword_retriever: TextRetriever | None = None,
        dense_retriever: EmbeddingRetriever | TextRetriever | None = None,
        backend: BackendName = "auto",
    ) -> None:
        check_join_mode(join_mode)
        check_weights(weights)
        _check_number("top_k", top_k)
        if candidates is not None and candidates < top_k:
            raise ValueError(f"candidates is {candidates}, less than top_k, which is {top_k}; give at least as many.")
        self.document_store = document_store
        self.model = model
        self.device = device
        self.top_k = top_k
        self.candidates = candidates
        self.join_mode = join_mode
        self.weights = weights
        self.keyword_retriever = keyword_retriever
        self.dense_retriever = dense_retriever
        self.backend = backend
        self._keyword, self._dense = self._searches()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        candidates: int | None = None,
    ) -> dict[str, list[Document]]:
        """Retrieve documents for one query.

        Args:
            query: The question.
            filters: Haystack filters on the documents, for both searches. None for the retrievers' own.
            top_k: Most documents; 0 for none. None for the component's own.
            candidates: How many documents each of the two searches contributes at most. None for the component's own,
                or for `top_k` where that is more.

        Returns:
            `documents`, best first; ties in the order of the keyword search, then of the dense one.

        Raises:
            ValueError: The query is blank, or a number is negative.
        """
        return {"documents": self.run_batch([query], filters, top_k, candidates)["documents"][0]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        candidates: int | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does, both searches at once, without blocking the event loop."""
        check_query(query)
        most, depth = self._numbers(top_k, candidates)
        if not most or not depth:
            return {"documents": []}
        await self.warm_up_async()
        options = {"query": query, **given(filters, depth)}
        found = await asyncio.gather(*(call_async(search, "run", **options) for search in self._inner()))
        keyword, dense = (_ranked(search, f["documents"]) for search, f in zip(self._inner(), found, strict=True))
        return {"documents": self._fuse(keyword, dense)[:most]}

    def run_batch(
        self,
        queries: list[str],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        candidates: int | None = None,
    ) -> dict[str, list[list[Document]]]:
        """Retrieve documents for several queries, embedded together where the dense retriever can.

        Args:
            queries: The questions.
            filters: As in `run`, for every query.
            top_k: As in `run`, for every query.
            candidates: As in `run`, for every query.

        Returns:
            `documents`: one list per query, best first.

        Raises:
            TypeError: `queries` is a single text.
            ValueError: A query is blank, or a number is negative.
        """
        check_queries(queries)
        most, depth = self._numbers(top_k, candidates)
        if not most or not depth:  # several stores' retrievers read 0 as "not given"
            return {"documents": [[] for _ in queries]}
        pairs = self._search(queries, filters, depth)
        return {"documents": [self._fuse(keyword, dense)[:most] for keyword, dense in pairs]}

    def fit(
        self,
        questions: Iterable[tuple[str, Sequence[str]]],
        filters: dict[str, Any] | None = None,
        join_modes: Sequence[Fusion] = ("z_score", "min_max", "reciprocal_rank_fusion"),
    ) -> FusionFit:
        """Find the `join_mode` and `weights` by which a document with the answer comes earliest.

        The component stays as it is; make one with what was found: `ROMHybridRetriever(store, join_mode=fit.join_mode,
        weights=fit.weights)`. Some hundreds of questions suffice, other ones than those that measure the result.

        Args:
            questions: Questions to these documents, each with the texts that answer it. A document is right if it has
                one of these as whole words, case aside. Questions without answers are left out.
            filters: As in `run`, for every question.
            join_modes: What to choose from.

        Returns:
            The best `join_mode` and `weights`, and how well they do.

        Raises:
            ValueError: There are no questions with answers, or no document that was found has one of these; or a way
                of fusing is unknown, or none is given.
        """
        answered = [(query, answers) for query, answers in questions if any(answer.strip() for answer in answers)]
        if not answered:
            raise ValueError("There are no questions with answers; weights can't be fitted without.")
        check_queries([query for query, _ in answered])
        return fit_weights(self._examples(answered, filters), join_modes)

    def to_dict(self) -> dict[str, Any]:
        """Serialize to a dictionary, store or retrievers included."""
        retrievers = {"keyword_retriever": self.keyword_retriever, "dense_retriever": self.dense_retriever}
        return default_to_dict(
            self,
            document_store=self.document_store,
            model=self.model,
            device=self.device,
            top_k=self.top_k,
            candidates=self.candidates,
            join_mode=self.join_mode,
            weights=self.weights,
            backend=self.backend,
            **{name: None if inner is None else component_to_dict(inner, name) for name, inner in retrievers.items()},
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component from the dictionary that `to_dict` made; `data` stays as it is."""
        return default_from_dict(cls, deepcopy(data))

    def _searches(self) -> tuple[Any, Any]:
        """Take the retrievers that were given, or make those of the store, so that both take a text query."""
        keyword, dense, store = self.keyword_retriever, self.dense_retriever, self.document_store
        if (keyword is None, dense is None) != ((store is not None),) * 2:
            raise ValueError(
                "Give either document_store (a SQLiteFAISSDocumentStore or an InMemoryDocumentStore) or both "
                "keyword_retriever and dense_retriever."
            )
        if store is not None:
            keyword, dense = retrievers_of(store, self.top_k, _OTHER_STORES)
        check_inputs(keyword, "keyword_retriever", ("query",))
        check_inputs(dense, "dense_retriever", ("query_embedding", "query"))
        if not searches_by_embedding(dense):
            return keyword, dense
        embedder = ROMTextEmbedder(model=self.model, device=self.device, progress_bar=False, backend=self.backend)
        return keyword, ROMRetriever(retriever=dense, text_embedder=embedder)

    def _numbers(self, top_k: int | None, candidates: int | None) -> tuple[int, int]:
        check_top_k(top_k)
        most = self.top_k if top_k is None else top_k
        if candidates is None:
            return most, max(CANDIDATES if self.candidates is None else self.candidates, most)
        if candidates < 0:
            raise ValueError(f"candidates is {candidates}; it must be at least 0.")
        return most, candidates

    def _search(
        self, queries: Sequence[str], filters: dict[str, Any] | None, depth: int
    ) -> Iterable[tuple[list[Document], list[Document]]]:
        self.warm_up()
        found = (
            [_ranked(search, documents) for documents in retrieve_batch(search, queries, filters, depth)]
            for search in self._inner()
        )
        return zip(*found, strict=True)

    def _examples(
        self, answered: Sequence[tuple[str, Sequence[str]]], filters: dict[str, Any] | None
    ) -> Iterator[tuple[Found, Found, set[str]]]:
        """Search for questions, and find out which documents have an answer."""
        found = self._search([query for query, _ in answered], filters, self._numbers(None, None)[1])
        tokens: dict[str, str] = {}
        for (_, answers), (keyword, dense) in zip(answered, found, strict=True):
            for document in (*keyword, *dense):
                if document.id not in tokens:
                    tokens[document.id] = answer_tokens(document.content or "")
            right = {d.id for d in (*keyword, *dense) if has_answer(tokens[d.id], answers)}
            yield _found(keyword), _found(dense), right

    def _fuse(self, keyword: list[Document], dense: list[Document]) -> list[Document]:
        return fuse_documents(keyword, dense, self.join_mode, self.weights)


def fuse_documents(
    keyword: Sequence[Document], dense: Sequence[Document], join_mode: Fusion, weights: Sequence[float] | None
) -> list[Document]:
    """Fuse what a keyword and a dense search found; see `ROMHybridRetriever`."""
    documents = {document.id: document for document in (*dense, *keyword)}
    scores = fuse([_found(keyword), _found(dense)], join_mode, weights)
    return [replace(documents[id_], score=score, embedding=None) for id_, score in scores.items()]


def _ranked(search: Any, documents: list[Document]) -> list[Document]:
    """Put similarities in the place of distances, where a search gives them."""
    to_similarity = None if isinstance(search, ROMRetriever) else score_to_similarity(search)
    return documents if to_similarity is None else best_first(documents, to_similarity)


def _found(documents: Iterable[Document]) -> list[tuple[str, float | None]]:
    return [(document.id, document.score) for document in documents]


def _check_number(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 1.")
