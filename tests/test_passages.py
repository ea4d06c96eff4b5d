import pytest
from haystack import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from rom_haystack.files import MARKDOWN, PDF, SOURCE, TEXT
from rom_haystack.passages import PassageSplitter, tidy

SENTENCE = "The quick brown fox jumps over the lazy dog. "


def split(text, *, mime_type=None, **options):
    meta = {"mime_type": mime_type, SOURCE: "x"} if mime_type else {}
    return PassageSplitter(**options).run([Document(content=text, meta=meta)])["documents"]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab. \n\f\u3000é日\U0001f600", max_size=400), st.integers(1, 12), st.integers(0, 5))
def test_passages_are_quotes_and_lose_no_text(text, length, overlap):
    passages = split(text, split_length=length, split_overlap=min(overlap, length - 1))
    if len(passages) == 1 and "split_id" not in passages[0].meta:
        assert passages[0].content == text
        return
    covered = [False] * len(text)
    for passage in passages:
        start = passage.meta["split_idx_start"]
        assert text[start : start + len(passage.content)] == passage.content
        assert passage.content == passage.content.strip() != ""
        covered[start : start + len(passage.content)] = [True] * len(passage.content)
    assert all(covered[i] or character.isspace() for i, character in enumerate(text))


def test_passages_end_with_sentences_and_keep_to_the_length():
    passages = split(SENTENCE * 100, split_length=30)
    assert len(passages) == 34
    assert all(passage.content.endswith("dog.") for passage in passages)
    assert all(len(passage.content.split()) <= 30 for passage in passages)


def test_headings_stay_with_their_text():
    text = "Title\n\nFirst part\n\n" + SENTENCE * 3 + "\n\nSecond part\n\n" + SENTENCE * 3
    passages = split(text, mime_type=MARKDOWN, split_length=40)
    assert [passage.content.split("\n")[:-1] for passage in passages] == [["Title", "First part"], ["Second part"]]


def test_lines_broken_by_layout_are_joined():
    text = "This line of text goes on and on until the\nnext one, where an exam-\nple is.\nShort\nlines stay"
    joined = "This line of text goes on and on until the next one, where an exam-ple is.\nShort\nlines stay"
    assert tidy(text, PDF) == tidy(text, TEXT) == joined
    page = "\fThe first line of a page that goes on in\nthe next line."
    assert tidy(page, PDF) == page.replace("\n", " ")
    assert tidy(text, MARKDOWN) == text


def test_text_without_blanks_is_measured_in_characters():
    passages = split("日本の首都は東京です。" * 300)
    assert all(len(passage.content) <= 720 for passage in passages)
    assert all(passage.content.endswith("。") for passage in passages)
    assert max(len(passage.content) for passage in split("word\n" * 5000)) <= 720
    assert max(len(passage.content) for passage in split("x" * 5000)) <= 720


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("one\ftwo\f\ffour", [1, 2, 4]),
        ("\f\ftwo pages late", [3]),
        ("\n\f two", [2]),
    ],
)
def test_page_numbers_count_page_breaks(text, pages):
    passages = split(text, mime_type=PDF, split_length=4 if "late" in text else 1)
    assert [passage.meta["page_number"] for passage in passages] == pages
    assert not any("\f" in passage.content for passage in passages)


def test_page_numbers_only_where_there_are_pages():
    assert "page_number" not in split("text", mime_type=TEXT)[0].meta
    assert split("text", mime_type=PDF)[0].meta["page_number"] == 1


def test_short_documents_from_elsewhere_stay_unchanged():
    document = Document(content=" short ", meta={"page_number": 7})
    assert PassageSplitter().run([document])["documents"] == [document]


def test_documents_with_a_page_number_count_on_from_it():
    document = Document(content="one \f two", meta={"page_number": 7})
    passages = PassageSplitter(split_length=1).run([document])["documents"]
    assert [passage.meta["page_number"] for passage in passages] == [7, 8]
    assert document.meta == {"page_number": 7}


def test_blank_documents_are_left_out():
    documents = [Document(content=None), Document(content=""), Document(content=" \f\n")]
    assert PassageSplitter().run(documents)["documents"] == []


@pytest.mark.parametrize("options", [{"split_length": 0}, {"split_overlap": -1}, {"split_overlap": 120}])
def test_impossible_lengths_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PassageSplitter(**options)
