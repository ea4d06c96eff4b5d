"""What a question must be."""

from collections.abc import Sequence


def check_query(query: object) -> None:
    """Check that a query is text with something in it.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty or white space only.
    """
    if not isinstance(query, str):
        raise TypeError(f"The query must be a str, not {type(query).__name__}.")
    if not query.strip():
        raise ValueError("The query is empty; ask with at least one word.")


def check_queries(queries: Sequence[object]) -> None:
    """Check that queries come as a list, and each of them.

    Raises:
        TypeError: They are a single text, or one is no text.
        ValueError: One is empty or white space only.
    """
    if isinstance(queries, str):
        raise TypeError("Queries must come as a list, found a single str. Wrap it: [query].")
    for query in queries:
        check_query(query)


def check_groups(queries: Sequence[object], documents: Sequence[object]) -> None:
    """Check queries, and that there is a list of documents for each.

    Raises:
        TypeError: They are a single text, or one is no text.
        ValueError: One is empty or white space only, or there are not as many lists.
    """
    check_queries(queries)
    if len(queries) != len(documents):
        raise ValueError(f"{len(queries)} queries for {len(documents)} lists of documents: give as many of both.")


def check_top_k(top_k: int | None) -> None:
    """Check a `top_k`; None and 0 are allowed.

    Raises:
        ValueError: It is negative.
    """
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k is {top_k}; it must be at least 0.")
