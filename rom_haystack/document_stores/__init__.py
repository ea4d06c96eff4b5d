"""An embedded document store: SQLite for documents, FAISS for vectors, both in one folder."""

from haystack.core.serialization import allow_deserialization_module

from rom_haystack.document_stores.retrievers import SQLiteFAISSBM25Retriever, SQLiteFAISSEmbeddingRetriever
from rom_haystack.document_stores.sqlite_faiss import SQLiteFAISSDocumentStore

allow_deserialization_module("rom_haystack")

__all__ = ["SQLiteFAISSBM25Retriever", "SQLiteFAISSDocumentStore", "SQLiteFAISSEmbeddingRetriever"]
