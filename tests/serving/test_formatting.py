"""Answers as Markdown: their layout, and that a document's text is never taken for Markdown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rom_haystack.serving.formatting import escaped, markdown

MARKDOWN = MarkdownIt("gfm-like", {"linkify": False})
NASTY = st.text(alphabet=st.sampled_from(list("ab1 \n\t\\`*_[]()<>&;#+-=.!~|$\"'é中’w:/@")), max_size=24)
# What GitHub's Markdown makes a link of though it is marked as none; a backslash within ends it.
BARE_ADDRESS = re.compile(r"(?:https?|ftp)://|www\.|[\w.+-]@[\w-]", re.IGNORECASE)


def answer(sentence, start, end, *, score=0.716, title="The Moon", file_path="the-moon.md", page=None):
    return {
        "answer": sentence[start:end],
        "score": score,
        "sentence": sentence,
        "sentence_start": start,
        "sentence_end": end,
        "document": {"title": title, "file_path": file_path, "page": page},
    }


def result(*answers, passages=()):
    return {"answered": bool(answers), "answers": list(answers), "passages": list(passages)}


def shown(text):
    """What a reader sees of some Markdown: the words, those in bold, and every kind of element."""
    words, bold, kinds, depth = [], [], set(), 0
    for block in MARKDOWN.parse(text):
        kinds.add(block.type)
        for token in block.children or []:
            kinds.add(token.type)
            depth += token.nesting if token.type.startswith("strong") else 0
            words.append(token.content)
            bold.append(token.content if depth else "")
    return "".join(words), "".join(bold), kinds


def plain(text):
    return re.sub(r"\s+", " ", text).strip()


def test_the_best_answer_comes_first_and_the_sources_last():
    pieces = list(
        markdown(
            result(
                answer("Collins stayed in orbit.", 0, 7),
                answer("They\nflew in  Apollo 11.", 14, 23, score=0.5),
                answer("See Wu, too.", 4, 6, score=0.1, title=None, file_path="a_b.pdf", page=7),
            )
        )
    )
    assert "".join(pieces).splitlines() == [
        "**Collins** (72%) [1]",
        "",
        "> **Collins** stayed in orbit.",
        "",
        "Further answers:",
        "",
        "- **Apollo 11** (50%) [1]: They flew in **Apollo 11**.",
        "- **Wu** (10%) [2]: See **Wu**, too.",
        "",
        "Sources:",
        "",
        "- [1] The Moon, the-moon.md",
        "- [2] a_b.pdf, page 7",
    ]
    assert pieces[0].startswith("**Collins**")
    assert len(pieces) == 6


def test_a_single_answer_has_no_further_ones():
    text = "".join(markdown(result(answer("Collins stayed.", 0, 7))))
    assert text == "**Collins** (72%) [1]\n\n> **Collins** stayed.\n\nSources:\n\n- [1] The Moon, the-moon.md\n"


def test_no_answer_names_the_nearest_passages_once_each():
    passages = [{"title": f"T{n // 2}", "file_path": None, "page": None} for n in range(20)]
    lines = "".join(markdown(result(passages=passages))).splitlines()
    assert lines[:4] == ["No answer found in these documents.", "", "Nearest passages:", ""]
    assert lines[4:] == [f"- T{n}" for n in range(5)]
    assert "".join(markdown(result())) == "No answer found in these documents."


ADDRESSES = [
    "https://evil.example/x?a=b",
    "FTP://evil.example",
    "(www.evil.example)",
    "WwW.evil.example",
    "a.b@c.example",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_bare_addresses_are_no_links(address):
    assert BARE_ADDRESS.search(address)
    sentence = f"see {address} for more"
    for quote in ("see", address, address[:3], address[3:], address[:6], address[6:]):
        start = sentence.index(quote)
        text = "".join(markdown(result(answer(sentence, start, start + len(quote), title=address))))
        assert not BARE_ADDRESS.search(text)
        assert shown(text.split("\n\n")[1])[0] == sentence
        assert shown(text)[0].endswith(f"[1] {address}, the-moon.md")


@given(NASTY)
def test_text_is_shown_as_it_is(text):
    words, bold, kinds = shown(f"- {escaped(text)}\n")
    assert words == plain(text)
    assert bold == ""
    assert kinds <= {
        "bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close", "paragraph_open",
        "paragraph_close", "inline", "text", "text_special",
    }  # fmt: skip


@given(NASTY, NASTY, NASTY)
def test_a_quote_is_shown_in_its_sentence(before, quote, after):
    quote = plain(quote)
    sentence = before + quote + after
    said = answer(sentence, len(before), len(before) + len(quote))
    best = "".join(markdown(result(said))).split("\n\n")[1]
    words, bold, kinds = shown(best)
    assert words == plain(sentence)
    assert bold in ("", quote)
    assert not kinds & {"link_open", "image", "html_inline", "code_inline", "em_open", "heading_open", "fence", "hr"}


def test_the_quote_is_in_bold_wherever_it_stands():
    for sentence, quote in [("It was 1969.", "1969"), ("“Moon”, he said.", "“Moon”"), ("我是月亮的孩子", "月亮")]:
        start = sentence.index(quote)
        text = "".join(markdown(result(answer(sentence, start, start + len(quote)))))
        assert shown(text.split("\n\n")[1])[1] == quote


@pytest.mark.parametrize(
    "text",
    ["![x](http://example.com/x.png)", "<img src=x>", "[a]: http://x", "1. one", "# Head", "&lt;", "$x$ and $y$"],
)
def test_nothing_is_loaded_or_rendered(text):
    words, _, kinds = shown(escaped(text))
    assert words == text
    assert kinds == {"paragraph_open", "inline", "text", "paragraph_close"}
