"""Keyword and dense search over one store, fused."""

from typing import TYPE_CHECKING, Any, Literal

from haystack import Document, Pipeline, component, super_component
from haystack.components.joiners import DocumentJoiner
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMRetriever, ROMTextEmbedder
from rom_haystack.document_stores import (
    SQLiteFAISSBM25Retriever,
    SQLiteFAISSDocumentStore,
    SQLiteFAISSEmbeddingRetriever,
)
from rom_haystack.modeling import DEFAULT_CHECKPOINT

Fusion = Literal["reciprocal_rank_fusion", "merge"]
_FUSIONS = ("reciprocal_rank_fusion", "merge")


@component
class SearchFusion:
    """Fuse the documents of a keyword and a dense search by Haystack's `DocumentJoiner`.

    A joiner itself takes its lists in the order in which they arrive. In an async run that changes from query to
    query, and the weights with it, so here each search has an input of its own.

    Args:
        join_mode: `reciprocal_rank_fusion` or `merge`, as in `ROMHybridRetriever`.
        weights: Weights of the keyword and the dense search. None for equal ones.
        top_k: Most documents.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self, join_mode: Fusion = "reciprocal_rank_fusion", weights: list[float] | None = None, top_k: int = 10
    ) -> None:
        if join_mode not in _FUSIONS:
            raise ValueError(f"Unknown join_mode '{join_mode}'; choose one of {', '.join(_FUSIONS)}.")
        if weights is not None and (len(weights) != 2 or not min(weights) >= 0 or not 0 < sum(weights) < float("inf")):
            raise ValueError(
                f"weights are {weights}; give two, for the keyword and the dense search, not negative and not both 0."
            )
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be at least 1.")
        self.join_mode = join_mode
        self.weights = weights
        self.top_k = top_k
        self._joiner = DocumentJoiner(join_mode=join_mode, weights=weights, top_k=top_k)

    @component.output_types(documents=list[Document])
    def run(
        self, keyword: list[Document], dense: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Fuse the documents of two searches.

        Args:
            keyword: What the keyword search found, best first.
            dense: What the dense search found, best first.
            top_k: Most documents; 0 for none. None for the component's own.

        Returns:
            `documents`, best first; ties as in `keyword`, then `dense`.

        Raises:
            ValueError: `top_k` is negative.
        """
        fused: dict[str, list[Document]] = self._joiner.run([keyword, dense], top_k=top_k)
        return fused


@super_component
class ROMHybridRetriever:
    """Retrieve documents by keywords (BM25) and by meaning (ROM's embeddings) at once, and fuse the two rankings.

    Keywords find names, numbers and rare terms; embeddings find what is said in other words.

    ```python
    from rom_haystack import ROMHybridRetriever, ROMIndexer, SQLiteFAISSDocumentStore

    store = SQLiteFAISSDocumentStore("my-store", embedding_dim=384)
    ROMIndexer(store).run(sources=["README.md"])
    documents = ROMHybridRetriever(store, top_k=5).run(query="What is ROM?")["documents"]
    ```

    Inputs: `query`; `filters` (Haystack filters on the documents), `top_k` (most documents) and `candidates`, for one
    run. A `top_k` above `candidates` needs more of these too. Outputs: `documents`, best first, with scores from 0 to
    1, which compare the documents of one query only.

    Args:
        document_store: Where to search.
        model: Bundled name, folder or hub id of the ROM checkpoint that embedded the documents.
        device: Where the model runs; None picks the machine's default.
        top_k: Most documents.
        candidates: How many documents each of the two searches contributes at most.
        join_mode: `reciprocal_rank_fusion` counts ranks only and needs no tuning; `merge` adds up the two scores, each
            scaled to 0 to 1.
        weights: Weights of the keyword and the dense search, such as `[0.3, 0.7]`. None for equal ones.

    Raises:
        TypeError: `document_store` is of another kind.
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        document_store: SQLiteFAISSDocumentStore,
        model: str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        top_k: int = 10,
        candidates: int = 50,
        join_mode: Fusion = "reciprocal_rank_fusion",
        weights: list[float] | None = None,
    ) -> None:
        if candidates < top_k:
            raise ValueError(f"candidates is {candidates}, less than top_k, which is {top_k}; give at least as many.")
        self.document_store = document_store
        self.model = model
        self.device = device
        self.top_k = top_k
        self.candidates = candidates
        self.join_mode = join_mode
        self.weights = weights
        scale = join_mode == "merge"  # the scores of two kinds of search can be added on one scale only
        dense = ROMRetriever(
            retriever=SQLiteFAISSEmbeddingRetriever(document_store, top_k=candidates, scale_score=scale),
            text_embedder=ROMTextEmbedder(model=model, device=device, progress_bar=False),
        )
        pipeline = Pipeline()
        pipeline.add_component("keyword", SQLiteFAISSBM25Retriever(document_store, top_k=candidates, scale_score=scale))
        pipeline.add_component("dense", dense)
        pipeline.add_component("fusion", SearchFusion(join_mode=join_mode, weights=weights, top_k=top_k))
        pipeline.connect("keyword.documents", "fusion.keyword")
        pipeline.connect("dense.documents", "fusion.dense")
        self.pipeline = pipeline
        self.input_mapping = {
            "query": ["keyword.query", "dense.query"],
            "filters": ["keyword.filters", "dense.filters"],
            "candidates": ["keyword.top_k", "dense.top_k"],
            "top_k": ["fusion.top_k"],
        }
        self.output_mapping = {"fusion.documents": "documents"}

    if TYPE_CHECKING:

        def run(  # noqa: D102 (the decorator makes the real one)
            self,
            *,
            query: str,
            filters: dict[str, Any] | None = None,
            top_k: int | None = None,
            candidates: int | None = None,
        ) -> dict[str, Any]: ...
