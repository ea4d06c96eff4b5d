"""Judgements of answers become a SQuAD file that training reads."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.core.feedback import FeedbackError, FeedbackFile
from rom_haystack.questions import read_squad
from training.data.squad import read_squad as read_for_training

CONTEXT = "Marie Curie found radium in 1898. She found polonium\nin July 1898."
QUESTION = "When was radium found?"


@pytest.fixture
def file(tmp_path):
    return FeedbackFile(tmp_path / "new" / "feedback.json")


def say(file, quote="1898", start=28, *, right, question=QUESTION, context=CONTEXT, title="Radium", correction=None):
    file.add(question, context, title, quote, start, right=right, correction=correction)


def rows(file):
    whole = json.loads(file.path.read_text())
    return [row for article in whole["data"] for paragraph in article["paragraphs"] for row in paragraph["qas"]]


def test_a_right_quote_is_an_answer(file):
    say(file, right=True)
    (question,) = read_squad(file.path)
    assert (question.query, question.context) == (QUESTION, CONTEXT)
    assert question.answers == ("1898",)
    assert question.spans == ((28, 32),)


def test_a_wrong_quote_is_plausible_and_the_question_impossible(file):
    say(file, "Marie Curie", 0, right=False)
    (row,) = rows(file)
    assert row["is_impossible"] is True
    assert row["answers"] == []
    assert row["plausible_answers"] == [{"text": "Marie Curie", "answer_start": 0}]


def test_a_correction_is_the_answer_nearest_to_the_quote_in_the_passages_words(file):
    say(file, "polonium", 44, right=False, correction="  POLONIUM in  july ")
    assert rows(file)[0]["answers"] == [{"text": "polonium\nin July", "answer_start": 44}]
    say(file, "July", 56, right=False, correction="1898", question="When was polonium found?")
    assert rows(file)[1]["answers"] == [{"text": "1898", "answer_start": 61}]


def test_no_answer_can_be_right_or_wrong(file):
    say(file, None, 0, right=True)
    assert rows(file)[0]["is_impossible"] is True
    assert "plausible_answers" not in rows(file)[0]
    say(file, None, 0, right=False, correction="1898")
    (row,) = rows(file)
    assert row["is_impossible"] is False
    assert row["answers"] == [{"text": "1898", "answer_start": 28}]
    say(file, None, 0, right=True)
    assert rows(file)[0]["answers"] == []


def test_what_is_said_last_of_an_answer_holds(file):
    say(file, right=True)
    say(file, right=True)
    assert len(rows(file)[0]["answers"]) == 1
    say(file, right=False)
    (row,) = rows(file)
    assert (row["answers"], row["is_impossible"]) == ([], True)
    say(file, right=True)
    (row,) = rows(file)
    assert (len(row["answers"]), row["is_impossible"], "plausible_answers" in row) == (1, False, False)


def test_a_later_correction_takes_the_place_of_an_earlier_one(file):
    say(file, "Marie Curie", 0, right=False, correction="radium")
    say(file, "Marie Curie", 0, right=False, correction="1898")
    assert [answer["text"] for answer in rows(file)[0]["answers"]] == ["1898"]
    say(file, "Marie Curie", 0, right=False, correction=" ")
    (row,) = rows(file)
    assert (row["answers"], row["is_impossible"]) == ([], True)
    assert [answer["text"] for answer in row["plausible_answers"]] == ["Marie Curie"]


def test_a_correction_that_is_taken_back_leaves_what_was_said_of_its_words_themselves(file):
    say(file, right=True)
    say(file, "Marie Curie", 0, right=False, correction="1898")
    say(file, "Marie Curie", 0, right=False)
    assert [answer["text"] for answer in rows(file)[0]["answers"]] == ["1898"]


def test_what_was_said_can_be_taken_back(file):
    say(file, right=True)
    say(file, "Marie Curie", 0, right=False, correction="radium")
    file.withdraw(QUESTION, CONTEXT, "Radium", "Marie Curie", 0)
    (row,) = rows(file)
    assert ([answer["text"] for answer in row["answers"]], row.get("plausible_answers")) == (["1898"], None)
    file.withdraw(QUESTION, CONTEXT, "Radium", "1898", 28)
    assert json.loads(file.path.read_text())["data"] == []


def test_no_answer_that_is_taken_back_gives_way_to_what_was_said_before(file):
    say(file, right=True)
    say(file, None, 0, right=True)
    assert rows(file)[0]["answers"] == []
    with pytest.raises(FeedbackError, match="copy its words"):
        say(file, None, 0, right=False)
    assert [answer["text"] for answer in rows(file)[0]["answers"]] == ["1898"]


def test_where_nothing_was_said_there_is_nothing_to_take_back(file):
    file.withdraw(QUESTION, CONTEXT, "Radium", "1898", 28)
    assert not file.path.exists()
    say(file, right=True, question="Who?")
    before = file.path.read_text()
    file.withdraw(QUESTION, CONTEXT, "Radium", "1898", 28)
    assert file.path.read_text() == before


def test_answers_that_others_wrote_into_the_file_stay(file):
    say(file, right=True)
    whole = json.loads(file.path.read_text())
    row = whole["data"][0]["paragraphs"][0]["qas"][0]
    del row["judgements"]
    row["answers"].append({"text": "in 1898", "answer_start": 25})
    file.path.write_text(json.dumps(whole))
    say(file, "Marie Curie", 0, right=False)
    assert [answer["text"] for answer in rows(file)[0]["answers"]] == ["1898", "in 1898"]


def test_another_answer_of_the_same_passage_joins_the_first(file):
    say(file, right=True)
    say(file, "in 1898", 25, right=True)
    say(file, "Marie Curie", 0, right=False)
    (row,) = rows(file)
    assert [answer["text"] for answer in row["answers"]] == ["1898", "in 1898"]
    assert row["is_impossible"] is False


def test_training_reads_it(file):
    say(file, right=True)
    say(file, "Marie Curie", 0, right=False, question="Who found gold? \ud83d\ude80 \ud800")
    say(file, "x", 0, right=True, context="x marks the spot", title="Map", question="What marks it?")
    data = read_for_training(file.path)
    assert [(question.answers, question.unanswerable) for question in data.questions] == [
        (("1898",), False),
        ((), True),
        (("x",), False),
    ]
    assert {passage.title for passage in data.passages.values()} == {"Radium", "Map"}
    assert data.questions[1].text == "Who found gold? 🚀 \ufffd"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correction": "1911"}, "'1911' does not stand in this passage. Copy"),
        ({"quote": None}, "copy its words"),
        ({"quote": None, "correction": "  "}, "copy its words"),
        ({"start": 27}, "'1898' does not stand at character 27"),
    ],
)
def test_what_can_not_be_kept_is_refused_and_nothing_written(file, changes, message):
    with pytest.raises(FeedbackError, match=message):
        say(file, right=False, **changes)
    assert not file.path.exists()


@pytest.mark.parametrize("damaged", ["", "[]", '{"data": 3}', '{"data": [{"title": "x"}]}', "[" * 10**6])
def test_a_damaged_file_is_left_alone(file, damaged):
    file.path.parent.mkdir()
    file.path.write_text(damaged)
    with pytest.raises(FeedbackError, match=r"feedback\.json is no SQuAD file any more"):
        say(file, right=True)
    assert file.path.read_text() == damaged


def test_a_file_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FeedbackError, match="can't be written"):
        say(FeedbackFile(tmp_path / "taken" / "feedback.json"), right=True)


def test_nothing_is_lost_when_many_judge_at_once(file):
    def judge(number):
        say(FeedbackFile(file.path), right=True, question=f"Question {number}?", title=f"Title {number % 3}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(judge, range(40)))
    assert len(rows(file)) == 40
