"""Figures of the evaluation, against values worked out by hand."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rom_haystack.inference import Answer, ReadingOptions
from rom_haystack.metrics import Figure, exact_match, f1, figure
from rom_haystack.modeling import load_checkpoint
from training.__main__ import app
from training.data.dataset import Passage, Question
from training.evaluation import (
    BM25Ranker,
    DenseRanker,
    answer_scores,
    best_answer_per_question,
    calibration_factor,
    evaluate,
    load_base,
    markdown_table,
    recall_scores,
    statistic_figure,
    without_answer,
)
from training.recipe import load_recipe
from training.release import read_report, release, write_report
from training.unanswerable import Judged, auroc

TEXTS = ["The Nile flows north.", "Galileo drew the Moon in 1609.", "Papyrus grows along the banks."]


@pytest.fixture
def base_folder(tmp_path, tiny_model, tiny_tokenizer):
    """Folder of the tiny model's plain encoder."""
    copy.deepcopy(tiny_model.encoder).save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_dense_ranker_is_exact(tiny_encoder):
    ranking = DenseRanker(tiny_encoder, TEXTS, progress=False).rank(["Who drew the Moon?", "papyrus"], 3)
    scores = tiny_encoder.encode_queries(["Who drew the Moon?", "papyrus"]) @ tiny_encoder.encode_passages(TEXTS).T
    assert ranking.tolist() == np.argsort(-scores, axis=1).tolist()


def test_bm25_ranks_by_stems():
    ranking = BM25Ranker(TEXTS).rank(["What did Galileo draw?", "growing papyrus"], 2)
    assert ranking[:, 0].tolist() == [1, 2]


def test_recall_and_mrr():
    passages = [Passage(str(i), "", text) for i, text in enumerate(TEXTS)]
    questions = [
        Question("a", "?", ("1609",), "1"),
        Question("b", "?", ("nile",), "0"),
        Question("c", "?", ("x",), "0"),
    ]
    scores = recall_scores(questions, passages, np.array([[1, 0], [2, 0], [0, 1]]))
    assert scores["recall@1"].tolist() == [1, 0, 0]
    assert scores["MRR"].tolist() == [1, 0.5, 0]
    assert "recall@5" not in scores  # two passages were ranked


def test_answer_scores_take_the_best_answer_of_all_passages(tiny_encoder):
    question = Question("a", "Who drew the Moon?", ("Galileo",), "1")
    answers = [a for found in tiny_encoder.read([question.text] * 3, TEXTS, ReadingOptions()) for a in found]
    best = max(answers, key=lambda answer: answer.logit).text
    scores = answer_scores(
        [question] * 2, best_answer_per_question(tiny_encoder, [(question, TEXTS), (question, ["  "])])
    )
    assert scores["EM"].tolist() == [exact_match(best, question.answers), 0]
    assert scores["F1"].tolist() == [f1(best, question.answers), 0]


def test_calibration_factor_recovers_the_temperature():
    rng = np.random.default_rng(5)
    logits = rng.normal(2, 3, size=20000)
    right = (rng.random(20000) < 1 / (1 + np.exp(-0.3 * logits))).astype(float)
    answers = [Answer(0, 1, "a", logit, 0.5) for logit in logits]
    assert calibration_factor(answers, right) == pytest.approx(0.3, rel=0.1)


def test_the_best_passage_that_does_not_answer():
    texts = ["The Nile flows north.", "The nile, again", "Papyrus grows.", "Cheese"]
    passages = [Passage(str(i), "", text) for i, text in enumerate(texts)]
    questions = [
        Question("a", "?", ("Nile",), "0"),
        Question("b", "?", ("Papyrus",), "3"),
        Question("c", "?", ("e",), "3"),
    ]
    found = without_answer(questions, passages, np.array([[0, 1, 2], [3, 2, 0], [3, 3, 3]]))
    assert [(question.id, read) for question, read in found] == [("a", [texts[2]]), ("b", [texts[0]])]


