from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference.context import MAX_CONTEXT, sentence_around, window_around

LONG_LINE = "This line was broken by the width of a page and not by its author"


def sentence(text: str, span: str) -> str:
    start = text.index(span)
    left, right = sentence_around(text, start, start + len(span))
    return text[left:right]


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("One came. Two left! Three?", "Two", "Two left!"),
        ("One came. Two left! Three?", "One", "One came."),
        ("One came. Two left! Three?", "Three?", "Three?"),
        ("One came. Two left! Three?", "left! Three", "Two left! Three?"),
        ("It was 1945. He left.", "1945.", "It was 1945."),
        (
            "Dr. J. Smith of the U.S. Army met Mr. Jones. He left.",
            "Army",
            "Dr. J. Smith of the U.S. Army met Mr. Jones.",
        ),
        ("It is 3.14 on example.org today. Yes.", "14", "It is 3.14 on example.org today."),
        ("Fruit, e.g. apples, is good. Meat is not.", "apples", "Fruit, e.g. apples, is good."),
        ("Well... he left. Yes.", "left", "Well... he left."),
        ('"Go!" she said. (He went.) Then rain.', "went", "(He went.)"),
        ('"Go!" She left.', "left", "She left."),
        ("A heading\n\nThe text of it", "text", "The text of it"),
        ("A heading\nThe text of it", "text", "The text of it"),
        (f"{LONG_LINE}\nParis by name. No.", "Paris", f"{LONG_LINE}\nParis by name."),
        (f"{LONG_LINE}\r\nParis by name. No.", "author", f"{LONG_LINE}\r\nParis by name."),
        ("short line\ngoes on here", "goes", "short line\ngoes on here"),
        (f"{LONG_LINE}\n\nParis", "Paris", "Paris"),
        ("first page\fsecond page", "second", "second page"),
        ("她来了。他走了！谁知道？", "他", "他走了！"),
        ("राम आया। सीता गई।", "सीता", "सीता गई।"),
        ("من جاء؟ ذهب الرجل.", "ذهب", "ذهب الرجل."),
        ("   spaces   ", "spaces", "spaces"),
        ("word", "word", "word"),
    ],
)
def test_sentences(text, span, expected):
    assert sentence(text, span) == expected


def test_context_is_capped_at_whole_words():
    text = "word " * 1000 + "ANSWER" + " word" * 1000
    found = sentence(text, "ANSWER")
    before, after = found.split("ANSWER")
    assert set(found.replace("ANSWER", "").split()) == {"word"}
    assert MAX_CONTEXT - 5 <= len(before) <= MAX_CONTEXT
    assert MAX_CONTEXT - 5 <= len(after) <= MAX_CONTEXT


def test_the_work_does_not_grow_with_the_text(monkeypatch):
    text = "x" * 2_000_000
    assert sentence_around(text, 1_000_000, 1_000_001) == (1_000_000 - MAX_CONTEXT, 1_000_001 + MAX_CONTEXT)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, "delta"), (5, "delta"), (12, "delta in"), (20, "to its delta in the"), (500, None)],
)
def test_windows_hold_whole_words(size, expected):
    text = "The Nile flows to its delta in the north of Egypt"
    start = text.index("delta")
    left, right = window_around(text, start, start + 5, size)
    assert text[left:right] == (expected or text)


def test_a_window_at_an_end_reaches_to_the_other_side():
    text = "Nile " + "water " * 20
    left, right = window_around(text, 0, 4, 22)
    assert text[left:right] == "Nile water water water"


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, 99)])
@pytest.mark.parametrize("around", [sentence_around, lambda *args: window_around(*args, 10)])
def test_spans_outside_the_text_are_refused(around, span):
    with pytest.raises(ValueError, match="not inside a text of 5"):
        around("abcde", *span)


@st.composite
def spans(draw):
    pieces = st.one_of(
        st.text(max_size=30), st.sampled_from([". ", "! ", "\n", "\n\n", "。", "Mr. ", " ", "...", '." '])
    )
    text = "".join(draw(st.lists(pieces, max_size=40)))
    start = draw(st.integers(0, len(text)))
    return text, start, draw(st.integers(start, len(text)))


@given(spans(), st.integers(1, 300))
def test_the_span_lies_inside_and_nothing_outgrows_its_cap(span, size):
    text, start, end = span
    left, right = sentence_around(text, start, end)
    assert 0 <= left <= start <= end <= right <= len(text)
    assert start - left <= MAX_CONTEXT
    assert right - end <= MAX_CONTEXT
    assert text[left:right][start - left : end - left] == text[start:end]
    assert left == start or not text[left].isspace()
    assert right == end or not text[right - 1].isspace()
    left, right = window_around(text, start, end, size)
    assert 0 <= left <= start <= end <= right <= len(text)
    assert right - left <= max(size, end - start)
