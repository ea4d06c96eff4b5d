"""Hard negatives found by keywords, or mined by a model and BM25, and written as DPR's JSON."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from rom_haystack.modeling import load_checkpoint
from training.__main__ import app
from training.data.dataset import DataSet, Passage, Question
from training.data.formats import read_data
from training.errors import DataError
from training.negatives import with_keyword_negatives, with_mined_negatives
from training.trainer import train

TEXTS = {
    "gold": "Speke named the great lake.",
    "answer": "It was SPEKE who came to it.",
    "twin": "The explorer gave it a name.",
    "near": "A queen gave the great lake her name.",
    "far": "Cheese is sold in wheels.",
    "keywords": "Nobody named the great lake in the south.",
}
#: How similar the model finds each passage to the question.
SIMILAR = {"gold": 0.8, "answer": 0.7, "twin": 0.77, "near": 0.75, "far": 0.1, "keywords": -0.2}


def encoder_of(similar):
    """An encoder whose inner products are as given: passage by passage, for any query."""
    return SimpleNamespace(
        max_length=512,
        encode_passages=lambda texts, **_: np.array([[similar[t]] for t in texts], dtype=np.float32),
        encode_queries=lambda texts, **_: np.ones((len(texts), 1), dtype=np.float32),
    )


def data_of(**changes):
    passages = {name: Passage(name, "", text) for name, text in TEXTS.items()}
    return DataSet(passages, [Question("q", "Who named the great lake?", ("Speke",), "gold", **changes)])


def mined(data=None, similar=None, count=10, **options):
    similar = {TEXTS[name]: score for name, score in (similar or SIMILAR).items()}
    return with_mined_negatives(data or data_of(), encoder_of(similar), count, **options)


def negatives(*args, **options):
    return mined(*args, **options).questions[0].hard_negative_ids


class TestMining:
    def test_the_models_best_without_answers_and_below_the_margin(self):
        assert negatives(source="model") == ("near", "far", "keywords")  # 0.77 is above 95% of 0.8

    @pytest.mark.parametrize(("most", "first"), [(1.0, "twin"), (0.95, "near"), (0.9, "far"), (0.1, "keywords")])
    def test_margin_is_relative_to_the_gold_passage(self, most, first):
        assert negatives(source="model", most=most, count=1) == (first,)

    def test_margin_holds_below_zero(self):
        similar = {**SIMILAR, "gold": -0.4, "twin": -0.41, "near": -0.43, "far": -0.9, "keywords": -0.39}
        assert negatives(similar=similar, source="model") == ("near", "far")

    def test_bm25_ranks_and_the_model_judges(self):
        assert negatives(source="bm25", count=2) == ("keywords", "near")
        similar = {**SIMILAR, "keywords": 0.79}
        assert negatives(similar=similar, source="bm25", count=1) == ("near",)

    def test_both_take_turns(self):
        assert negatives(count=3) == ("near", "keywords", "far")

    def test_positives_are_passed_over_and_what_was_there_is_replaced(self):
        data = data_of(other_positive_ids=("near",), hard_negative_ids=("twin",))
        found = mined(data, source="model", count=2)
        assert found.questions[0].hard_negative_ids == ("far", "keywords")
        assert data.questions[0].hard_negative_ids == ("twin",)
        assert +found.left_out == {"hard negative that the source names": 1}

    def test_too_few_are_counted(self):
        left_out = {"hard negative, as too few passages lack the answer and score low enough": 2}
        assert +mined(source="model", count=5).left_out == left_out

    def test_answers_that_are_not_known_leave_the_margin(self):
        question = Question("q", "Who named the great lake?", (), "gold")
        data = DataSet(data_of().passages, [question])
        assert negatives(data, source="model", count=2) == ("near", "answer")

    def test_unanswerable_questions_alone(self):
        data = DataSet(data_of().passages, [Question("q", "Who?", (), "gold", unanswerable=True)])
        with pytest.raises(DataError, match="nothing to mine"):
            mined(data)

    def test_passages_without_words(self):
        passages = {name: Passage(name, "", text) for name, text in (("a", "the"), ("b", "?!"))}
        data = DataSet(passages, [Question("q", "of the", ("the",), "a")])
        encoder = encoder_of({"the": 0.5, "?!": 0.1})
        with pytest.raises(DataError, match="--by model does without"):
            with_mined_negatives(data, encoder, 1)
        assert with_mined_negatives(data, encoder, 1, source="model").questions[0].hard_negative_ids == ("b",)


class TestKeywordNegatives:
    PASSAGES = (
        "Speke named the great lake in the south.",
        "The great lake feeds the river; nobody knows its name.",
        "Explorers drew the lake on maps after speke had named it.",
        "Cheese is sold in wheels.",
    )

    def data(self, **changes):
        passages = {str(i): Passage(str(i), "", text) for i, text in enumerate(self.PASSAGES)}
        return DataSet(passages, [Question("q", "Who named the great lake?", ("Speke",), "0", **changes)])

    def test_best_passages_without_the_answer(self):
        data = self.data()
        found = with_keyword_negatives(data, 1)
        assert found.questions[0].hard_negative_ids == ("1",)
        assert data.questions[0].hard_negative_ids == ()
        assert +found.left_out == {}
        several = with_keyword_negatives(data, 3)
        assert several.questions[0].hard_negative_ids == ("1", "3")
        assert +several.left_out == {"hard negative, as too few passages lack the answer": 1}

    def test_positives_and_what_is_there_already_are_left(self):
        several = with_keyword_negatives(self.data(other_positive_ids=("1",)), 1)
        assert several.questions[0].hard_negative_ids == ("3",)
        assert with_keyword_negatives(self.data(hard_negative_ids=("2",)), 1).questions[0].hard_negative_ids == ("2",)
        assert with_keyword_negatives(self.data(), 0).questions[0].hard_negative_ids == ()
        unanswerable = DataSet(self.data().passages, [Question("q", "Who?", (), "0", unanswerable=True)])
        assert with_keyword_negatives(unanswerable, 1).questions[0].hard_negative_ids == ()

    def test_texts_and_questions_without_words(self):
        passages = {name: Passage(name, "", text) for name, text in (("a", "the"), ("b", "?!"))}
        data = DataSet(passages, [Question("q", "of the", ("the",), "a")])
        with pytest.raises(DataError, match="No passage holds a word"):
            with_keyword_negatives(data, 2)
        passages["c"] = Passage("c", "", "cheese")
        assert sorted(with_keyword_negatives(data, 2).questions[0].hard_negative_ids) == ["b", "c"]


class TestCommand:
    @pytest.fixture
    def run(self, data_root, tiny_checkpoint, tmp_path):
        def run(*options):
            arguments = ["mine", str(data_root / "mini"), str(data_root / "mined.json"), "--model", *options]
            return CliRunner().invoke(app, [str(tiny_checkpoint) if a == "tiny" else a for a in arguments])

        return run

    @pytest.mark.parametrize("by", ["both", "model", "bm25"])
    def test_writes_dpr_that_trains(self, run, data_root, tiny_checkpoint, make_recipe, tmp_path, by):
        result = run("tiny", "--by", by, "--count", "2", "--most", "1")
        assert result.exit_code == 0, result.output
        data = read_data(data_root / "mined.json")
        assert len(data.questions) == 11  # of twelve one is unanswerable
        found = [(q, data.passages[i].text) for q in data.questions for i in q.hard_negative_ids]
        assert f"Hard negatives: {len(found)}" in result.output
        assert len(found) > 5
        assert not any(answer in text for question, text in found for answer in question.answers)
        items = json.loads((data_root / "mined.json").read_text(encoding="utf-8"))
        assert {item["dataset"] for item in items} == {"mini"}
        tasks = {"retrieval": {"batch_size": 3, "contrast": "batch", "hard_negatives": 2, "data": "mined.json"}}
        model = train(make_recipe(tiny_checkpoint, tasks=tasks), data_root, tmp_path / "run")
        assert load_checkpoint(model)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["nowhere"], "nowhere"),
            (["tiny", "--most", "1.5"], "less than or equal to 1"),
            (["tiny", "--by", "luck"], "'luck' is not one of"),
            (["tiny", "--count", "0"], "greater than or equal to 1"),
        ],
    )
    def test_mistakes(self, run, data_root, options, message):
        result = run(*options)
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", "").split())
        assert not (data_root / "mined.json").exists()

    def test_what_is_there_stays(self, run, data_root):
        (data_root / "mined.json").write_text("mine")
        assert "exists already" in run("tiny").output
        assert (data_root / "mined.json").read_text() == "mine"
