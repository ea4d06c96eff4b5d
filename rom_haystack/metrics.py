"""Answer metrics in the field's standard form, on plain text."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TOKEN = re.compile(r"\w+|[^\w\s]")


def normalize_answer(text: str) -> str:
    """Lower the case and drop ASCII punctuation, articles and extra white space (SQuAD 1.1's official rules)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 if the normalised prediction equals any normalised answer, else 0.0.

    No `answers` means that the question has none; then only an empty prediction is right (SQuAD 2.0).
    """
    return max(float(normalize_answer(prediction) == normalize_answer(answer)) for answer in answers or [""])


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best token overlap (harmonic mean of precision and recall) of the prediction with any answer."""
    return max(_overlap(normalize_answer(prediction).split(), normalize_answer(a).split()) for a in answers or [""])


def has_answer(tokens: str, answers: Sequence[str]) -> bool:
    """Tell whether any answer stands in a passage as whole tokens, case aside (DPR's rule for answer recall).

    Args:
        tokens: The passage's `answer_tokens`, made once for many questions.
        answers: Answers as plain text; blank ones count for nothing.
    """
    return any(answer_tokens(answer) in tokens for answer in answers if answer.strip())


def answer_tokens(text: str) -> str:
    """Write a text as lower-cased tokens with a space on both sides of each, ready for `has_answer`'s comparison."""
    return f" {' '.join(_TOKEN.findall(unicodedata.normalize('NFD', text).lower()))} "


def _overlap(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    shared = sum((Counter(prediction) & Counter(answer)).values())
    return 2 * shared / (len(prediction) + len(answer))
