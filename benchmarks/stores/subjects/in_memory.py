"""Haystack's in-memory store."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore

from benchmarks.stores.subjects.base import category_filter


class InMemory:
    """`InMemoryDocumentStore` with its defaults, kept as the JSON file that it can save."""

    largest: ClassVar[int | None] = 20_000
    query_limit: ClassVar[int | None] = 20  # one takes most of a second at that size

    def __init__(self, folder: Path, dim: int) -> None:  # noqa: ARG002 (the store takes vectors of any width)
        self._file = folder / "store.json"
        exists = self._file.exists()
        self._store = InMemoryDocumentStore.load_from_disk(str(self._file)) if exists else InMemoryDocumentStore()

    def write(self, documents: list[Document]) -> None:
        """Write a batch into memory."""
        self._store.write_documents(documents)

    def finish(self) -> None:
        """Save everything; nothing is on disk before."""
        self._store.save_to_disk(str(self._file))

    def search(self, embedding: list[float], top_k: int, category: str | None = None) -> list[Document]:
        """Search the vectors of the documents that pass the filter."""
        return self._store.embedding_retrieval(embedding, filters=category_filter(category), top_k=top_k)

    def search_keywords(self, question: str, top_k: int) -> list[Document]:
        """Search by the store's BM25."""
        return self._store.bm25_retrieval(question, top_k=top_k)

    def close(self) -> None:
        """Do nothing: the store holds no file open."""


SUBJECT = InMemory
