"""The text of PDF files, read with limits: a file of a few kilobytes can ask for days of work."""

import io
from typing import Any

from haystack import logging

from rom_haystack.unreadable import UnreadableSourceError

logger = logging.getLogger(__name__)

#: Most pages of a file that is read.
MAX_PDF_PAGES = 2000
# Drawing operators of all pages together. Pages of text have some thousands; the same content can be drawn any number
# of times, by pages and by forms within forms.
_MAX_OPERATORS = 10_000_000
_MAX_CHARACTERS = 50_000_000


class _TooMuchError(BaseException):
    """Ends the work of pypdf, which goes on after any `Exception` in a part of a page."""


def pdf_pages(data: bytes) -> int:
    """Count the pages of a PDF file.

    Raises:
        UnreadableSourceError: It is damaged, or locked.
    """
    return len(_open(data).pages)


def pdf_text(data: bytes) -> str:
    """Read a PDF file's text, with a form feed between pages.

    A page that can't be read is left empty, and logged.

    Raises:
        UnreadableSourceError: It is damaged, locked, or too large to be read, or has no pages.
    """
    pages = _open(data).pages
    if not len(pages):
        raise UnreadableSourceError("is a PDF file without pages")
    if len(pages) > MAX_PDF_PAGES:
        raise UnreadableSourceError(
            f"is a PDF file of {len(pages):,} pages, and the limit is {MAX_PDF_PAGES:,}; split it into smaller files"
        )
    budget = _Budget()
    texts: list[str] = []
    damage: Exception | None = None
    try:
        for number, page in enumerate(pages, start=1):
            try:
                text = page.extract_text(visitor_operand_before=budget.count).replace("\f", "\n")
            except Exception as error:  # noqa: BLE001 (damaged pages make pypdf raise errors of many kinds)
                logger.warning("Page {number} of a PDF file can't be read: {error}", number=number, error=error)
                text, damage = "", error
            budget.take(text)
            texts.append(text)
    except _TooMuchError as error:
        raise UnreadableSourceError(
            "is a PDF file that takes too much work to read; print it to a new PDF file, or split it"
        ) from error
    if damage is not None and not any(text.strip() for text in texts):
        raise UnreadableSourceError(f"is no readable PDF file ({damage})") from damage
    return "\f".join(texts)


class _Budget:
    """What reading one file may take."""

    def __init__(self) -> None:
        self._operators = _MAX_OPERATORS
        self._characters = _MAX_CHARACTERS

    def count(self, *_: Any) -> None:
        """Take one operator; pypdf calls this before each."""
        self._operators -= 1
        if self._operators < 0:
            raise _TooMuchError

    def take(self, text: str) -> None:
        """Take a page's text."""
        self._characters -= len(text)
        if self._characters < 0:
            raise _TooMuchError


def _open(data: bytes) -> Any:
    from pypdf import PdfReader  # noqa: PLC0415 (only PDF needs it)

    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        if not locked:
            len(reader.pages)  # finds damage
    except Exception as error:  # damaged files make pypdf raise errors of many kinds
        raise UnreadableSourceError(f"is no readable PDF file ({error})") from error
    if locked:
        raise UnreadableSourceError("is a PDF file locked with a password")
    return reader
