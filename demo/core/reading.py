"""A whole document to read, with an answer's quote in it, as the reader view shows it."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from demo.core.documents import FullText
from demo.core.grouping import document_key
from demo.core.headings import heading_spans
from demo.core.highlighting import Span, pieces
from demo.core.results import FoundPassage, Quote

# Most headings that are set as such; each takes two pieces.
_MOST_HEADINGS = 1000


def spans_in(full: FullText, passage: FoundPassage, quote: Quote | None, others: Sequence[Quote]) -> list[Span]:
    """Find what is to be marked in a document.

    Args:
        full: The document.
        passage: The passage that is shown.
        quote: The answer in it; None to show the passage itself.
        others: Further answers; those of other documents are left out.

    Returns:
        First what is shown, then the document's further answers in their order.
    """
    first = full.places[passage.document.id] if quote is None else _place(full, quote)
    here = [other for other in others if document_key(other.passage) == document_key(passage) and other != quote]
    further = [_place(full, other) for other in here if other.passage.document.id in full.places]
    return [first, *sorted(span for span in set(further) if span != first)]


def paragraphs(full: FullText, spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Cut a document into the pieces that its view is made of.

    Args:
        full: The document.
        spans: What is to be marked.

    Returns:
        Pieces in their order: of text (`text`, `mark`, the number of its span or None, and whether it is of a
        `heading`), and where a page begins (`page`, its number).
    """
    pages = dict(full.pages)
    headings = _nearest(heading_spans(full.text), spans[0][0] if spans else 0)
    starts = [start for start, _ in headings]
    cuts = sorted({*pages, *(place for heading in headings for place in heading)})
    found: list[dict[str, Any]] = []
    begin = 0
    for piece in pieces(full.text, spans):
        finish = begin + len(piece.text)
        within = cuts[bisect_right(cuts, begin) : bisect_left(cuts, finish)]
        for start, end in pairwise([begin, *within, finish]):
            if start in pages:
                found.append({"page": pages[start]})
            above = bisect_right(starts, start) - 1  # the last heading that begins here or before
            heading = above >= 0 and start < headings[above][1]
            found.append({"text": full.text[start:end], "mark": piece.mark, "heading": heading})
        begin = finish
    return found


def _nearest(headings: list[Span], place: int) -> list[Span]:
    """Choose the headings nearest to a place, where there are more than a browser can draw at once."""
    if len(headings) <= _MOST_HEADINGS:
        return headings
    return sorted(sorted(headings, key=lambda heading: abs(heading[0] - place))[:_MOST_HEADINGS])


def _place(full: FullText, quote: Quote) -> Span:
    start, _ = full.places[quote.passage.document.id]
    return start + quote.start, start + quote.end
