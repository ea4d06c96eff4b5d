"""The peers: Haystack's own components with models of ROM's size, or three encoders of BERT-base's size."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from haystack import Document, ExtractedAnswer, Pipeline
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.readers.transformers import TransformersExtractiveReader

from benchmarks.answering.document_stores import open_store, stock_retriever
from benchmarks.answering.systems import TOP_ANSWERS, Place, System

_BATCH_SIZE = 32  # the document embedder's default


class StockAnswering:
    """Text embedder, retriever and reader, with their defaults, in one pipeline.

    Args:
        system: Which store; and of DPR's shape, that the document embedder is loaded beside the rest.
        place: Where models and documents are.
    """

    def __init__(self, system: System, place: Place) -> None:
        self._system = system
        self._place = place
        self._document_embedders: dict[int, Any] = {}

    @cached_property
    def _pipeline(self) -> Pipeline:
        pipeline = Pipeline()
        embedder = SentenceTransformersTextEmbedder(
            model=self._place.embedder, local_files_only=True, progress_bar=False
        )
        store = open_store(self._system.store, Path(self._place.store), self._place.dim)
        pipeline.add_component("embedder", embedder)
        pipeline.add_component("retriever", stock_retriever(self._system.store, store))
        pipeline.add_component("reader", self._reader)
        pipeline.connect("embedder.embedding", "retriever.query_embedding")
        pipeline.connect("retriever.documents", "reader.documents")
        if self._system.family == "dpr":
            self._document_embedder(_BATCH_SIZE)
        return pipeline

    @cached_property
    def _reader(self) -> Any:
        return TransformersExtractiveReader(model=self._place.reader, top_k=TOP_ANSWERS)

    def ask(self, question: str, top_k: int) -> list[ExtractedAnswer]:
        """Answer a question from the document store, reading `top_k` passages."""
        found = self._pipeline.run(
            {"embedder": {"text": question}, "retriever": {"top_k": top_k}, "reader": {"query": question}}
        )
        answers: list[ExtractedAnswer] = found["reader"]["answers"]
        return answers

    def read(self, question: str, documents: list[Document]) -> list[ExtractedAnswer]:
        """Answer a question from documents."""
        answers: list[ExtractedAnswer] = self._reader.run(question, documents)["answers"]
        return answers

    def embed(self, documents: list[Document], batch_size: int | None) -> list[Document]:
        """Embed documents."""
        embedded: list[Document] = self._document_embedder(batch_size or _BATCH_SIZE).run(documents)["documents"]
        return embedded

    def embed_questions(self, questions: list[str]) -> list[list[float]]:
        """Embed questions, one by one as the text embedder does."""
        embedder = self._pipeline.get_component("embedder")
        return [embedder.run(question)["embedding"] for question in questions]

    def _document_embedder(self, batch_size: int) -> Any:
        """Make an embedder; those of several batch sizes share one model."""
        if batch_size not in self._document_embedders:
            embedder = SentenceTransformersDocumentEmbedder(
                model=self._place.document_embedder, batch_size=batch_size, local_files_only=True, progress_bar=False
            )
            embedder.warm_up()
            self._document_embedders[batch_size] = embedder
        return self._document_embedders[batch_size]
