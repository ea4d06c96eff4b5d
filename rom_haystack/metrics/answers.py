"""How well an answer's text agrees with the gold answers: SQuAD's exact match and F1.

The rules are SQuAD 2.0's. On answerable questions they are SQuAD 1.1's too, but for answers without a word besides
articles and punctuation, which 2.0 takes for empty: a gold answer like "the" counts for nothing beside others, and an
empty prediction agrees with it where there is no other (1.1 gave it an F1 of 0).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower the case and drop ASCII punctuation, articles and extra white space, in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if the normalised prediction equals any normalised answer, else 0.0.

    No `answers` means that the question has none; then only an empty prediction is right.
    """
    return float(normalize_answer(prediction) in _normal(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best token overlap (harmonic mean of precision and recall) of the prediction with any answer.

    No `answers` means that the question has none; then only an empty prediction is right.
    """
    tokens = normalize_answer(prediction).split()
    return max(_overlap(tokens, answer.split()) for answer in _normal(answers))


def _normal(answers: Sequence[str]) -> list[str]:
    """Normalise gold answers, without those of which nothing is left; the empty answer where none is."""
    return [normal for answer in answers if (normal := normalize_answer(answer))] or [""]


def _overlap(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    shared = sum((Counter(prediction) & Counter(answer)).values())
    return 2 * shared / (len(prediction) + len(answer))
