"""Questions and texts to measure engines with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rom_haystack.inference.samples import Question, read_sample


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "a.md").write_text("# A\n\nRadium glows.\nIt is rare.\n\n## More\n\nThe Nile flows north.\n")
    (tmp_path / "b.txt").write_text('He said "no".\n')
    path = tmp_path / "questions.tsv"
    path.write_text(
        'file\tquestion\tanswer\nb.txt\tWhat did he say?\t"no"\na.md\tWhere to?\tnorth\na.md\tWhat?\tRadium\n'
    )
    return path


def test_passages_are_paragraphs_and_questions_know_theirs(table):
    sample = read_sample(table, table.parent)
    assert sample.passages == ('He said "no".', "Radium glows.\nIt is rare.", "The Nile flows north.")
    assert sample.questions == (
        Question("What did he say?", '"no"', 0),
        Question("Where to?", "north", 2),
        Question("What?", "Radium", 1),
    )
    assert sample.pairs()[1] == ("Where to?", "The Nile flows north.")


def test_parts_take_whole_files(table):
    one, other = (read_sample(table, table.parent, part=slice(start, None, 2)) for start in (0, 1))
    assert (one.passages, len(one.questions)) == (('He said "no".',), 1)
    assert (len(other.passages), len(other.questions)) == (2, 2)


def test_the_bundled_sample():
    sample = read_sample()
    assert (len(sample.passages), len(sample.questions)) == (260, 52)
    assert all(question.answer in sample.passages[question.passage] for question in sample.questions)
    assert not any("#" in passage for passage in sample.passages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file\tquestion\tanswer\n", "holds no questions"),
        ("", "holds no questions"),
        ("file\tquestion\na.md\tWhat?\n", "line 2: no answer"),
        ("a.md\tWhat?\tRadium\na.md\tWhat?\tRadium\n", "line 2: no file and no question and no answer"),
        ("file\tquestion\tanswer\na.md\tWhat?\tRad\n\tWhat?\tRadium\n", "line 3: no file"),
        ("file\tquestion\tanswer\na.md\tWhat?\tPolonium\n", "no paragraph of 'a.md' holds the answer 'Polonium'"),
        ("file\tquestion\tanswer\na.md\tWhat?\trare.\n\nThe Nile\n", "line 4: no question and no answer"),
        ("file\tquestion\tanswer\nc.md\tWhat?\tRadium\n", r"c\.md can't be read"),
    ],
)
def test_mistakes_are_named(table, content, message):
    table.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_sample(table, table.parent)


def test_what_is_no_text_is_named(table):
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"questions\.tsv is no UTF-8 text"):
        read_sample(table, table.parent)
