"""Where a quote may be cut out of a text: around whole characters, without outer white space."""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.characters import CharacterTable

_JOINER = "\u200d"
#: Besides combining marks, what belongs to the character before it: the joiner and the skin tones of emoji.
_MODIFIERS = frozenset(_JOINER + "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")

_MET, _SPACE, _JOINS_THE_NEXT, _JOINS_THE_LAST = 1, 2, 4, 8


def quote_bounds(
    text: str, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Complete quotes to whole characters and trim them of outer white space.

    Characters are whole as people read them: a combining mark stays with its base.

    Args:
        text: What is quoted.
        starts: `[quotes]` first character of each.
        ends: `[quotes]` character after its last.

    Returns:
        The new starts and ends. Where nothing is left, the start is not before the end.
    """
    traits = _TRAITS.look_up(text)
    joined = (traits[:-1] & _JOINS_THE_NEXT).astype(np.bool_) | (traits[1:] & _JOINS_THE_LAST).astype(np.bool_)
    cuts = np.concatenate([[0], np.flatnonzero(~joined) + 1, [len(text)]])
    visible = np.flatnonzero((traits & _SPACE) == 0)
    starts, ends = _last(cuts, starts), _next(cuts, ends)
    return _next(np.append(visible, len(text)), starts), _last(np.append(0, visible + 1), ends)


def _last(places: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each position, the last of the (sorted) places up to it."""
    return places[np.searchsorted(places, positions, side="right") - 1]


def _next(places: NDArray[np.int64], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each position, the next of the (sorted) places from it."""
    return places[np.searchsorted(places, positions)]


def _traits_of(character: str) -> int:
    """Tell what matters of a character, as a sum of the flags above."""
    joins_the_last = character in _MODIFIERS or unicodedata.category(character).startswith("M")
    return (
        _MET
        | _SPACE * character.isspace()
        | _JOINS_THE_NEXT * (character == _JOINER)
        | _JOINS_THE_LAST * joins_the_last
    )


_TRAITS = CharacterTable(_traits_of)
