"""Haystack's FAISS store, package faiss-haystack."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from haystack import Document
from haystack_integrations.document_stores.faiss import FAISSDocumentStore

from benchmarks.stores.subjects.base import category_filter


class FAISSHaystack:
    """`FAISSDocumentStore` with its defaults: an exact, flat index, and documents in a dict; no keyword search."""

    largest: ClassVar[int | None] = 100_000  # 17 KB of memory per document
    query_limit: ClassVar[int | None] = None

    def __init__(self, folder: Path, dim: int) -> None:
        self._path = folder / "store"
        self._store = FAISSDocumentStore(index_path=str(self._path), embedding_dim=dim)

    def write(self, documents: list[Document]) -> None:
        """Write a batch into memory."""
        self._store.write_documents(documents)

    def finish(self) -> None:
        """Save everything; nothing is on disk before."""
        self._store.save(self._path)

    def search(self, embedding: list[float], top_k: int, category: str | None = None) -> list[Document]:
        """Search the vectors; a filter sees the nearest 10 * top_k only."""
        return self._store.search(embedding, top_k, category_filter(category))

    def close(self) -> None:
        """Do nothing: the store holds no file open."""


SUBJECT = FAISSHaystack
