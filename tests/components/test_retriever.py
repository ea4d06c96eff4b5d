from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from haystack import Document, Pipeline, component
from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from rom_haystack.components import ROMRetriever, ROMTextEmbedder

EGYPT = {"field": "meta.country", "operator": "==", "value": "Egypt"}


@component
class StubRetriever:
    """Returns what it is given and remembers how it was asked."""

    def __init__(self, documents=()):
        self.documents = list(documents)
        self.calls = []

    @component.output_types(documents=list[Document])
    def run(self, query_embedding: list[float], filters: dict | None = None, top_k: int | None = 7):
        self.calls.append({"filters": filters, "top_k": top_k, "dim": len(query_embedding)})
        return {"documents": self.documents}


@pytest.fixture
def corpus(document_embedder) -> list[Document]:
    documents = [
        Document(content="The Nile flows north.", meta={"country": "Egypt"}),
        Document(content="Radium glows.", meta={"country": "France"}),
        Document(content="The Suez Canal joins two seas.", meta={"country": "Egypt"}),
    ]
    return document_embedder.run(documents)["documents"]


@pytest.fixture
def retriever(corpus, text_embedder):
    store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
    store.write_documents(corpus)
    inner = InMemoryEmbeddingRetriever(store, return_embedding=True, top_k=2)
    return ROMRetriever(retriever=inner, text_embedder=text_embedder)


def test_documents_come_best_first_without_embeddings(retriever):
    found = retriever.run("Which river flows north?", top_k=3)["documents"]
    assert len(found) == 3
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert all(d.embedding is None for d in found)


def test_the_passage_itself_is_found_first(retriever, corpus, document_embedder):
    """Query and passage share the encoder, so the text of a passage is nearest to that passage."""
    for document in corpus:
        assert retriever.run(document.content, top_k=1)["documents"][0].content == document.content


def test_embeddings_are_kept_on_request(retriever):
    retriever.return_embedding = True
    assert all(len(d.embedding) == 64 for d in retriever.run("river")["documents"])


def test_what_a_run_leaves_out_is_the_inner_retrievers_own(retriever, text_embedder):
    assert len(retriever.run("river")["documents"]) == 2
    stub = StubRetriever()
    ours = ROMRetriever(retriever=stub, text_embedder=text_embedder)
    ours.run("river")
    ours.run("river", filters=EGYPT, top_k=3)
    ours.run("river", filters={})
    assert [(c["filters"], c["top_k"]) for c in stub.calls] == [(None, 7), (EGYPT, 3), ({}, 7)]


def test_filters(retriever):
    found = retriever.run("radium", filters=EGYPT, top_k=5)["documents"]
    assert {d.meta["country"] for d in found} == {"Egypt"}
    assert len(found) == 2


async def test_top_k_0_is_nothing_and_negative_an_error(retriever):
    assert retriever.run("river", top_k=0) == {"documents": []}
    assert await retriever.run_async("river", top_k=0) == {"documents": []}
    with pytest.raises(ValueError, match="top_k is -1"):
        retriever.run("river", top_k=-1)


@pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
async def test_blank_query(retriever, blank):
    with pytest.raises(ValueError, match="query is empty"):
        retriever.run(blank)
    with pytest.raises(ValueError, match="query is empty"):
        await retriever.run_async(blank)


def test_query_must_be_text(retriever):
    with pytest.raises(TypeError, match="int"):
        retriever.run(3)


def test_none_scores_come_last_and_ties_keep_their_order(text_embedder):
    scores = {"a": None, "b": -3.0, "c": 0.5, "d": None, "e": 0.5}
    documents = [Document(id=name, content=name, score=score) for name, score in scores.items()]
    before = copy.deepcopy(documents)
    ours = ROMRetriever(retriever=StubRetriever(documents), text_embedder=text_embedder)
    assert [d.id for d in ours.run("river")["documents"]] == ["c", "e", "b", "a", "d"]
    assert documents == before


async def test_run_async_and_run_batch_equal_run(retriever):
    queries = ["Which river flows north?", "What glows?"]
    single = [retriever.run(query)["documents"] for query in queries]
    batch = retriever.run_batch(queries)["documents"]
    for one, other in zip(single, batch, strict=True):
        assert [d.id for d in one] == [d.id for d in other]
        assert [d.score for d in one] == pytest.approx([d.score for d in other], abs=1e-5)
    assert (await retriever.run_async(queries[0]))["documents"] == single[0]
    assert retriever.run_batch([]) == {"documents": []}


async def test_an_inner_retriever_without_async_runs_in_a_thread(text_embedder):
    stub = StubRetriever([Document(content="a")])
    found = await ROMRetriever(retriever=stub, text_embedder=text_embedder).run_async("river", top_k=1)
    assert found["documents"] == stub.documents
    assert stub.calls == [{"filters": None, "top_k": 1, "dim": 64}]


def test_queries_come_as_a_list(retriever):
    with pytest.raises(TypeError, match="found a single str"):
        retriever.run_batch("nile")


def test_what_cannot_be_asked_by_an_embedding_is_refused(corpus):
    with pytest.raises(ValueError, match=r"InMemoryBM25Retriever, given as retriever, .* takes no query_embedding"):
        ROMRetriever(retriever=InMemoryBM25Retriever(InMemoryDocumentStore()))


def test_the_default_embedder_is_ours():
    assert isinstance(ROMRetriever(retriever=StubRetriever()).text_embedder, ROMTextEmbedder)


async def test_close_reaches_the_embedder(tiny_checkpoint):
    embedder = ROMTextEmbedder(model=str(tiny_checkpoint))
    ours = ROMRetriever(retriever=StubRetriever(), text_embedder=embedder)
    ours.warm_up()
    assert embedder._encoder is not None
    ours.close()
    assert embedder._encoder is None
    await ours.warm_up_async()
    assert embedder._encoder is not None
    await ours.close_async()
    assert embedder._encoder is None


def test_round_trip_nests_both_parts(retriever):
    data = retriever.to_dict()
    assert data["init_parameters"]["text_embedder"]["type"].endswith("ROMTextEmbedder")
    loaded = ROMRetriever.from_dict(data)
    assert loaded.to_dict() == data
    assert loaded.retriever.top_k == 2


async def test_in_a_pipeline_sync_and_async(retriever):
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    data = {"retriever": {"query": "river", "filters": EGYPT}}
    found = pipeline.run(data)["retriever"]["documents"]
    assert {d.meta["country"] for d in found} == {"Egypt"}
    assert (await pipeline.run_async(data))["retriever"]["documents"] == found


@pytest.mark.integration
async def test_over_qdrant(corpus, text_embedder, retriever):
    store = QdrantDocumentStore(":memory:", embedding_dim=64, similarity="dot_product", recreate_index=True)
    store.write_documents([replace(document) for document in corpus])
    inner = QdrantEmbeddingRetriever(store, top_k=3, scale_score=False)
    ours = ROMRetriever(retriever=inner, text_embedder=text_embedder)
    query = "Which river flows north?"
    found, expected = ours.run(query)["documents"], retriever.run(query, top_k=3)["documents"]
    assert [d.id for d in found] == [d.id for d in expected]
    assert [d.score for d in found] == pytest.approx([d.score for d in expected], abs=1e-4)
    assert len(ours.run(query, filters=EGYPT)["documents"]) == 2
    assert len(ours.run(query, top_k=1)["documents"]) == 1
    assert ours.run(query, top_k=0)["documents"] == []  # Qdrant's own `or` would make it 3
    assert all(d.embedding is None for d in found)
