from __future__ import annotations

import copy

import numpy as np
import pytest

from rom_haystack.compat import Answer, Document, Span
from rom_haystack.compat.documents import from_haystack, title_of, to_haystack


class TestDocument:
    def test_attributes_are_those_of_1_x(self):
        document = Document("text")
        assert (document.content, document.content_type, document.score, document.embedding) == (
            "text",
            "text",
            None,
            None,
        )
        assert document.meta == {}
        assert len(document.id) == 32

    def test_ids_depend_on_the_content_or_on_what_is_named(self):
        assert Document("a", meta={"name": "x"}).id == Document("a", meta={"name": "y"}).id != Document("b").id
        keys = ["content", "meta"]
        assert Document("a", meta={"name": "x"}, id_hash_keys=keys).id != Document("a", id_hash_keys=keys).id
        assert Document("a", id=7).id == "7"
        with pytest.raises(ValueError, match="'title'"):
            Document("a", id_hash_keys=["title"])

    def test_from_dict_puts_unknown_keys_into_the_metadata_and_changes_nothing(self):
        given = {"text": "a", "year": 1898, "meta": {"name": "x"}}
        before = copy.deepcopy(given)
        document = Document.from_dict(given, field_map={"text": "content"})
        assert (document.content, document.meta) == ("a", {"name": "x", "year": 1898})
        assert given == before

    def test_round_trip_through_a_dictionary(self):
        document = Document("a", meta={"n": [1]}, embedding=[0.5, 1.0], score=0.25)
        assert Document.from_dict(document.to_dict()) == document
        assert Document("a", embedding=[0.5, 2.0], id=document.id) != document

    @pytest.mark.parametrize("wrong", [{}, {"text": "old"}, {"content": None}])
    def test_without_content_there_is_no_document(self, wrong):
        with pytest.raises(ValueError, match="content"):
            Document.from_dict(wrong)

    def test_tables_are_refused(self):
        with pytest.raises(ValueError, match="only text"):
            Document([["a"]], content_type="table")

    def test_documents_are_sorted_by_score(self):
        documents = [Document("a", score=0.5), Document("b", score=0.9), Document("c")]
        assert [d.content for d in sorted(documents, reverse=True)] == ["b", "a", "c"]

    def test_to_today_and_back(self):
        document = Document("é\ud800", id="x", meta={"n": {"deep": [1]}}, embedding=np.array([0.5, 0.25]))
        today = to_haystack(document)
        assert all(type(value) is float for value in today.embedding)
        today.meta["n"]["deep"].append(2)
        back = from_haystack(today)
        assert document.meta == {"n": {"deep": [1]}}
        assert (back.id, back.content, back.embedding.dtype) == ("x", "é\ud800", np.float32)


@pytest.mark.parametrize(
    ("meta", "title"),
    [
        ({"name": "Radium"}, "Radium"),
        ({"title": "Radium"}, "Radium"),
        ({"name": "Radium", "title": "No"}, "Radium"),
        ({"name": None, "title": "Radium"}, "Radium"),
        ({"name": "marie-curie_1.txt"}, "marie curie 1"),
        ({"name": "Apollo 1.1"}, "Apollo 1.1"),
        ({}, None),
        ({"name": 7}, "7"),
    ],
)
def test_title(meta, title):
    assert title_of(meta) == title


def test_answers_round_trip_and_have_both_forms_of_the_id():
    answer = Answer(
        "a", score=0.5, offsets_in_document=[Span(1, 2)], offsets_in_context=[Span(0, 1)], document_ids=["x"]
    )
    assert Answer.from_dict(answer.to_dict()) == answer
    assert answer.document_id == "x"
    assert Answer("").document_id is None
    assert max([Answer("a", score=0.2), answer, Answer("b")]) is answer
