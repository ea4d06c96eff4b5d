"""What all evaluators have in common: their inputs, their errors, their place in Haystack."""

from __future__ import annotations

import copy
import inspect
import json
import re
import textwrap

import numpy as np
import pytest
from haystack import Document, GeneratedAnswer, Pipeline, component
from haystack.components.evaluators import AnswerExactMatchEvaluator as StockAnswerExactMatchEvaluator
from haystack.components.evaluators import DocumentRecallEvaluator, SASEvaluator
from haystack.evaluation import EvaluationRunResult

from rom_haystack import (
    AnswerExactMatchEvaluator,
    AnswerF1Evaluator,
    AnswerRecallEvaluator,
    CalibrationEvaluator,
    NoAnswerEvaluator,
    ROMExtractiveReader,
)

TEXT_EVALUATORS = [AnswerExactMatchEvaluator, AnswerF1Evaluator]
EVALUATORS = [*TEXT_EVALUATORS, NoAnswerEvaluator, CalibrationEvaluator, AnswerRecallEvaluator]
GOLDS = [["Michael Collins", "Collins"], ["1898"], []]


def second_input(evaluator) -> str:
    return "retrieved_documents" if isinstance(evaluator, AnswerRecallEvaluator) else "predicted_answers"


def inputs_of(evaluator, answer) -> dict:
    """Three questions: right, wrong, and rightly not answered (recall: found, not found, without answer)."""
    if isinstance(evaluator, AnswerRecallEvaluator):
        found = [[Document(content="Collins stayed in orbit.")], [Document(content="1899")], []]
        return {"ground_truth_answers": GOLDS, "retrieved_documents": found}
    predicted = [
        [answer("collins", 0.9), answer(None, 0.1)],
        [answer("Nile", 0.8)],
        [answer(None, 0.7), answer("x", 0.3)],
    ]
    return {"ground_truth_answers": GOLDS, "predicted_answers": predicted}


