from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.core.highlighting import Piece, marked_html, pieces


@st.composite
def marked_texts(draw):
    text = draw(st.text(max_size=40))
    place = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(place, place).map(sorted).map(tuple), max_size=4))
    return text, spans


@given(marked_texts())
def test_pieces_make_up_the_text_and_each_character_has_the_first_span_around_it(marked):
    text, spans = marked
    found = pieces(text, spans)
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text for piece in found)
    marks = [piece.mark for piece in found for _ in piece.text]
    wanted = [next((n for n, (a, b) in enumerate(spans) if a <= at < b), None) for at in range(len(text))]
    assert marks == wanted


def test_an_earlier_span_has_what_overlaps():
    assert pieces("abcdef", [(2, 4), (0, 6)]) == [Piece("ab", 1), Piece("cd", 0), Piece("ef", 1)]


@pytest.mark.parametrize("span", [(-1, 2), (2, 1), (3, 7)])
def test_a_span_outside_of_the_text_is_an_error(span):
    with pytest.raises(ValueError, match="not within a text of 6 characters"):
        pieces("abcdef", [span])


class Reader(HTMLParser):
    """What a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts = {"all": "", "marked": ""}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        self.tags.append(f"/{tag}")

    def handle_data(self, data):
        self.texts["all"] += data
        if self.tags and self.tags[-1] == "mark":
            self.texts["marked"] += data


def test_a_browser_sees_the_text_and_its_mark_and_no_other_markup():
    text = "<img src=x onerror=alert(1)> & </mark><script>x</script> “né😀e”"
    start = text.index("</mark>")
    reader = Reader()
    reader.feed(marked_html(text, [(start, start + 15)]))
    reader.close()
    assert reader.tags == ["mark", "/mark"]
    assert reader.texts == {"all": text, "marked": "</mark><script>"}


def test_offsets_count_characters_whatever_their_width():
    assert marked_html("😀 né 𝄞 end", [(5, 6)]) == "😀 né <mark>𝄞</mark> end"