def test_a_statistic_has_its_interval_and_skips_draws_without_it():
    values = np.repeat([0.0, 1.0], [25, 75])
    judged = Judged(np.ones(100, dtype=bool), np.zeros(100), values, values)
    expected = figure(values, seed=1)
    found = statistic_figure(lambda some: some.em.mean(), [judged], seed=1)
    assert found.mean == 75
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=2), pytest.approx(expected.high, abs=2))
    both = Judged(np.array([True, True, False]), np.array([2.0, 1.0, 0.0]), np.zeros(3), np.zeros(3))
    assert statistic_figure(auroc, [both], seed=1) == Figure(100, 100, 100)
    apart = [both.take(np.array([0, 1])), both.take(np.array([2]))]
    assert statistic_figure(auroc, apart, seed=1) == Figure(100, 100, 100)


def test_untuned_base_embeds_like_the_encoder_it_is(base_folder, tiny_encoder):
    base = load_base(str(base_folder), "float32")
    np.testing.assert_allclose(base.encode_passages(TEXTS), tiny_encoder.encode_passages(TEXTS), atol=1e-5)


def test_evaluate_and_release(tiny_checkpoint, base_folder, data_root, make_recipe, tmp_path):
    report = evaluate(
        tiny_checkpoint,
        data_root,
        base=str(base_folder),
        questions_in="mini",
        passages_in=["mini"],
        limit=8,
        end_to_end_limit=4,
        passage_count=2,
    )
    assert list(report["systems"]) == ["rom", "untuned base", "bm25"]
    assert report["settings"]["question count"] == 8
    assert report["systems"]["bm25"]["recall@5"].mean >= 75  # the words of the questions stand in the passages
    assert {"recall@1", "MRR", "end-to-end EM", "reading F1"} <= set(report["systems"]["rom"])
    found = report["systems"]["rom"]
    assert report["settings"]["unanswerable question count"] == 1
    squad2 = {"SQuAD 2.0 EM", "SQuAD 2.0 F1", "SQuAD 2.0 best EM", "SQuAD 2.0 best F1", "no-answer AUROC, adversarial"}
    assert squad2 | {"no-answer AUROC, retrieved"} <= set(found)
    assert found["SQuAD 2.0 best F1"].mean >= found["SQuAD 2.0 F1"].mean
    assert not squad2 & set(report["systems"]["bm25"])
    assert 0 <= report["settings"]["calibration error fitted"] <= 100
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report

    recipe_path = tmp_path / "tiny.yaml"
    recipe = make_recipe(base_folder)
    release(tiny_checkpoint, tmp_path / "release", recipe, recipe_path, tmp_path / "report.json")
    card = (tmp_path / "release" / "README.md").read_text(encoding="utf-8")
    assert markdown_table(report["systems"]) in card
    assert f"python -m training train {recipe_path.as_posix()}" in card
    assert "seed 13" in card
    assert "$" not in card
    original, released = load_checkpoint(tiny_checkpoint)[0], load_checkpoint(tmp_path / "release")[0]
    for name, value in original.state_dict().items():
        np.testing.assert_allclose(released.state_dict()[name], value, atol=1e-3)


def test_evaluate_command_names_a_missing_model(data_root):
    result = CliRunner().invoke(app, ["evaluate", "no-such-model", "--data", str(data_root)])
    assert result.exit_code == 2
    assert "No checkpoint 'no-such-model'" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "no/such/folder/report.json"], "is no folder"),
        (["--base", "no-such-base"], "The base encoder 'no-such-base' can't be loaded"),
        (["--limit", "0"], "--limit"),
        (["--dtype", "floatx"], "--dtype"),
    ],
)
def test_evaluate_command_finds_mistakes_before_the_work(tiny_checkpoint, data_root, arguments, message):
    result = CliRunner().invoke(app, ["evaluate", str(tiny_checkpoint), "--data", str(data_root), *arguments])
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.split())


def test_evaluate_command_names_a_missing_set_of_unanswerable_questions(tiny_checkpoint, data_root):
    for name in ("train", "dev"):
        shutil.copytree(data_root / "mini", data_root / "squad" / name)
    arguments = ["evaluate", str(tiny_checkpoint), "--data", str(data_root), "--unanswerable", "squad/typo"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "typo" in " ".join(result.output.split())


def test_recipe_of_the_bundled_checkpoint_is_valid():
    recipe = load_recipe(Path(__file__).parents[2] / "training/recipes/rom-minilm-l6.yaml")
    assert recipe.name == "rom-minilm-l6"
    assert set(recipe.task_options) == {"reading", "retrieval"}
