"""Wrong values given to the embedded store: errors that name the value, the limit and the remedy; nothing changed."""

from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DocumentStoreError
from haystack.errors import FilterError

from rom_haystack import SQLiteFAISSDocumentStore

DIM = 4


def documents(count=5):
    vectors = np.random.default_rng(3).standard_normal((count, DIM)).tolist()
    return [Document(id=f"d{n}", content=f"heron {n}", meta={"n": n}, embedding=vectors[n]) for n in range(count)]


@pytest.fixture
def folder(tmp_path):
    """A store of five documents, closed."""
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM) as store:
        store.write_documents(documents())
    return tmp_path / "store"


@pytest.fixture
def store(folder):
    with SQLiteFAISSDocumentStore(folder, DIM) as store:
        yield store


def content(store):
    return (
        store.version,
        [[(d.to_dict(flatten=False), d.embedding) for d in batch] for batch in store.iter_documents()],
        [d.id for d in store.embedding_retrieval([1.0, 2.0, 3.0, 4.0])],
        [d.id for d in store.bm25_retrieval("heron 3 new")],
    )


@contextmanager
def refused(store, error, *parts):
    """Expect an error whose message has these parts, and a store that is as before and can still be written."""
    before = content(store)
    with pytest.raises(error) as caught:
        yield
    for part in parts:
        assert part in str(caught.value)
    assert content(store) == before
    assert store.write_documents([Document(id="afterwards", embedding=[0.0, 0.0, 1.0, 0.0])]) == 1
    assert "afterwards" in [d.id for d in store.embedding_retrieval([0.0, 0.0, 1.0, 0.0])]


# Documents


@pytest.mark.parametrize(
    ("embedding", "parts"),
    [
        ([1.0] * 3, ("document new", "3 dimensions", "embedding_dim=4", "another store")),
        ([1.0] * 5, ("document new", "5 dimensions", "embedding_dim=4")),
        ([], ("document new", "0 dimensions")),
        ([1.0, float("nan"), 0.0, 0.0], ("document new", "NaN")),
        ([1.0, float("inf"), 0.0, 0.0], ("document new", "infinity")),
        ([1.0, 1e300, 0.0, 0.0], ("document new", "more than float32 can hold")),
        ([1.0, 10**400, 0.0, 0.0], ("document new", "no number")),
        ([1.0, "two", 0.0, 0.0], ("document new", "no number", "two")),
        ([1.0, {}, 0.0, 0.0], ("document new", "no number")),
        (["1", "2", "3", "4"], ("document new", "no number", "'1'")),
        ([1.0, "2", 3.0, 4.0], ("document new", "no number", "'2'")),
        ([1.0, 2j, 3.0, 4.0], ("document new", "no number", "2j")),
        ([3e38] * 4, ("document new", "length of 6e+38", "more than float32 can hold (3.40282e+38)", "Scale it down")),
        ([[1.0, 2.0], [3.0]], ("document new", "2 dimensions")),
        ([[1.0], [3.0, 4.0], [1.0], [1.0]], ("document new", "no number")),
        ("text", ("document new", "'text'", "list of 4 numbers")),
        (3.5, ("document new", "3.5", "list of 4 numbers")),
    ],
)
def test_embeddings_that_do_not_fit(store, embedding, parts):
    with refused(store, DocumentStoreError, *parts):
        store.write_documents(
            [Document(id="fine", content="new", embedding=[1.0] * DIM), Document(id="new", embedding=embedding)]
        )


def test_components_that_float16_can_not_hold(tmp_path):
    large = Document(id="new", content="new", embedding=[1.0, -70_000.0, 0.0, 0.0])
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM, similarity="dot_product") as store:
        store.write_documents(documents())
        with refused(store, DocumentStoreError, "document new", "70000", "float16", "65504", "vector_dtype='float32'"):
            store.write_documents([large])
    with SQLiteFAISSDocumentStore(
        tmp_path / "other", DIM, similarity="dot_product", vector_dtype="float32", return_embedding=True
    ) as store:
        store.write_documents([large])
        assert store.filter_documents()[0].embedding == large.embedding
    with SQLiteFAISSDocumentStore(tmp_path / "third", DIM, return_embedding=True) as store:  # unit vectors fit
        store.write_documents([large])
        assert store.filter_documents()[0].embedding == pytest.approx(large.embedding, rel=2e-3)


