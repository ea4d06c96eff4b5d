"""What components that read documents share: their text, and a word about those without any."""

from collections.abc import Iterable, Sequence

from haystack import Document, logging

logger = logging.getLogger(__name__)

#: Most documents that a warning names.
_NAMED = 10


def text_with_meta(document: Document, fields: Sequence[str], separator: str) -> str:
    """Join the values of meta fields and the content; what is missing or blank is left out."""
    values = [document.meta.get(name) for name in fields]
    parts = [str(value) for value in [*values, document.content] if value is not None]
    return separator.join(part for part in parts if part.strip())


def readable_ones(documents: Iterable[Document]) -> list[Document]:
    """Keep documents with text, each once, where it first stands: their order is that of their retrieval."""
    unique: dict[tuple[str, str], Document] = {}
    for document in documents:
        if is_readable(document):
            unique.setdefault((document.id, document.content or ""), document)
    return list(unique.values())


def is_readable(document: Document) -> bool:
    """Tell whether a document has text."""
    return bool(document.content and document.content.strip())


def warn_of_textless(documents: Iterable[Document]) -> None:
    """Say, if there are any, which documents are skipped because they have no text."""
    ids = list(dict.fromkeys(document.id for document in documents))
    if ids:
        logger.warning(
            "{count} documents without text are skipped: {ids}",
            count=len(ids),
            ids=", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else ""),
        )
