"""The embedded store's search, duplicates, deletions and round trips, whatever index it uses."""

import json
import math

import faiss
import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores import faiss_index, indexed_vectors

DIM = 64
COUNT = 1200
FACTORIES = (
    "Flat",
    "HNSW32",
    "IVF8,SQ8",
    "IVF8,PQ16x4fs",
    "HNSW32,SQ8",
    "IVF8,PQ16x4fs,Refine(SQ8)",
    "OPQ16,IVF8,PQ16x4fs",
    "PCA32,Flat",
)


def clustered(count, seed):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).standard_normal((20, DIM))
    vectors = centers[rng.integers(20, size=count)] + 0.7 * rng.standard_normal((count, DIM))
    return (0.1 * vectors * rng.uniform(0.5, 2, (count, 1))).astype(np.float32)


VECTORS = clustered(COUNT, 1)
QUERIES = clustered(10, 2)


def reference(query, similarity):
    """Scores of all vectors by NumPy."""
    if similarity == "dot_product":
        return VECTORS @ query
    return VECTORS @ query / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(query)


def corpus():
    return [
        Document(id=f"d{n}", content=f"word{n % 7} text", meta={"n": n, "percent": n % 100}, embedding=vector.tolist())
        for n, vector in enumerate(VECTORS)
    ]


def numbers(documents):
    return [document.meta["n"] for document in documents]


def is_at_least(n):
    return {"field": "meta.n", "operator": ">=", "value": n}


@pytest.fixture
def early_training(monkeypatch):
    """Train indexes on fewer vectors than it takes; in one thread, as so few gain nothing by more."""
    monkeypatch.setattr(faiss_index, "_TRAINING_MIN", 2)
    monkeypatch.setattr(faiss_index, "_TRAINING_MAX", 2)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture(scope="module", params=["cosine", "dot_product"])
def folder(request, tmp_path_factory):
    """A store with the corpus, closed, and its similarity."""
    path = tmp_path_factory.mktemp("stores") / request.param
    with SQLiteFAISSDocumentStore(path, DIM, similarity=request.param) as store:
        store.write_documents(corpus())
    return path, request.param


@pytest.fixture
def store(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM) as store:
        store.write_documents(corpus())
        yield store


@pytest.fixture
def empty(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", 2, vector_dtype="float32") as store:
        yield store


def use(store, factory):
    """Train the index, and make sure that it is the one that is searched."""
    store.optimize()
    assert store.collection._vectors._trained.factory == factory


# Search


@pytest.mark.parametrize("factory", FACTORIES)
def test_scores_and_neighbours_are_numpys_with_every_index(folder, factory, early_training):
    path, similarity = folder
    with SQLiteFAISSDocumentStore(path, DIM, similarity=similarity, index=factory) as store:
        use(store, factory)
        hits = 0
        for query in QUERIES:
            found = store.embedding_retrieval(query.tolist(), top_k=20)
            expected = reference(query, similarity)
            assert [d.score for d in found] == pytest.approx(expected[numbers(found)], abs=1e-3)
            assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
            hits += len(set(numbers(found)) & set(np.argsort(-expected)[:20].tolist()))
        assert hits >= 0.97 * 20 * len(QUERIES)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_exact_search_is_numpys(tmp_path, dtype):
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM, vector_dtype=dtype) as store:
        store.write_documents(corpus())
        for query in QUERIES:
            expected = np.sort(reference(query, "cosine"))[::-1]
            found = store.embedding_retrieval(query.tolist(), top_k=30)
            assert [d.score for d in found] == pytest.approx(expected[:30], abs=1e-3 if dtype == "float16" else 1e-6)


def test_scaled_scores_are_between_0_and_1_and_keep_the_order(folder):
    path, similarity = folder
    query = QUERIES[0].tolist()
    with SQLiteFAISSDocumentStore(path, DIM, similarity=similarity) as store:
        plain = store.embedding_retrieval(query, top_k=COUNT)
        scaled = store.embedding_retrieval(query, top_k=COUNT, scale_score=True)
    assert numbers(scaled) == numbers(plain)
    assert min(d.score for d in plain) < 0
    expected = [(d.score + 1) / 2 if similarity == "cosine" else 1 / (1 + math.exp(-d.score / 100)) for d in plain]
    assert [d.score for d in scaled] == pytest.approx(expected)
    assert all(0 <= d.score <= 1 for d in scaled)


def test_scaled_keyword_scores_are_between_0_and_1(store):
    plain = store.bm25_retrieval("word3", top_k=5)
    scaled = store.bm25_retrieval("word3", top_k=5, scale_score=True)
    assert [d.score for d in scaled] == pytest.approx([1 / (1 + math.exp(-d.score / 8)) for d in plain])


