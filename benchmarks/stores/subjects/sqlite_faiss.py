"""This project's store."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from haystack import Document

from benchmarks.stores.subjects.base import category_filter
from rom_haystack.document_stores import SQLiteFAISSDocumentStore


class SQLiteFAISS:
    """`SQLiteFAISSDocumentStore` with its defaults and an SQL index on the field that is filtered."""

    largest: ClassVar[int | None] = None
    query_limit: ClassVar[int | None] = None

    def __init__(self, folder: Path, dim: int) -> None:
        self._store = SQLiteFAISSDocumentStore(folder, dim, indexed_meta_fields=["category"])

    def write(self, documents: list[Document]) -> None:
        """Write a batch; it is on disk when this returns, and the vector index is built in the background."""
        self._store.write_documents(documents)

    def finish(self) -> None:
        """Compact the files and build the indexes for the size that was reached."""
        self._store.optimize()

    def search(self, embedding: list[float], top_k: int, category: str | None = None) -> list[Document]:
        """Search the vectors of the documents that pass the filter."""
        return self._store.embedding_retrieval(embedding, filters=category_filter(category), top_k=top_k)

    def search_keywords(self, question: str, top_k: int) -> list[Document]:
        """Search by SQLite's BM25."""
        return self._store.bm25_retrieval(question, top_k=top_k)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


SUBJECT = SQLiteFAISS
