"""From a store's measurements to its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.exact import is_exact, recall
from benchmarks.measures import latency_figures
from benchmarks.stores.worker import TOP_K
from benchmarks.stores.workload import CATEGORIES, Workload, category_of, category_of_query


@dataclass(frozen=True)
class Measured:
    """One store's measurements on one workload.

    Args:
        written: What `worker.write` returned.
        cold: What `worker.first_query` returned, with none of the store's files in the page cache.
        searched: What `worker.search` returned, round by round.
    """

    written: Mapping[str, Any]
    cold: Mapping[str, Any]
    searched: Sequence[Mapping[str, Any]]


def figures_of(measured: Measured, workload: Workload, truth: NDArray[np.int64]) -> dict[str, Any]:
    """Sum up one store's measurements.

    Args:
        measured: The measurements.
        workload: What was written and asked.
        truth: The rows nearest to each of the workload's queries, best first.

    Returns:
        `write`, `opening`, `memory` (bytes), `disk_bytes_per_document`, and by kind of search its latencies over all
        rounds; `search_20` also has its `recall`, `filtered` the `exact_share` of its results.
    """
    found = measured.searched[0]["found"]
    searches: dict[str, dict[str, float]] = {
        kind: latency_figures([seconds for one in measured.searched for seconds in one["seconds"][kind]])
        for kind in found
    }
    searches["search_20"]["recall"] = recall(found["search_20"], truth[: len(found["search_20"])])
    searches["filtered"]["exact_share"] = exact_share(workload, found["filtered"])
    return {
        "write": _writing(measured.written, workload.size),
        "opening": _opening(measured.cold, measured.searched),
        "memory": _memory(measured.searched),
        "disk_bytes_per_document": measured.written["disk_bytes"] / workload.size,
        **searches,
    }


def exact_share(workload: Workload, found: Sequence[Sequence[int]]) -> float:
    """Return the share of filtered searches that found exactly what was to be found."""
    categories = np.array([category_of(row) for row in range(workload.size)])
    exact = 0
    for number in range(min(CATEGORIES, len(found))):
        candidates = np.flatnonzero(categories == category_of_query(number))
        asked = range(number, len(found), CATEGORIES)  # the searches in this category
        scores = workload.queries[asked] @ workload.vectors[candidates].T
        exact += sum(is_exact(found[i], row, candidates, TOP_K) for i, row in zip(asked, scores, strict=True))
    return exact / len(found)


def _writing(written: Mapping[str, Any], size: int) -> dict[str, float]:
    return {
        "documents_per_s": size / written["write_s"],
        "documents_per_s_elapsed": size / written["elapsed_s"],
        "slowest_batch_s": written["slowest_batch_s"],
        "finish_s": written["finish_s"],
        "peak_bytes": written["memory"]["peak"],
    }


def _opening(cold: Mapping[str, Any], searched: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Give the constructor's time and, as stores may open their files with the first query, that with it."""

    def ready(one: Mapping[str, Any]) -> float:
        return float(one["opening_s"] + one["first_query_s"])

    return {
        "constructor_s": float(median(one["opening_s"] for one in searched)),
        "ready_s": float(median(map(ready, searched))),
        "cold_ready_s": ready(cold),
    }


def _memory(searched: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Give resident memory by moment; `store` leaves imports out, and keyword search, which not every store has."""

    def middle(moment: str, part: str) -> float:
        return float(median(one["memory"][moment][part] for one in searched))

    return {
        "imported": middle("imported", "resident"),
        "ready": middle("ready", "resident"),
        "vectors_searched": middle("vectors_searched", "resident"),
        "searched": middle("searched", "resident"),
        "searched_anonymous": middle("searched", "anonymous"),
        "peak": middle("searched", "peak"),
        "store": middle("vectors_searched", "resident") - middle("imported", "resident"),
    }
