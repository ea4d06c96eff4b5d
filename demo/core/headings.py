"""Headings in the text of passages."""

import re

from demo.core.highlighting import Span

# Short lines without an end, above a line that is long or has one: headings stand so after splitting.
_HEADINGS = re.compile(r"(?:\A|(?<=\n\n))(?:[^\n]{0,79}[^\s.!?:;,…]\n)+(?=[^\n]{80}|[^\n]*[.!?…])")


def heading_spans(text: str) -> list[Span]:
    """Find headings: one span for those that stand directly below each other."""
    return [match.span() for match in _HEADINGS.finditer(text)]


def section_at(text: str, place: int) -> str | None:
    """Return the heading above a place in a passage.

    Args:
        text: The passage.
        place: A character of it.

    Returns:
        The heading; None where the passage has none above that place.
    """
    above = [text[start:end] for start, end in heading_spans(text) if end <= place]
    return above[-1].strip().split("\n")[-1] if above else None
