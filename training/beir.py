"""Retrieval test collections in BEIR's form (Thakur et al., 2021), and their measure, nDCG@10.

A folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`), either one gzip'd or plain, and
`qrels/<split>.tsv`: a head line, then query id, passage id and grade of relevance, with tabs between them.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.fields import text_field
from training.data.jsonl import folder_rows
from training.errors import DataError

#: Splits in the order in which they are looked for.
_SPLITS = ("test", "dev", "train")
_COLUMNS = 3
_FILES = {"query": "queries.jsonl", "passage": "corpus.jsonl"}


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
    rows: dict[str, int] = {}
    texts: list[str] = []
    for where, row in folder_rows(folder, "corpus"):
        rows[text_field(row, "_id", where)] = len(texts)
        title = str(row.get("title") or "")
        texts.append(f"{title} {row.get('text') or ''}".strip())
    known = {
        text_field(row, "_id", where): text_field(row, "text", where) for where, row in folder_rows(folder, "queries")
    }
    path = next((path for split in _SPLITS if (path := folder / "qrels" / f"{split}.tsv").is_file()), None)
    if path is None:
        raise DataError(f"{folder}: no qrels/{'.tsv, '.join(_SPLITS)}.tsv there, so nothing says what is relevant.")
    grades = _grades(path, known, rows)
    if not grades:
        raise DataError(f"{path}: no passage has a grade above 0, so nothing can be measured.")
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


def _grades(path: Path, queries: dict[str, str], rows: dict[str, int]) -> dict[str, dict[int, int]]:
    grades: dict[str, dict[int, int]] = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as lines:
        for number, fields in enumerate(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if number == 1 or not fields:
                continue
            where = f"{path}, line {number}"
            if len(fields) != _COLUMNS:
                raise DataError(f"{where}: {len(fields)} fields; it must be query id, passage id and grade, with tabs.")
            query, passage, grade = fields
            for name, field, there in ((query, "query", queries), (passage, "passage", rows)):
                if name not in there:
                    raise DataError(f"{where}: {field} '{name}' is not in {_FILES[field]}.")
            try:
                value = int(grade)
            except ValueError:
                raise DataError(f"{where}: the grade must be a whole number, found {grade!r}.") from None
            if value > 0:
                grades[query][rows[passage]] = value
    return dict(grades)
