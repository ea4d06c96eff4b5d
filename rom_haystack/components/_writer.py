"""Documents with embeddings to a store."""

import asyncio

from haystack import Document, component
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DocumentStore, DuplicatePolicy

from rom_haystack.components.document_embedder import ROMDocumentEmbedder


@component
class EmbeddedDocumentWriter:
    """Write documents to a store, over those that it has already, and check first that it fits their embeddings.

    A `DocumentWriter` that overwrites, but asks the store nothing where there is nothing to write (some stores fail
    then), and whose async run works with stores that have no async methods.

    Args:
        document_store: Where the documents go.
        embedder: What makes the embeddings.
    """

    def __init__(self, document_store: DocumentStore, embedder: ROMDocumentEmbedder) -> None:
        self.document_store = document_store
        self.embedder = embedder
        self._writer = DocumentWriter(document_store, policy=DuplicatePolicy.OVERWRITE)
        self._checked_store = False

    def warm_up(self) -> None:
        """Warn if the store does not fit the embeddings, the first time."""
        if not self._checked_store:
            self._checked_store = self.embedder.check_store(self.document_store)

    def close(self) -> None:
        """Release what the store holds, where it can."""
        self._writer.close()

    async def close_async(self) -> None:
        """Release what the store holds, where it can, on the serving event loop."""
        await self._writer.close_async()

    @component.output_types(documents_written=int)
    def run(self, documents: list[Document]) -> dict[str, int]:
        """Write documents.

        Args:
            documents: Documents with embeddings.

        Returns:
            `documents_written`: how many were written.
        """
        self.warm_up()
        if not documents:
            return {"documents_written": 0}
        written: dict[str, int] = self._writer.run(documents)
        self.warm_up()  # some stores' metric is known once they were used
        return written

    @component.output_types(documents_written=int)
    async def run_async(self, documents: list[Document]) -> dict[str, int]:
        """Do what `run` does without blocking the event loop."""
        if not documents or not hasattr(self.document_store, "write_documents_async"):
            return await asyncio.to_thread(self.run, documents)
        await asyncio.to_thread(self.warm_up)
        written: dict[str, int] = await self._writer.run_async(documents)
        self.warm_up()
        return written
