"""What answers look like, and what is said of how likely they are."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from haystack import Document

from demo.core.results import FoundPassage, Quote
from demo.core.wording import chance, percent
from demo.views import cards

PASSAGE = FoundPassage(Document(content="Alpha is <one>.", meta={"title": "A", "file_path": "a.txt"}), 1.0, 1, 1)
QUOTE = Quote("Alpha", 0.5, 0, 5, "Alpha is <one>.", 0, 5, None, PASSAGE)


def text_of(markup: str) -> str:
    return re.sub(r"<[^>]+>", "", markup)


@pytest.mark.parametrize(
    ("score", "word"), [(0.42, "unlikely"), (0.6, "unsure"), (0.7, "likely"), (0.75, "very likely")]
)
def test_the_percentage_is_the_share_of_such_answers_that_are_right_not_the_score(score, word):
    shown = text_of(cards.best_card(replace(QUOTE, score=score)))
    assert re.search(rf"{percent(chance(score))} {word}: about \d of 10 such answers are right$", shown)
    assert percent(score) not in shown


def test_the_score_of_a_further_answer_is_called_one():
    assert text_of(cards.score_line(replace(QUOTE, score=0.7, page=3))) == "Possible, score 70%, page 3"


def test_no_answer_claims_no_share_that_was_never_measured():
    assert "%" not in text_of(cards.no_answer_card(10))
    assert "none of them seems to answer" in cards.no_answer_card(10)
    assert "Not one passage" in cards.no_answer_card(0)


def test_long_passages_are_cut_at_a_word_and_all_is_escaped():
    passage = FoundPassage(replace(PASSAGE.document, content="<b>word</b> " * 60), 1.0, 1, 1)
    shown = cards.passage_card(passage)
    assert "<b>" not in shown
    assert shown.endswith("&lt;b&gt;word&lt;/b&gt; …</p></div>")
