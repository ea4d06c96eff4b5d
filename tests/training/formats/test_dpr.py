"""DPR's files: read, written, and what can't be used named with its place."""

from __future__ import annotations

import json
import re

import pytest

from training.data.dataset import Passage, Question, text_id
from training.data.dpr import read_dpr, write_dpr
from training.data.formats import read_data
from training.errors import DataError

from .conftest import ITEM, MOON, NILE, context


class TestDPR:
    def test_reads_passages_and_questions(self, save):
        data = read_dpr(save([ITEM]))
        hard = Passage("p4", "", "Lakes are named by kings.")
        assert list(data.passages.values()) == [
            Passage("p1", "T", "The lake has a name."),
            Passage("7", "Nile", NILE),
            Passage("p3", "Moon", MOON),
            hard,
        ]
        # the gold passage is the first positive with an answer
        assert data.questions == [
            Question("1", "Who named the lake?", ("John Speke", "Speke"), "7", (), False, ("p1",), ("p4",))
        ]
        assert +data.left_out == {
            "field 'dataset' of an item": 1,
            "field 'score' of a passage": 2,
            "field 'title_score' of a passage": 1,
            "link from a question to a plain negative (the passage is kept)": 1,
        }

    def test_passages_merge_by_text_and_keep_texts_apart(self, save):
        items = [
            {"question": "a", "positive_ctxs": [context("one", "", passage_id="1"), context("one", "T")]},
            {
                "question": "b",
                "positive_ctxs": [context("two", passage_id="1")],
                "hard_negative_ctxs": [context("one")],
            },
            {"question": "c", "positive_ctxs": [context("three", passage_id="")], "negative_ctxs": None},
        ]
        data = read_dpr(save(items))
        assert {p.text: (p.id, p.title) for p in data.passages.values()} == {
            "one": ("1", "T"),
            "two": (text_id("two"), "T"),
            "three": (text_id("three"), "T"),
        }
        assert [q.positive_ids for q in data.questions] == [("1",), (text_id("two"),), (text_id("three"),)]
        assert data.questions[1].hard_negative_ids == ("1",)

    def test_a_positive_is_no_hard_negative(self, save):
        data = read_dpr(save([{**ITEM, "hard_negative_ctxs": ITEM["positive_ctxs"]}]))
        assert data.questions[0].hard_negative_ids == ()

    def test_items_without_positives_are_counted(self, save):
        data = read_dpr(save([{**ITEM, "positive_ctxs": []}, ITEM]))
        assert [q.id for q in data.questions] == ["2"]
        assert data.left_out["question without positive passages"] == 1

    @pytest.mark.parametrize("name", ["data.json", "data.json.gz", "data.jsonl", "data.jsonl.gz"])
    def test_forms_of_the_file(self, save, name):
        rows = [{**ITEM, "id": "x"}, {**ITEM, "id": "y"}]
        content = "\n".join(map(json.dumps, rows)) if "jsonl" in name else json.dumps(rows)
        data = read_data(save(content.encode(), name))
        assert [question.id for question in data.questions] == ["x", "y"]
        assert len(data.passages) == 4

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"question": None}, "item 2: field 'question' must be non-empty text, found None"),
            ({"answers": "x"}, "item 2: field 'answers' must be a list, not str"),
            ({"answers": ["x", 3]}, "item 2: field 'answers' must hold non-empty texts, found 3"),
            ({"positive_ctxs": None}, "item 2: field 'positive_ctxs' must be a list, not NoneType"),
            ({"negative_ctxs": {}}, "item 2: field 'negative_ctxs' must be a list, not dict"),
            ({"positive_ctxs": ["x"]}, "item 2, positive_ctxs 1: expected an object, found str"),
            (
                {"hard_negative_ctxs": [context("a"), context("")]},
                "item 2, hard_negative_ctxs 2: field 'text' must be non-empty text, found ''",
            ),
            (
                {"positive_ctxs": [context("a", ["b"])]},
                "item 2, positive_ctxs 1: field 'title' must be text, found ['b']",
            ),
            (
                {"positive_ctxs": [context("a", psg_id=1.5)]},
                "item 2, positive_ctxs 1: field 'psg_id' must be text, found 1.5",
            ),
            ({"id": []}, "item 2: field 'id' must be text, found []"),
        ],
    )
    def test_mistakes_are_named_with_their_place(self, save, changes, message):
        path = save([ITEM, {**ITEM, **changes}])
        with pytest.raises(DataError, match=re.escape(f"{path}, {message}")):
            read_dpr(path)

    def test_other_lists_are_no_dpr_file(self, save):
        with pytest.raises(DataError, match="item 1: expected an object, found int"):
            read_data(save([1, 2]))
        with pytest.raises(DataError, match="item 1: field 'positive_ctxs' must be a list, not NoneType"):
            read_data(save([{"question": "?", "answers": []}]))

    def test_writes_what_it_reads(self, save, tmp_path):
        data = read_dpr(save([ITEM]))
        left_out = write_dpr(data, tmp_path / "again.json", "nq")
        assert +left_out == {"passage that no question names": 1}  # the plain negative
        (item,) = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
        assert item == {
            "id": "1",
            "dataset": "nq",
            "question": "Who named the lake?",
            "answers": ["John Speke", "Speke"],
            "positive_ctxs": [context(NILE, "Nile", passage_id="7"), context("The lake has a name.", passage_id="p1")],
            "negative_ctxs": [],
            "hard_negative_ctxs": [context("Lakes are named by kings.", "", passage_id="p4")],
        }
        assert read_dpr(tmp_path / "again.json").questions == data.questions
