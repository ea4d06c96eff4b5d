"""Calling the components that a component wraps, ours or others'."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeGuard

from haystack import Document
from haystack.components.retrievers.types import EmbeddingRetriever


class Wrapper:
    """Warm up and close the components that a component wraps, which it names in `_wraps`, its attributes."""

    _wraps: ClassVar[tuple[str, ...]]

    def warm_up(self) -> None:
        """Warm up the inner components."""
        for inner in self._inner():
            if hasattr(inner, "warm_up"):
                inner.warm_up()
        self._warmed()

    async def warm_up_async(self) -> None:
        """Warm up the inner components on the serving event loop; what has no async warm-up runs in a thread."""
        for inner in self._inner():
            await call_async(inner, "warm_up")
        self._warmed()

    def close(self) -> None:
        """Release the resources of the inner components."""
        for inner in self._inner():
            if hasattr(inner, "close"):
                inner.close()

    async def close_async(self) -> None:
        """Release the resources of the inner components on the serving event loop."""
        for inner in self._inner():
            await call_async(inner, "close")

    def _inner(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._wraps)

    def _warmed(self) -> None:
        """Do what follows a warm-up."""


def given(filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
    """Keep what a run set, so that None does not override the inner retriever's own values."""
    return {name: value for name, value in (("filters", filters), ("top_k", top_k)) if value is not None}


def searches_by_embedding(retriever: Any) -> TypeGuard[EmbeddingRetriever]:
    """Tell whether a retriever can be asked by the query's embedding, rather than by the query."""
    inputs = _inputs(retriever)
    return "query_embedding" in inputs and not _others(inputs, "query_embedding")


def check_inputs(retriever: Any, name: str, queries: Sequence[str]) -> None:
    """Check that a retriever can be asked.

    Args:
        retriever: Any component.
        name: The parameter that it was given as.
        queries: Inputs of which its run must take one, besides `filters` and `top_k`, and need no other.

    Raises:
        ValueError: An input is missing, or one more must be given.
    """
    inputs = _inputs(retriever)
    asked = [query for query in queries if query in inputs]
    missing = [] if asked else [" or ".join(queries)]
    missing += [part for part in ("filters", "top_k") if part not in inputs]
    others = [_others(inputs, query) for query in asked]
    if missing:
        reason = f"its run takes no {', no '.join(missing)}"
    elif all(others):
        reason = f"its run needs {' and '.join(others[0])}, too"
    else:
        return
    raise ValueError(f"{type(retriever).__name__}, given as {name}, can't be asked: {reason}.")


def best_first(documents: Sequence[Document], to_similarity: Callable[[float], float] | None) -> list[Document]:
    """Sort documents by score, after it was made a similarity where it is none; those without a score come last."""
    if to_similarity is not None:
        documents = [d if d.score is None else replace(d, score=to_similarity(d.score)) for d in documents]
    return sorted(documents, key=lambda d: float("-inf") if d.score is None else d.score, reverse=True)


def without_embedding(document: Document) -> Document:
    """Copy a document without its embedding."""
    return document if document.embedding is None else replace(document, embedding=None)


async def call_async(inner: Any, method: str, **arguments: Any) -> Any:
    """Call a method's async twin, else the method itself in a thread; do nothing where there is neither."""
    if hasattr(inner, f"{method}_async"):
        return await getattr(inner, f"{method}_async")(**arguments)
    if hasattr(inner, method):
        return await asyncio.to_thread(getattr(inner, method), **arguments)
    return None


def retrieve_batch(
    retriever: Any, queries: Sequence[str], filters: dict[str, Any] | None, top_k: int | None
) -> list[list[Document]]:
    """Retrieve documents for several queries, together where the retriever has a `run_batch`, else in turn."""
    options = given(filters, top_k)
    if hasattr(retriever, "run_batch"):
        found: list[list[Document]] = retriever.run_batch(list(queries), **options)["documents"]
        return found
    return [retriever.run(query=query, **options)["documents"] for query in queries]


def _inputs(retriever: Any) -> dict[str, bool]:
    """Give the names of a component's inputs, with whether a run needs them; a super-component has no other list."""
    sockets = getattr(retriever, "__haystack_input__", None)
    return {} if sockets is None else {name: s.is_mandatory for name, s in sockets._sockets_dict.items()}  # noqa: SLF001


def _others(inputs: dict[str, bool], query: str) -> list[str]:
    """Name the inputs that a run needs besides the query."""
    return [name for name, needed in inputs.items() if needed and name != query]
