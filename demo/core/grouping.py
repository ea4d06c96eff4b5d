"""Answers by the documents that they stand in."""

from collections.abc import Sequence

from demo.core.results import FoundPassage, Quote


def document_key(passage: FoundPassage) -> tuple[str, str]:
    """Tell which document a passage is of: equal for passages of one file."""
    meta = passage.document.meta
    return str(meta.get("file_path", "")), str(meta.get("source_id", passage.document.id))


def by_document(quotes: Sequence[Quote]) -> list[list[Quote]]:
    """Group quotes by document.

    Args:
        quotes: Best first.

    Returns:
        Groups in the order of their best quotes, each best first.
    """
    groups: dict[tuple[str, str], list[Quote]] = {}
    for quote in quotes:
        groups.setdefault(document_key(quote.passage), []).append(quote)
    return list(groups.values())
