"""A passage in pieces that know how likely the answer begins and ends there."""

import numpy as np
import pytest

from demo.core.heat import Piece, as_html, likeliest, pieces, strength
from rom_haystack.inference import TokenProbabilities


def found(offsets, start, end):
    return TokenProbabilities(np.array(offsets).reshape(-1, 2), np.array(start), np.array(end), 0.1, 0.1, 0.5)


def test_pieces_are_the_whole_passage_with_the_tokens_numbers():
    text = "  The Nile, in Egypt. "
    cut = pieces(text, found([(2, 5), (6, 10), (15, 20)], [0.1, 0.7, 0.1], [0.0, 0.2, 0.7]))
    assert "".join(piece.text for piece in cut) == text
    assert [(p.text, p.begins, p.ends) for p in cut if p.begins or p.ends] == [
        ("The", 0.1, 0.0),
        ("Nile", 0.7, 0.2),
        ("Egypt", 0.1, 0.7),
    ]
    assert likeliest(cut, "begin").text == "Nile"
    assert likeliest(cut, "end").text == "Egypt"


def test_tokens_that_share_characters_show_each_once():
    text = "日本 is far"
    cut = pieces(text, found([(0, 1), (0, 2), (1, 2), (3, 5)], [0.2, 0.1, 0.3, 0.2], [0.1] * 4))
    assert "".join(piece.text for piece in cut) == text


def test_a_passage_without_tokens():
    assert pieces("", found([], [], [])) == []
    assert pieces("   ", found([], [], [])) == [Piece("   ")]
    assert likeliest([Piece("   ")], "begin") is None


def test_where_nothing_may_begin_nothing_is_likeliest():
    assert likeliest(pieces("word", found([(0, 4)], [0.0], [0.5])), "begin") is None


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", '"><script>x</script>', "a & b", "$\\alpha$ :red[x]"])
def test_text_is_escaped(text):
    html = as_html(pieces(text, found([(0, len(text))], [0.9], [0.9])))
    for character in "<>\"'":
        assert html.count(character) == as_html(pieces("x", found([(0, 1)], [0.9], [0.9]))).count(character)
    assert "<img" not in html
    assert "<script" not in html


def test_the_likeliest_are_marked_by_class_and_title_too():
    html = as_html(pieces("a b", found([(0, 1), (2, 3)], [0.8, 0.0], [0.1, 0.7])))
    assert '<span class="rom-token rom-begin"' in html
    assert 'title="begins here: 80.0%, ends here: 10.0%">a</span> <span class="rom-token rom-end"' in html


def test_faint_tokens_are_plain_text():
    html = as_html(pieces("a b", found([(0, 1), (2, 3)], [0.9, 0.001], [0.9, 0.001])))
    assert html.endswith("</span> b</p>")


def test_strength_grows_with_probability_and_stays_in_bounds():
    grows = [strength(p) for p in (-1, 0, 0.01, 0.1, 0.5, 1, 2)]
    assert grows == sorted(grows)
    assert (grows[0], grows[-1]) == (0, 1)
    assert grows[2] > 0.05
