"""An embedded document store: SQLite for documents, filters and keyword search, FAISS for vectors."""

import asyncio
from typing import Any

from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack.document_stores.synchronous import SynchronousStore


class SQLiteFAISSDocumentStore(SynchronousStore):
    """A document store in a folder, for millions of documents on one machine.

    What was written is on the disk when the call returns, and survives whatever kills the process. Threads and
    processes may read while one writes; a forked process may use the store if nothing did at the moment of the fork.
    Search sees the filters first, deleted documents never, and gives the same scores whatever index is used.

    ```python
    from haystack import Document
    from rom_haystack import SQLiteFAISSDocumentStore

    store = SQLiteFAISSDocumentStore("my-store", embedding_dim=3)
    store.write_documents([Document(content="A quick fox", embedding=[0.1, 0.2, 0.3])])
    store.embedding_retrieval([0.1, 0.2, 0.3], top_k=1)
    store.bm25_retrieval("fox", top_k=1)
    ```

    Args:
        path: The store's folder; made at first use. Store objects of one process with the same path share one core.
        embedding_dim: Components per embedding.
        index: A FAISS factory string, such as `"HNSW32,SQ8"`, or `"auto"`: exact up to 10,000 embeddings, then a
            compressed index that is trained again when the collection has grown fourfold. It finds candidates; their
            scores come from the stored embeddings. It is derived data and may change from one opening to the next.
        similarity: `"cosine"` or `"dot_product"`; higher is better.
        vector_dtype: How embeddings are stored, `"float16"` or `"float32"`.
        search_parameters: For every search: `candidates` (embeddings that are scored exactly; by default 30 for each
            result, at least 300), and those of the index: `nprobe`, `max_codes`, `efSearch`, `k_factor`.
        indexed_meta_fields: Metadata fields with an SQL index. Filters on other fields work too, but look at every
            document, about a second per million.
        keyword_meta_fields: Metadata fields that keyword search covers besides the content, such as `["title"]`.
        tokenizer: FTS5 tokenizer of keyword search; the default stems English words. For languages without spaces use
            `"trigram"`.
        return_embedding: Let `filter_documents` give documents their embeddings.
        read_only: Refuse to write, and work in a folder that can't be written.
        auto_optimize: After writes by which the collection outgrew an index, renew it in a background thread. With
            False only `optimize` does.
        lock_timeout: Seconds to wait for another thread or process that writes. Of store objects that share one core
            the first one's holds.

    Raises:
        ValueError: A value is out of range.
    """

    # SQLite and FAISS release the interpreter while they work, so a thread is all that awaiting needs.

    async def count_documents_async(self) -> int:
        """Do what `count_documents` does without blocking the event loop."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Do what `filter_documents` does without blocking the event loop."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Do what `write_documents` does without blocking the event loop."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Do what `delete_documents` does without blocking the event loop."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """Do what `delete_all_documents` does without blocking the event loop."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Do what `delete_by_filter` does without blocking the event loop."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Do what `update_by_filter` does without blocking the event loop."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Do what `count_documents_by_filter` does without blocking the event loop."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """Do what `count_unique_metadata_by_filter` does without blocking the event loop."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """Do what `get_metadata_fields_info` does without blocking the event loop."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """Do what `get_metadata_field_min_max` does without blocking the event loop."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Do what `get_metadata_field_unique_values` does without blocking the event loop."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        return_embedding: bool = False,
        search_parameters: dict[str, float] | None = None,
    ) -> list[Document]:
        """Do what `embedding_retrieval` does without blocking the event loop."""
        return await asyncio.to_thread(
            self.embedding_retrieval, query_embedding, filters, top_k, scale_score, return_embedding, search_parameters
        )

    async def bm25_retrieval_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int = 10, scale_score: bool = False
    ) -> list[Document]:
        """Do what `bm25_retrieval` does without blocking the event loop."""
        return await asyncio.to_thread(self.bm25_retrieval, query, filters, top_k, scale_score)
