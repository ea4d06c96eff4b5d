"""A passage's text in pieces that know how likely the answer begins and ends there, and as HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from rom_haystack.inference import TokenProbabilities

# Below this a piece looks and reads like any other text; a thousand tokens' titles would only be in the way.
_FAINT = 0.005


@dataclass(frozen=True)
class Piece:
    """A token of a passage, or what stands between two.

    Attributes:
        text: Its characters.
        begins: Probability that the answer begins with it.
        ends: Probability that the answer ends with it.
        likeliest: Whether no other piece is likelier to begin the answer (`begin`), or to end it (`end`).
    """

    text: str
    begins: float = 0.0
    ends: float = 0.0
    likeliest: frozenset[str] = frozenset()


def pieces(text: str, found: TokenProbabilities) -> list[Piece]:
    """Cut a passage into its tokens and what stands between them.

    Args:
        text: The passage.
        found: What the model found in it.

    Returns:
        Pieces that together are the whole passage.
    """
    best = {"begin": _best(found.start), "end": _best(found.end)}
    cut: list[Piece] = []
    reached = 0
    for index, (start, end) in enumerate(found.offsets.tolist()):
        first = max(start, reached)  # tokens of some vocabularies share a character
        if first > reached:
            cut.append(Piece(text[reached:first]))
        likeliest = frozenset(side for side, place in best.items() if place == index)
        cut.append(Piece(text[first:end], float(found.start[index]), float(found.end[index]), likeliest))
        reached = max(end, reached)
    if reached < len(text):
        cut.append(Piece(text[reached:]))
    return cut


def likeliest(cut: Sequence[Piece], side: str) -> Piece | None:
    """Return the piece that most likely is the answer's `begin` or `end`; None where the passage has no token."""
    return next((piece for piece in cut if side in piece.likeliest), None)


def strength(probability: float) -> float:
    """Return how strongly a probability is shown, from 0 to 1: small ones can still be told from none."""
    return float(np.sqrt(min(max(probability, 0.0), 1.0)))


def as_html(cut: Sequence[Piece]) -> str:
    """Write pieces as HTML: a fill where the answer may begin, a bar below where it may end.

    Args:
        cut: The pieces.

    Returns:
        A paragraph; all text in it is escaped. The classes are those of `inside.css`.
    """
    return f'<p class="rom-heat">{"".join(map(_as_html, cut))}</p>'


def _as_html(piece: Piece) -> str:
    text = escape(piece.text)
    if max(piece.begins, piece.ends) < _FAINT and not piece.likeliest:
        return text
    classes = " ".join(["rom-token", *(f"rom-{side}" for side in sorted(piece.likeliest))])
    style = f"--begins:{strength(piece.begins):.3f};--ends:{strength(piece.ends):.3f}"
    title = f"begins here: {piece.begins:.1%}, ends here: {piece.ends:.1%}"
    return f'<span class="{classes}" style="{style}" title="{title}">{text}</span>'


def _best(probabilities: np.ndarray) -> int | None:
    return int(probabilities.argmax()) if len(probabilities) and probabilities.max() > 0 else None
