"""SQuAD's files: read, written, and what can't be used named with its place."""

from __future__ import annotations

import json
import re

import pytest

from training.data.dataset import Passage, Question, text_id
from training.data.formats import read_data
from training.data.squad import find_answer, read_squad, write_squad
from training.errors import DataError

from .conftest import MOON, NILE, QA, SQUAD


class TestSquad:
    def test_reads_both_versions(self, save):
        data = read_squad(save(SQUAD))
        nile, moon = text_id(NILE), text_id(MOON)
        assert data.passages == {nile: Passage(nile, "Nile", NILE), moon: Passage(moon, "Moon", MOON)}
        assert data.questions == [
            Question("a1", "Who named the lake?", ("Speke", "John Speke"), nile, (27, 22)),
            Question("a2", "Who drained the lake?", (), nile, unanswerable=True),
            Question("b1", "Who stayed?", ("Michael Collins",), moon, (26,)),
        ]
        assert +data.left_out == {"list of plausible answers": 1}

    def test_equal_paragraphs_are_one_passage(self, save):
        articles = [{"title": title, "paragraphs": [{"context": NILE, "qas": [QA]}]} for title in ("", "A", "B")]
        data = read_squad(save({"data": articles}))
        assert [passage.title for passage in data.passages.values()] == ["A"]
        assert {question.passage_id for question in data.questions} == set(data.passages)
        assert data.left_out["further title of a passage (the first is kept)"] == 1

    def test_offsets_are_kept_where_they_are_right(self, save):
        answers = [
            {"text": "Nile", "answer_start": 80},
            {"text": "Nile", "answer_start": 81},
            {"text": "Nile", "answer_start": 4},
            {"text": "1858", "answer_start": 3},
            {"text": "north"},
            {"text": "orbit", "answer_start": 10**9},
        ]
        paragraph = {"context": NILE, "qas": [{"id": 24526, "question": "?", "answers": answers}]}
        data = read_squad(save({"data": [{"title": "Nile", "paragraphs": [paragraph]}]}))
        (question,) = data.questions
        assert question.id == "24526"  # as annotation tools write them
        assert dict(zip(question.answers, question.starts, strict=True)) == {
            "Nile": 81,
            "1858": None,
            "north": None,
            "orbit": None,
        }
        assert +data.left_out == {"repeated answer of a question": 2, "offset of an answer that stands elsewhere": 3}

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (["data", 1], 3, "article 2: expected an object, found int"),
            (["data", 1, "title"], 3.5, "article 2: field 'title' must be text, found 3.5"),
            (["data", 1, "paragraphs"], None, "article 2: field 'paragraphs' must be a list, not NoneType"),
            (["data", 0, "paragraphs", 0], "x", "article 1, paragraph 1: expected an object, found str"),
            (
                ["data", 0, "paragraphs", 0, "context"],
                "",
                "article 1, paragraph 1: field 'context' must be non-empty text, found ''",
            ),
            (["data", 0, "paragraphs", 0, "qas"], {}, "article 1, paragraph 1: field 'qas' must be a list, not dict"),
            (["data", 0, "paragraphs", 0, "qas", 1], [], "article 1, paragraph 1, question 2: expected an object"),
            (["data", 0, "paragraphs", 0, "qas", 1, "id"], None, "question 2: field 'id' must be non-empty text"),
            (["data", 0, "paragraphs", 0, "qas", 1, "id"], True, "question 2: field 'id' must be text, found True"),
            (["data", 0, "paragraphs", 0, "qas", 0, "question"], 5, "question 1: field 'question' must be non-empty"),
            (["data", 0, "paragraphs", 0, "qas", 0, "answers"], "x", "question 1: field 'answers' must be a list"),
            (["data", 0, "paragraphs", 0, "qas", 0, "answers", 0], "x", "question 1: field 'text' must be non-empty"),
            (
                ["data", 0, "paragraphs", 0, "qas", 0, "answers", 0, "answer_start"],
                "27",
                "question 1: field 'answer_start' must be a whole number from 0, found '27'",
            ),
            (
                ["data", 0, "paragraphs", 0, "qas", 0, "is_impossible"],
                "no",
                "question 1: field 'is_impossible' must be true or false, found 'no'",
            ),
        ],
    )
    def test_mistakes_are_named_with_their_place(self, save, path, value, message):
        changed = json.loads(json.dumps(SQUAD))
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file = save(changed)
        with pytest.raises(DataError, match=re.escape(message)) as error:
            read_squad(file)
        assert str(error.value).startswith(f"{file}, article ")

    @pytest.mark.parametrize("value", [{"data": []}, {"data": {"title": "x"}}, {"passages": [1]}, {}])
    def test_other_objects_are_no_squad_file(self, save, value):
        with pytest.raises(DataError, match=r"no articles there. A SQuAD file is an object with a list 'data'"):
            read_data(save(value))

    def test_answers_of_impossible_questions_are_counted(self, save):
        qas = [{**QA, "is_impossible": True}]
        data = read_squad(save({"data": [{"title": "Nile", "paragraphs": [{"context": NILE, "qas": qas}]}]}))
        assert data.questions[0].answers == data.questions[0].starts == ()
        assert data.left_out["answer of an impossible question"] == 2

    def test_round_trip_is_whole(self, save, tmp_path):
        data = read_squad(save(SQUAD))
        assert +write_squad(data, tmp_path / "again.json") == {}
        again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
        assert again["version"] == "2.0"
        assert read_squad(tmp_path / "again.json") == data
        answerable = json.loads(json.dumps(SQUAD))
        del answerable["data"][0]["paragraphs"][0]["qas"][1]
        write_squad(read_squad(save(answerable)), tmp_path / "first.json")
        first = json.loads((tmp_path / "first.json").read_text(encoding="utf-8"))
        assert first["version"] == "1.1"
        assert set(first["data"][0]["paragraphs"][0]["qas"][0]) == {"id", "question", "answers"}


@pytest.mark.parametrize(
    ("answer", "text", "place"),
    [("cat", "concat cat", 7), ("cat", "concat", 3), ("(a)", "(a)", 0), ("dog", "cat", None), ("a.c", "abc", None)],
)
def test_answers_are_found_as_whole_words_first(answer, text, place):
    assert find_answer(answer, text) == place
