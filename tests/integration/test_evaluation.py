"""Retrieval and reading of the sample corpus by the bundled checkpoint, evaluated; and the documentation's example."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from haystack import Pipeline
from haystack.components.evaluators import DocumentRecallEvaluator
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.evaluation import EvaluationRunResult

from rom_haystack import (
    AnswerExactMatchEvaluator,
    AnswerF1Evaluator,
    AnswerRecallEvaluator,
    CalibrationEvaluator,
    NoAnswerEvaluator,
    ROMExtractiveReader,
    ROMIndexer,
    ROMRetriever,
)
from rom_haystack.inference.samples import SAMPLE_CORPUS, SAMPLE_QUESTIONS

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("socket_disabled")]

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
FILES = 6


def test_sample_corpus() -> None:
    with SAMPLE_QUESTIONS.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))[: 2 * FILES]
    indexed = [row["file"] for row in rows[:FILES]]
    golds = [[row["answer"]] if row["file"] in indexed else [] for row in rows]
    assert sum(map(bool, golds)) == FILES
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    ROMIndexer(store).run(sources=[SAMPLE_CORPUS / name for name in indexed])
    answering = Pipeline()
    answering.add_component("retriever", ROMRetriever(retriever=InMemoryEmbeddingRetriever(store, top_k=4)))
    answering.add_component("reader", ROMExtractiveReader(top_k=4))
    answering.connect("retriever.documents", "reader.documents")
    runs = [
        answering.run(
            {"retriever": {"query": row["question"]}, "reader": {"query": row["question"]}},
            include_outputs_from={"retriever"},
        )
        for row in rows
    ]
    answers = [run["reader"]["answers"] for run in runs]
    documents = [run["retriever"]["documents"] for run in runs]

    evaluation = Pipeline()
    on_answers = {
        "exact match": AnswerExactMatchEvaluator(),
        "f1": AnswerF1Evaluator(),
        "no answer": NoAnswerEvaluator(),
        "calibration": CalibrationEvaluator(correctness="f1", bins=5),
    }
    for name, evaluator in on_answers.items():
        evaluation.add_component(name, evaluator)
    evaluation.add_component("recall", AnswerRecallEvaluator(top_k=[1, 4]))
    evaluation.add_component("stock", DocumentRecallEvaluator())
    evaluation = Pipeline.loads(evaluation.dumps())
    inputs = {name: {"ground_truth_answers": golds, "predicted_answers": answers} for name in on_answers}
    inputs["recall"] = {"ground_truth_answers": golds[:FILES], "retrieved_documents": documents[:FILES]}
    inputs["stock"] = {"ground_truth_documents": documents, "retrieved_documents": documents}
    results = evaluation.run(inputs)

    recall = results.pop("recall")
    assert recall["metrics"]["recall@1"]["score"] <= recall["metrics"]["recall@4"]["score"] == recall["score"]
    assert recall["score"] >= 5 / FILES
    answerable = results["f1"]["individual_scores"][:FILES]
    assert results["no answer"]["has_answer_f1"] == pytest.approx(sum(answerable) / FILES)
    assert results["no answer"]["has_answer_f1"] > 0.7
    assert results["no answer"]["no_answer_count"] == FILES
    assert results["no answer"]["roc_auc"] > 0.8
    assert results["no answer"]["f1"] == pytest.approx(results["f1"]["score"])
    assert results["no answer"]["best_f1"] >= results["no answer"]["f1"] - 1e-9  # summed in another order
    assert results["exact match"]["score"] <= results["f1"]["score"]
    threshold = results["no answer"]["best_f1_threshold"]
    fitted = NoAnswerEvaluator(no_answer_threshold=threshold).run(golds, answers)
    assert fitted["f1"] == pytest.approx(results["no answer"]["best_f1"])
    assert 0 < results["calibration"]["score"] < 0.35
    assert sum(b["count"] for b in results["calibration"]["reliability"]) == len(rows)
    report = EvaluationRunResult("rom", {"question": [row["question"] for row in rows]}, results).aggregated_report()
    assert set(report["metrics"]) == {*on_answers, "stock"}


def test_documented_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, DOCS.name, "exec"), names)
    assert "'recall@1'" in capsys.readouterr().out
    assert (tmp_path / "evaluation.csv").read_text(encoding="utf-8").count("\n") == 4
    assert names["results"]["f1"]["individual_scores"][:2] == [1.0, 1.0]
