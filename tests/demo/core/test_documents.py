"""Whole documents from their passages."""

from __future__ import annotations

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore
from hypothesis import given
from hypothesis import strategies as st

from demo.core.documents import full_text
from rom_haystack.files import PDF
from rom_haystack.passages import PassageSplitter
from rom_haystack.pipelines import ROMFileConverter

WORDS = st.lists(st.sampled_from(["Owls hunt.", "Rivers", "flow", "\n\n", "\n", " ", "x" * 40, "\f"]), min_size=1)


def stored(passages):
    store = InMemoryDocumentStore()
    store.write_documents(passages)
    return store


@given(WORDS, st.integers(1, 12), st.integers(0, 3))
def test_every_passage_stands_where_it_is_said_to(words, length, overlap):
    text = " ".join(words)
    splitter = PassageSplitter(length, min(overlap, length - 1))
    passages = splitter.run([Document(content=text, meta={"file_path": "a.txt", "_source": "a", "title": "A"})])
    passages = passages["documents"]
    if not passages:
        return
    full = full_text(stored(passages), passages[-1])
    assert {id_: full.text[start:end] for id_, (start, end) in full.places.items()} == {
        passage.id: passage.content for passage in passages
    }
    assert "".join(full.text.split()) == "".join(text.split())
    assert (full.title, full.file_path) == ("A", "a.txt")


def test_other_files_and_older_versions_are_left_out():
    converter = ROMFileConverter()

    def converted(text, path):
        return converter.run(sources=[ByteStream(text.encode(), meta={"file_path": path})])["documents"]

    old, new, other = (converted(*file) for file in (("Old.", "a.txt"), ("New.", "a.txt"), ("New.", "b.txt")))
    store = stored([*old, *new, *other])
    assert [full_text(store, passage).text for (passage,) in (old, new, other)] == ["Old.", "New.", "New."]


def test_pages_are_found(pdf):
    data = pdf(*(f"Page {number} has a text of its own. " + "More of it is here. " * 30 for number in (1, 2, 3)))
    passages = ROMFileConverter().run(sources=[ByteStream(data, meta={"file_path": "a.pdf"}, mime_type=PDF)])
    passages = passages["documents"]
    full = full_text(stored(passages), passages[0])
    assert [number for _, number in full.pages] == [1, 2, 3]
    for start, number in full.pages:
        assert full.text[start:].startswith(f"Page {number}")


def test_pages_within_a_passage_are_found(pdf):
    data = pdf("Page 1 is short.", "Page 2 is, too.", "Page 3 as well.", "Page 4 is longer. " * 60)
    passages = ROMFileConverter().run(sources=[ByteStream(data, meta={"file_path": "a.pdf"}, mime_type=PDF)])
    passages = passages["documents"]
    assert passages[0].content.count("\f") >= 2
    full = full_text(stored(passages), passages[0])
    assert [number for _, number in full.pages] == [1, 2, 3, 4]
    for start, number in full.pages:
        assert full.text[start:].startswith(f"Page {number}")


def test_a_document_that_is_gone_is_its_passage():
    passage = Document(content="Left over.", meta={"file_path": "a.txt", "source_id": "x", "split_idx_start": 70})
    full = full_text(InMemoryDocumentStore(), passage)
    assert (full.text, full.places) == ("Left over.", {passage.id: (0, 10)})


@pytest.mark.parametrize("meta", [{}, {"file_path": "a.txt"}, {"title": "T"}])
def test_documents_from_elsewhere(meta):
    passage = Document(content="By itself.", meta=meta)
    assert full_text(InMemoryDocumentStore(), passage).text == "By itself."
