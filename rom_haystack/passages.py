"""Documents to passages: short enough to embed, whole enough to read."""

import re
from typing import Any

from haystack import Document, component
from haystack.components.preprocessors import RecursiveDocumentSplitter
from haystack.dataclasses import ByteStream

from rom_haystack.files import PDF, SOURCE, TEXT, whole_characters

#: Where passages may end, the best places first.
SEPARATORS = ["\f", "\n\n", ". ", "。", "\n", " "]

# Characters per word, blank included, where text has no blanks to count words by; and from where on it has too few.
_WORD = 6
_TOO_LONG = 12

_SOFT_HYPHENATION = re.compile(r"(?m)(?<=[a-zà-ÿ]-)\n(?=[a-zà-ÿ])")
_SOFT_BREAK = re.compile(r"(?m)(?:^|(?<=\f))([^\n\f]{39,}[^\s.!?:;…-])[ \t]*\n(?=\w)")
_HEADING = re.compile(r"(?:\A|(?<=\n\n)|(?<=\f))([^\n\f]{0,79}[^\s.!?:;,…])\n{2,}(?=\S)")


@component
class PassageSplitter:
    """Split documents into passages with Haystack's `RecursiveDocumentSplitter`, and keep the books right.

    Around that splitter it does what passages to quote from need: a heading stays with the text below it; lines
    broken by page layout are joined; text without blanks (Chinese, lists of one word per line) is measured in
    characters; passages carry no outer white space and no passage is blank; and `page_number` is there only where
    there are pages.

    Passages keep their document's meta fields and get `source_id` (the document's id), `split_id` (their number),
    `split_idx_start` (their first character in the document) and `page_number` (the page they begin on).

    Args:
        split_length: Most words per passage.
        split_overlap: Words that neighbouring passages share. With an overlap only a document's first passage is
            sure to begin where a sentence does, and an answer may be found twice.

    Raises:
        ValueError: `split_length` is below 1, or `split_overlap` is not from 0 to `split_length - 1`.
    """

    def __init__(self, split_length: int = 120, split_overlap: int = 0) -> None:
        if split_length < 1:
            raise ValueError(f"split_length is {split_length}; it must be at least 1 word.")
        if not 0 <= split_overlap < split_length:
            raise ValueError(f"split_overlap is {split_overlap}; it must be from 0 to {split_length - 1} words.")
        self.split_length = split_length
        self.split_overlap = split_overlap
        self._by_words = RecursiveDocumentSplitter(
            split_length=split_length, split_overlap=split_overlap, separators=SEPARATORS
        )
        self._by_characters = RecursiveDocumentSplitter(
            split_length=split_length * _WORD, split_unit="char", separators=SEPARATORS
        )

    @component.output_types(documents=list[Document], skipped=dict[str, str])
    def run(
        self,
        documents: list[Document],
        streams: list[ByteStream] | None = None,
        skipped: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Split documents.

        Args:
            documents: Converted files, and documents from elsewhere: their text is taken as it is, and those that
                are short enough are passages already and stay unchanged, id included. Blank ones are left out.
            streams: What the converters were given, so that files that came to nothing are reported.
            skipped: Reasons by name of the sources that were skipped before.

        Returns:
            `documents`: the passages; `skipped`: the reasons, with those found here.
        """
        passages: list[Document] = []
        read: set[str] = set()
        for document in documents:
            if not document.content or not document.content.strip():
                continue
            meta = dict(document.meta)
            source = meta.pop(SOURCE, None)
            if source is not None:
                read.add(source)
                passages += self._split(document.id, tidy(document.content, str(meta.get("mime_type"))), meta)
            else:
                found = self._split(document.id, document.content, meta)
                passages += found if len(found) > 1 else [document]
        skipped = dict(skipped or {})
        for stream in streams or []:
            if stream.meta[SOURCE] not in read:
                skipped[stream.meta[SOURCE]] = (
                    "has no text in it; a scanned PDF file needs text recognition (OCR) first"
                    if stream.meta.get("mime_type") == PDF
                    else "has no text that could be read"
                )
        return {"documents": passages, "skipped": skipped}

    def _split(self, source_id: str, text: str, meta: dict[str, Any]) -> list[Document]:
        page = meta.pop("page_number", 1 if meta.get("mime_type") == PDF or "\f" in text else None)
        passages: list[Document] = []
        counted = 0
        for start, chunk in self._chunks(text):
            if isinstance(page, int):
                page += text.count("\f", counted, start)
            counted = start
            place = {"source_id": source_id, "split_id": len(passages), "split_idx_start": start}
            pages = {} if page is None else {"page_number": page}
            passages.append(Document(content=chunk, meta={**meta, **place, **pages}))
        return passages

    def _chunks(self, text: str) -> list[tuple[int, str]]:
        """Cut text into stretches without outer white space, each with the place of its first character."""
        chunks = _run(self._by_words, 0, text)
        longest = self.split_length * _TOO_LONG
        pieces = [
            piece
            for start, chunk in chunks
            for piece in (_run(self._by_characters, start, chunk) if len(chunk) > longest else [(start, chunk)])
        ]
        return [(start + len(chunk) - len(chunk.lstrip()), chunk.strip()) for start, chunk in pieces if chunk.strip()]


def tidy(text: str, mime_type: str) -> str:
    """Make converted text fit for splitting and quoting; only white space changes.

    In files with fixed lines (PDF, plain text), a long line that does not end a sentence goes on in the next one. A
    short paragraph without a full stop is a heading and moves up to the text below it.
    """
    text = whole_characters(text)
    if mime_type in (PDF, TEXT):
        text = _SOFT_BREAK.sub(r"\1 ", _SOFT_HYPHENATION.sub("", text))
    return _HEADING.sub("\\1\n", text)


def _run(splitter: RecursiveDocumentSplitter, offset: int, text: str) -> list[tuple[int, str]]:
    chunks = splitter.run([Document(content=text)])["documents"]
    return [(offset + chunk.meta["split_idx_start"], chunk.content or "") for chunk in chunks]
