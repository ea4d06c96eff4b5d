"""Where quotes begin and end: whole characters, no outer space."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference.quotes import quote_bounds

TEXTS = st.text(st.sampled_from("ab \n\u3000\x1c\u200d\u0301\ufe0f👩💻👍🏽ह\u093fन") | st.characters(), max_size=12)


def splits_character(text, position):
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    modifier = "\U0001f3fb" <= after <= "\U0001f3ff"
    return "\u200d" in (before, after) or modifier or unicodedata.category(after)[0] == "M"


def plain(text, start, end):
    """Complete and trim one quote, character by character; None if it is all space."""
    while splits_character(text, start):
        start -= 1
    while splits_character(text, end):
        end += 1
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None


@given(TEXTS)
def test_every_quote_of_a_text(text):
    asked = [(start, end) for start in range(len(text) + 1) for end in range(start, len(text) + 1)]
    starts, ends = quote_bounds(text, *np.array(asked).T)
    found = zip(starts.tolist(), ends.tolist(), strict=True)
    assert [(start, end) if start < end else None for start, end in found] == [plain(text, *span) for span in asked]


@pytest.mark.parametrize(
    ("passage", "start", "end", "text"),
    [
        ("  red \n", 0, 7, "red"),
        ("\u3000red\u2003", 0, 5, "red"),
        ("cafe\u0301 noir", 0, 4, "cafe\u0301"),  # the accent stays with its letter
        ("le cafe\u0301\u0323", 3, 7, "cafe\u0301\u0323"),
        ("हिन्दी भाषा", 0, 1, "हि"),  # a spacing vowel sign
        ("हिन्दी भाषा", 1, 2, "हि"),
        ("a ❤\ufe0f b", 2, 3, "❤\ufe0f"),
        ("a 👩\u200d💻 b", 2, 3, "👩\u200d💻"),  # joined to what follows
        ("a 👩\u200d💻 b", 4, 5, "👩\u200d💻"),
        ("a 👍🏽 b", 2, 3, "👍🏽"),  # a skin tone
        ("a 👍🏽 b", 3, 4, "👍🏽"),
    ],
)
def test_trims_space_and_keeps_characters_whole(passage, start, end, text):
    starts, ends = quote_bounds(passage, np.array([start]), np.array([end]))
    assert passage[starts[0] : ends[0]] == text


@pytest.mark.parametrize("passage", [" \t\n ", "\u3000", ""])
def test_nothing_but_space(passage):
    starts, ends = quote_bounds(passage, np.array([0]), np.array([len(passage)]))
    assert starts[0] >= ends[0]
