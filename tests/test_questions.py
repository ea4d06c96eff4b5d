"""Questions with answers, read from the forms in which people have them."""

from __future__ import annotations

import gzip
import json

import pytest

from rom_haystack.questions import read_questions

EXPECTED = [("Who stayed in orbit?", ("Collins", "Michael Collins")), ("Wann? 🚀", ("1969",))]
ROWS = [
    {"question": "Who stayed in orbit?", "answers": [{"text": "Collins", "start": 3}, {"text": "Michael Collins"}]},
    {"question": "Unanswerable?", "answers": []},
    {"question": "Wann? 🚀", "answers": ["1969", "1969", " "]},
]
SQUAD = {"version": "1.1", "data": [{"title": "Moon", "paragraphs": [{"context": "…", "qas": ROWS}]}]}


@pytest.mark.parametrize(
    "text",
    ["\n\n".join(map(json.dumps, ROWS)) + "\n", json.dumps(ROWS, indent=1), json.dumps(SQUAD)],
    ids=["lines", "list", "squad"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_form_is_read(tmp_path, text, packed):
    file = tmp_path / "questions"
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_questions(file) == EXPECTED


def test_a_single_line_is_a_question(tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps(ROWS[0]))
    assert read_questions(file) == EXPECTED[:1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no question with an answer"),
        (b"[]", "no question with an answer"),
        (json.dumps(ROWS[1]).encode(), "no question with an answer"),
        (b'{"question": "Who?"\n', r"line 1: not an object .* \(Expecting"),
        (b'{"question": "Who?", "answers": ["a"]}\nnothing', "line 2: not an object"),
        (b'[{"question": "Who?", "answers": "a"}]', "question 1: not an object"),
        (b'[{"question": "Who?", "answers": [1]}]', "question 1: not an object"),
        (b'{"data": [{"title": "none"}]}', "question 1: not an object"),
        (b"3", "question 1: not an object"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        (gzip.compress(b"[]")[:12], "damaged"),
        (gzip.compress(b"[]")[:10] + b"\xff" * 9, "damaged"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, data, message):
    file = tmp_path / "odd.json"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"odd\.json.*{message}"):
        read_questions(file)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_questions(tmp_path / "none")
