"""1.x's in-memory document store on today's."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import haystack
from haystack.document_stores import in_memory

from rom_haystack.compat.arguments import Unused, warn_of_unused
from rom_haystack.compat.stores import DocumentStore, in_batches

_UNUSED = {
    "label_index": Unused("label", "Labels are not kept here; evaluate with FARMReader.eval_on_file."),
    "embedding_field": Unused("embedding", "Embeddings are in the documents' attribute `embedding`."),
    "use_gpu": Unused(default=True, instead="Embeddings are compared on the CPU."),
    "scoring_batch_size": Unused(500_000, "All embeddings are compared at once."),
    "devices": Unused(None, "Embeddings are compared on the CPU."),
}


class InMemoryDocumentStore(DocumentStore):
    """1.x's `InMemoryDocumentStore`, over Haystack's own of today, one per index.

    ```python
    from rom_haystack.compat import DensePassageRetriever, InMemoryDocumentStore

    document_store = InMemoryDocumentStore()
    document_store.write_documents([{"content": "The Nile flows north.", "meta": {"name": "The Nile"}}])
    retriever = DensePassageRetriever(document_store)
    document_store.update_embeddings(retriever)
    documents = retriever.retrieve("Which way does the Nile flow?", top_k=1)
    ```

    Args:
        index: The index that is meant where a call names none.
        label_index: Without effect; so are `embedding_field`, `use_gpu`, `scoring_batch_size` and `devices`.
        embedding_field: Without effect.
        embedding_dim: Components per embedding. None, where 1.x had 768, for those of the first embeddings.
        return_embedding: Give documents their embeddings where a call does not say.
        similarity: `dot_product` or `cosine`.
        progress_bar: Show one while embeddings are updated.
        duplicate_documents: What to do with ids that are there already: `skip`, `overwrite` or `fail`.
        use_gpu: Without effect.
        scoring_batch_size: Without effect.
        devices: Without effect.
        use_bm25: Keyword search is there in any case.
        bm25_tokenization_regex: What a word is for keyword search.
        bm25_algorithm: `BM25Okapi`, `BM25L` or `BM25Plus`.
        bm25_parameters: Its parameters.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        index: str = "document",
        label_index: str = "label",
        embedding_field: str | None = "embedding",
        embedding_dim: int | None = None,
        return_embedding: bool = False,
        similarity: str = "dot_product",
        progress_bar: bool = True,
        duplicate_documents: str = "overwrite",
        use_gpu: bool = True,
        scoring_batch_size: int = 500_000,
        devices: Sequence[Any] | None = None,
        use_bm25: bool = False,
        bm25_tokenization_regex: str = r"(?u)\b\w\w+\b",
        bm25_algorithm: str = "BM25Okapi",
        bm25_parameters: dict[str, Any] | None = None,
    ) -> None:
        warn_of_unused(type(self).__name__, _UNUSED, locals())
        super().__init__(
            index=index,
            embedding_dim=embedding_dim,
            similarity=similarity,
            return_embedding=return_embedding,
            duplicate_documents=duplicate_documents,
            progress_bar=progress_bar,
        )
        self.use_bm25 = use_bm25
        self._options: dict[str, Any] = {
            "bm25_tokenization_regex": bm25_tokenization_regex,
            "bm25_algorithm": bm25_algorithm,
            "bm25_parameters": bm25_parameters or {},
            "embedding_similarity_function": similarity,
        }
        self._backends = {index: in_memory.InMemoryDocumentStore(**self._options)}

    def delete_index(self, index: str) -> None:
        """Delete an index with all that is in it."""
        self._backends.pop(index, None)

    def _backend(self, index: str) -> in_memory.InMemoryDocumentStore | None:
        return self._backends.get(index)

    def _backend_for(self, index: str, dim: int | None, *, renew: bool = False) -> in_memory.InMemoryDocumentStore:
        del renew  # any embeddings may lie side by side here
        if dim is not None and self.embedding_dim is not None and dim != self.embedding_dim:
            raise ValueError(
                f"The embeddings have {dim} components, the store was made with embedding_dim={self.embedding_dim}. "
                "Leave embedding_dim out, or give the retriever's."
            )
        if index not in self._backends:
            self._backends[index] = in_memory.InMemoryDocumentStore(**self._options)
        return self._backends[index]

    def _read(
        self, index: str, filters: dict[str, Any] | None, *, embedding: bool, only_without: bool, batch_size: int
    ) -> Iterator[list[haystack.Document]]:
        found = self._found(index, filters, embedded=False if only_without else None)
        for batch in in_batches(found, batch_size):
            yield batch if embedding else [replace(document, embedding=None) for document in batch]

    def _count(self, index: str, filters: dict[str, Any] | None, *, embedded: bool | None) -> int:
        return len(self._found(index, filters, embedded=embedded))

    def _found(self, index: str, filters: dict[str, Any] | None, *, embedded: bool | None) -> list[haystack.Document]:
        backend = self._backend(index)
        found = [] if backend is None else backend.filter_documents(filters)
        return [d for d in found if embedded is None or (d.embedding is not None) == embedded]
