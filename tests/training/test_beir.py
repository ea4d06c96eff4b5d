"""BEIR folders and nDCG, against values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from training.beir import ndcg, read_beir
from training.errors import DataError
from training.evaluation import EvaluationOptions, evaluate


@pytest.fixture
def folder(data_root) -> Path:
    """A folder of three passages and three queries, one of which is a passage, and one without judgments."""
    root = data_root / "beir"
    (root / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": "d1", "title": "Nile", "text": "The Nile flows north."},
        {"_id": "d2", "title": "", "text": "Galileo drew the Moon."},
        {"_id": "q2", "text": "Papyrus grows."},
    ]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(["moon", "river", "papyrus"])]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_judgments(root, "q0\td2\t2\nq0\td1\t1\nq2\td1\t1\nq1\td1\t0\n")
    return root


def write_judgments(root: Path, lines: str) -> None:
    (root / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}", encoding="utf-8")


def test_reads_texts_with_titles_and_grades_above_0(folder):
    found = read_beir(folder)
    assert found.texts == ["Nile The Nile flows north.", "Galileo drew the Moon.", "Papyrus grows."]
    assert found.queries == ["moon", "papyrus"]
    assert found.grades == [{1: 2, 0: 1}, {0: 1}]
    assert found.own == [None, 2]


def test_ndcg_by_hand():
    grades = [{0: 2, 1: 1}, {0: 1}, {0: 1}]
    best = 2 + 1 / math.log2(3)
    expected = [(1 + 2 / math.log2(3)) / best, 1 / math.log2(4), 0]
    np.testing.assert_allclose(ndcg([[1, 0, 2], [5, 6, 0], [7, 8, 9, 0]], grades, depth=3), expected)
    assert ndcg([[0, 1]], grades[:1]).tolist() == [1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("q0\td2\n", "line 2: 2 fields"),
        ("q0\td2\t1\nq9\td2\t1\n", "line 3: query 'q9' is not in queries.jsonl"),
        ("q0\td9\t1\n", "line 2: passage 'd9' is not in corpus.jsonl"),
        ("q0\td2\thigh\n", "line 2: the grade must be a whole number, found 'high'"),
        ("q0\td2\t0\n", "no passage has a grade above 0"),
    ],
)
def test_mistakes_name_file_and_line(folder, lines, message):
    write_judgments(folder, lines)
    with pytest.raises(DataError, match=message):
        read_beir(folder)


def test_a_folder_without_judgments(folder):
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"no qrels/test\.tsv"):
        read_beir(folder)


def test_evaluation_leaves_the_query_itself_out(tiny_checkpoint, folder, data_root):
    options = EvaluationOptions(questions="mini", passages=["mini"], beir=["beir"], end_to_end_limit=1, limit=2)
    found = evaluate(tiny_checkpoint, data_root, options)
    # "moon": its passage is first and Nile's second or third; "papyrus": the passage that it is does not count.
    moon, papyrus = found.scores["bm25"]["nDCG@10, beir"].values
    assert papyrus in (1, pytest.approx(1 / math.log2(3)))
    assert moon > 0.9
    assert found.scores["bm25"]["nDCG@10, beir"].articles is None  # queries are drawn
    assert "nDCG@10, beir" in found.systems["hybrid"]
