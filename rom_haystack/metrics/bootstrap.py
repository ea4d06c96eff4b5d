"""How sure a mean over questions is, by the percentile bootstrap (Efron and Tibshirani, 1993, chapter 13)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Figure:
    """A mean over questions with its 95% confidence interval, all in percent."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.low:.1f}–{self.high:.1f})"


def figure(values: ArrayLike, seed: int, resamples: int = 1000) -> Figure:
    """Summarise values of questions, from 0 to 1, by their mean and a percentile bootstrap over questions.

    Args:
        values: One per question, at least one.
        seed: Seed of the bootstrap.
        resamples: How often questions are drawn anew.

    Raises:
        ValueError: There are no values.
    """
    known = np.asarray(values, dtype=np.float64)
    if not len(known):
        raise ValueError("There are no questions, so they have no mean.")
    rng = np.random.default_rng(seed)
    means = [known[rng.integers(len(known), size=len(known))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(*(round(100 * float(value), 2) for value in (known.mean(), low, high)))
