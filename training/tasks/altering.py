"""Questions altered so that their passage does not answer them any more, though it seems to.

Swapped names and numbers and opposite words are why three quarters of the unanswerable questions of SQuAD 2.0 whose
cause is annotated have no answer (SQuAD2-CR, https://antest1.github.io/SQuAD2-CR/: 10,278 of 13,297 in its training
part). These are made so, by rules for English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS

_STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
#: Words with a capital or in capitals, one after the other; small ones such as `of` may join them.
_CAPITALISED = r"[A-ZÀ-ÖØ-Þ]\w*(?:[-’'][A-Za-z]\w+)*"
_NAME = re.compile(rf"(?<![\w-]){_CAPITALISED}(?: (?:(?:of|the|de|von|van) )?{_CAPITALISED})*")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w]|[.,]\d)")
_YEAR = re.compile(r"1\d{3}|20\d{2}")
#: What may stand between the end of a sentence and the next one's first word, and how far that is looked for.
_BETWEEN, _FAR = " \n\t'\"“”()[]", 8

_OPPOSITES = (
    "above below, accept reject, accepted rejected, allowed forbidden, ancient modern, before after, began ended, "
    "begin end, best worst, decrease increase, decreased increased, earliest latest, early late, east west, "
    "eastern western, enemies allies, export import, exports imports, female male, first last, heaviest lightest, "
    "high low, higher lower, highest lowest, inside outside, internal external, joined left, large small, "
    "larger smaller, largest smallest, long short, longer shorter, longest shortest, majority minority, "
    "maximum minimum, men women, more fewer, most least, negative positive, north south, northern southern, "
    "northeast southwest, northwest southeast, oldest youngest, opened closed, oppose support, opposed supported, "
    "private public, richest poorest, rise fall, rose fell, rural urban, same different, strong weak, "
    "strongest weakest, success failure, successful unsuccessful, warm cold, warmest coldest, winner loser, "
    "with without, won lost"
)
_OPPOSITE = {word: other for pair in _OPPOSITES.split(", ") for word, other in (pair.split(), pair.split()[::-1])}
_WORD = re.compile(r"\b[a-z]+\b")


def altered(question: str, passage: str, answers: Sequence[str], rng: np.random.Generator) -> str | None:
    """Alter a question so that its passage, which answers it, does not any more.

    A name or number of the question that the passage holds gives way to another one of the passage, or a word to its
    opposite; which of these is drawn first, then the place. No answer is put into a question.

    Args:
        question: An answerable question.
        passage: The text of its gold passage.
        answers: Its answers.
        rng: Source of the draw.

    Returns:
        The altered question; None where no rule fits.
    """
    kinds = [
        _swaps(names(question), names(passage), question, answers),
        _swaps(_years(question), _years(passage), question, answers),
        _swaps(_amounts(question), _amounts(passage), question, answers),
        [(m.start(), m.end(), _OPPOSITE[m[0]]) for m in _WORD.finditer(question) if m[0] in _OPPOSITE],
    ]
    possible = [kind for kind in kinds if kind]
    if not possible:
        return None
    kind = possible[rng.integers(len(possible))]
    start, end, other = kind[rng.integers(len(kind))]
    return f"{question[:start]}{other}{question[end:]}"


def names(text: str) -> list[tuple[int, int, str]]:
    """Find what looks like names in an English text: start, end and the name.

    Those are words with capitals. At the start of a sentence, where every word has one, a single one is none, and
    neither are stop words at the front of others.
    """
    found = []
    for match in _NAME.finditer(text):
        start, words = match.start(), match[0].split(" ")
        before = text[max(0, start - _FAR) : start].strip(_BETWEEN)
        first = not before or before[-1] in ".!?:;"
        while words and words[0].lower() in _STOP_WORDS:
            start += len(words.pop(0)) + 1
            first = False
        if words and not (first and len(words) == 1):
            found.append((start, match.end(), text[start : match.end()]))
    return found


def _years(text: str) -> list[tuple[int, int, str]]:
    return [found for found in _numbers(text) if _YEAR.fullmatch(found[2])]


def _amounts(text: str) -> list[tuple[int, int, str]]:
    return [found for found in _numbers(text) if not _YEAR.fullmatch(found[2])]


def _numbers(text: str) -> list[tuple[int, int, str]]:
    return [(match.start(), match.end(), match[0]) for match in _NUMBER.finditer(text)]


def _swaps(
    asked: Sequence[tuple[int, int, str]],
    told: Sequence[tuple[int, int, str]],
    question: str,
    answers: Sequence[str],
) -> list[tuple[int, int, str]]:
    """Return what of a question may give way to what, out of what a passage tells that is new and no answer."""
    known = {name for _, _, name in told}
    spent = [question.lower(), *(answer.lower() for answer in answers)]
    new = sorted(name for name in known if not any(name.lower() in text or text in name.lower() for text in spent))
    return [(start, end, other) for start, end, name in asked if name in known for other in new]
