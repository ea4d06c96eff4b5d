"""SQuAD's rules, on cases worked out by hand."""

from __future__ import annotations

import pytest

from rom_haystack.metrics import exact_match, f1, normalize_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel Tower.", "eiffel tower"),
        ("a an the", ""),
        ("theatre and another", "theatre and another"),
        ("U.S.A.", "usa"),
        ("«Zoë»", "«zoë»"),  # only ASCII punctuation is dropped
        ("", ""),
        (" \t\n\u00a0", ""),
        ("?!", ""),
        ("A-Team", "ateam"),  # punctuation goes first, so no article is left to drop
        ("a.m.", "am"),
        ("the-end", "theend"),
        ("(the) end", "end"),
        ("THE END", "end"),
        ("1,000", "1000"),
        ("3.5 %", "35"),
        ("l’an 2000", "l’ 2000"),  # no ASCII apostrophe: the word's edge is there, and the article goes
        ("New\u2003York\u2028City", "new york city"),
        ("İstanbul", "i̇stanbul"),
        ("São Tomé", "são tomé"),
        ("Sa\u0303o Tome\u0301", "sa\u0303o tome\u0301"),  # not composed: unequal to the line above
        ("東京", "東京"),
        ("don't", "dont"),
        ("snake_case", "snakecase"),
    ],
)
def test_normalize_answer(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "overlap"),
    [
        # several golds, duplicates, order
        ("the Moon", ["sun", "Moon!"], 1, 1),
        ("Moon rock", ["Moon"], 0, 2 / 3),
        ("red", ["blue", "red fox"], 0, 2 / 3),
        ("red", ["red fox", "red fox", "blue"], 0, 2 / 3),
        ("fox red", ["red fox"], 0, 1),
        # repeated words count as often as both have them
        ("the red red fox", ["red fox"], 0, 2 * 2 / (3 + 2)),
        ("red red", ["red red red"], 0, 2 * 2 / (2 + 3)),
        ("blue", ["red"], 0, 0),
        # white space, punctuation, digits
        ("  New\nYork ", ["New York"], 1, 1),
        ("New-York", ["New York"], 0, 0),
        ("1,000", ["1000"], 1, 1),
        ("1000 km", ["1,000"], 0, 2 / 3),
        ("٣", ["3"], 0, 0),
        ("Zoë", ["Zoe\u0308"], 0, 0),
        # unanswerable: only an empty prediction is right
        ("", [], 1, 1),
        ("  ", [], 1, 1),
        ("Moon", [], 0, 0),
        ("the", [], 1, 1),
        ("", [""], 1, 1),
        ("Moon", ["", ""], 0, 0),
        # nothing left of the prediction
        ("", ["red"], 0, 0),
        ("the", ["red"], 0, 0),
        # nothing left of the only gold answer: the empty answer is right, as in 2.0 (F1 in 1.1: 0)
        ("the", ["The"], 1, 1),
        ("", ["the"], 1, 1),
        ("an", ["?"], 1, 1),
        ("red", ["the"], 0, 0),
        # nothing left of one gold answer among others: it counts for nothing, as in 2.0 (EM in 1.1: 1)
        ("a", ["the", "red"], 0, 0),
        ("", ["", "red"], 0, 0),
        ("red", ["the", "red"], 1, 1),
    ],
)
def test_exact_match_and_f1(prediction: str, answers: list[str], em: float, overlap: float) -> None:
    assert exact_match(prediction, answers) == em
    assert f1(prediction, answers) == pytest.approx(overlap)


def test_answers_may_come_in_any_sequence() -> None:
    assert exact_match("red", ("blue", "red")) == 1
    assert f1("red", ("blue", "red fox")) == pytest.approx(2 / 3)
