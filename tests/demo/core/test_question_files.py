"""Uploaded files of questions."""

import gzip
import json

import pytest

from demo.core import question_files
from demo.core.question_files import QuestionFileError, read_question_set, sample_question_set

SQUAD = {"question": "Who?", "answers": [{"text": "Me", "answer_start": 0}]}


def squad(*contexts: str) -> bytes:
    return json.dumps({"data": [{"paragraphs": [{"context": text, "qas": [SQUAD]} for text in contexts]}]}).encode()


def test_a_table_has_no_paragraphs():
    asked = read_question_set("q.csv", b"question,answer\nWho?,me\nWhy?,\n")
    assert (len(asked.questions), asked.unanswerable, asked.on_paragraphs) == (2, 1, False)


def test_a_squad_file_has_paragraphs():
    assert read_question_set("q.json", squad("Me it was.", "Me again.")).on_paragraphs
    assert not read_question_set("q.json", squad("Me it was.", "")).on_paragraphs


def test_the_sample_is_there():
    asked = sample_question_set()
    assert len(asked.questions) > 40
    assert asked.unanswerable == 0


def test_draws_are_the_same_every_time_and_in_the_files_order():
    asked = sample_question_set()
    drawn = asked.draw(10)
    assert len(set(drawn)) == 10
    assert drawn == asked.draw(10)
    assert list(drawn) == sorted(drawn, key=asked.questions.index)
    assert drawn != asked.questions[:10]
    assert asked.draw(10_000) == asked.questions


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b" " * (question_files.MAX_BYTES + 1), "a.csv has 20.0 MB; the limit is 20 MB. Split it"),
        ("a.csv", gzip.compress(b"question,answer", mtime=0), "a.csv is packed by gzip. Unpack it first"),
        ("a.csv", b"question,answer\n ,x\n", "a.csv, line 2, column 'question'"),
        ("a.json", b"{}", "a.json, question 1"),
        ("a.csv", b"question,answer\nok?,x\n" + b"y" * 1001 + b",x", "question 2: the question has 1,001 characters"),
        ("a.json", squad("x" * 100_001), "question 1: the paragraph has 100,001 characters; the limit is 100,000"),
    ],
)
def test_what_can_not_be_used_is_named(name, data, message):
    with pytest.raises(QuestionFileError, match=message):
        read_question_set(name, data)