def test_length_of_the_query_does_not_matter_for_cosine(store):
    query = QUERIES[0].astype(np.float64)
    expected = [(d.id, pytest.approx(d.score, abs=1e-5)) for d in store.embedding_retrieval(query.tolist())]
    for factor in (1e-30, 1e30):
        found = store.embedding_retrieval((query * factor).tolist())
        assert [(d.id, d.score) for d in found] == expected


def test_a_query_of_zeros_is_like_nothing(store):
    assert {d.score for d in store.embedding_retrieval([0.0] * DIM)} == {0.0}


def test_more_results_than_documents_are_all_documents(store):
    assert len(store.embedding_retrieval(QUERIES[0].tolist(), top_k=10**9)) == COUNT


def test_equal_scores_come_in_the_order_of_writing(empty):
    empty.write_documents([Document(id=name, embedding=[1.0, 0.0]) for name in "cadbe"])
    assert [d.id for d in empty.embedding_retrieval([1.0, 0.0], top_k=3)] == ["c", "a", "d"]


def test_documents_without_embedding_are_found_by_words_and_filters_only(empty):
    empty.write_documents([Document(id="a", content="heron"), Document(id="b", content="heron", embedding=[1.0, 0.0])])
    assert [d.id for d in empty.embedding_retrieval([1.0, 0.0])] == ["b"]
    assert {d.id for d in empty.bm25_retrieval("heron")} == {"a", "b"}
    assert [d.embedding for d in next(empty.iter_documents())] == [None, pytest.approx([1.0, 0.0])]


def test_a_store_without_embeddings_or_documents_finds_nothing(empty):
    assert empty.embedding_retrieval([1.0, 0.0]) == []
    assert empty.bm25_retrieval("heron") == []
    empty.write_documents([Document(content="heron")])
    assert empty.embedding_retrieval([1.0, 0.0]) == []


# Filters


@pytest.mark.parametrize("factory", ["auto", "IVF8,PQ16x4fs", "HNSW32"])
def test_filters_select_before_the_search(folder, factory, early_training):
    path, similarity = folder
    with SQLiteFAISSDocumentStore(path, DIM, similarity=similarity, index=factory) as store:
        store.optimize()
        for query in QUERIES[:3]:
            scores = reference(query, similarity)
            farthest = int(np.argmin(scores))
            one = {"field": "meta.n", "operator": "==", "value": farthest}
            assert numbers(store.embedding_retrieval(query.tolist(), filters=one)) == [farthest]
            percent = {"field": "meta.percent", "operator": "==", "value": 17}
            found = store.embedding_retrieval(query.tolist(), filters=percent, top_k=5)
            kept = range(17, COUNT, 100)
            assert [d.score for d in found] == pytest.approx(sorted(scores[kept], reverse=True)[:5], abs=1e-3)
            assert set(numbers(found)) <= set(kept)


@pytest.mark.parametrize("factory", ["Flat", "IVF8,PQ16x4fs", "HNSW32"])
@pytest.mark.parametrize("kept", [30, 400, 1100])
def test_filters_that_let_many_documents_through(store, factory, kept, monkeypatch, early_training):
    store.close()
    monkeypatch.setattr(indexed_vectors, "EXACT_UP_TO", 10)
    with SQLiteFAISSDocumentStore(store.path, DIM, index=factory) as indexed:
        use(indexed, factory)
        scores = reference(QUERIES[0], "cosine")[COUNT - kept :]
        found = indexed.embedding_retrieval(QUERIES[0].tolist(), filters=is_at_least(COUNT - kept), top_k=20)
    assert min(numbers(found)) >= COUNT - kept
    assert [d.score for d in found][:5] == pytest.approx(np.sort(scores)[::-1][:5], abs=1e-3)
    assert len(found) == 20


def test_keyword_search_takes_filters(store):
    found = store.bm25_retrieval("word3", filters=is_at_least(COUNT - 14), top_k=100)
    assert sorted(numbers(found)) == [n for n in range(COUNT - 14, COUNT) if n % 7 == 3]


# Search parameters


def test_search_parameters_of_a_search_come_before_those_of_the_store(store, monkeypatch, early_training):
    used = []
    search = faiss_index.search

    def recording(index, query, k, parameters):
        used.append((k, dict(parameters)))
        return search(index, query, k, parameters)

    monkeypatch.setattr(faiss_index, "search", recording)
    store.close()
    options = {"nprobe": 2, "candidates": 300}
    with SQLiteFAISSDocumentStore(store.path, DIM, index="IVF8,SQ8", search_parameters=options) as indexed:
        use(indexed, "IVF8,SQ8")
        indexed.embedding_retrieval(QUERIES[0].tolist())
        indexed.embedding_retrieval(QUERIES[0].tolist(), search_parameters={"nprobe": 5})
    assert [(k, parameters["nprobe"]) for k, parameters in used] == [(300, 2), (300, 5)]