@pytest.mark.parametrize(
    "value", [datetime(2024, 2, 29, tzinfo=UTC), float("nan"), float("-inf"), {1}, b"bytes", object(), [{"a": {2}}]]
)
def test_metadata_that_json_does_not_have(store, value):
    with refused(store, ValueError, "document new", "JSON", "isoformat()", "finite numbers"):
        store.write_documents([Document(id="fine", content="new"), Document(id="new", meta={"field": value})])


@pytest.mark.parametrize("meta", [{"a": {1: 2}}, {"a": [0, ({"b": {True: 3}},)]}, {None: 1}, {1.5: 1, "1.5": 2}])
def test_keys_that_are_no_strings(store, meta):
    stray = "1.5" if 1.5 in meta else "None" if None in meta else "True" if isinstance(meta["a"], list) else "1"
    part = f"as JSON: the key {stray} in it is no string"
    with pytest.raises(ValueError, match=f"document new {part}"):
        store.write_documents([Document(id="new", meta=meta)])
    with pytest.raises(ValueError, match=f"document new {part}"):
        store.write_documents([Document(id="new", blob=ByteStream(b"", meta=meta))])
    with refused(store, ValueError, part):
        store.update_by_filter({}, {"changed": meta})


def test_changes_of_metadata_that_json_does_not_have(store):
    with refused(store, ValueError, "JSON", "isoformat()"):
        store.update_by_filter({"field": "meta.n", "operator": ">", "value": 1}, {"when": datetime.now(UTC)})


def test_metadata_that_contain_themselves(store):
    meta = {}
    meta["self"] = [meta]
    with refused(store, ValueError, "document new", "JSON"):
        store.write_documents([Document(id="new", meta=meta)])


@pytest.mark.parametrize("given", ["text", 7, None, [Document(id="x"), {"content": "x"}], ["text"], b"x"])
def test_what_is_no_list_of_documents(store, given):
    with refused(store, ValueError, "list of Documents"):
        store.write_documents(given)


@pytest.mark.parametrize(("ids", "part"), [(["d1", 5], "5"), ([None], "None"), ([b"d1"], "b'd1'"), ("d1", "'d1'")])
def test_ids_that_are_no_strings(store, ids, part):
    with refused(store, ValueError, "document_ids", part):
        store.delete_documents(ids)


# Searching


@pytest.mark.parametrize(
    ("query", "error", "part"),
    [
        ([], ValueError, "non-empty list of floats"),
        ([1, 2, 3, 4], ValueError, "non-empty list of floats"),
        (["a"], ValueError, "non-empty list of floats"),
        ("text", ValueError, "non-empty list of floats"),
        ([1.0] * 3, DocumentStoreError, "3 dimensions; this store has embedding_dim=4"),
        ([1.0, float("nan"), 0.0, 0.0], DocumentStoreError, "The embedding of the query holds NaN"),
        ([1.0, 2.0, "x", 0.0], DocumentStoreError, "no number"),
    ],
)
def test_queries_that_do_not_fit(store, query, error, part):
    with refused(store, error, part):
        store.embedding_retrieval(query)


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        ({"nprobes": 3}, ("'nprobes'", "candidates", "nprobe", "efSearch")),
        ({"nprobe": 0}, ("'nprobe'", "0", "at least 1")),
        ({"candidates": -5}, ("'candidates'", "-5", "at least 1")),
    ],
)
def test_search_parameters_out_of_range(store, parameters, parts):
    with refused(store, ValueError, *parts):
        store.embedding_retrieval([1.0] * DIM, search_parameters=parameters)
    with pytest.raises(ValueError, match="search_parameters"):
        SQLiteFAISSDocumentStore(store.path, DIM, search_parameters=parameters)


