"""Retrieval test collections in BEIR's form (`training.data.beir`), and their measure, nDCG@10."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.beir import TEST_SPLITS, judgment_rows, judgments_file, no_judgments, read_texts
from training.data.dataset import Draft
from training.errors import DataError


@dataclass(frozen=True)
class Judgments:
    """A test collection.

    Attributes:
        texts: Passages, behind their titles where they have some.
        queries: Queries with at least one relevant passage.
        grades: For each query, the grade of its relevant passages by row in `texts`; all above 0.
        own: For each query, the row of the passage that has its id, as where queries are passages themselves; None
            where there is none. BEIR leaves it out of rankings.
    """

    texts: list[str]
    queries: list[str]
    grades: list[dict[int, int]]
    own: list[int | None]


def read_beir(folder: Path) -> Judgments:
    """Read a folder, with the judgments of its test split, or else its development or training split.

    Raises:
        DataError: A file is missing, a line lacks a field, a judged passage or query is not there, or nothing is
            relevant.
    """
    draft = Draft()
    known = read_texts(folder, draft)
    passages = draft.finished().passages
    rows = {name: row for row, name in enumerate(passages)}
    path = judgments_file(folder, TEST_SPLITS)
    if path is None:
        raise no_judgments(folder, TEST_SPLITS)
    grades: dict[str, dict[int, int]] = defaultdict(dict)
    for query, passage, grade in judgment_rows(path, known.__contains__, rows.__contains__):
        if grade > 0:
            grades[query][rows[passage]] = grade
    if not grades:
        raise DataError(f"{path}: no passage has a grade above 0, so nothing can be measured.")
    texts = [f"{passage.title} {passage.text}".strip() for passage in passages.values()]
    return Judgments(
        texts, [known[name] for name in grades], list(grades.values()), [rows.get(name) for name in grades]
    )


def ndcg(rankings: Sequence[Sequence[int]], grades: Sequence[dict[int, int]], depth: int = 10) -> NDArray[np.float64]:
    """Return each query's normalised discounted cumulative gain.

    The gain of a passage is its grade, discounted by log2(rank + 1), and the sum is divided by that of the best ranking
    (Järvelin and Kekäläinen, 2002, with the discount of trec_eval's `ndcg_cut`, which BEIR reports).

    Args:
        rankings: Rows of passages for each query, best first.
        grades: For each query, the grades above 0 by row; at least one.
        depth: How many passages of a ranking count.

    Returns:
        `[queries]`, from 0 to 1.
    """
    pairs = zip(rankings, grades, strict=True)
    return np.array(
        [
            _gain([known.get(row, 0) for row in rows[:depth]]) / _gain(sorted(known.values(), reverse=True)[:depth])
            for rows, known in pairs
        ]
    )


def _gain(found: Sequence[int]) -> float:
    return float(sum(grade / np.log2(rank + 1) for rank, grade in enumerate(found, start=1)))
