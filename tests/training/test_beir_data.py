"""BEIR folders as training data, and data sets as BEIR folders."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from training.beir import read_beir
from training.data.dataset import DataSet, Passage, Question
from training.data.formats import read_data, write_data
from training.errors import DataError
from training.tasks import ReadingTask, RetrievalTask

CORPUS = [
    {"_id": "nile", "title": "Nile", "text": "The Nile flows north.", "metadata": {}},
    {"_id": "ob", "text": "The Ob flows north, too.", "url": "x"},
    {"_id": "moon", "title": "", "text": "Galileo drew the Moon."},
]
QUERIES = [{"_id": f"q{i}", "text": text} for i, text in enumerate(["Which river flows north?", "Who drew?", "Why?"])]
HEAD = "query-id\tcorpus-id\tscore\n"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "rivers"
    (root / "qrels").mkdir(parents=True)
    write_lines(root / "corpus.jsonl", CORPUS)
    write_lines(root / "queries.jsonl", QUERIES)
    judgments = "q0\tob\t1\nq0\tmoon\t0\nq0\tnile\t2\nq1\tmoon\t1\nq2\tob\t0\n"
    (root / "qrels" / "train.tsv").write_text(HEAD + judgments, encoding="utf-8")
    (root / "qrels" / "test.tsv").write_text(HEAD + "q2\tob\t1\n", encoding="utf-8")
    return root


def test_highest_grade_is_the_gold_passage_and_grade_0_a_hard_negative(folder):
    data = read_data(folder)
    assert list(data.passages.values())[:2] == [
        Passage("nile", "Nile", "The Nile flows north."),
        Passage("ob", "", "The Ob flows north, too."),
    ]
    assert list(data.questions) == [
        Question("q0", QUERIES[0]["text"], (), "nile", other_positive_ids=("ob",), hard_negative_ids=("moon",)),
        Question("q1", QUERIES[1]["text"], (), "moon"),
    ]
    assert +data.left_out == {"query without a relevant passage": 1, "field 'url' of a passage": 1}


def test_gzipped_files_and_other_splits(folder):
    for stem in ("corpus", "queries"):
        path = folder / f"{stem}.jsonl"
        with gzip.open(f"{path}.gz", "wt", encoding="utf-8") as lines:
            lines.write(path.read_text(encoding="utf-8"))
        path.unlink()
    (folder / "qrels" / "train.tsv").unlink()
    data = read_data(folder)
    assert [question.id for question in data.questions] == ["q2"]
    assert data.left_out["query that was not judged"] == 2


def test_trains_retrieval_but_not_reading(folder, tiny_tokenizer):
    data = read_data(folder)
    assert not ReadingTask.items_of(data)
    options = RetrievalTask.Options(contrast="batch", anchor_weight=0, hard_negatives=1, batch_size=2)
    task = RetrievalTask(options, RetrievalTask.items_of(data), data.passages, tiny_tokenizer, 1)
    features = task.collate(task.items, np.random.default_rng(0))
    assert len(features["gold"]) == 2
    assert not features["ignored"][1].any()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("q0\tnile\n", r"train\.tsv, line 2: 2 fields"),
        ("q9\tnile\t1\n", r"line 2: query 'q9' is not in queries\.jsonl"),
        ("q0\tnile\t1\nq0\tnone\t1\n", r"line 3: passage 'none' is not in corpus\.jsonl"),
        ("q0\tnile\tgood\n", "line 2: the grade must be a whole number, found 'good'"),
        ("q0\tnile\t" + "1" * 200_000 + "\n", "line 2: the grade must be a whole number"),
        ("\udcff\tnile\t1\n", r"train\.tsv: can't be read"),
    ],
)
def test_mistakes_name_file_and_line(folder, lines, message):
    (folder / "qrels" / "train.tsv").write_bytes((HEAD + lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_data(folder)


def test_judgments_without_a_head_line_are_refused(folder):
    (folder / "qrels" / "train.tsv").write_text("q0\tnile\t1\nq1\tmoon\t1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.tsv, line 1: a judgment, where the head line must be"):
        read_data(folder)


@pytest.mark.parametrize("read", [read_data, read_beir], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("stem", "row", "message"),
    [
        ("corpus", {"_id": "ob", "text": "Another."}, r"corpus\.jsonl, line 4: the id 'ob' belongs to a passage"),
        (
            "corpus",
            {"_id": "x", "text": ["One."]},
            r"line 4: field 'text' must be text, found \['One\.'\]",
        ),
        ("corpus", {"_id": "x", "title": {}, "text": "One."}, r"line 4: field 'title' must be text, found \{\}"),
        ("queries", {"_id": "q1", "text": "Another?"}, r"queries\.jsonl, line 4: the id 'q1' belongs to a query"),
    ],
)
def test_texts_that_can_not_be_used_are_named(folder, read, stem, row, message):
    with (folder / f"{stem}.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        read(folder)


def test_data_goes_there_and_back(tmp_path):
    passages = {p.id: p for p in (Passage("a", "A", "One."), Passage("b", "", "Two."), Passage("c", "", "Drei – ü."))}
    questions = [
        Question("1", "Which?", ("One",), "a", (0,), other_positive_ids=("b",), hard_negative_ids=("c",)),
        Question("2", "None?", (), "b", unanswerable=True),
    ]
    left_out = write_data(DataSet(passages, questions), tmp_path / "out", "beir")
    assert left_out == {"answer of a question": 1, "question without an answer": 1}
    back = read_data(tmp_path / "out")
    assert dict(back.passages) == passages
    assert list(back.questions) == [
        Question("1", "Which?", (), "a", other_positive_ids=("b",), hard_negative_ids=("c",))
    ]


def test_an_id_that_does_not_fit_a_line_is_refused(tmp_path):
    data = DataSet({"a\tb": Passage("a\tb", "", "One.")}, [Question("1", "Which?", ("One",), "a\tb")])
    with pytest.raises(DataError, match=r"id 'a\\tb' has a tab or line break"):
        write_data(data, tmp_path / "out", "beir")
    assert not (tmp_path / "out").exists()
