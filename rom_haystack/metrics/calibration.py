"""Whether probabilities say how often answers are right (Guo et al., 2017).

Outcomes are 1 for a right answer and 0 for a wrong one, or anything between, such as an F1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken.
_MARGIN = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of about the same probability.

    Attributes:
        low: Lower end of the bin.
        high: Upper end of the bin.
        count: Answers in it.
        confidence: Mean of their probabilities.
        accuracy: Mean of their outcomes; of well calibrated answers, their confidence.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def equal_width_bins(probabilities: ArrayLike, outcomes: ArrayLike, count: int) -> list[ReliabilityBin]:
    """Sort answers into bins of equal width; a probability on an edge belongs to the lower bin.

    Args:
        probabilities: By answer, the probability that it is right.
        outcomes: By answer, how right it is.
        count: Number of bins.

    Returns:
        The bins that are not empty, in rising order.
    """
    p, y = _float64(probabilities), _float64(outcomes)
    edges = np.linspace(0, 1, count + 1)
    places = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, count - 1)
    return [
        _bin(float(edges[place]), float(edges[place + 1]), p[places == place], y[places == place])
        for place in np.unique(places)
    ]


def equal_mass_bins(probabilities: ArrayLike, outcomes: ArrayLike, count: int) -> list[ReliabilityBin]:
    """Sort answers into bins of about as many answers each, which suits probabilities that crowd together.

    Answers with one and the same probability stay together, so bins can be fewer and of unequal size.

    Args:
        probabilities: By answer, the probability that it is right.
        outcomes: By answer, how right it is.
        count: Most bins.

    Returns:
        The bins in rising order; their ends are the lowest and the highest probability in each.
    """
    order = np.argsort(probabilities, kind="stable")
    p, y = _float64(probabilities)[order], _float64(outcomes)[order]
    cuts = np.linspace(0, len(p), count + 1).round().astype(np.int64)[1:]
    ends = np.unique(np.searchsorted(p, p[cuts[cuts > 0] - 1], side="right"))
    return [
        _bin(float(p[start]), float(p[end - 1]), p[start:end], y[start:end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy, weighted by answers."""
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / sum(b.count for b in bins)


def log_loss(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the mean negative log-likelihood of the outcomes, in nats; 0 and 1 are taken for almost 0 and 1."""
    p, y = np.clip(_float64(probabilities), _MARGIN, 1 - _MARGIN), _float64(outcomes)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def log_odds(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Turn probabilities into log-odds; 0 and 1 are taken for almost 0 and 1."""
    p = np.clip(_float64(probabilities), _MARGIN, 1 - _MARGIN)
    return np.log(p) - np.log1p(-p)


def calibration_factor(logits: ArrayLike, outcomes: ArrayLike) -> float:
    """Find the factor of log-odds, from 0.01 to 10, under which they predict the outcomes best.

    Scaling by one number is temperature scaling (Guo et al., 2017, section 4.2), and the factor is the temperature's
    inverse; best means the lowest log loss, to 2.5%.

    Args:
        logits: By answer, the log-odds that it is right.
        outcomes: By answer, how right it is.
    """
    x, y = _float64(logits), _float64(outcomes)

    def loss(factor: float) -> float:
        return float(np.mean(np.logaddexp(0, factor * x) - y * factor * x))

    return min((float(factor) for factor in np.geomspace(0.01, 10, 301)), key=loss)


def _bin(low: float, high: float, probabilities: NDArray[np.float64], outcomes: NDArray[np.float64]) -> ReliabilityBin:
    return ReliabilityBin(low, high, len(probabilities), float(probabilities.mean()), float(outcomes.mean()))


def _float64(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
