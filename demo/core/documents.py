"""A whole document, put together again from its passages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from haystack import Document
from haystack.document_stores.types import DocumentStore


@dataclass(frozen=True)
class FullText:
    """The text of a file, as far as it was indexed.

    Attributes:
        title: The file's title.
        file_path: Its path in the collection.
        text: Its passages, in order.
        places: First character and character after the last of each passage in `text`, by the passage's id:
            `text[start:end]` is the passage's content.
        pages: First character and number of each page; empty where there are no pages.
    """

    title: str
    file_path: str
    text: str
    places: Mapping[str, tuple[int, int]]
    pages: Sequence[tuple[int, int]]


def full_text(store: DocumentStore, document: Document) -> FullText:
    """Put a file together again.

    Passages that share words (an overlap) are laid over each other; the white space between two others, which was
    left out, becomes a blank, or an empty line where it was longer or a page ended.

    Args:
        store: With the file's passages.
        document: One of them. Where the store has none of this file any more, it stands for the whole.
    """
    passages = _passages_of(store, document)
    text = ""
    places: dict[str, tuple[int, int]] = {}
    pages: list[tuple[int, int]] = []
    end = 0  # of what is there already, in the file
    for passage in passages:
        content, first = passage.content or "", passage.meta.get("split_idx_start", 0)
        page = passage.meta.get("page_number", 0)
        turned = page > 0 and (not pages or page != pages[-1][1])
        shared = end - first
        if 0 < shared <= len(content) and text.endswith(content[:shared]):
            start = len(text) - shared
        else:
            text += _gap(first - end, turned=turned) if text else ""
            start = len(text)
        new = len(text)
        text = text[:start] + content
        places[passage.id] = (start, len(text))
        if turned:
            pages.append((start, page))
        if page > 0:
            for place in range(new, len(text)):
                if text[place] == "\f":
                    pages.append((place + 1, pages[-1][1] + 1))
        end = first + len(content)
    return FullText(str(document.meta.get("title", "")), str(document.meta.get("file_path", "")), text, places, pages)


def _passages_of(store: DocumentStore, document: Document) -> list[Document]:
    conditions = [
        {"field": f"meta.{field}", "operator": "==", "value": document.meta.get(field)}
        for field in ("file_path", "source_id")  # the first has an index, the second tells a file from its new version
    ]
    found = store.filter_documents({"operator": "AND", "conditions": conditions})
    return sorted(found, key=lambda passage: passage.meta["split_idx_start"]) or [document]


def _gap(left_out: int, *, turned: bool) -> str:
    """Return the white space that stands for some characters that were left out."""
    if turned or left_out > 1:
        return "\n\n"
    return " " if left_out == 1 else ""
