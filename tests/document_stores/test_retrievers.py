"""The store's retrievers as Haystack components."""

from __future__ import annotations

import copy
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import FilterPolicy
from haystack.errors import FilterError

from rom_haystack import SQLiteFAISSBM25Retriever, SQLiteFAISSDocumentStore, SQLiteFAISSEmbeddingRetriever

ROOT = Path(__file__).parents[2]
DIM = 8
WORDS = ("heron", "river", "kestrel", "meadow", "supper", "noon")
EVEN = {"field": "meta.even", "operator": "==", "value": True}
EARLY = {"field": "meta.n", "operator": "<", "value": 10}
BOTH = (SQLiteFAISSEmbeddingRetriever, SQLiteFAISSBM25Retriever)
PAIRS = ((SQLiteFAISSEmbeddingRetriever, InMemoryEmbeddingRetriever), (SQLiteFAISSBM25Retriever, InMemoryBM25Retriever))
QUERY_EMBEDDING = [0.5, -0.25, 1.0, 0.0, 0.125, 0.75, -1.0, 0.5]


@pytest.fixture
def documents():
    rng = np.random.default_rng(11)
    return [
        Document(
            content=f"The {WORDS[n % 6]} and the {WORDS[n % 5]}, page {n}",
            meta={"n": n, "even": n % 2 == 0},
            embedding=rng.standard_normal(DIM).tolist(),
        )
        for n in range(20)
    ]


@pytest.fixture
def store(tmp_path, documents):
    store = SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=DIM, vector_dtype="float32")
    store.write_documents(documents)
    yield store
    store.close()


def query_for(cls):
    return QUERY_EMBEDDING if cls is SQLiteFAISSEmbeddingRetriever else "a heron by the river"


@pytest.mark.parametrize(("ours", "stock"), PAIRS)
def test_parameters_are_the_stock_ones_in_the_stock_order(ours, stock):
    for method in ("__init__", "run"):
        mine, theirs = (inspect.signature(getattr(cls, method)).parameters for cls in (ours, stock))
        assert list(mine)[: len(theirs)] == list(theirs)
        assert {n: p.default for n, p in theirs.items()} == {n: mine[n].default for n in theirs}
    assert inspect.signature(ours.run) == inspect.signature(ours.run_async)
    assert not hasattr(ours, "_get_telemetry_data")


def test_the_nearest_by_cosine_come_first(store, documents):
    found = SQLiteFAISSEmbeddingRetriever(store, top_k=5).run(QUERY_EMBEDDING)["documents"]
    query = np.array(QUERY_EMBEDDING)
    cosines = {d.id: query @ d.embedding / np.linalg.norm(query) / np.linalg.norm(d.embedding) for d in documents}
    assert [d.id for d in found] == sorted(cosines, key=cosines.get, reverse=True)[:5]
    assert [d.score for d in found] == pytest.approx([cosines[d.id] for d in found], abs=1e-6)
    assert all(d.embedding is None for d in found)


def test_documents_with_the_words_come_first(store):
    found = SQLiteFAISSBM25Retriever(store, top_k=20).run("Is there a HERON? (river)")["documents"]
    assert {d.meta["n"] for d in found} == {n for n in range(20) if {n % 6, n % 5} & {0, 1}}
    assert {d.meta["n"] for d in found[:3]} <= {n for n in range(20) if {n % 6, n % 5} == {0, 1}} | {0, 1}
    scores = [d.score for d in found]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


@pytest.mark.parametrize("cls", BOTH)
def test_a_run_overrides_what_the_component_was_made_with(cls, store):
    retriever, query = cls(store, filters=EVEN, top_k=4, scale_score=True), query_for(cls)
    own = retriever.run(query)["documents"]
    assert len(own) == 4
    assert all(d.meta["even"] for d in own)
    assert all(0 <= d.score <= 1 for d in own)
    assert [d.id for d in retriever.run(query, top_k=2)["documents"]] == [d.id for d in own[:2]]
    raw = retriever.run(query, scale_score=False)["documents"]
    assert [d.id for d in raw] == [d.id for d in own]
    assert [d.score for d in raw] != [d.score for d in own]
    assert {d.meta["even"] for d in retriever.run(query, filters=EARLY, top_k=20)["documents"]} == {True, False}
    assert retriever.run(query, top_k=0) == {"documents": []}


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("policy", [FilterPolicy.MERGE, "merge"])
def test_filters_can_be_merged(cls, policy, store):
    found = cls(store, filters=EVEN, top_k=20, filter_policy=policy).run(query_for(cls), filters=EARLY)["documents"]
    assert found
    assert all(d.meta["even"] and d.meta["n"] < 10 for d in found)


def test_embeddings_are_returned_when_asked(store, documents):
    embeddings = {d.id: d.embedding for d in documents}
    retriever = SQLiteFAISSEmbeddingRetriever(store, return_embedding=True)
    for document in retriever.run(QUERY_EMBEDDING)["documents"]:
        assert document.embedding == pytest.approx(embeddings[document.id], rel=1e-5)
        assert type(document.embedding[0]) is float
    assert all(d.embedding is None for d in retriever.run(QUERY_EMBEDDING, return_embedding=False)["documents"])