def test_negative_top_k(store):
    with refused(store, ValueError, "top_k is -1"):
        store.embedding_retrieval([1.0] * DIM, top_k=-1)
    with pytest.raises(ValueError, match="top_k is -1"):
        store.bm25_retrieval("heron", top_k=-1)


def test_batches_without_documents(store):
    with refused(store, ValueError, "batch_size is 0", "at least 1"):
        store.iter_documents(batch_size=0)


def test_an_empty_query(store):
    with refused(store, ValueError, "non-empty string"):
        store.bm25_retrieval("")


UNKNOWN_OPERATOR = {"field": "meta.n", "operator": "=~", "value": 1}
MALFORMED = [
    (UNKNOWN_OPERATOR, "=~"),
    ({"operator": "XOR", "conditions": [{"field": "meta.n", "operator": "==", "value": 1}]}, "XOR"),
    ({"field": "meta.n", "value": 1}, "operator"),
    ({"field": "meta.n", "operator": "=="}, "value"),
    ({"field": "meta.n", "operator": "in", "value": 3}, "list"),
    ({"field": "meta.n", "operator": ">", "value": "three"}, "three"),
]


@pytest.mark.parametrize(("filters", "part"), MALFORMED)
def test_malformed_filters(store, filters, part):
    for use in (
        store.filter_documents,
        store.delete_by_filter,
        store.count_documents_by_filter,
        store.iter_documents,
        lambda filters: store.update_by_filter(filters, {"new": 1}),
        lambda filters: store.embedding_retrieval([1.0] * DIM, filters=filters),
        lambda filters: store.bm25_retrieval("heron", filters=filters),
    ):
        with pytest.raises(FilterError) as caught:
            use(filters)
        assert part in str(caught.value)
    with refused(store, FilterError, part):
        store.delete_by_filter(filters)


def test_a_filter_on_a_field_that_no_document_has(store):
    before = content(store)[1:]
    missing = {"field": "meta.missing", "operator": "==", "value": 3}
    assert store.filter_documents(missing) == []
    assert store.embedding_retrieval([1.0] * DIM, filters=missing) == []
    assert store.bm25_retrieval("heron", filters=missing) == []
    assert store.delete_by_filter(missing) == 0
    assert store.update_by_filter(missing, {"n": 0}) == 0
    assert len(store.filter_documents({**missing, "operator": "!="})) == 5
    assert content(store)[1:] == before


# Parameters


@pytest.mark.parametrize(
    ("parameters", "parts"),
    [
        ({"embedding_dim": 0}, ("embedding_dim is 0", "at least 1")),
        ({"lock_timeout": -1}, ("lock_timeout is -1", "0 to 86,400")),
        ({"lock_timeout": float("nan")}, ("lock_timeout is nan", "0 to 86,400")),
        ({"similarity": "euclid"}, ("'euclid'", "'cosine'", "'dot_product'")),
        ({"vector_dtype": "int8"}, ("'int8'", "'float16'", "'float32'")),
        ({"index": "IVF8,IVF8"}, ("'IVF8,IVF8'", "'auto'")),
        ({"index": "IVF8,PQ3"}, ("'IVF8,PQ3'", "4 dimensions")),
        ({"index": "nonsense"}, ("'nonsense'", "'auto'")),
    ],
)
def test_parameters_out_of_range(tmp_path, parameters, parts):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the parts are what is expected)
        SQLiteFAISSDocumentStore(tmp_path / "store", **{"embedding_dim": DIM, **parameters})
    for part in parts:
        assert part in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_an_unknown_tokenizer(tmp_path):
    store = SQLiteFAISSDocumentStore(tmp_path / "store", DIM, tokenizer="klingon")
    with pytest.raises(ValueError, match="klingon"):
        store.count_documents()
    assert not (tmp_path / "store").exists()
