"""Two ways of answering side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from haystack import Document
from transformers import BertForQuestionAnswering

from demo.core.asking import Asker
from demo.core.checkpoints import UNTUNED_BASE, MissingCheckpointError, checkpoint
from demo.core.collection import Collection
from demo.core.comparing import PRESETS, Comparison, Side, compare
from demo.core.engine import Engine
from demo.core.results import FoundPassage, Quote, Result, Settings
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.modeling.places import resolve_checkpoint


def passage(id_: str) -> FoundPassage:
    return FoundPassage(Document(id=id_, content="Michael Collins stayed in orbit; Collins waited."), 1.0, 1, 1)


def quote(id_: str, text: str, start: int) -> Quote:
    return Quote(text, 0.7, start, start + len(text), text, 0, len(text), None, passage(id_))


def result(*quotes: Quote, passages: str = "ab") -> Result:
    found = tuple(map(passage, passages))
    return Result("Who?", Settings(), quotes, (), 0.3, found, len(found), True, {"read": 0.1}, "torch-float32")


class TestSide:
    @pytest.mark.parametrize(
        "side",
        [
            Side(),
            Side("dense", 20, "fast", "/models/a, b,c"),
            Side("keyword", 5, "cautious", UNTUNED_BASE),
            *(side for preset in PRESETS for side in (preset.left, preset.right)),
        ],
    )
    def test_a_link_says_it_all(self, side):
        assert Side.parse(str(side)) == side

    def test_a_link_leaves_out_the_bundled_checkpoint(self):
        assert str(Side()) == "hybrid,10,off"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "retrieval ''; possible are hybrid, dense, keyword"),
            ("sparse,10,off", "retrieval 'sparse'"),
            ("dense,7,off", "number of passages '7'; possible are 5, 10, 20, 50"),
            ("dense,10", "reading ''; possible are off, cautious, fast"),
            ("dense,10,slow", "reading 'slow'"),
        ],
    )
    def test_what_a_link_says_wrongly(self, text, problem):
        with pytest.raises(ValueError, match=problem):
            Side.parse(text)

    @pytest.mark.parametrize(
        ("model", "by_name"),
        [
            ("rom-minilm-l6", True),
            (UNTUNED_BASE, True),
            ("/etc", False),
            ("~/models", False),
            ("..", False),
            ("../models", False),
            ("\\\\host\\share", False),
            ("//host/share", False),
            ("C:\\models", False),
            ("a/b/c", False),
            ("a b", False),
        ],
    )
    def test_names_are_told_from_paths(self, model, by_name):
        assert Side(model=model).by_name is by_name


class TestCheckpoint:
    def test_bundled(self):
        found = checkpoint(" rom-minilm-l6 ")
        assert (found.finds, found.reads, found.note) == (DEFAULT_CHECKPOINT, DEFAULT_CHECKPOINT, "")

    def test_a_folder_that_does_both(self, tiny_checkpoint):
        found = checkpoint(str(tiny_checkpoint))
        assert Path(found.finds) == Path(found.reads) == tiny_checkpoint.resolve()
        assert found.note == ""

    def test_one_that_only_finds(self, sentence_transformer):
        found = checkpoint(str(sentence_transformer))
        assert resolve_checkpoint(found.finds)
        assert found.reads == DEFAULT_CHECKPOINT
        assert found.note == "It only finds passages: rom-minilm-l6 reads the answers."

    def test_one_that_only_reads(self, tmp_path, tiny_tokenizer, plain_config):
        BertForQuestionAnswering(plain_config).save_pretrained(tmp_path / "reader")
        tiny_tokenizer.save_pretrained(tmp_path / "reader")
        found = checkpoint(str(tmp_path / "reader"))
        assert found.finds == DEFAULT_CHECKPOINT
        assert resolve_checkpoint(found.reads)
        assert found.note == "It only reads: rom-minilm-l6 finds the passages."

    @pytest.mark.parametrize("name", ["", "  "])
    def test_none(self, name):
        with pytest.raises(MissingCheckpointError, match="No checkpoint is named"):
            checkpoint(name)

    def test_one_that_is_not_here(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(MissingCheckpointError, match=f"not on this machine.*hf download {UNTUNED_BASE}"):
            checkpoint(UNTUNED_BASE)

    def test_a_folder_of_something_else(self, tmp_path):
        with pytest.raises(MissingCheckpointError, match=r"can't be used.*no config\.json"):
            checkpoint(str(tmp_path))


class TestComparison:
    BEST = quote("a", "Michael Collins", 0)

    @pytest.mark.parametrize(
        ("left", "right", "verdict"),
        [
            ((BEST,), (BEST,), "Both sides give the same best answer, from the same place."),
            ((BEST,), (quote("b", "michael collins", 0),), "Both sides give the same best answer, from different"),
            ((BEST,), (quote("a", "Collins", 33),), "The best answers differ."),
            ((BEST,), (), "Only A finds an answer."),
            ((), (BEST,), "Only B finds an answer."),
            ((), (), "Neither side finds an answer."),
        ],
    )
    def test_verdict(self, left, right, verdict):
        assert Comparison(result(*left), result(*right)).verdict.startswith(verdict)

    def test_where_the_other_side_has_an_answer(self):
        others = [quote("a", "Collins", 33), quote("b", "orbit", 26)]
        compared = Comparison(result(self.BEST, *others), result(others[1], self.BEST))
        assert compared.ranks_on_the_other_side(compared.left) == (2, None, 1)
        assert compared.ranks_on_the_other_side(compared.right) == (3, 1)

    def test_passages_of_both(self):
        assert Comparison(result(passages="abc"), result(passages="cda")).passages_of_both == {"a", "c"}


class TestAsking:
    @pytest.fixture(scope="class")
    def asker(self, tmp_path_factory, sentence_transformer, tiny_checkpoint) -> Asker:
        folder = tmp_path_factory.mktemp("documents")
        for n in range(6):
            (folder / f"{n}.txt").write_text(f"The river number {n} flows through {n} countries. " * 30)
        collection = Collection("rivers", "Rivers", "linked", folder, tmp_path_factory.mktemp("home"))
        for model in (checkpoint(str(sentence_transformer)).finds, str(tiny_checkpoint)):
            collection.reindex(model=model)
        return Asker(collection, Engine())

    def test_the_same_way_twice_gives_the_same(self, asker, tiny_checkpoint):
        settings = Settings(model=str(tiny_checkpoint), reader=str(tiny_checkpoint), passages=5)
        compared = compare(asker, "Which river?", settings, settings)
        assert compared.passages_of_both == {found.document.id for found in compared.left.passages}
        places = tuple(range(1, len(compared.left.quotes) + 1))
        assert compared.ranks_on_the_other_side(compared.left) == places

    def test_two_checkpoints_find_in_one_collection(self, asker, tiny_checkpoint, sentence_transformer):
        """Passages have the same ids in the index of either, so that what both found can be told."""
        one, other = (
            Side(retrieval="dense", passages=50, model=model).settings(checkpoint(model))
            for model in (str(tiny_checkpoint), str(sentence_transformer))
        )
        compared = compare(asker, "Which river?", one, replace(other, reader=one.reader))
        assert len(compared.passages_of_both) == len(compared.left.passages) == len(compared.right.passages) > 5
        assert [f.document.id for f in compared.left.passages] != [f.document.id for f in compared.right.passages]

    def test_each_side_is_warm_when_its_time_is_taken(self, asker, tiny_checkpoint, monkeypatch):
        asked = []
        answer = asker.answer
        monkeypatch.setattr(asker, "answer", lambda *given: asked.append(given[1]) or answer(*given))
        left, right = (Settings(model=str(tiny_checkpoint), reader=str(tiny_checkpoint), passages=n) for n in (5, 10))
        compared = compare(asker, "Which river?", left, right)
        assert asked == [left, right, left, right]
        assert (compared.left.settings, compared.right.settings) == (left, right)
