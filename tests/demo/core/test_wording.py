from __future__ import annotations

import re

import pytest
from haystack import Document
from hypothesis import given
from hypothesis import strategies as st

from demo.core.wording import (
    LONGEST_QUESTION,
    chance,
    counted,
    duration,
    excerpt,
    further_likelihood,
    in_ten,
    likelihood,
    literal,
    percent,
    place_of,
    title_of,
    too_long,
)


@given(st.text(max_size=60))
def test_literal_texts_read_as_they_were_on_one_line(text):
    shown = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", literal(text)).replace("\u2060", "")
    assert shown == " ".join(text.replace("\u2060", "").split())


@pytest.mark.parametrize(
    "text", [":red[x]", "$a$", "# a", "<b>", "[a](b)", "![a](b)", "*a*", "`a`", "~a~", "1. a", "a|b"]
)
def test_what_markdown_might_see_is_escaped(text):
    special = re.findall(r"(?<!\\)[#$*\[\]()<>`~|.!]", literal(text))
    assert special == []


@pytest.mark.parametrize("text", [":smile:", ":material/delete:", ":+1:"])
def test_no_icons_or_emojis_are_made_of_texts(text):
    assert ":\u2060" in literal(text)


def test_nothing_is_certain_and_nothing_impossible():
    assert [percent(score) for score in (0.0, 0.004, 0.5, 0.724, 0.999, 1.0)] == [
        "1%",
        "1%",
        "50%",
        "72%",
        "99%",
        "99%",
    ]


def test_the_share_that_is_right_rises_with_the_score_and_is_that_of_the_words():
    shares = [chance(score / 1000) for score in range(1001)]
    assert shares == sorted(shares)
    # What benchmarks/README.md says is right from one word to the next.
    assert chance(0.5) < 0.6
    assert 0.55 < chance(0.6) < 0.7
    assert 0.75 < chance(0.7) < 0.9
    assert chance(0.75) > 0.9


def test_between_two_measured_scores_a_share_lies_between_theirs(monkeypatch):
    monkeypatch.setattr("demo.core.wording._RIGHT", ((0.5, 0.2), (0.6, 0.4), (0.8, 1.0)))
    scores = (0.0, 0.5, 0.55, 0.6, 0.75, 0.8, 1.0)
    assert [chance(score) for score in scores] == pytest.approx([0.2, 0.2, 0.3, 0.4, 0.85, 1.0, 1.0])


def test_shares_of_ten_are_never_none_or_all():
    assert [in_ten(share) for share in (0.0, 0.34, 0.88, 1.0)] == [
        "about 1 of 10",
        "about 3 of 10",
        "about 9 of 10",
        "about 9 of 10",
    ]


def test_an_excerpt_ends_with_a_whole_word():
    assert excerpt("One  two\nthree", 13) == "One two three"
    assert excerpt("One  two\nthree", 12) == "One two …"


def test_a_question_that_is_too_long_is_told_its_length_and_the_limit():
    assert too_long("x" * LONGEST_QUESTION) is None
    assert too_long("x" * 10_000) == "The question has 10,000 characters; the limit is 500."


def test_words_go_with_the_score():
    words = [likelihood(score / 100) for score in range(101)]
    assert list(dict.fromkeys(words)) == ["unlikely", "unsure", "likely", "very likely"]


def test_further_answers_are_never_said_to_be_likely():
    assert {further_likelihood(score / 100) for score in range(101)} == {"possible", "unlikely"}
    assert further_likelihood(0.7) == "possible"


def test_a_document_is_named_by_its_title_else_by_its_file():
    assert title_of(Document(content="x", meta={"title": "The Moon", "file_path": "the-moon.md"})) == "The Moon"
    assert title_of(Document(content="x", meta={"file_path": "a/b.txt"})) == "a/b.txt"
    assert title_of(Document(content="x", meta={"title": "b", "file_path": "a/b.txt"})) == "a/b.txt"
    assert title_of(Document(content="x")) == "Untitled"


def test_a_place_is_the_page_and_the_file():
    document = Document(content="x", meta={"title": "Report", "file_path": "r.pdf", "page_number": 3})
    assert place_of(document) == "page 3, r.pdf"
    assert place_of(document, 4) == "page 4, r.pdf"
    assert place_of(Document(content="x", meta={"file_path": "b.txt"})) == ""


def test_where_there_are_no_pages_the_place_is_the_section():
    text = "The Moon\nTides\nIt causes tides.\n\nPhases\nNew Moon is dark."
    document = Document(content=text, meta={"title": "The Moon", "file_path": "the-moon.md"})
    assert place_of(document, at=text.index("causes")) == "Tides, the-moon.md"
    assert place_of(document, at=text.index("dark")) == "Phases, the-moon.md"
    assert place_of(document, at=0) == "the-moon.md"
    assert place_of(Document(content="The Moon\nIt shines.", meta=document.meta)) == "the-moon.md"


def test_counts_and_times_as_people_write_them():
    assert counted(1, "passage") == "1 passage"
    assert counted(1200, "passage") == "1,200 passages"
    assert counted(2, "query", "queries") == "2 queries"
    assert [duration(0.0841), duration(2.04)] == ["84 ms", "2.0 s"]
