"""Answer recall over documents."""

from __future__ import annotations

import logging

import pytest
from haystack import Document, Pipeline, component

from rom_haystack import AnswerRecallEvaluator

DOCUMENTS = [Document(content=text) for text in ("red", None, "the blue fox", "green", "blue")]
GOLDS = [["Blue"], ["black", "red"], ["white"]]


def test_scores_by_cutoff():
    result = AnswerRecallEvaluator(top_k=[3, 1, 2, 3]).run(GOLDS, [DOCUMENTS] * 3)
    assert list(result["metrics"]) == ["recall@1", "recall@2", "recall@3"]
    assert [metric["individual_scores"] for metric in result["metrics"].values()] == [[0, 1, 0], [0, 1, 0], [1, 1, 0]]
    assert [metric["score"] for metric in result["metrics"].values()] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert result["individual_scores"] == [1, 1, 0]
    assert result["score"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("top_k", "name", "scores"), [(2, "recall@2", [0, 1, 0]), (None, "recall", [1, 1, 0])])
def test_one_cutoff_and_none(top_k, name, scores):
    result = AnswerRecallEvaluator(top_k=top_k).run(GOLDS, [DOCUMENTS] * 3)
    assert result["individual_scores"] == scores
    assert list(result["metrics"]) == [name]


@pytest.mark.parametrize("top_k", [0, -1, [], [1, 0], "5", 2.5, [None, 3], True])
def test_top_k_out_of_range(top_k):
    with pytest.raises(ValueError, match="top_k is"):
        AnswerRecallEvaluator(top_k=top_k)


@pytest.mark.parametrize("top_k", [None, 5, [20, 5]])
def test_serialised(top_k):
    evaluator = AnswerRecallEvaluator(top_k=top_k)
    assert evaluator.to_dict()["init_parameters"] == {"top_k": top_k}
    assert AnswerRecallEvaluator.from_dict(evaluator.to_dict()).top_k == top_k


def test_warns_of_questions_without_an_answer(caplog):
    with caplog.at_level(logging.WARNING):
        result = AnswerRecallEvaluator().run([["red"], [], ""], [DOCUMENTS] * 3)
    assert result["individual_scores"] == [1, 0, 0]
    assert "2 of 3 questions have no answer" in caplog.text


def test_warns_of_cutoffs_beyond_all_documents(caplog):
    with caplog.at_level(logging.WARNING):
        AnswerRecallEvaluator(top_k=5).run(GOLDS, [DOCUMENTS, [], []])
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        AnswerRecallEvaluator(top_k=[1, 20]).run(GOLDS, [DOCUMENTS, [], []])
    assert "recall@20 is measured on at most 5 documents" in caplog.text


@component
class Retriever:
    """Gives the documents as a retriever does."""

    @component.output_types(documents=list[Document])
    def run(self, query: str):
        return {"documents": DOCUMENTS}


def test_a_pipeline_evaluates_its_own_documents_for_one_question():
    pipeline = Pipeline()
    pipeline.add_component("retriever", Retriever())
    pipeline.add_component("recall", AnswerRecallEvaluator(top_k=[2, 3]))
    pipeline.connect("retriever.documents", "recall.retrieved_documents")
    result = pipeline.run({"retriever": {"query": "?"}, "recall": {"ground_truth_answers": ["blue"]}})["recall"]
    assert [metric["score"] for metric in result["metrics"].values()] == [0, 1]
