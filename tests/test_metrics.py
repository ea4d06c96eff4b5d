"""SQuAD's and DPR's rules, on cases worked out by hand."""

from __future__ import annotations

import pytest

from rom_haystack.metrics import answer_tokens, exact_match, f1, has_answer, normalize_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel Tower.", "eiffel tower"),
        ("a an the", ""),
        ("theatre and another", "theatre and another"),
        ("U.S.A.", "usa"),
        ("«Zoë»", "«zoë»"),  # only ASCII punctuation is dropped
        ("", ""),
    ],
)
def test_normalize_answer(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_exact_match_takes_any_answer_and_none_means_empty() -> None:
    assert exact_match("the Moon", ["sun", "Moon!"]) == 1
    assert exact_match("Moon rock", ["Moon"]) == 0
    assert exact_match("", []) == 1
    assert exact_match("Moon", []) == 0


def test_f1_counts_shared_tokens() -> None:
    assert f1("the red red fox", ["red fox"]) == pytest.approx(2 * 2 / (3 + 2))
    assert f1("red", ["blue", "red fox"]) == pytest.approx(2 / 3)
    assert f1("blue", ["red"]) == 0
    assert f1("", []) == 1
    assert f1("the", ["red"]) == 0


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("In 1969, Neil Armstrong walked.", ["neil armstrong"], True),
        ("In 19690", ["1969"], False),
        ("It costs $5.50 today", ["$5.50"], True),
        ("Zoe\u0308 came", ["Zoë"], True),
        ("anything", ["", "  "], False),
        ("anything", [], False),
    ],
)
def test_has_answer_matches_whole_tokens(text: str, answers: list[str], expected: bool) -> None:
    assert has_answer(answer_tokens(text), answers) is expected
