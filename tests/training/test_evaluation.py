"""Figures of the evaluation, against values worked out by hand."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rom_haystack.fusion import fuse
from rom_haystack.inference import Answer, ReadingOptions, ROMEncoder
from rom_haystack.metrics import Figure, exact_match, f1, figure
from rom_haystack.modeling import load_checkpoint
from training.__main__ import app
from training.data.dataset import Passage, Question
from training.data.formats import read_data
from training.errors import DataError
from training.evaluation import EvaluationOptions, Models, evaluate
from training.figures import differences, markdown_table, statistic_figure
from training.rankers import BM25Ranker, DenseRanker, HybridRanker, load_base
from training.recipe import load_recipe
from training.release import read_report, release, write_report
from training.samples import Sample
from training.scoring import (
    answer_scores,
    answers_by_text,
    best_answer_per_question,
    best_of_first,
    calibration_factor,
    recall_scores,
    without_answer,
)
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


def test_hybrid_fuses_as_the_library_does(tiny_encoder):
    keyword, dense = BM25Ranker(TEXTS), DenseRanker(tiny_encoder, TEXTS, progress=False)
    queries = ["Who drew the Moon?", "zebra"]
    ranking = HybridRanker(keyword, dense, len(TEXTS)).rank(queries, 2)
    searched = (keyword.search(queries, 3), dense.search(queries, 3))
    for row in range(2):
        by_words, by_meaning = (
            list(zip(map(str, rows[row]), map(float, scores[row]), strict=True)) for rows, scores in searched
        )
        expected = fuse([[pair for pair in by_words if pair[1] > 0], by_meaning], "z_score")
        assert [str(place) for place in ranking[row]] == list(expected)[:2]
    assert ranking[1].tolist() == dense.rank(queries, 2)[1].tolist()  # no text has that word


def test_queries_may_have_an_encoder_of_their_own(tiny_encoder, base_folder):
    base = load_base(str(base_folder), "float32")
    ranker = DenseRanker(tiny_encoder, TEXTS, progress=False, query_encoder=base)
    expected = base.encode_queries(["papyrus"]) @ tiny_encoder.encode_passages(TEXTS).T
    rows, scores = ranker.search(["papyrus"], 3)
    np.testing.assert_allclose(scores[0], -np.sort(-expected[0]), atol=1e-5)
    assert rows[0].tolist() == np.argsort(-expected[0]).tolist()


def test_fewer_passages_are_the_first_ones(tiny_encoder):
    question = Question("a", "Who drew the Moon?", ("Galileo",), "1")
    found = answers_by_text(tiny_encoder, [(question, TEXTS)])
    for count in (1, None):
        [answer], [expected] = (
            best_of_first(found, count),
            best_answer_per_question(tiny_encoder, [(question, TEXTS[:count])]),
        )
        assert (answer.text, answer.start) == (expected.text, expected.start)
        assert answer.logit == pytest.approx(expected.logit, abs=1e-5)  # of another batch
    assert best_of_first(found, 0) == [None]


def test_differences_are_of_pairs():
    rng = np.random.default_rng(2)
    worse = rng.random(400)
    plain, first = Sample(worse), Sample(worse[:3])
    better = Sample(worse + 0.02)
    found = differences({"a": better, "b": plain, "c": plain}, {"a": plain, "b": first}, seed=1)
    assert set(found) == {"a"}  # of the others there are no pairs
    assert found["a"] == Figure(2, 2, 2)  # though each alone is far less sure
    assert figure(worse, seed=1).high - figure(worse, seed=1).low > 4


def test_differences_are_of_whole_articles():
    rng = np.random.default_rng(2)
    articles = np.repeat(np.arange(20).astype(str), 50)
    worse = rng.random(1000)
    better = worse + rng.normal(0.02, 0.05, size=20).repeat(50)  # by so much, depending on the article alone
    by_article = differences({"a": Sample(better, articles)}, {"a": Sample(worse, articles)}, seed=1)["a"]
    by_question = differences({"a": Sample(better)}, {"a": Sample(worse)}, seed=1)["a"]
    assert by_article == figure(better - worse, seed=1, groups=articles)
    assert by_article.high - by_article.low > 5 * (by_question.high - by_question.low)


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


def test_a_statistic_is_of_whole_articles_in_all_groups():
    values = np.array([0.0, 0.0, 0.0, 1.0])
    articles = np.array(["Nile", "Nile", "Nile", "Moon"])
    judged = Judged(np.ones(4, dtype=bool), np.zeros(4), values, values, articles)
    assert statistic_figure(lambda some: some.em.mean(), [judged], seed=1) == Figure(25, 0, 100)
    parts = [judged.take(np.array([0, 1, 2])), judged.take(np.array([3]))]
    assert statistic_figure(lambda some: some.em.mean(), parts, seed=1) == Figure(25, 0, 100)


def test_a_statistic_of_one_article_or_of_unknown_ones_is_of_questions():
    values = np.repeat([0.0, 1.0], [25, 75])
    one = Judged(np.ones(100, dtype=bool), np.zeros(100), values, values, np.repeat("Nile", 100))
    unknown = Judged(one.answerable, one.logits, one.em, one.f1)
    expected = statistic_figure(lambda some: some.em.mean(), [unknown], seed=1)
    assert expected.high - expected.low > 10
    assert statistic_figure(lambda some: some.em.mean(), [one], seed=1) == expected
    assert Judged.joined([one, unknown]).articles is None


def test_untuned_base_embeds_like_the_encoder_it_is(base_folder, tiny_encoder):
    base = load_base(str(base_folder), "float32")
    np.testing.assert_allclose(base.encode_passages(TEXTS), tiny_encoder.encode_passages(TEXTS), atol=1e-5)


def test_evaluate_and_release(tiny_checkpoint, base_folder, data_root, make_recipe, tmp_path):
    options = EvaluationOptions(
        base=str(base_folder),
        questions="mini",
        passages=["mini"],
        further=["mini"],
        limit=8,
        end_to_end_limit=4,
        passage_count=2,
        further_counts=[1],
    )
    report = evaluate(tiny_checkpoint, data_root, options).report()
    assert list(report["systems"]) == ["rom", "hybrid", "untuned base", "bm25"]
    assert list(report["differences"]) == ["rom - hybrid", "rom - untuned base", "rom - bm25"]
    assert {"recall@1", "end-to-end F1@1", "recall@5, mini"} <= set(report["differences"]["rom - bm25"])
    assert report["settings"]["question count"] == 8
    assert report["settings"]["article count"] > 1
    assert report["systems"]["bm25"]["recall@5"].mean >= 75  # the words of the questions stand in the passages
    assert {"recall@1", "MRR", "end-to-end EM", "reading F1"} <= set(report["systems"]["rom"])
    found = report["systems"]["rom"]
    assert report["settings"]["unanswerable question count"] == 1
    squad2 = {"SQuAD 2.0 EM", "SQuAD 2.0 F1", "SQuAD 2.0 best EM", "SQuAD 2.0 best F1", "no-answer AUROC, adversarial"}
    assert squad2 | {"no-answer AUROC, retrieved"} <= set(found)
    assert found["SQuAD 2.0 best F1"].mean >= found["SQuAD 2.0 F1"].mean
    assert not squad2 & set(report["systems"]["bm25"])
    for error in ("calibration error", "calibration error fitted"):
        assert 0 <= found[error].low <= found[error].high <= 100
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report

    recipe_path = tmp_path / "tiny.yaml"
    recipe = make_recipe(base_folder)
    trained = Path(shutil.copytree(tiny_checkpoint, tmp_path / "trained"))
    (trained / "calibration.json").write_text("{}")
    release(trained, tmp_path / "release", recipe, recipe_path, tmp_path / "report.json", licence="mit", language="de")
    assert (tmp_path / "release" / "calibration.json").read_text() == "{}"
    card = (tmp_path / "release" / "README.md").read_text(encoding="utf-8")
    assert markdown_table(report["systems"]) in card
    assert f"python -m training train {recipe_path.as_posix()}" in card
    assert "seed 13" in card
    options = "--questions mini --collection mini --limit 8 --end-to-end-limit 4 --passages 2 --also-passages 1"
    assert f"--base {base_folder} {options} --further mini --report" in card
    assert "8 questions of `mini` over all 7 passages of `mini`" in card
    assert "license: mit" in card
    assert "- de" in card or "language: de" in card
    assert f"bootstrap intervals over articles ({report['settings']['article count']}; " in card
    assert "$" not in card
    (trained / "calibration.json").unlink()
    report["settings"]["base"] = None
    write_report(report, tmp_path / "report.json")
    release(trained, tmp_path / "release", recipe, recipe_path, tmp_path / "report.json")
    assert not (tmp_path / "release" / "calibration.json").exists()
    assert "--base" not in (tmp_path / "release" / "README.md").read_text(encoding="utf-8")
    original, released = load_checkpoint(tiny_checkpoint)[0], load_checkpoint(tmp_path / "release")[0]
    for name, value in original.state_dict().items():
        np.testing.assert_allclose(released.state_dict()[name], value, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no report of"),
        ("[]", "is no report of"),
        ('{"systems": {}}', "is no report of"),
        ('{"settings": {"grid": "g"}, "systems": {}}', "is a report of several models"),
    ],
)
def test_a_release_needs_the_report_of_a_model(tiny_checkpoint, make_recipe, tmp_path, text, message):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        release(tiny_checkpoint, tmp_path / "release", make_recipe(tiny_checkpoint), tmp_path / "tiny.yaml", path)
    assert not (tmp_path / "release").exists()


def test_separate_models_share_the_work_out(tiny_checkpoint, tiny_encoder, data_root, tmp_path):
    folders = {}
    for number, name in enumerate(["passages", "queries"], start=1):
        model, tokenizer = load_checkpoint(tiny_checkpoint)
        torch.manual_seed(number)
        for parameter in model.encoder.encoder.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        folders[name] = tmp_path / name
    options = EvaluationOptions(questions="mini", passages=["mini"], end_to_end_limit=1)
    found = evaluate(Models(tiny_checkpoint, **folders), data_root, options)
    one = evaluate(tiny_checkpoint, data_root, options)
    data = read_data(data_root / "mini")
    questions = [question for question in data.questions if question.answers]
    passages = list(data.passages.values())
    embed = {name: ROMEncoder.from_model(*load_checkpoint(folder)) for name, folder in folders.items()}
    texts = [passage.text for passage in passages]
    ranker = DenseRanker(embed["passages"], texts, progress=False, query_encoder=embed["queries"])
    expected = recall_scores(questions, passages, ranker.rank([question.text for question in questions], len(texts)))
    scores, of_one = ({metric: s.values.tolist() for metric, s in some.scores["rom"].items()} for some in (found, one))
    assert scores["MRR"] == expected["MRR"].tolist()
    assert scores["MRR"] != of_one["MRR"]
    assert scores["reading F1"] == of_one["reading F1"]
    assert found.settings["parameters"] == 3 * one.settings["parameters"]


def test_intervals_come_from_drawing_articles(tiny_checkpoint, data_root):
    options = EvaluationOptions(questions="mini", passages=["mini"], further=["mini"], systems=["bm25"])
    found = evaluate(tiny_checkpoint, data_root, options)
    articles = ["Nile"] * 5 + ["Moon"] * 5 + ["p6"]
    assert found.settings["article count"] == 3
    for metric in ("recall@1", "end-to-end F1", "reading F1", "MRR, mini"):
        values = found.scores["rom"][metric].values
        assert found.systems["rom"][metric] == figure(values, seed=13, groups=articles)
    apart = found.scores["rom"]["MRR"].values - found.scores["bm25"]["MRR"].values
    assert found.report()["differences"]["rom - bm25"]["MRR"] == figure(apart, seed=13, groups=articles)
    path = data_root / "mini" / "passages.jsonl"
    path.write_text(re.sub(r'"title": "\w+"', '"title": ""', path.read_text()))
    without = evaluate(tiny_checkpoint, data_root, options)
    assert without.settings["article count"] is None
    values = without.scores["rom"]["MRR"].values
    assert without.systems["rom"]["MRR"] == figure(values, seed=13)


def test_a_set_without_answers_can_not_be_measured(tiny_checkpoint, data_root):
    options = EvaluationOptions(questions="mini", passages=["mini"], further=["empty"], end_to_end_limit=1)
    (data_root / "empty").mkdir()
    for name, text in (("passages", (data_root / "mini" / "passages.jsonl").read_text()), ("questions", "")):
        (data_root / "empty" / f"{name}.jsonl").write_text(text)
    with pytest.raises(DataError, match="empty: no question there has an answer"):
        evaluate(tiny_checkpoint, data_root, options)


def test_evaluate_command_names_a_missing_model(data_root):
    result = CliRunner().invoke(app, ["evaluate", "no-such-model", "--data", str(data_root)])
    assert result.exit_code == 2
    assert "No checkpoint 'no-such-model'" in " ".join(result.output.split())


def test_evaluate_command_asks_a_set_of_ones_own(tiny_checkpoint, data_root, tmp_path):
    sets = ["--questions", "mini", "--collection", "mini", "--passages", "2", "--report", str(tmp_path / "report.json")]
    result = CliRunner().invoke(app, ["evaluate", str(tiny_checkpoint), "--data", str(data_root), *sets])
    assert result.exit_code == 0, result.output
    assert "Best calibration_factor" in result.output
    settings = read_report(tmp_path / "report.json")["settings"]
    assert (settings["questions"], settings["passages"], settings["unanswerable questions"]) == ("mini", ["mini"], None)


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