def test_fewer_probes_and_candidates_find_less(store, early_training):
    store.close()
    with SQLiteFAISSDocumentStore(store.path, DIM, index="IVF8,PQ16x4fs") as indexed:
        use(indexed, "IVF8,PQ16x4fs")

        def best(**parameters):
            found = [indexed.embedding_retrieval(q.tolist(), search_parameters=parameters, top_k=100) for q in QUERIES]
            return sum(document.score for documents in found for document in documents)

        assert best(nprobe=1, candidates=100) < best(nprobe=8, candidates=100) < best(nprobe=8, candidates=1199)


@pytest.mark.parametrize(
    ("factory", "parameters"),
    [
        ("IVF8,SQ8", {"nprobe": 3.0, "max_codes": 500}),
        ("HNSW32", {"efSearch": 40}),
        ("HNSW32,SQ8", {"efSearch": 40.0}),
        ("IVF8,PQ16x4fs,Refine(SQ8)", {"k_factor": 2, "nprobe": 4}),
        ("OPQ16,IVF8,PQ16x4fs", {"nprobe": 4}),
        ("Flat", {"nprobe": 4, "efSearch": 3, "k_factor": 2, "max_codes": 9, "candidates": 20}),
    ],
)
def test_every_index_takes_its_parameters_and_passes_over_others(store, factory, parameters, early_training):
    store.close()
    with SQLiteFAISSDocumentStore(store.path, DIM, index=factory) as indexed:
        use(indexed, factory)
        assert len(indexed.embedding_retrieval(QUERIES[0].tolist(), search_parameters=parameters)) == 10


# Duplicates


def test_overwriting_replaces_everything_of_a_document(empty):
    empty.write_documents([Document(id="a", content="old heron", meta={"old": 1}, embedding=[1.0, 0.0])])
    new = Document(id="a", content="new kestrel", meta={"new": 1}, embedding=[-1.0, 0.0])
    assert empty.write_documents([new], DuplicatePolicy.OVERWRITE) == 1
    assert empty.count_documents() == 1
    assert empty.filter_documents() == [Document(id="a", content="new kestrel", meta={"new": 1})]
    assert empty.bm25_retrieval("heron") == []
    assert [d.score for d in empty.embedding_retrieval([1.0, 0.0])] == [-1.0]


def test_overwriting_can_take_the_embedding_away(empty):
    empty.write_documents([Document(id="a", embedding=[1.0, 0.0])])
    empty.write_documents([Document(id="a", content="bare")], DuplicatePolicy.OVERWRITE)
    assert empty.embedding_retrieval([1.0, 0.0]) == []


def test_skipping_keeps_what_is_there(empty):
    empty.write_documents([Document(id="a", content="old")])
    assert empty.write_documents([Document(id="a", content="new"), Document(id="b")], DuplicatePolicy.SKIP) == 1
    assert [(d.id, d.content) for d in empty.filter_documents()] == [("a", "old"), ("b", None)]


@pytest.mark.parametrize(
    ("policy", "left"), [(DuplicatePolicy.SKIP, ["first", "other"]), (DuplicatePolicy.OVERWRITE, ["third", "other"])]
)
def test_an_id_that_comes_three_times_in_one_batch(empty, policy, left):
    batch = [Document(id="a", content="first", embedding=[1.0, 0.0]), Document(id="a", content="second")]
    batch += [Document(id="b", content="other"), Document(id="a", content="third", embedding=[0.0, 1.0])]
    assert empty.write_documents(batch, policy) == 2
    assert [d.content for d in empty.filter_documents()] == left
    assert [d.content for d in empty.embedding_retrieval([1.0, 0.0])] == left[:1]


@pytest.mark.parametrize("policy", [DuplicatePolicy.FAIL, DuplicatePolicy.NONE])
@pytest.mark.parametrize("batch", [["x", "a"], ["x", "y", "x"]])
def test_nothing_is_written_when_an_id_fails(empty, policy, batch):
    empty.write_documents([Document(id="a", content="old", embedding=[1.0, 0.0])])
    version = empty.version
    with pytest.raises(DuplicateDocumentError, match=f"ID '{batch[-1]}'"):
        empty.write_documents([Document(id=name, content="new", embedding=[0.0, 1.0]) for name in batch], policy)
    assert empty.version == version
    assert [(d.id, d.content) for d in empty.embedding_retrieval([0.0, 1.0])] == [("a", "old")]
    assert empty.bm25_retrieval("new") == []


