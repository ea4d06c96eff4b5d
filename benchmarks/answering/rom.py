"""ROM as it is measured: the ready super-component with its defaults, but for what the system names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from haystack import Document, ExtractedAnswer

from benchmarks.answering.document_stores import open_store
from benchmarks.answering.systems import TOP_ANSWERS, Place, System
from rom_haystack import ROMDocumentEmbedder, ROMExtractiveQA
from rom_haystack.inference import EncoderSpec, encoder
from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.coalescing import Coalescer


class Uncoalesced(Coalescer):
    """Every caller calls the engine for itself."""

    def __init__(self, backend: Backend, *, token_budget: int) -> None:
        super().__init__(backend, token_budget=token_budget)
        self._engine = backend

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:
        """Call the engine."""
        return self._engine.run(inputs, head, batch_size=batch_size)


class ROMAnswering:
    """Answer from a store by `ROMExtractiveQA`, embed by `ROMDocumentEmbedder`.

    Args:
        system: Engine, its arithmetic, adaptive reading.
        place: Where model and documents are.
    """

    def __init__(self, system: System, place: Place) -> None:
        self._system = system
        self._place = place
        if not system.coalesced:
            encoder.Coalescer = Uncoalesced  # type: ignore[attr-defined]

    @cached_property
    def _answering(self) -> Any:
        store = open_store(self._system.store, Path(self._place.store), self._place.dim)
        settings = {"backend": self._system.backend, "adaptive_reading": self._system.adaptive_reading}
        given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
        given["retrieval"] = "dense"  # as the stock systems retrieve
        answering = ROMExtractiveQA(store, model=self._place.embedder, top_k_reader=TOP_ANSWERS, **given)
        if self._system.dtype is not None:
            for part in (self._part(answering, "retriever").text_embedder, self._part(answering, "reader")):
                part.model_kwargs = {"dtype": self._system.dtype}
        return answering

    @cached_property
    def _embedder(self) -> Any:
        given: dict[str, Any] = {} if self._system.backend is None else {"backend": self._system.backend}
        kwargs = None if self._system.dtype is None else {"dtype": self._system.dtype}
        return ROMDocumentEmbedder(model=self._place.embedder, model_kwargs=kwargs, progress_bar=False, **given)

    def ask(self, question: str, top_k: int) -> list[ExtractedAnswer]:
        """Answer a question from the document store, reading `top_k` passages."""
        answers: list[ExtractedAnswer] = self._answering.run(query=question, top_k_retriever=top_k)["answers"]
        return answers

    def read(self, question: str, documents: list[Document]) -> list[ExtractedAnswer]:
        """Answer a question from documents."""
        reader = self._part(self._answering, "reader")
        answers: list[ExtractedAnswer] = reader.run(question, documents)["answers"]
        return answers

    def embed(self, documents: list[Document], batch_size: int | None) -> list[Document]:
        """Embed documents; the engine's own batches are the default ones."""
        embedder = self._embedder
        if batch_size is not None:
            embedder.batch_size = batch_size
        embedded: list[Document] = embedder.run(documents)["documents"]
        return embedded

    def embed_questions(self, questions: list[str]) -> list[list[float]]:
        """Embed questions."""
        embedder = self._part(self._answering, "retriever").text_embedder
        embeddings: list[list[float]] = embedder.run_batch(questions)["embeddings"]
        return embeddings

    @staticmethod
    def _part(answering: Any, name: str) -> Any:
        return answering.pipeline.get_component(name)


def engine_name(system: System, place: Place) -> str:
    """Name the engine that a system means on this machine, and the type of its arithmetic."""
    kwargs = None if system.dtype is None else {"dtype": system.dtype}
    spec = EncoderSpec.create(place.embedder, backend=system.backend or "auto", model_kwargs=kwargs).resolved()
    return f"{spec.backend}-{spec.dtype}"