@pytest.mark.parametrize(
    "predict",
    [
        lambda answer, data: data or "",
        lambda answer, data: data,
        lambda answer, data: answer(data),
        lambda answer, data: [answer(data), answer("never right")],
        lambda answer, data: (answer(data),),
        lambda answer, data: GeneratedAnswer(data=data or "", query="?", documents=[]),
        lambda answer, data: [GeneratedAnswer(data=data or "", query="?", documents=[])],
        lambda answer, data: [answer(data)] if data else [],
    ],
    ids=["text", "None", "answer", "answers", "tuple", "generated", "list of generated", "empty list"],
)
@pytest.mark.parametrize("cls", [*TEXT_EVALUATORS, NoAnswerEvaluator])
def test_predictions_in_every_form(cls, predict, answer):
    predicted = [predict(answer, data) for data in ("the Collins!", "1899", None)]
    result = cls().run(ground_truth_answers=GOLDS, predicted_answers=predicted)
    assert result["individual_scores"] == [1, 0, 1]
    assert result["score"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("cls", TEXT_EVALUATORS)
@pytest.mark.parametrize("gold", ["1898", ["1898"], ["x", "1898", "1898"], ("1898",), ["", "1898"]])
def test_gold_answers_in_every_form(cls, gold):
    result = cls().run(ground_truth_answers=[gold, "y"], predicted_answers=["1898", ""])
    assert result["individual_scores"] == [1, 0]


@pytest.mark.parametrize("cls", [*TEXT_EVALUATORS, NoAnswerEvaluator])
@pytest.mark.parametrize("unanswerable", ["", "  ", [], [""], [" ", ""]])
def test_questions_without_an_answer(cls, unanswerable):
    result = cls().run(ground_truth_answers=[unanswerable] * 2, predicted_answers=["", "Moon"])
    assert result["individual_scores"] == [1, 0]


def test_arrays_are_lists_too():
    predicted = np.array(["red", "blue"])
    result = NoAnswerEvaluator().run(np.array(["red", "red"]), predicted, no_answer_scores=np.array([0.1, 0.2]))
    assert result["individual_scores"] == [1, 0]
    json.dumps(result)


@pytest.mark.parametrize("cls", EVALUATORS)
class TestEveryEvaluator:
    def test_errors_name_both_lengths(self, cls, answer):
        evaluator = cls()
        inputs = inputs_of(evaluator, answer)
        name = second_input(evaluator)
        with pytest.raises(ValueError, match=f"2 ground_truth_answers and 3 {name}"):
            evaluator.run(**{**inputs, "ground_truth_answers": ["a", "b"]})
        with pytest.raises(ValueError, match=f"3 ground_truth_answers and 0 {name}"):
            evaluator.run(**{**inputs, name: []})

    def test_nothing_to_evaluate(self, cls):
        evaluator = cls()
        name = second_input(evaluator)
        with pytest.raises(ValueError, match=f"0 ground_truth_answers and 0 {name}: there is nothing to evaluate"):
            evaluator.run(**{"ground_truth_answers": [], name: []})

    @pytest.mark.parametrize("wrong", [3, None, "Berlin", {"a": 1}])
    def test_inputs_must_be_lists(self, cls, wrong, answer):
        evaluator = cls()
        inputs = inputs_of(evaluator, answer)
        for name in inputs:
            with pytest.raises(TypeError, match=f"{name} is of type {type(wrong).__name__}"):
                evaluator.run(**{**inputs, name: wrong})

    @pytest.mark.parametrize("wrong", [3, None, {"text": ["a"]}, ["a", None], [["a"]]])
    def test_items_of_gold_answers(self, cls, wrong, answer):
        evaluator = cls()
        with pytest.raises(TypeError, match=re.escape(f"ground_truth_answers[1] is {wrong!r}")):
            evaluator.run(**{**inputs_of(evaluator, answer), "ground_truth_answers": ["a", wrong, "b"]})

    @pytest.mark.parametrize("wrong", [3, ["a"], [None], {"data": "a"}, b"a"])
    def test_items_of_the_other_input(self, cls, wrong, answer):
        evaluator = cls()
        inputs, name = inputs_of(evaluator, answer), second_input(evaluator)
        with pytest.raises(TypeError, match=re.escape(f"{name}[1]")):
            evaluator.run(**{**inputs, name: [inputs[name][0], wrong, inputs[name][2]]})

    def test_inputs_stay_as_they_are_and_outputs_are_plain(self, cls, answer):
        evaluator = cls()
        inputs = inputs_of(evaluator, answer)
        before = copy.deepcopy(inputs)
        result = evaluator.run(**inputs)
        assert inputs == before
        assert json.loads(json.dumps(result)) == result
        assert set(result) == set(evaluator.__haystack_output__._sockets_dict)
        assert result["score"] == pytest.approx(np.mean(result["individual_scores"]))

    def test_round_trip(self, cls):
        pipeline = Pipeline()
        pipeline.add_component("evaluator", cls())
        loaded = Pipeline.loads(pipeline.dumps())
        assert isinstance(loaded.get_component("evaluator"), cls)
        assert loaded.dumps() == pipeline.dumps()

    def test_docstring_example(self, cls, capsys):
        (example,) = re.findall(r"```python\n(.*?)```", cls.__doc__, re.DOTALL)
        example = textwrap.dedent(example)
        exec(compile(example, cls.__name__, "exec"), {})
        promised = example.rpartition("  # ")[2].strip()
        if promised.endswith("rounded"):
            promised = ["0.0867", "0.2667"]
            assert [f"{float(number):.4f}" for number in capsys.readouterr().out.split()] == promised
        else:
            assert capsys.readouterr().out.strip() == promised


def test_an_answer_that_is_no_text(answer):
    with pytest.raises(TypeError, match=r"predicted_answers\[0\] holds an answer whose data is 3"):
        AnswerF1Evaluator().run(["a"], [answer(3)])


def test_the_stock_evaluator_is_swapped_by_class_name_alone():
    pipeline = Pipeline()
    pipeline.add_component("exact_match", StockAnswerExactMatchEvaluator())
    stock, ours = (
        f"{cls.__module__}.{cls.__name__}" for cls in (StockAnswerExactMatchEvaluator, AnswerExactMatchEvaluator)
    )
    assert pipeline.dumps().count(stock) == 1
    swapped = Pipeline.loads(pipeline.dumps().replace(stock, ours))
    inputs = {"exact_match": {"ground_truth_answers": ["Berlin", "Paris"], "predicted_answers": ["Berlin", "Lyon"]}}
    assert swapped.run(copy.deepcopy(inputs)) == pipeline.run(inputs)


@pytest.mark.parametrize(
    ("ours", "stock"),
    [
        (AnswerExactMatchEvaluator, StockAnswerExactMatchEvaluator),
        (AnswerF1Evaluator, SASEvaluator),
        (AnswerRecallEvaluator, DocumentRecallEvaluator),
    ],
)
def test_names_and_sockets_are_those_of_the_stock_evaluators(ours, stock):
    mine, theirs = (list(inspect.signature(cls.run).parameters) for cls in (ours, stock))
    assert mine[-1] == theirs[-1]
    if stock is not DocumentRecallEvaluator:
        assert mine == theirs
    sockets = [{n: s.type for n, s in cls().__haystack_output__._sockets_dict.items()} for cls in (ours, stock)]
    assert sockets[1].items() <= sockets[0].items()
    assert hasattr(ours, "run_async") == hasattr(stock, "run_async")


@component
class Answers:
    """Gives texts as a pipeline's evaluators are given them."""

    @component.output_types(golds=list[str], alternatives=list[list[str]], texts=list[str])
    def run(self):
        return {"golds": ["red", "blue"], "alternatives": [["red"], []], "texts": ["red", ""]}


@pytest.mark.parametrize(("golds", "scores"), [("golds", [1, 0]), ("alternatives", [1, 1])])
@pytest.mark.parametrize("cls", [*TEXT_EVALUATORS, NoAnswerEvaluator])
async def test_texts_are_connected_as_to_stock_evaluators(cls, golds, scores):
    pipeline = Pipeline()
    pipeline.add_component("answers", Answers())
    pipeline.add_component("evaluator", cls())
    pipeline.connect(f"answers.{golds}", "evaluator.ground_truth_answers")
    pipeline.connect("answers.texts", "evaluator.predicted_answers")
    assert pipeline.run({})["evaluator"]["individual_scores"] == scores
    assert (await pipeline.run_async({}))["evaluator"]["individual_scores"] == scores


def test_a_pipeline_evaluates_its_own_answer_to_one_question(reader, documents):
    """Haystack wraps what a reader gave for one question into a list for the evaluators."""
    pipeline = Pipeline()
    pipeline.add_component("reader", reader)
    evaluators = {"f1": AnswerF1Evaluator(), "no_answer": NoAnswerEvaluator(), "calibration": CalibrationEvaluator()}
    for name, evaluator in evaluators.items():
        pipeline.add_component(name, evaluator)
        pipeline.connect("reader.answers", f"{name}.predicted_answers")
    query = "Which river flows north?"
    answers = reader.run(query, documents)["answers"]
    golds = {name: {"ground_truth_answers": [answers[0].data or ""]} for name in evaluators}
    results = pipeline.run({"reader": {"query": query, "documents": documents}, **golds})
    assert results["f1"]["individual_scores"] == [1.0]
    assert results["no_answer"]["individual_scores"] == [1.0]
    assert results["calibration"]["individual_scores"] == [pytest.approx((1 - answers[0].score) ** 2)]


def test_results_go_into_an_evaluation_run(answer, tmp_path):
    results = {}
    for cls in EVALUATORS:
        evaluator = cls()
        results[cls.__name__] = evaluator.run(**inputs_of(evaluator, answer))
    results |= AnswerRecallEvaluator([1, 2]).run(**inputs_of(AnswerRecallEvaluator(), answer))["metrics"]
    run = EvaluationRunResult("run", {"question": ["a", "b", "c"]}, results)
    report = run.aggregated_report()
    scores = dict(zip(report["metrics"], report["score"], strict=True))
    assert scores["AnswerF1Evaluator"] == scores["AnswerExactMatchEvaluator"] == pytest.approx(2 / 3)
    assert scores["recall@1"] == scores["recall@2"] == pytest.approx(1 / 3)
    assert run.detailed_report()["AnswerF1Evaluator"] == [1.0, 0.0, 1.0]
    run.detailed_report(output_format="csv", csv_file=str(tmp_path / "run.csv"))
    assert (tmp_path / "run.csv").read_text(encoding="utf-8").startswith("question,AnswerExactMatchEvaluator,")


def test_reader_batches_go_in_as_they_are(reader, documents):
    answers = reader.run_batch(["Which river?", "What glows?"], [documents, documents])["answers"]
    golds = [[answers[0][0].data or ""], ["certainly not this"]]
    assert isinstance(reader, ROMExtractiveReader)
    assert AnswerExactMatchEvaluator().run(golds, answers)["individual_scores"] == [1, 0]