def test_search_parameters_reach_the_store(store, monkeypatch):
    asked = []
    monkeypatch.setattr(store, "embedding_retrieval", lambda query, **options: asked.append(options) or [])
    retriever = SQLiteFAISSEmbeddingRetriever(store, search_parameters={"nprobe": 8})
    retriever.run(QUERY_EMBEDDING)
    retriever.run(QUERY_EMBEDDING, search_parameters={"nprobe": 16})
    assert [options["search_parameters"] for options in asked] == [{"nprobe": 8}, {"nprobe": 16}]


@pytest.mark.parametrize("cls", BOTH)
async def test_run_async_equals_run(cls, store):
    retriever, query = cls(store, top_k=3, scale_score=True), query_for(cls)
    assert await retriever.run_async(query, filters=EVEN) == retriever.run(query, filters=EVEN)
    assert len((await retriever.run_async(query))["documents"]) == 3


@pytest.mark.parametrize("cls", BOTH)
async def test_wrong_values_are_named(cls, store):
    with pytest.raises(TypeError, match=f"{cls.__name__} searches a SQLiteFAISSDocumentStore, not a InMemory"):
        cls(InMemoryDocumentStore())
    with pytest.raises(ValueError, match="top_k is 0"):
        cls(store, top_k=0)
    with pytest.raises(ValueError, match="Unknown FilterPolicy type 'mix'"):
        cls(store, filter_policy="mix")
    with pytest.raises(ValueError, match="top_k is -1"):
        cls(store).run(query_for(cls), top_k=-1)
    with pytest.raises(ValueError, match="top_k is -1"):
        await cls(store).run_async(query_for(cls), top_k=-1)
    with pytest.raises(FilterError):
        cls(store).run(query_for(cls), filters={"field": "meta.n", "operator": "near", "value": 1})


@pytest.mark.parametrize("cls", BOTH)
def test_round_trip(cls, store):
    retriever = cls(store, filters=EVEN, top_k=3, scale_score=True, filter_policy=FilterPolicy.MERGE)
    data = retriever.to_dict()
    before = copy.deepcopy(data)
    loaded = cls.from_dict(data)
    assert data == before
    assert loaded.to_dict() == before
    assert loaded.filter_policy is FilterPolicy.MERGE
    assert loaded.run(query_for(cls)) == retriever.run(query_for(cls))


def test_round_trip_of_what_only_the_embedding_retriever_has(store):
    retriever = SQLiteFAISSEmbeddingRetriever(store, return_embedding=True, search_parameters={"nprobe": 4})
    loaded = SQLiteFAISSEmbeddingRetriever.from_dict(retriever.to_dict())
    assert loaded.return_embedding is True
    assert loaded.search_parameters == {"nprobe": 4}


def pipeline_over(store) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.add_component("embedding", SQLiteFAISSEmbeddingRetriever(store, top_k=3))
    pipeline.add_component("keyword", SQLiteFAISSBM25Retriever(store, top_k=3))
    return pipeline


ADDED = Document(content="An ibis wades.", meta={"n": 99}, embedding=QUERY_EMBEDDING)
SEARCH = {"embedding": {"query_embedding": QUERY_EMBEDDING}, "keyword": {"query": "ibis"}}


async def test_components_of_a_yaml_pipeline_share_the_store(store):
    pipeline = Pipeline.loads(pipeline_over(store).dumps())
    stores = [pipeline.get_component(name).document_store for name in ("writer", "embedding", "keyword")]
    assert len({id(one) for one in stores}) == 3
    assert pipeline.run({"writer": {"documents": [ADDED]}, **SEARCH})["writer"] == {"documents_written": 1}

    found = pipeline.run({"writer": {"documents": []}, **SEARCH})
    assert found["embedding"]["documents"][0].id == ADDED.id
    assert [d.id for d in found["keyword"]["documents"]] == [ADDED.id]
    assert (await pipeline.run_async({"writer": {"documents": []}, **SEARCH})) == found
    assert {one.count_documents() for one in (*stores, store)} == {21}
    pipeline.close()
    assert store.count_documents() == 21


async def test_a_closed_retriever_opens_again(store):
    retriever = SQLiteFAISSBM25Retriever(store)
    found = retriever.run("heron")
    retriever.close()
    retriever.close()
    assert retriever.run("heron") == found
    await retriever.close_async()
    assert retriever.run("heron") == found


def test_a_new_process_loads_and_searches(store, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline_over(store).dumps(), encoding="utf-8")
    code = (
        "import json, sys, rom_haystack; from pathlib import Path; from haystack import Pipeline\n"
        "text = Path(sys.argv[1]).read_text(encoding='utf-8')\n"
        "pipeline = Pipeline.loads(text)\n"
        "assert pipeline.dumps() == text\n"
        "found = pipeline.run(json.loads(sys.argv[2]))\n"
        "print(json.dumps({name: [[d.id, d.score] for d in found[name]['documents']] for name in sys.argv[3:]}))\n"
    )
    search = {**SEARCH, "keyword": {"query": "heron"}}
    run = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps({"writer": {"documents": []}, **search}), *search],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    here = pipeline_over(store).run({"writer": {"documents": []}, **search})
    there = json.loads(run.stdout.splitlines()[-1])
    for name in search:
        assert there[name] == [[d.id, pytest.approx(d.score, abs=1e-6)] for d in here[name]["documents"]]
