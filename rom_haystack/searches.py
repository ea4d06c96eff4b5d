"""The retrievers that belong to a document store, for the stores that are known."""

from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.components.retrievers.types import EmbeddingRetriever, TextRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DocumentStore

from rom_haystack.document_stores import (
    SQLiteFAISSBM25Retriever,
    SQLiteFAISSDocumentStore,
    SQLiteFAISSEmbeddingRetriever,
)


def keyword_retriever(store: DocumentStore, top_k: int = 10, *, scale_score: bool = False) -> TextRetriever:
    """Make the keyword retriever of a store.

    Args:
        store: A `SQLiteFAISSDocumentStore` or an `InMemoryDocumentStore`.
        top_k: Most documents.
        scale_score: Bring scores into the range from 0 to 1.

    Raises:
        ValueError: The store is of another kind.
    """
    if isinstance(store, SQLiteFAISSDocumentStore):
        return SQLiteFAISSBM25Retriever(store, top_k=top_k, scale_score=scale_score)
    if isinstance(store, InMemoryDocumentStore):
        return InMemoryBM25Retriever(store, top_k=top_k, scale_score=scale_score)
    raise _unknown(store, "keyword")


def embedding_retriever(store: DocumentStore, top_k: int = 10, *, scale_score: bool = False) -> EmbeddingRetriever:
    """Make the embedding retriever of a store; see `keyword_retriever`."""
    if isinstance(store, SQLiteFAISSDocumentStore):
        return SQLiteFAISSEmbeddingRetriever(store, top_k=top_k, scale_score=scale_score)
    if isinstance(store, InMemoryDocumentStore):
        return InMemoryEmbeddingRetriever(store, top_k=top_k, scale_score=scale_score, return_embedding=False)
    raise _unknown(store, "embedding")


def _unknown(store: DocumentStore, kind: str) -> ValueError:
    return ValueError(
        f"A {type(store).__name__} is searched through its own {kind} retriever: give retrievers made with it "
        "(…Retriever(document_store=…)) instead of document_store."
    )
