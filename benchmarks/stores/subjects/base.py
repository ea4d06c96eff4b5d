"""The interface of what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from haystack import Document


class Subject(Protocol):
    """A document store in a folder, as the measuring process uses it: by public methods only.

    Attributes:
        largest: Documents it is measured with at most; None for any number.
        query_limit: Queries of each kind, where it is too slow for all of them.
    """

    largest: ClassVar[int | None]
    query_limit: ClassVar[int | None]

    def __init__(self, folder: Path, dim: int) -> None:
        """Open the folder's store; make one where there is none."""
        ...

    def write(self, documents: list[Document]) -> None:
        """Write documents that the store has not got."""
        ...

    def finish(self) -> None:
        """Do what comes after the last write."""
        ...

    def search(self, embedding: list[float], top_k: int, category: str | None = None) -> list[Document]:
        """Search by embedding, in one category or in all."""
        ...

    def close(self) -> None:
        """Let go of the store; everything is on disk then."""
        ...


@runtime_checkable
class KeywordSearch(Protocol):
    """What a subject has besides if its store can search by keywords."""

    def search_keywords(self, question: str, top_k: int) -> list[Document]:
        """Search by BM25."""
        ...


def category_filter(category: str | None) -> dict[str, Any] | None:
    """Make the filter that keeps one category."""
    return {"field": "meta.category", "operator": "==", "value": category} if category is not None else None
