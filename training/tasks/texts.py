"""Sentences and recurring spans of passages, from which self-supervised tasks make their queries."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from bm25s.stopwords import STOPWORDS_EN_PLUS

from rom_haystack.inference.context import sentence_around

#: Most words of a recurring span.
LONGEST_SPAN = 10

_WORD = re.compile(r"\w+")
#: What may stand between two words of one span.
_JOINTS = (" ", "-", "'", "’")
_STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
#: A word that comes more often than this in a passage is compared at its first places only.
_MOST_PLACES = 8


@dataclass(frozen=True)
class RecurringSpan:
    """A span that stands in a sentence, and elsewhere in the passage again.

    Args:
        text: The span.
        start: Where the sentence starts in the passage's text.
        end: Where it ends.
    """

    text: str
    start: int
    end: int


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Go through a text's sentences: character offsets `(start, end)`. Very long ones come in pieces."""
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        _, end = sentence_around(text, place, place + 1)
        yield place, end
        place = end


def without(text: str, start: int, end: int) -> str:
    """Return a text without one of its sentences."""
    return f"{text[:start].rstrip()} {text[end:].lstrip()}".strip()


def recurring_spans(text: str) -> Iterator[RecurringSpan]:
    """Find spans that stand in two sentences of a text (Ram et al., 2021, section 3).

    A span is made of at most `LONGEST_SPAN` whole words, case counts, and it is maximal: in two of its places the words
    around it differ. Spans of nothing but English stop words are left out.

    Args:
        text: The passage's text.

    Yields:
        A span for each of its sentences; the same one again where its places make several pairs.
    """
    words = list(_WORD.finditer(text))
    places: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(words):
        places[word[0]].append(place)
    bounds: list[tuple[int, int]] | None = None
    for found in places.values():
        for one, other in combinations(found[:_MOST_PLACES], 2):
            if one and words[one - 1][0] == words[other - 1][0] and _same_next(text, words, one - 1, other - 1):
                continue  # it is part of a longer span
            length = 1
            while length < LONGEST_SPAN and _same_next(text, words, one + length - 1, other + length - 1):
                length += 1
            span = words[one : one + length]
            if all(part[0].lower() in _STOP_WORDS for part in span):
                continue
            bounds = bounds if bounds is not None else list(sentences(text))
            holders = {_holder(bounds, words[place], words[place + length - 1]) for place in (one, other)}
            if None not in holders and len(holders) == 2:
                for start, end in sorted(filter(None, holders)):
                    yield RecurringSpan(text[span[0].start() : span[-1].end()], start, end)


def _same_next(text: str, words: list[re.Match[str]], one: int, other: int) -> bool:
    """Tell whether two words are followed by the same word, joined in the same way."""
    if other + 1 >= len(words) or words[one + 1][0] != words[other + 1][0]:
        return False
    joint = text[words[one].end() : words[one + 1].start()]
    return joint in _JOINTS and joint == text[words[other].end() : words[other + 1].start()]


def _holder(bounds: list[tuple[int, int]], first: re.Match[str], last: re.Match[str]) -> tuple[int, int] | None:
    return next(((start, end) for start, end in bounds if start <= first.start() and last.end() <= end), None)
