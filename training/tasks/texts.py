"""What tasks look for in texts: sentences, spans that recur, answers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from bm25s.stopwords import STOPWORDS_EN_PLUS

from rom_haystack.inference.context import sentence_around
from rom_haystack.metrics import answer_tokens
from training.data.dataset import Question

#: Most words of a recurring span.
LONGEST_SPAN = 10

_WORD = re.compile(r"\w+")
#: What may stand between two words of one span.
_JOINTS = (" ", "-", "'", "’")
_STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
#: A word that comes more often than this in a passage is compared at its first places only.
_MOST_PLACES = 8
#: Texts that are kept with their sentences, less than 2 KB each.
_TEXTS_KEPT = 65_536


class WordIndex:
    """Knows which texts hold a token, so that few have to be searched for an answer.

    Args:
        tokens: The texts' `answer_tokens`, by a number of theirs.
    """

    def __init__(self, tokens: Mapping[int, str]) -> None:
        self._tokens = tokens
        self._holders: dict[str, set[int]] = defaultdict(set)
        for number, text in tokens.items():
            for token in set(text.split()):
                self._holders[token].add(number)

    def holders(self, answers: Sequence[str]) -> set[int]:
        """Return the texts that hold an answer, as the metric's `has_answer` finds it."""
        found = set[int]()
        for answer in tokens_of(answers):
            suspects = min((self._holders.get(token, set()) for token in answer.split()), key=len)
            found |= {number for number in suspects if answer in self._tokens[number]}
        return found


@dataclass(frozen=True, order=True)
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


def tokens_of(answers: Sequence[str]) -> list[str]:
    """Return the `answer_tokens` of answers that have any: a text holds an answer whose tokens are part of its own."""
    return [tokens for tokens in map(answer_tokens, answers) if not tokens.isspace()]


def occurrences(answers: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Find every place where an answer stands as whole words: character offsets `(start, end)`."""
    return [
        (match.start(), match.end())
        for answer in answers
        if answer in text  # far faster than the search for whole words
        for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    ]


def answer_places(question: Question, text: str) -> list[tuple[int, int]]:
    """Find where a question's answers stand in its gold passage: character offsets `(start, end)`.

    Args:
        question: The question.
        text: The gold passage's text.

    Returns:
        Every place where an answer stands as whole words. If there is none, the places that the question states, and
        without these any place, as of "six" in "sixth"; none where the text holds no answer.
    """
    whole = occurrences(question.answers, text)
    if whole:
        return whole
    stated = [
        (start, start + len(answer))
        for answer, start in zip(question.answers, question.starts, strict=False)
        if start is not None and text.startswith(answer, start)
    ]
    return stated or [
        (match.start(), match.end()) for answer in question.answers for match in re.finditer(re.escape(answer), text)
    ]


@lru_cache(_TEXTS_KEPT)
def sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Return a text's sentences in order: character offsets `(start, end)`. Very long ones come in pieces.

    They are kept, as tasks ask for those of a passage in every epoch.
    """
    found, place = [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        _, end = sentence_around(text, place, place + 1)
        found.append((place, end))
        place = end
    return tuple(found)


def without(text: str, start: int, end: int) -> str:
    """Return a text without one of its sentences."""
    return f"{text[:start].rstrip()} {text[end:].lstrip()}".strip()


def recurring_spans(text: str) -> Iterator[RecurringSpan]:
    """Find spans that stand in two sentences of a text (Ram et al., 2021, section 3).

    A span is made of at most `LONGEST_SPAN` whole words, case counts, and it is maximal: in two of its places the words
    around it differ. English stop words at its ends are left out, and so are single characters.

    Args:
        text: The passage's text.

    Yields:
        Each span once for each of its sentences.
    """
    words = list(_WORD.finditer(text))
    places: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(words):
        if not _is_stop_word(word[0]):
            places[word[0]].append(place)
    found = set[RecurringSpan]()
    for recurring in places.values():
        for one, other in combinations(recurring[:_MOST_PLACES], 2):
            if _goes_on_before(text, words, one, other):
                continue  # it is part of a longer span
            length = _common_length(text, words, one, other)
            span = text[words[one].start() : words[one + length - 1].end()]
            if len(span) < 2:
                continue
            holders = {_holder(sentences(text), words[place], words[place + length - 1]) for place in (one, other)}
            if len(holders) == 2 and None not in holders:
                new = {RecurringSpan(span, *holder) for holder in filter(None, holders)} - found
                found |= new
                yield from sorted(new)


def _goes_on_before(text: str, words: list[re.Match[str]], one: int, other: int) -> bool:
    """Tell whether the same words, one of them no stop word, stand before two words."""
    while one and words[one - 1][0] == words[other - 1][0] and _same_next(text, words, one - 1, other - 1):
        one, other = one - 1, other - 1
        if not _is_stop_word(words[one][0]):
            return True
    return False


def _common_length(text: str, words: list[re.Match[str]], one: int, other: int) -> int:
    """Count the words that are the same from two words on, up to the last that is no stop word."""
    length = common = 1
    while length < LONGEST_SPAN and _same_next(text, words, one + length - 1, other + length - 1):
        length += 1
        if not _is_stop_word(words[one + length - 1][0]):
            common = length
    return common


def _same_next(text: str, words: list[re.Match[str]], one: int, other: int) -> bool:
    """Tell whether two words are followed by the same word, joined in the same way."""
    if other + 1 >= len(words) or words[one + 1][0] != words[other + 1][0]:
        return False
    joint = text[words[one].end() : words[one + 1].start()]
    return joint in _JOINTS and joint == text[words[other].end() : words[other + 1].start()]


def _is_stop_word(word: str) -> bool:
    return word.lower() in _STOP_WORDS


def _holder(bounds: Sequence[tuple[int, int]], first: re.Match[str], last: re.Match[str]) -> tuple[int, int] | None:
    return next(((start, end) for start, end in bounds if start <= first.start() and last.end() <= end), None)
