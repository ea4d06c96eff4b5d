"""Ours take every argument of the stock parts, with the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

import pytest
from haystack import Document, component
from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever, TextEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Secret
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker
from haystack_integrations.components.readers.transformers import TransformersExtractiveReader
from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever
from haystack_integrations.document_stores.faiss import FAISSDocumentStore

from rom_haystack import (
    ROMDocumentEmbedder,
    ROMExtractiveReader,
    ROMRanker,
    ROMRetriever,
    ROMTextEmbedder,
    SQLiteFAISSBM25Retriever,
    SQLiteFAISSDocumentStore,
    SQLiteFAISSEmbeddingRetriever,
)

HUB_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class TransformersSimilarityRanker:
    """The signatures of the one in haystack-ai 2.20; Haystack 3 has none."""

    def __init__(
        self,
        model: Any = "cross-encoder/ms-marco-MiniLM-L-6-v2",
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        top_k: int = 10,
        query_prefix: str = "",
        document_prefix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        scale_score: bool = True,
        calibration_factor: float | None = 1.0,
        score_threshold: float | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        batch_size: int = 16,
    ) -> None: ...

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        scale_score: bool | None = None,
        calibration_factor: float | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, list[Document]]: ...


OUR_MODEL = "the model is ours"
FASTEST = "the machine's fastest faithful engine, not torch"
OTHERS = "another stock part has it"
#: Ours, a stock part it takes the place of, arguments of another default, and further arguments of `run`, with reasons.
PAIRS = [
    (ROMTextEmbedder, SentenceTransformersTextEmbedder, {"model": OUR_MODEL, "backend": FASTEST}, {}),
    (
        ROMDocumentEmbedder,
        SentenceTransformersDocumentEmbedder,
        {
            "model": OUR_MODEL,
            "backend": FASTEST,
            "embedding_separator": "None is the separator token that ROM was trained with",
        },
        {},
    ),
    (
        ROMExtractiveReader,
        TransformersExtractiveReader,
        {"model": OUR_MODEL, "calibration_factor": "fitted to our log-odds; theirs are raw logits"},
        {},
    ),
    (
        ROMRanker,
        SentenceTransformersSimilarityRanker,
        {"model": OUR_MODEL, "backend": FASTEST},
        {"calibration_factor": OTHERS},
    ),
    (ROMRanker, TransformersSimilarityRanker, {"model": OUR_MODEL}, {}),
    (ROMRetriever, TextEmbeddingRetriever, {"text_embedder": "theirs has none to default to"}, {}),
    (
        SQLiteFAISSEmbeddingRetriever,
        FAISSEmbeddingRetriever,
        {},
        {"scale_score": OTHERS, "return_embedding": OTHERS, "search_parameters": "FAISS's own, per query"},
    ),
    (
        SQLiteFAISSEmbeddingRetriever,
        InMemoryEmbeddingRetriever,
        {},
        {"search_parameters": "FAISS's own, per query"},
    ),
    (SQLiteFAISSBM25Retriever, InMemoryBM25Retriever, {}, {}),
]
OUR_COMPONENTS = list(dict.fromkeys(ours for ours, *_ in PAIRS))
WITH_MODEL = [pair for pair in PAIRS if "model" in inspect.signature(pair[0].__init__).parameters]

#: Methods of the stock stores that ours has not, and what there is instead.
NOT_OURS = {
    FAISSDocumentStore: {
        "save": "every write is on the disk",
        "load": "`path` names the store",
        "search": "`embedding_retrieval`, the in-memory store's name for it",
    },
    InMemoryDocumentStore: {
        "save_to_disk": "every write is on the disk",
        "load_from_disk": "`path` names the store",
        "shutdown": "`close`",
    },
}
#: Arguments of the stores' methods in which ours differs from a stock store, and why.
STORE_DIFFERENCES = {
    (FAISSDocumentStore, "write_documents"): "`policy` is the in-memory store's NONE, which is FAIL",
    (FAISSDocumentStore, "get_metadata_field_min_max"): "`metadata_field` is the in-memory store's name for it",
}


def parameters_of(function: Any) -> Mapping[str, Parameter]:
    return inspect.signature(function).parameters


def takes_calls_of(mine: Mapping[str, Parameter], theirs: Mapping[str, Parameter]) -> bool:
    """Tell whether whatever can be given to a stock part, by position or by name, means the same to ours."""
    by_position = [name for name, p in theirs.items() if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    ours_by_position = [name for name, p in mine.items() if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    return set(theirs) <= set(mine) and ours_by_position[: len(by_position)] == by_position


@pytest.mark.parametrize(("ours", "stock", "differing", "further"), PAIRS)
def test_init_takes_every_stock_parameter(ours, stock, differing, further):
    mine, theirs = parameters_of(ours.__init__), parameters_of(stock.__init__)
    assert takes_calls_of(mine, theirs)
    assert {name for name in theirs if mine[name].default != theirs[name].default} == set(differing)


@pytest.mark.parametrize(("ours", "stock", "differing", "further"), PAIRS)
def test_run_has_the_same_parameters(ours, stock, differing, further):
    mine, theirs = parameters_of(ours.run), parameters_of(stock.run)
    assert takes_calls_of(mine, theirs)
    assert {name: p.default for name, p in theirs.items()} == {name: mine[name].default for name in theirs}
    assert mine.keys() - theirs.keys() == set(further)
    assert all(mine[name].default is None for name in further)
    assert inspect.signature(ours.run) == inspect.signature(ours.run_async)


@pytest.mark.parametrize(("ours", "stock", "differing", "further"), WITH_MODEL)
def test_sockets_have_the_stock_names_and_types(ours, stock, differing, further, tiny_checkpoint):
    mine, theirs = ours(model=str(tiny_checkpoint)), stock(model=str(tiny_checkpoint))
    for kind in ("__haystack_input__", "__haystack_output__"):
        sockets = [{n: s.type for n, s in getattr(part, kind)._sockets_dict.items()} for part in (mine, theirs)]
        assert {name: type_ for name, type_ in sockets[0].items() if name not in further} == sockets[1]


@pytest.mark.parametrize("ours", OUR_COMPONENTS)
def test_no_telemetry(ours):
    assert not hasattr(ours, "_get_telemetry_data")


@pytest.mark.parametrize("stock", [FAISSDocumentStore, InMemoryDocumentStore])
class TestStore:
    @staticmethod
    def methods(stock):
        return {name for name, _ in inspect.getmembers(stock, callable) if not name.startswith("_")}

    def test_has_the_stock_methods(self, stock):
        assert self.methods(stock) - self.methods(SQLiteFAISSDocumentStore) == set(NOT_OURS[stock])

    def test_methods_take_the_stock_parameters(self, stock):
        differing = set()
        for name in self.methods(stock) & self.methods(SQLiteFAISSDocumentStore):
            mine, theirs = (parameters_of(getattr(cls, name)) for cls in (SQLiteFAISSDocumentStore, stock))
            if not takes_calls_of(mine, theirs) or any(mine[n].default != p.default for n, p in theirs.items()):
                differing.add((stock, name))
        assert differing == {(cls, name) for cls, name in STORE_DIFFERENCES if cls is stock}

    def test_awaits_what_the_stock_store_awaits(self, stock):
        for name in self.methods(stock) & self.methods(SQLiteFAISSDocumentStore):
            mine, theirs = (inspect.iscoroutinefunction(getattr(c, name)) for c in (SQLiteFAISSDocumentStore, stock))
            assert mine == theirs
