"""How good answers are, and how alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rom_haystack.metrics import exact_match, f1
from training.data.dataset import Question

#: The best quote for a question, as `Service.ask` describes it; None where there is none.
Best = Mapping[str, Any] | None


def answer_scores(questions: Sequence[Question], best: Sequence[Best]) -> dict[str, float]:
    """Score one quote per question, in percent: `exact_match` and `f1`."""
    texts = [quote["text"] if quote else "" for quote in best]
    pairs = list(zip(texts, (question.answers for question in questions), strict=True))
    return {
        "exact_match": 100 * float(np.mean([exact_match(text, answers) for text, answers in pairs])),
        "f1": 100 * float(np.mean([f1(text, answers) for text, answers in pairs])),
    }


def agreement(one: Sequence[Best], other: Sequence[Best]) -> float:
    """Return the share of questions with the same quote, to the character and from the same document."""
    return float(np.mean([_place(a) == _place(b) for a, b in zip(one, other, strict=True)]))


def _place(quote: Best) -> tuple[Any, ...] | None:
    return None if quote is None else tuple(quote[name] for name in ("document", "start", "end"))
