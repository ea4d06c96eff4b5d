"""Plain text as data: each paragraph a passage."""

from __future__ import annotations

import gzip
import re

import pytest

from training.data.formats import read_data
from training.errors import DataError

TEXT = "First line\nand  the next.\n\n \t\nSecond paragraph.\n\nFirst line and the next.\n\r\nLast"
PASSAGES = ["First line and the next.", "Second paragraph.", "Last"]


def texts(data):
    return [passage.text for passage in data.passages.values()]


@pytest.mark.parametrize("name", ["notes.txt", "notes.md", "notes.txt.gz"])
def test_paragraphs_are_passages(tmp_path, name):
    content = ("\ufeff" + TEXT).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    data = read_data(tmp_path / name)
    assert texts(data) == PASSAGES  # the one that comes twice is kept once
    assert {passage.title for passage in data.passages.values()} == {"notes"}
    assert all(name == passage.id for name, passage in data.passages.items())
    assert data.questions == []


def test_folders_are_read_with_those_below(tmp_path):
    (tmp_path / "below").mkdir()
    for name, content in (("b.txt", "B.\n\nA."), ("a.md", "A."), ("below/c.txt", "C."), ("d.json", "{}")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    data = read_data(tmp_path)
    assert [(p.title, p.text) for p in data.passages.values()] == [("a", "A."), ("b", "B."), ("c", "C.")]


def test_json_lines_go_first(data_root):
    (data_root / "mini" / "readme.txt").write_text("About this data.", encoding="utf-8")
    assert len(read_data(data_root / "mini").passages) == 7


def test_json_lines_without_questions_are_a_corpus(data_root):
    (data_root / "mini" / "questions.jsonl").unlink()
    data = read_data(data_root / "mini")
    assert (len(data.passages), data.questions) == (7, [])


@pytest.mark.parametrize(("content", "message"), [(b"\n \n", "no text there"), (b"\xff\xfe", "can't be read")])
def test_what_holds_no_text(tmp_path, content, message):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        read_data(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none.txt'}: can't be read")):
        read_data(tmp_path / "none.txt")
