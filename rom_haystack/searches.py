"""The retrievers that belong to a document store, for the stores that are known."""

from typing import Any

from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.components.retrievers.types import EmbeddingRetriever, TextRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DocumentStore

from rom_haystack.document_stores import (
    SQLiteFAISSBM25Retriever,
    SQLiteFAISSDocumentStore,
    SQLiteFAISSEmbeddingRetriever,
)

_RETRIEVERS: dict[type, tuple[Any, Any]] = {
    SQLiteFAISSDocumentStore: (SQLiteFAISSBM25Retriever, SQLiteFAISSEmbeddingRetriever),
    InMemoryDocumentStore: (InMemoryBM25Retriever, InMemoryEmbeddingRetriever),
}


def retrievers_of(store: DocumentStore, top_k: int, remedy: str) -> tuple[TextRetriever, EmbeddingRetriever]:
    """Make the keyword and the embedding retriever of a store.

    Args:
        store: A `SQLiteFAISSDocumentStore` or an `InMemoryDocumentStore`.
        top_k: Most documents.
        remedy: What to give for another kind of store, for the error.

    Raises:
        ValueError: The store is of another kind.
    """
    for kind, (keyword, dense) in _RETRIEVERS.items():
        if isinstance(store, kind):
            return keyword(store, top_k=top_k), dense(store, top_k=top_k)
    raise ValueError(f"{type(store).__name__} is searched through retrievers of its own: {remedy}")