# Deletions


@pytest.mark.parametrize("factory", ["auto", "IVF8,PQ16x4fs", "HNSW32", "HNSW32,SQ8"])
def test_deleted_documents_never_come_back(store, factory, early_training):
    store.close()
    query = QUERIES[0]
    nearest = np.argsort(-reference(query, "cosine"))
    with SQLiteFAISSDocumentStore(store.path, DIM, index=factory) as indexed:
        indexed.optimize()
        indexed.delete_documents([f"d{n}" for n in nearest[:500]])
        found = numbers(indexed.embedding_retrieval(query.tolist(), top_k=100))
        assert not set(found) & set(nearest[:500].tolist())
        assert len(found) == 100
        indexed.delete_documents([f"d{n}" for n in nearest[:-1]])
        assert numbers(indexed.embedding_retrieval(query.tolist())) == [nearest[-1]]
        assert indexed.delete_by_filter({"field": "id", "operator": "==", "value": f"d{nearest[-1]}"}) == 1
        assert indexed.embedding_retrieval(query.tolist()) == []
    with SQLiteFAISSDocumentStore(store.path, DIM, index=factory) as again:
        assert again.embedding_retrieval(query.tolist()) == []
        assert again.bm25_retrieval("text") == []


def test_a_deleted_id_can_be_written_again(store):
    store.delete_documents(["d0", "d0", "unknown"])
    assert store.count_documents() == COUNT - 1
    store.write_documents([Document(id="d0", content="new", embedding=(-VECTORS[0]).tolist())])
    (best,) = store.embedding_retrieval((-VECTORS[0]).tolist(), top_k=1)
    assert (best.id, best.content) == ("d0", "new")


# Store objects of one folder


def test_store_objects_of_one_folder_share_their_core(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SQLiteFAISSDocumentStore("./store", DIM) as other:
        assert other.collection is store.collection
        other.write_documents([Document(id="new", embedding=QUERIES[0].tolist())])
        assert store.embedding_retrieval(QUERIES[0].tolist(), top_k=1)[0].id == "new"
    assert store.count_documents() == COUNT + 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("embedding_dim", 32),
        ("similarity", "dot_product"),
        ("vector_dtype", "float32"),
        ("tokenizer", "unicode61"),
        ("keyword_meta_fields", ["title"]),
        ("index", "IVF8,SQ8"),
    ],
)
def test_other_settings_are_refused(store, name, value):
    other = SQLiteFAISSDocumentStore(**{"path": store.path, "embedding_dim": DIM, name: value})
    with pytest.raises(DocumentStoreError, match=f"{name}=") as error:
        other.count_documents()
    assert str(store.path) in str(error.value)
    assert repr(value) in str(error.value)
    del error  # whose traceback holds the core
    assert store.count_documents() == COUNT
    store.close()
    if name == "index":  # is of this opening, and no property of the store
        assert other.count_documents() == COUNT
    else:
        with pytest.raises(DocumentStoreError, match=f"Open it with {name}="):
            other.count_documents()
    other.close()


# Serialization


def test_serialization_keeps_every_parameter(tmp_path):
    parameters = {
        "path": str(tmp_path / "store"),
        "embedding_dim": 16,
        "index": "HNSW32,SQ8",
        "similarity": "dot_product",
        "vector_dtype": "float32",
        "search_parameters": {"efSearch": 64},
        "indexed_meta_fields": ["n"],
        "keyword_meta_fields": ["title"],
        "tokenizer": "trigram",
        "return_embedding": True,
        "read_only": True,
        "auto_optimize": False,
        "lock_timeout": 3.5,
    }
    data = json.loads(json.dumps(SQLiteFAISSDocumentStore(**parameters).to_dict()))
    assert data == {
        "type": "rom_haystack.document_stores.sqlite_faiss.SQLiteFAISSDocumentStore",
        "init_parameters": parameters,
    }
    assert SQLiteFAISSDocumentStore.from_dict(data).to_dict() == data
    assert not (tmp_path / "store").exists()


def test_a_pipeline_with_the_store_loads_from_yaml(tmp_path):
    pipeline = Pipeline()
    pipeline.add_component("writer", DocumentWriter(SQLiteFAISSDocumentStore(tmp_path / "store", 2)))
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.run({"writer": {"documents": [Document(content="heron")]}}) == {"writer": {"documents_written": 1}}
    with SQLiteFAISSDocumentStore(tmp_path / "store", 2) as store:
        assert [d.content for d in store.filter_documents()] == ["heron"]
