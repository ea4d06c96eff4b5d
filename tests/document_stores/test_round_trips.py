"""Documents come back from the embedded store as they were written."""

import copy

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack import SQLiteFAISSDocumentStore

DIM = 64
COUNT = 200
VECTORS = (np.random.default_rng(1).standard_normal((COUNT, DIM)) / 4).astype(np.float32)
QUERY = VECTORS[7].tolist()


def corpus():
    return [
        Document(id=f"d{n}", content=f"word{n % 7} text", meta={"n": n, "percent": n % 100}, embedding=vector.tolist())
        for n, vector in enumerate(VECTORS)
    ]


def numbers(documents):
    return [document.meta["n"] for document in documents]


@pytest.fixture
def store(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM) as store:
        store.write_documents(corpus())
        yield store


@pytest.fixture
def empty(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", 2, vector_dtype="float32") as store:
        yield store


DOCUMENTS = {
    "blob": Document(id="a", blob=ByteStream(b"\x00\xff\x89PNG", meta={"page": 1, "é": None}, mime_type="image/png")),
    "empty blob": Document(id="a", blob=ByteStream(b"")),
    "large blob": Document(id="a", blob=ByteStream(bytes(range(256)) * 10_000)),
    "sparse embedding": Document(id="a", sparse_embedding=SparseEmbedding(indices=[0, 7, 10**9], values=[0.5, -1, 2])),
    "all parts": Document(
        id="a",
        content="text",
        blob=ByteStream(b"data"),
        meta={"a": 1},
        sparse_embedding=SparseEmbedding(indices=[1], values=[1.0]),
    ),
    "every JSON type": Document(
        id="a",
        meta={
            "none": None, "yes": True, "no": False, "int": -3, "zero": 0, "float": 0.1, "tiny": 5e-324, "minus": -0.0,
            "text": "é\n\"'\\ \u2028", "empty": "", "list": [1, [2, {"deep": [None, 1.5]}], "x"], "no items": [],
            "dict": {"a": {"b": {"c": [True]}}}, "no keys": {}, "": "empty key", "a.b": "dot", 'quo"te': "'",
            "日本": "語", "$": 1, "[0]": 2,
        },
    ),
    "big integers": Document(id="a", meta={"n": 2**63 - 1, "m": -(2**63), "o": 2**63, "p": 10**40, "q": [2**64]}),
    "dates as text": Document(id="a", meta={"date": "2024-02-29T12:00:00+01:00"}),
    "unicode id": Document(id="идент-識別-🐦‍⬛-e\u0301", content="è ≠ e\u0300, 👩‍👩‍👧, \u202eabc"),
    "lone surrogates": Document(id="\udcff\ud800", content="a \ud83d b", meta={"k\udc00": "\udfff"}),
    "NUL": Document(id="a\0b", content="\0 in \0", meta={"k": "\0", "n\0": 1}),
    "empty content": Document(id="a", content=""),
    "nothing": Document(id="a"),
    "spaces": Document(id="  a \n", content=" \t\n"),
    "long id": Document(id="i" * 10_000, content="x"),
    "long content": Document(id="a", content="heron kestrel " * 360_000),
    "id like SQL": Document(id="'); DROP TABLE documents;--", content="%_?"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_come_back_as_they_were(empty, name):
    document = DOCUMENTS[name]
    other = Document(id="other", content="other", embedding=[0.0, 1.0])
    assert empty.write_documents([other, document]) == 2
    for store in (empty, SQLiteFAISSDocumentStore(empty.path, 2, vector_dtype="float32", read_only=True)):
        assert store.filter_documents()[1] == document
        assert store.filter_documents({"field": "id", "operator": "==", "value": document.id}) == [document]
        store.close()
    assert empty.write_documents([document], DuplicatePolicy.SKIP) == 0
    empty.update_by_filter({"field": "id", "operator": "==", "value": document.id}, {"new": 1})
    (updated,) = empty.filter_documents({"field": "meta.new", "operator": "==", "value": 1})
    assert updated.meta == {**document.meta, "new": 1}
    assert (updated.id, updated.content, updated.blob) == (document.id, document.content, document.blob)
    empty.delete_documents([document.id])
    assert [d.id for d in empty.filter_documents()] == ["other"]


def test_types_of_numbers_come_back(empty):
    meta = {"one": 1, "float": 1.0, "true": True, "minus": -0.0}
    empty.write_documents([Document(id="a", meta=meta)])
    assert repr(empty.filter_documents()[0].meta) == repr(meta)


def test_tuples_come_back_as_lists(empty):
    empty.write_documents([Document(id="a", meta={"pair": (1, 2)})])
    assert empty.filter_documents()[0].meta == {"pair": [1, 2]}


def test_scores_are_not_stored(empty):
    empty.write_documents([Document(id="a", content="heron", score=0.5)])
    assert empty.filter_documents()[0].score is None


def test_documents_given_are_not_changed(empty):
    document = Document(id="a", content="heron", meta={"a": [1]}, embedding=[3.0, 4.0], score=0.5)
    before = document.to_dict()
    empty.write_documents([document])
    assert document.to_dict() == before


@pytest.mark.parametrize("similarity", ["cosine", "dot_product"])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float16", 1e-3), ("float32", 1e-6)])
def test_embeddings_come_back_at_their_length(tmp_path, similarity, dtype, accuracy):
    documents = [*corpus()[:100], Document(id="zero", meta={"n": 100}, embedding=[0.0] * DIM)]
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM, similarity=similarity, vector_dtype=dtype) as store:
        store.write_documents(documents)
        (found,) = store.iter_documents()
    for one, other in zip(found, documents, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=accuracy)
        assert all(type(value) is float for value in one.embedding)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_embeddings_of_any_length_that_float32_can_hold_come_back(tmp_path, dtype):
    lengths = [np.finfo(np.float32).max, 1.0, 1e-37]
    documents = [Document(id=f"{length:g}", embedding=[float(length), 0.0]) for length in lengths]
    documents.append(Document(id="slanting", embedding=[2.4e38, -2.4e38]))
    with SQLiteFAISSDocumentStore(tmp_path / "store", 2, vector_dtype=dtype) as store:
        store.write_documents(documents)
        (found,) = store.iter_documents()
    for one, other in zip(found, documents, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-3)


def test_embeddings_are_returned_only_when_asked_for(store):
    query = QUERY
    assert all(d.embedding is None for d in store.embedding_retrieval(query))
    assert all(d.embedding is None for d in store.bm25_retrieval("text"))
    assert all(d.embedding is None for d in store.filter_documents())
    assert all(d.embedding is None for batch in store.iter_documents(return_embedding=False) for d in batch)
    for document in store.embedding_retrieval(query, return_embedding=True):
        assert document.embedding == pytest.approx(VECTORS[document.meta["n"]].tolist(), abs=1e-3)
    with SQLiteFAISSDocumentStore(store.path, DIM, return_embedding=True) as asked:
        assert all(d.embedding is not None for d in asked.filter_documents())


def test_what_was_written_is_there_when_the_store_is_opened_again(store):
    version, documents = store.version, store.filter_documents()
    store.close()
    with SQLiteFAISSDocumentStore(store.path, DIM) as again:
        assert again.version == version
        assert again.filter_documents() == documents
        assert numbers(again.embedding_retrieval(VECTORS[77].tolist(), top_k=1)) == [77]


def test_a_closed_store_opens_at_its_next_use(store):
    store.close()
    assert store.count_documents() == COUNT
    store.close()
    store.close()
    assert numbers(store.embedding_retrieval(VECTORS[5].tolist(), top_k=1)) == [5]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_an_open_store_open_it_by_themselves(store, copied):
    with copied(store) as other:
        assert other.to_dict() == store.to_dict()
        assert other.write_documents([Document(id="new", content="kestrel")]) == 1
        store.close()
        assert [document.id for document in other.bm25_retrieval("kestrel")] == ["new"]
    assert store.count_documents() == COUNT + 1


def test_version_counts_changes(empty):
    versions = [empty.version]
    for change in (
        lambda: empty.write_documents([Document(id="a", meta={"n": 1})]),
        lambda: empty.update_by_filter({"field": "id", "operator": "==", "value": "a"}, {"n": 2}),
        lambda: empty.delete_documents(["a"]),
        empty.delete_all_documents,
    ):
        change()
        versions.append(empty.version)
    assert len(set(versions)) == 5
    empty.count_documents()
    assert empty.version == versions[-1]
