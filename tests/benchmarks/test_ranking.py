"""The ranking benchmark, over a few passages and a tiny model."""

from __future__ import annotations

import gzip
import json

import pytest
from haystack import Document
from typer.testing import CliRunner

from benchmarks.expectations import read_expectations
from benchmarks.ranking import EXPECTATIONS, app, ranking_figures
from benchmarks.stores.quality import first_hits, recall_figures
from rom_haystack import ROMRanker
from training.data.dataset import Question

PARIS, ROME, NILE = "Paris is the capital of France.", "Rome lies on the Tiber.", "The Nile flows north."
QUESTIONS = [
    Question("1", "What is the capital of France?", ("Paris",), "a"),
    Question("2", "Which river flows north?", ("Nile",), "c"),
    Question("3", "Who knows?", ("nobody",), "a"),
]


class FakeRanker:
    """Scores documents by a table, and remembers what it was asked."""

    def __init__(self, scores):
        self.scores = scores
        self.asked = []

    def run_batch(self, queries, documents, *, top_k):
        self.asked += zip(queries, [[d.content for d in group] for group in documents], strict=True)
        scored = [
            [Document(id=d.id, content=d.content, score=self.scores[d.content]) for d in group] for group in documents
        ]
        return {"documents": [sorted(group, key=lambda d: -d.score)[:top_k] for group in scored]}


def documents(*texts):
    return [Document(id=text, content=text) for text in texts]


def test_figures_of_both_orders():
    found = [
        {"one": documents(ROME, PARIS), "other": documents(PARIS, NILE)},
        {"one": documents(NILE, ROME), "other": documents(PARIS, ROME, NILE)},
        {"one": documents(ROME), "other": []},
    ]
    ranker = FakeRanker({PARIS: 0.99, NILE: 0.5, ROME: 0.1})
    figures = ranking_figures(found, QUESTIONS, ranker)
    assert ranker.asked == [
        (QUESTIONS[0].text, [ROME, PARIS, NILE]),  # each document once
        (QUESTIONS[1].text, [NILE, ROME, PARIS]),
        (QUESTIONS[2].text, [ROME]),
    ]
    third = pytest.approx(100 / 3)
    assert figures["one"]["retrieved"]["recall_at_1"] == third
    assert figures["one"]["ranked"]["recall_at_1"] == pytest.approx(200 / 3)
    assert figures["one"]["retrieved"]["mrr"] == pytest.approx(100 * (1 / 2 + 1) / 3)
    assert figures["one"]["ranked"]["mrr"] == pytest.approx(100 * (1 + 1) / 3)
    assert figures["other"]["retrieved"]["mrr"] == pytest.approx(100 * (1 + 1 / 3) / 3)
    assert figures["other"]["ranked"]["mrr"] == pytest.approx(100 * (1 + 1 / 2) / 3)
    assert figures["one"]["threshold"] == {"documents": pytest.approx(1 / 3), "recall": third}
    assert figures["other"]["threshold"] == {"documents": pytest.approx(2 / 3), "recall": third}


def test_first_hits_and_recall():
    hits = first_hits([[ROME, PARIS], [NILE], []], QUESTIONS)
    assert hits.tolist() == [2, 1, float("inf")]
    expected = {"recall_at_1": 100 / 3, "recall_at_5": 200 / 3, "recall_at_20": 200 / 3, "questions": 3}
    assert recall_figures(hits) == pytest.approx(expected)


def test_a_run_and_its_check(tmp_path, tiny_checkpoint):
    data = tmp_path / "data" / "squad"
    for name, ids in (("train", {"b": ROME}), ("dev", {"a": PARIS, "c": NILE})):
        (data / name).mkdir(parents=True)
        with gzip.open(data / name / "passages.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": id_, "title": "", "text": text}) + "\n" for id_, text in ids.items())
    with gzip.open(data / "dev" / "questions.jsonl.gz", "wt", encoding="utf-8") as file:
        for question in QUESTIONS[:2]:
            answers = [{"text": answer, "start": 0} for answer in question.answers]
            row = {"id": question.id, "question": question.text, "answers": answers, "passage_id": question.passage_id}
            file.write(json.dumps(row) + "\n")
    output = tmp_path / "results.json"
    folders = ["--data", str(data.parent), "--cache", str(tmp_path / "cache"), "--work", str(tmp_path / "work")]
    done = CliRunner().invoke(app, ["run", "--output", str(output), "--model", str(tiny_checkpoint), *folders])
    assert done.exit_code == 0, done.output
    results = json.loads(output.read_text(encoding="utf-8"))
    assert (results["passages"], results["settings"]["questions"]) == (3, 2)
    assert results["settings"]["engine"] == "torch-float32"
    for way in ("dense", "keywords", "hybrid"):
        assert results[way]["retrieved"]["questions"] == results[way]["ranked"]["questions"] == 2
    assert results["keywords"]["retrieved"]["recall_at_1"] == 100
    assert results["dense"]["ranked"]["recall_at_20"] == 100
    ranker = ROMRanker(model=str(tiny_checkpoint))
    first = [ranker.run(q.text, documents(PARIS, ROME, NILE))["documents"][0].content for q in QUESTIONS[:2]]
    ranker.close()
    expected = [first[0] == PARIS, first[1] == NILE]
    assert results["dense"]["ranked"]["recall_at_1"] == 50 * sum(expected)

    assert all(expected.value(results) is not None for expected in read_expectations(EXPECTATIONS))
    assert CliRunner().invoke(app, ["check", str(output)]).exit_code == 1


def test_a_missing_set_is_named(tmp_path):
    folders = ["--data", str(tmp_path), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, ["run", "--output", str(tmp_path / "results.json"), *folders])
    assert done.exit_code == 2
    assert "squad/train" in done.output.replace("\n", "")
