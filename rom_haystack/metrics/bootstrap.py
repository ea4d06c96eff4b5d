"""How sure a mean over questions is, by the percentile bootstrap (Efron and Tibshirani, 1993, chapter 13).

Questions about one article are alike, so that many of them say less than as many about different articles. Where it is
known what belongs together, whole groups are drawn, as by the cluster bootstrap (Davison and Hinkley, 1997, section
3.8; Field and Welsh, 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Figure:
    """A mean over questions with its 95% confidence interval, all in percent."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.low:.1f}–{self.high:.1f})"


def figure(values: ArrayLike, seed: int, resamples: int = 1000, groups: ArrayLike | None = None) -> Figure:
    """Summarise values of questions, from 0 to 1, by their mean and a percentile bootstrap.

    Args:
        values: One per question, at least one.
        seed: Seed of the bootstrap.
        resamples: How often questions, or groups of them, are drawn anew.
        groups: A label per question, such as its article. As many groups as there are get drawn, with all their
            questions, and the mean is over these. None draws questions, and so does a single group, which can't show
            how groups differ. Of few groups (some tens), intervals are still somewhat narrow (Cameron, Gelbach and
            Miller, 2008).

    Raises:
        ValueError: There are no values, or not a label for each.
    """
    known = np.asarray(values, dtype=np.float64)
    if not len(known):
        raise ValueError("There are no questions, so they have no mean.")
    rng = np.random.default_rng(seed)
    means = _means(known, np.zeros(len(known)) if groups is None else np.asarray(groups), rng, resamples)
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(*(round(100 * float(value), 2) for value in (known.mean(), low, high)))


def _means(
    values: NDArray[np.float64], groups: NDArray[np.generic], rng: np.random.Generator, resamples: int
) -> list[float]:
    if len(groups) != len(values):
        raise ValueError(f"There are {len(values)} values and {len(groups)} labels of groups; give one for each value.")
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    sums, counts = np.bincount(group, weights=values), np.bincount(group)
    drawn = (rng.integers(len(names), size=len(names)) for _ in range(resamples))
    return [sums[rows].sum() / counts[rows].sum() for rows in drawn]
