"""The truth that results are held to: exact search by inner product in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Inner products of unit vectors stored as float16 are off by about 1e-5; documents closer than this may swap places.
TOLERANCE = 1e-4

_BLOCK = 65_536


def nearest(vectors: NDArray[np.float32], queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Find the rows of `vectors` with the highest inner products.

    Args:
        vectors: `[size, dim]`, read in blocks, so that a memory-mapped array of any size will do.
        queries: `[number of queries, dim]`.
        count: Rows to find per query, at most `size`.

    Returns:
        `[number of queries, count]`, best first.
    """
    best: NDArray[np.int64] = np.empty((len(queries), 0), dtype=np.int64)
    best_scores: NDArray[np.float32] = np.empty((len(queries), 0), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        scores = queries @ vectors[start : start + _BLOCK].T
        kept = min(count, scores.shape[1])
        rows = np.argpartition(scores, -kept, axis=1)[:, -kept:]
        best = np.concatenate([best, rows + start], axis=1)
        best_scores = np.concatenate([best_scores, np.take_along_axis(scores, rows, axis=1)], axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(best, order, axis=1)
        best_scores = np.take_along_axis(best_scores, order, axis=1)
    return best


def recall(found: Sequence[Sequence[int]], truth: NDArray[np.int64]) -> float:
    """Return the mean share of the true rows that were found."""
    pairs = zip(found, truth.tolist(), strict=True)
    return float(np.mean([len(set(rows) & set(true)) / len(true) for rows, true in pairs]))


def is_exact(found: Sequence[int], scores: NDArray[np.float32], candidates: NDArray[np.int64], count: int) -> bool:
    """Tell whether a search found the nearest of its candidates, in order; ties are within `TOLERANCE`.

    Args:
        found: Rows that the search returned, best first.
        scores: The candidates' inner products with the query.
        candidates: Rows that the search was to choose from, rising.
        count: How many it was asked for.
    """
    rows = np.asarray(found, dtype=np.int64)
    if len(set(found)) != min(count, len(candidates)) or not np.isin(rows, candidates).all():
        return False
    best = np.sort(scores)[::-1][: len(rows)]
    return bool(np.all(np.abs(scores[np.searchsorted(candidates, rows)] - best) <= TOLERANCE))
