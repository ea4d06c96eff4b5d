"""Text with quotes marked by their offsets, never by searching for their words."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """A stretch of text that is marked, or not, as a whole.

    Attributes:
        text: The stretch.
        mark: Number of the span that it is part of; None where it is in none.
    """

    text: str
    mark: int | None = None


def pieces(text: str, spans: Sequence[Span]) -> list[Piece]:
    """Cut a text where spans begin and end.

    Args:
        text: The text.
        spans: First character, and the one after the last, of what is to be marked. Where spans overlap, the earlier
            one in the list has it.

    Returns:
        Pieces that make up the text again.

    Raises:
        ValueError: A span is not within the text.
    """
    for start, end in spans:
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"The span {start} to {end} is not within a text of {len(text)} characters.")
    cuts = sorted({0, len(text), *(place for span in spans for place in span)})
    found: list[Piece] = []
    for start, end in pairwise(cuts):
        mark = next((number for number, span in enumerate(spans) if span[0] <= start and end <= span[1]), None)
        if found and found[-1].mark == mark:
            found[-1] = Piece(found[-1].text + text[start:end], mark)
        else:
            found.append(Piece(text[start:end], mark))
    return found


def marked_html(text: str, spans: Sequence[Span]) -> str:
    """Write a text as HTML with `<mark>` around spans; all of the text is escaped.

    Args:
        text: The text.
        spans: As in `pieces`.

    Raises:
        ValueError: A span is not within the text.
    """
    escaped = [(html.escape(piece.text), piece.mark is not None) for piece in pieces(text, spans)]
    return "".join(f"<mark>{piece}</mark>" if is_marked else piece for piece, is_marked in escaped)
