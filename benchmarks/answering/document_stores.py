"""The document stores that the systems search: written once, opened by each measuring process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haystack import Document

from benchmarks.answering.systems import TOP_PASSAGES, StoreKind

if TYPE_CHECKING:
    from haystack.document_stores.types import DocumentStore

_BATCH = 5000


def write_store(kind: StoreKind, folder: Path, documents: Sequence[Document], dim: int) -> None:
    """Write documents with embeddings to a new store.

    Args:
        kind: Which store.
        folder: Its folder, made where it is missing.
        documents: Documents with embeddings.
        dim: Width of the embeddings.

    Raises:
        ValueError: The store's package is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store: Any = open_store(kind, folder, dim)
    for start in range(0, len(documents), _BATCH):
        store.write_documents(list(documents[start : start + _BATCH]))
    if kind == "sqlite_faiss":
        store.optimize()
        store.close()
    elif kind == "faiss":
        store.save(_faiss_path(folder))
    else:
        store.save_to_disk(str(_json_path(folder)))


def open_store(kind: StoreKind, folder: Path, dim: int) -> DocumentStore:
    """Open a folder's store; an empty one where there is none.

    Raises:
        ValueError: The store's package is not installed.
    """
    if kind == "sqlite_faiss":
        from rom_haystack.document_stores import SQLiteFAISSDocumentStore  # noqa: PLC0415 (only one kind is needed)

        return SQLiteFAISSDocumentStore(folder, dim)
    if kind == "faiss":
        faiss_document_store = _faiss_package().FAISSDocumentStore
        store: DocumentStore = faiss_document_store(index_path=str(_faiss_path(folder)), embedding_dim=dim)
        return store
    from haystack.document_stores.in_memory import InMemoryDocumentStore  # noqa: PLC0415

    exists = _json_path(folder).exists()
    return InMemoryDocumentStore.load_from_disk(str(_json_path(folder))) if exists else InMemoryDocumentStore()


def stock_retriever(kind: StoreKind, store: Any) -> Any:
    """Make Haystack's embedding retriever of a stock store.

    Raises:
        ValueError: The store is none of Haystack's.
    """
    if kind == "in_memory":
        from haystack.components.retrievers import InMemoryEmbeddingRetriever  # noqa: PLC0415

        return InMemoryEmbeddingRetriever(store, top_k=TOP_PASSAGES)
    if kind == "faiss":
        from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever  # noqa: PLC0415

        return FAISSEmbeddingRetriever(document_store=store, top_k=TOP_PASSAGES)
    raise ValueError(f"'{kind}' is no store of Haystack's; choose in_memory or faiss.")


def _faiss_package() -> Any:
    try:
        import haystack_integrations.document_stores.faiss as package  # noqa: PLC0415 (not everyone has it)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"FAISSDocumentStore can't be measured: {error}. Install what benchmarks/README.md names, or leave the "
            "systems that need it out by --systems."
        ) from error
    return package


def _faiss_path(folder: Path) -> Path:
    return folder / "store"


def _json_path(folder: Path) -> Path:
    return folder / "store.json"
