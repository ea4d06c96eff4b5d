"""Calling the components that a component wraps, ours or others'."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any, TypeGuard

from haystack import Document
from haystack.components.retrievers.types import EmbeddingRetriever


def given(filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
    """Keep what a run set, so that None does not override the inner retriever's own values."""
    return {name: value for name, value in (("filters", filters), ("top_k", top_k)) if value is not None}


def takes(retriever: Any, name: str) -> bool:
    """Tell whether a component's run has an input of this name."""
    return name in inspect.signature(retriever.run).parameters


def searches_by_embedding(retriever: Any) -> TypeGuard[EmbeddingRetriever]:
    """Tell whether a retriever takes the query's embedding, rather than the query."""
    return takes(retriever, "query_embedding")


def check_inputs(retriever: Any, name: str, queries: Sequence[str]) -> None:
    """Check that a retriever can be asked.

    Args:
        retriever: Any component.
        name: The parameter that it was given as.
        queries: Inputs of which its run must take one, besides `filters` and `top_k`.

    Raises:
        ValueError: An input is missing.
    """
    missing = [part for part in ("filters", "top_k") if not takes(retriever, part)]
    if not any(takes(retriever, part) for part in queries):
        missing.insert(0, " or ".join(queries))
    if missing:
        raise ValueError(
            f"{type(retriever).__name__}, given as {name}, can't be asked: its run takes no {', no '.join(missing)}."
        )


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
