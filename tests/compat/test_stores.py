"""What both stores do alike."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError

from rom_haystack.compat import Document

QUERY = np.array([1.0, 0.0, 0.0, 0.0], dtype=np.float32)


@pytest.fixture
def filled(store, dicts, counted):
    store.write_documents(dicts)
    store.update_embeddings(counted())
    return store


def contents(documents):
    return [document.content[:6] for document in documents]


def test_dictionaries_go_in_and_documents_come_out(store, dicts):
    before = copy.deepcopy(dicts)
    assert store.write_documents(dicts) is None
    assert dicts == before
    found = store.get_all_documents()
    assert [(d.content, d.meta) for d in found] == [(d["content"], d["meta"]) for d in dicts]
    assert store.get_document_count() == 3
    assert store.get_embedding_count() == 0
    found[0].meta["name"] = "changed"
    assert store.get_all_documents()[0].meta["name"] == "Radium"


def test_update_embeddings_embeds_all_or_only_the_new(filled, counted):
    assert filled.get_embedding_count() == 3
    filled.write_documents([{"content": "New."}])
    assert filled.get_document_count(only_documents_without_embedding=True) == 1
    again = counted()
    filled.update_embeddings(again, update_existing_embeddings=False)
    assert set(again.seen) == {"New."}
    assert filled.get_embedding_count() == 4
    again = counted()
    filled.update_embeddings(again, filters={"name": "Everest"})
    assert {text[:5] for text in again.seen} == {"Mount"}
    again = counted()
    filled.update_embeddings(again, batch_size=2)
    assert len(set(again.seen)) == 4
    assert filled.get_document_count() == 4


def test_embeddings_come_out_where_they_are_asked_for(filled, store_class, dicts, counted):
    documents = filled.get_all_documents(return_embedding=True)
    assert [d.embedding.tolist() for d in documents] == [[len(d.content), 1, 0, 0] for d in documents]
    assert all(d.embedding is None for d in filled.get_all_documents())
    generous = store_class(return_embedding=True, progress_bar=False)
    generous.write_documents(dicts)
    generous.update_embeddings(counted())
    assert all(d.embedding is not None for d in generous.get_all_documents())
    assert generous.query_by_embedding(QUERY)[0].embedding is not None
    assert filled.query_by_embedding(QUERY)[0].embedding is None


def test_search_ranks_by_dot_product_and_scales_scores(filled, dicts):
    raw = filled.query_by_embedding(QUERY, scale_score=False)
    lengths = sorted((len(d["content"]) for d in dicts), reverse=True)
    assert [d.score for d in raw] == pytest.approx(lengths)
    scaled = filled.query_by_embedding(QUERY[None])
    assert [d.score for d in scaled] == pytest.approx([1 / (1 + math.exp(-n / 100)) for n in lengths])
    assert len(filled.query_by_embedding(QUERY, top_k=2)) == 2
    assert filled.query_by_embedding(QUERY, top_k=0) == []


def test_search_by_cosine(store_class, dicts, counted):
    store = store_class(similarity="cosine", progress_bar=False)
    store.write_documents(dicts)
    store.update_embeddings(counted())
    best = store.query_by_embedding([0.0, 2.0, 0.0, 0.0], top_k=1)[0]
    shortest = min(len(d["content"]) for d in dicts)
    assert best.score == pytest.approx((1 / math.hypot(shortest, 1) + 1) / 2, abs=1e-6)


def test_filters_hold_in_every_search(filled):
    filters = {"year": {"$lt": 1900}}
    assert contents(filled.query_by_embedding(QUERY, filters=filters)) == ["Radium"]
    assert contents(filled.get_all_documents(filters=filters)) == ["Radium"]
    assert contents(filled.query("glows high flows", filters=filters)) == ["Radium"]
    assert filled.get_document_count(filters=filters) == filled.get_embedding_count(filters=filters) == 1


def test_batches_take_one_filter_or_one_for_each_query(filled):
    nested = filled.query_by_embedding_batch([QUERY, QUERY], filters=[{"name": "Radium"}, None], top_k=2)
    assert [len(found) for found in nested] == [1, 2]
    nested = filled.query_by_embedding_batch(np.stack([QUERY, QUERY]), filters={"name": "Everest"})
    assert [contents(found) for found in nested] == [["Mount "], ["Mount "]]
    with pytest.raises(ValueError, match="3 filters for 2 queries"):
        filled.query_by_embedding_batch([QUERY, QUERY], filters=[None, None, None])


def test_keywords(filled):
    found = filled.query("Which river flows north?", top_k=1)
    assert contents(found) == ["The Ni"]
    assert 0 < found[0].score < 1
    assert filled.query(None) == filled.query("") == []


def test_documents_by_id(filled):
    first, second, _ = filled.get_all_documents()
    assert filled.get_document_by_id(first.id) == first
    assert filled.get_document_by_id("nothing") is None
    assert filled.get_documents_by_id([second.id, "nothing", first.id]) == [second, first]


def test_duplicates(store, store_class, dicts):
    store.write_documents(dicts)
    changed = [Document("Radium!", id=store.get_all_documents()[0].id), Document("New.")]
    store.write_documents(changed, duplicate_documents="skip")
    assert store.get_document_by_id(changed[0].id).content != "Radium!"
    assert store.get_document_count() == 4
    store.write_documents(changed)
    assert store.get_document_by_id(changed[0].id).content == "Radium!"
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(changed, duplicate_documents="fail")
    store.write_documents([Document("Twice."), Document("Twice.", meta={"n": 2})], duplicate_documents="fail")
    assert store.get_document_count(filters={"n": 2}) == 0
    for wrong in (lambda: store_class(duplicate_documents="replace"), lambda: store.write_documents([], None, 1, "no")):
        with pytest.raises(ValueError, match="skip, overwrite, fail"):
            wrong()


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({}, []),
        ({"filters": {"year": [1898, 1953]}}, ["The Ni"]),
        ({"filters": {"year": {"$gt": 3000}}}, ["Radium", "Mount ", "The Ni"]),
    ],
)
def test_delete_documents(filled, arguments, left):
    filled.delete_documents(**arguments)
    assert contents(filled.get_all_documents()) == left
    assert filled.get_embedding_count() == len(left)


def test_delete_by_ids_and_by_both(filled):
    first, second, third = (d.id for d in filled.get_all_documents())
    filled.delete_documents(ids=[first, second], filters={"name": "Everest"})
    assert [d.id for d in filled.get_all_documents()] == [first, third]
    filled.delete_documents(ids=[])
    filled.delete_documents(ids=[third, "nothing"])
    assert [d.id for d in filled.get_all_documents()] == [first]
    filled.delete_documents(ids=[], filters={"name": "Radium"})
    assert filled.get_document_count() == 1
    filled.delete_all_documents()
    assert filled.get_document_count() == 0


def test_indexes_are_apart(filled):
    filled.write_documents([{"content": "Elsewhere."}], index="other index/1.5")
    assert filled.get_document_count() == 3
    assert contents(filled.get_all_documents(index="other index/1.5")) == ["Elsewh"]
    filled.delete_index("other index/1.5")
    assert filled.get_document_count(index="other index/1.5") == 0
    filled.delete_index("never there")
    filled.delete_documents(index="never there")
    assert filled.query_by_embedding(QUERY, index="never there") == []
    assert filled.get_document_count() == 3


def test_update_document_meta(filled):
    name = filled.get_all_documents()[1].id
    filled.update_document_meta(name, {"year": 1954, "new": True})
    assert filled.get_document_by_id(name).meta == {"name": "Everest", "year": 1954, "new": True}
    assert filled.get_embedding_count() == 3
    with pytest.raises(ValueError, match="no document 'nothing'"):
        filled.update_document_meta("nothing", {})


def test_search_without_embeddings_says_what_to_do(store, dicts, warnings_of):
    assert store.query_by_embedding(QUERY) == []
    assert warnings_of() == []
    store.write_documents(dicts)
    assert store.query_by_embedding(QUERY) == []
    assert any("update_embeddings" in text for text in warnings_of())


def test_update_of_an_empty_store_says_so(store, counted, warnings_of):
    store.update_embeddings(counted())
    assert any("no document to embed" in text for text in warnings_of())


def test_other_dimensions(filled, store_class, dicts, counted):
    filled.update_embeddings(counted(6))  # all of them anew
    assert len(filled.get_all_documents(return_embedding=True)[0].embedding) == 6
    assert contents(filled.get_all_documents()) == ["Radium", "Mount ", "The Ni"]
    with pytest.raises(DocumentStoreError):
        filled.query_by_embedding(QUERY)
    named = store_class(embedding_dim=768, progress_bar=False)
    named.write_documents(dicts)
    with pytest.raises(ValueError, match=r"4 components.*embedding_dim=768"):
        named.update_embeddings(counted())
    with pytest.raises(ValueError, match="different lengths: 2, 3"):
        named.write_documents([Document("a", embedding=[1.0, 2.0]), Document("b", embedding=[1.0, 2.0, 3.0])])


def test_documents_may_bring_their_embeddings(store):
    store.write_documents([Document("a", embedding=np.array([0.5, 0.5])), {"content": "b", "embedding": [1.0, 0.0]}])
    assert [d.content for d in store.query_by_embedding([1.0, 0.0])] == ["b", "a"]


@pytest.mark.parametrize("wrong", ["text", {"content": "a"}, Document("a"), ["text"], [None]])
def test_what_is_no_list_of_documents_is_named(store, wrong):
    with pytest.raises(TypeError, match=r"list|no document"):
        store.write_documents(wrong)


def test_a_retriever_that_gives_something_else_is_named(store, dicts):
    class Wrong:
        def embed_documents(self, documents):
            return np.zeros(4)

    store.write_documents(dicts)
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        store.update_embeddings(Wrong())


def test_l2_is_refused_with_a_reason(store_class):
    with pytest.raises(ValueError, match="unit length"):
        store_class(similarity="l2")


def test_arguments_without_meaning_are_warned_of_once(store_class, dicts, warnings_of):
    for _ in range(2):
        store = store_class(embedding_field="vector", progress_bar=False)
        store.write_documents(dicts, headers={"a": "b"})
    assert [text.partition(" has")[0] for text in warnings_of()] == [
        f"{store_class.__name__}: embedding_field='vector'",
        f"{store_class.__name__}.write_documents: headers={{'a': 'b'}}",
    ]
