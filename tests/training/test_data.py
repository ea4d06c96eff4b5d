"""Reading data, and naming the file, line and field of what can't be used."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions
from training.errors import DataError

GOOD = {"id": "q", "question": "Who?", "answers": [{"text": "She", "start": 0}], "passage_id": "p"}


def write(folder, stem, *lines, pack=False):
    content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()
    path = folder / f"{stem}.jsonl{'.gz' if pack else ''}"
    path.write_bytes(gzip.compress(content) if pack else content)
    return path


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_reads_both_forms(tmp_path, pack):
    write(tmp_path, "passages", {"id": "p", "title": "T", "text": "Été"}, {"id": "r", "text": "b"}, pack=pack)
    twice = [{"text": "She", "start": 0}, {"text": "She", "start": 9}, {"text": "her", "start": 4}]
    write(tmp_path, "questions", {**GOOD, "answers": twice}, {**GOOD, "id": "n", "answers": []}, pack=pack)
    assert read_passages(tmp_path) == {"p": Passage("p", "T", "Été"), "r": Passage("r", "", "b")}
    assert read_questions(tmp_path) == [
        Question("q", "Who?", ("She", "her"), "p", (0, 4)),
        Question("n", "Who?", (), "p"),
    ]


def test_a_byte_order_mark_and_empty_lines_are_passed_over(tmp_path):
    first, second = json.dumps({"id": "p", "text": "a"}), json.dumps({"id": "r", "text": "b"})
    write(tmp_path, "passages", f"\ufeff{first}", "", second)
    assert list(read_passages(tmp_path)) == ["p", "r"]


@pytest.mark.parametrize("field", ["id", "text"])
@pytest.mark.parametrize("value", [None, "", 3, ["a"]])
def test_passage_fields(tmp_path, field, value):
    path = write(tmp_path, "passages", {"id": "a", "text": "b"}, {"id": "p", "text": "b", field: value})
    message = f"{path}, line 2: field '{field}' must be non-empty text, found {value!r}"
    with pytest.raises(DataError, match=re.escape(message)):
        read_passages(tmp_path)


def test_an_id_of_two_texts(tmp_path):
    path = write(tmp_path, "passages", {"id": "p", "text": "a"}, {"id": "p", "text": "a", "title": "A"})
    assert read_passages(tmp_path)["p"].title == "A"
    write(tmp_path, "passages", {"id": "p", "text": "a"}, {"id": "p", "text": "b"})
    with pytest.raises(DataError, match=re.escape(f"{path}, line 2: the id 'p' belongs to a passage before it")):
        read_passages(tmp_path)


def test_a_title_that_is_no_text(tmp_path):
    write(tmp_path, "passages", {"id": "p", "text": "a", "title": ["A"]})
    with pytest.raises(DataError, match=r"line 1: field 'title' must be text, found \['A'\]"):
        read_passages(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "field 'id' must be non-empty text, found None"),
        ({"question": ""}, "field 'question' must be non-empty text, found ''"),
        ({"passage_id": 7}, "field 'passage_id' must be non-empty text, found 7"),
        ({"answers": "She"}, "field 'answers' must be a list, not str"),
        ({"answers": ["She"]}, "field 'text' must be non-empty text, found None"),
        ({"answers": [{"start": 1}]}, "field 'text' must be non-empty text, found None"),
        ({"answers": [{"text": "a", "start": "1"}]}, "field 'start' must be a whole number from 0, found '1'"),
        ({"answers": [{"text": "a", "start": -1}]}, "field 'start' must be a whole number from 0, found -1"),
        ({"unanswerable": "yes"}, "field 'unanswerable' must be true or false, found 'yes'"),
        ({"other_positive_ids": "p"}, "field 'other_positive_ids' must be a list, not str"),
        ({"hard_negative_ids": ["p", 3]}, "field 'hard_negative_ids' must hold passage ids, found 3"),
    ],
)
@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_question_fields(tmp_path, changes, message, pack):
    path = write(tmp_path, "questions", GOOD, GOOD, {**GOOD, **changes}, pack=pack)
    with pytest.raises(DataError, match=re.escape(f"{path}, line 3: {message}")):
        read_questions(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{oops", "not JSON"), ("[" * 100_000, "not JSON"), ("[1]", "expected an object, found list")],
    ids=["broken", "deep", "a list"],
)
def test_lines_that_are_no_objects(tmp_path, line, message):
    path = write(tmp_path, "questions", GOOD, line)
    with pytest.raises(DataError, match=re.escape(f"{path}, line 2: {message}")):
        read_questions(tmp_path)


def test_missing_file(tmp_path):
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(DataError, match=r"broken\.json: a file, .* convert-data .*broken\.json FOLDER --to jsonl"):
        read_questions(tmp_path / "broken.json")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: no passages.jsonl.gz or passages.jsonl there")):
        read_passages(tmp_path)


def test_damaged_files(tmp_path):
    packed = write(tmp_path, "questions", *[{**GOOD, "id": str(n)} for n in range(500)], pack=True)
    whole = packed.read_bytes()
    for content in (whole[: len(whole) // 2], b"no gzip at all"):
        packed.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(f"{packed}: can't be read")):
            read_questions(tmp_path)
    packed.unlink()
    (tmp_path / "questions.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"questions\.jsonl: can't be read"):
        read_questions(tmp_path)
