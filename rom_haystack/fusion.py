"""Fuse what several searches found into one ranking, and fit the weights to questions with known answers.

A search is given as ids with scores, best first. Every way of fusing gives each of a search's documents a value; a
document's fused score is the weighted sum of its values. What a search did not find has the value 0 there, which is at
most that of the worst that it found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Ids and scores of the documents that a search found, best first. Ranks are all there is where a score is None.
Found = Sequence[tuple[str, float | None]]

Fusion = Literal["z_score", "min_max", "reciprocal_rank_fusion"]

#: What is added to ranks from 0 on (Cormack, Clarke and Büttcher, 2009, with their k of 60).
_RANK_OFFSET = 61
#: Depths at which recall is counted.
CUTOFFS = (1, 5, 20)
# Weights of the first of two searches that are tried.
_STEPS = 50


def _reciprocal_ranks(scores: Sequence[float | None], depth: int) -> list[float]:  # noqa: ARG001 (like the others)
    """Value the n-th document at 61 / (60 + n), whatever its score."""
    return [_RANK_OFFSET / (_RANK_OFFSET + rank) for rank in range(len(scores))]


def _min_max(scores: Sequence[float | None], depth: int) -> list[float]:
    """Value the best document at 1 and the worst at 0."""
    return _above_worst(scores, depth, max)


def _z_scores(scores: Sequence[float | None], depth: int) -> list[float]:
    """Value documents by how many standard deviations they are above the worst."""
    return _above_worst(scores, depth, _deviation)


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) * (value - mean) for value in values) / len(values))


def _above_worst(scores: Sequence[float | None], depth: int, unit: Callable[[Sequence[float]], float]) -> list[float]:
    """Value documents by how far they are above the worst, in a unit of all these distances.

    A search that found fewer documents than another, as keyword search does for rare words, has a score of 0 for the
    rest: its few are then far above the worst. Where no document has a score, ranks are all there is: they are counted
    from the last one, which gets 1.
    """
    known = [score for score in scores if score is not None and math.isfinite(score)]
    if not known:
        scores = known = [float(rank) for rank in range(len(scores), 0, -1)]
    rest = [min(0.0, *known)] * (depth - len(scores)) if known else []
    worst = min([*known, *rest], default=0.0)
    above = [score / 2 - worst / 2 for score in (*known, *rest)]  # halves, as a whole may be too large for a float
    width = unit(above) if above else 0.0
    if not 0 < width < math.inf:
        return [1.0] * len(scores)
    return [0.0 if s is None or not math.isfinite(s) else (s / 2 - worst / 2) / width for s in scores]


_VALUES: dict[Fusion, Callable[[Sequence[float | None], int], list[float]]] = {
    "z_score": _z_scores,
    "min_max": _min_max,
    "reciprocal_rank_fusion": _reciprocal_ranks,
}

FUSIONS: tuple[Fusion, ...] = tuple(_VALUES)


@dataclass(frozen=True)
class Quality:
    """How early the first right document comes, as means over questions, from 0 to 1.

    Attributes:
        mrr: The reciprocal of its rank; 0 where it was not found.
        recall: By depth, how often it is among the first so many.
    """

    mrr: float
    recall: dict[int, float]


@dataclass(frozen=True)
class FusionFit:
    """What `fit_weights` found.

    Attributes:
        join_mode: The best way of fusing.
        weights: The best weights of the two searches; they add up to 1.
        fused: How well the two do together with these.
        alone: How well each of them does alone.
        questions: The number of questions that say anything: those to which some search found a right document.
    """

    join_mode: Fusion
    weights: list[float]
    fused: Quality
    alone: tuple[Quality, Quality]
    questions: int


def check_join_mode(join_mode: str) -> None:
    """Check that there is such a way of fusing.

    Raises:
        ValueError: There is none.
    """
    if join_mode not in FUSIONS:
        raise ValueError(f"Unknown join_mode '{join_mode}'; choose one of {', '.join(FUSIONS)}.")


def check_weights(weights: Sequence[float] | None) -> None:
    """Check the weights of a keyword and a dense search.

    Raises:
        ValueError: They are not two, one is negative, or both are 0.
    """
    if weights is not None and (len(weights) != 2 or not min(weights) >= 0 or not 0 < sum(weights) < math.inf):
        raise ValueError(
            f"weights are {weights}; give two, for the keyword and the dense search, not negative and not both 0."
        )


def fuse(searches: Sequence[Found], join_mode: Fusion, weights: Sequence[float] | None = None) -> dict[str, float]:
    """Fuse the results of searches.

    Args:
        searches: What each search found. An id that a search names twice counts once, at its first place.
        join_mode: `z_score` and `min_max` add up how far scores are above the worst of their search, in its standard
            deviations or relative to its best; `reciprocal_rank_fusion` reciprocal ranks. Ranks count as scores in a
            search that has none.
        weights: A weight for each search, of any sum; one of weight 0 is left out. None for equal ones.

    Returns:
        Fused scores by id, best first; ties in the order of the first search, then of the second, and so on.
    """
    shares = _shares(weights or [1.0] * len(searches))
    depth = max(map(len, searches), default=0)
    fused: dict[str, float] = {}
    for found, share in zip(searches, shares, strict=True):
        if not share:
            continue
        unique = _without_repeats(found)
        for name, value in zip(unique, _VALUES[join_mode](list(unique.values()), depth), strict=True):
            fused[name] = fused.get(name, 0.0) + share * value
    return dict(sorted(fused.items(), key=lambda item: item[1], reverse=True))


def fit_weights(examples: Iterable[tuple[Found, Found, Set[str]]], join_modes: Sequence[Fusion]) -> FusionFit:
    """Find how to fuse two searches so that the first right document comes early.

    Args:
        examples: For each question, what the two searches found, and the ids of the documents that are right.
        join_modes: The ways of fusing to choose from.

    Returns:
        The way and the weights with the highest mean reciprocal rank; the more even weights and the earlier way where
        several are as good.

    Raises:
        ValueError: No search found a right document to any question, or a way of fusing is unknown, or none is given.
    """
    if not join_modes:
        raise ValueError(f"join_modes is empty; give at least one of {', '.join(FUSIONS)}.")
    for mode in join_modes:
        check_join_mode(mode)
    asked = list(examples)
    telling = [
        (first, second, right) for first, second, right in asked if right & {id_ for id_, _ in (*first, *second)}
    ]
    if not telling:
        raise ValueError(
            f"None of the {len(asked)} questions can tell one weight from another: no search found a document with the "
            "answer. Are these questions about these documents?"
        )
    weights = np.linspace(0, 1, _STEPS + 1)
    ranks = {mode: np.array([_first_ranks(*example, mode, weights) for example in telling]) for mode in join_modes}
    tried = [(mode, step) for mode in join_modes for step in range(len(weights))]
    mode, step = max(
        tried, key=lambda pair: (round(float(np.mean(1 / ranks[pair[0]][:, pair[1]])), 9), -abs(weights[pair[1]] - 0.5))
    )
    first = round(float(weights[step]), 4)
    return FusionFit(
        join_mode=mode,
        weights=[first, round(1 - first, 4)],
        fused=_quality(ranks[mode][:, step], len(asked)),
        alone=(
            _quality(np.array([first_rank(_without_repeats(found), right) for found, _, right in telling]), len(asked)),
            _quality(np.array([first_rank(_without_repeats(found), right) for _, found, right in telling]), len(asked)),
        ),
        questions=len(telling),
    )


def first_rank(ranking: Iterable[str], right: Set[str]) -> float:
    """Count from 1 to the first right one of a ranking; infinite where there is none."""
    return next((rank for rank, name in enumerate(ranking, start=1) if name in right), math.inf)


def _shares(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _without_repeats(found: Found) -> dict[str, float | None]:
    unique: dict[str, float | None] = {}
    for name, score in found:
        unique.setdefault(name, score)
    return unique


def _first_ranks(
    first: Found, second: Found, right: Set[str], join_mode: Fusion, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rank of the first right document by each weight of the first search, as `fuse` would order them."""
    rows: dict[str, int] = {}
    depth = max(len(first), len(second))
    values = np.zeros((2, len(first) + len(second)))
    counts = np.zeros_like(values, dtype=bool)
    for column, found in enumerate((first, second)):
        unique = _without_repeats(found)
        for name, value in zip(unique, _VALUES[join_mode](list(unique.values()), depth), strict=True):
            row = rows.setdefault(name, len(rows))
            values[column, row], counts[column, row] = value, True
    values, counts = values[:, : len(rows), None], counts[:, : len(rows), None]
    fused = values[0] * weights + values[1] * (1 - weights)
    fused = np.where(counts[0] & (weights > 0) | counts[1] & (weights < 1), fused, -np.inf)
    hits = np.array([name in right for name in rows])
    best = np.where(hits[:, None], fused, -np.inf)
    place = best.argmax(axis=0)  # the first of equals
    top = best.max(axis=0)
    before = np.arange(len(rows))[:, None] < place
    ranks = 1.0 + np.sum((fused > top) | ((fused == top) & before), axis=0)
    return np.where(np.isfinite(top), ranks, np.inf)


def _quality(ranks: NDArray[np.float64], questions: int) -> Quality:
    """Summarise ranks; questions that have none count as never answered."""
    return Quality(
        mrr=float(np.sum(1 / ranks)) / questions, recall={k: float(np.sum(ranks <= k)) / questions for k in CUTOFFS}
    )
