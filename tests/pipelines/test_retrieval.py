"""Where a pipeline finds its documents: stores, ways of searching them, and retrievers that are given."""

import asyncio

import pytest
from haystack import Document, Pipeline, SuperComponent
from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.document_stores.in_memory import InMemoryDocumentStore

from rom_haystack import ROMExtractiveQA, ROMHybridRetriever, ROMIndexer, ROMRanker, SQLiteFAISSDocumentStore

from .conftest import PARAGRAPHS


def test_the_embedded_store_is_filled_and_asked(indexed, tiny_checkpoint, tmp_path):
    model = str(tiny_checkpoint)
    sentences = ["The sea is deep.", "Bees dance for their sisters.", "Ibis and heron wade."]
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64) as store:
        documents = [Document(content=text, meta={"n": n}) for n, text in enumerate(sentences)]
        indexer, qa = ROMIndexer(store, model=model), ROMExtractiveQA(store, model=model, top_k_retriever=2)
        for _ in range(2):
            assert indexer.run(documents=documents)["documents_written"] == 3
        assert store.count_documents() == 3

        result = qa.run(query=sentences[1])
        assert result["documents"][0].content == sentences[1]
        assert len(result["documents"]) == 2
        for answer in result["answers"]:
            assert answer.data is None or answer.data in answer.document.content
        last = {"field": "meta.n", "operator": "==", "value": 2}
        assert [d.content for d in qa.run(query="Who?", filters=last)["documents"]] == [sentences[2]]

        in_memory = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
        ROMIndexer(in_memory, model=model).run(documents=documents)
        options = {"model": model, "top_k_retriever": 2, "retrieval": "dense"}
        expected = ROMExtractiveQA(in_memory, **options).run(query="Who dances?")
        found = asyncio.run(ROMExtractiveQA(store, **options).run_async(query="Who dances?"))
        assert [d.id for d in found["documents"]] == [d.id for d in expected["documents"]]
        assert [a.data for a in found["answers"]] == [a.data for a in expected["answers"]]
        assert [a.score for a in found["answers"]] == pytest.approx([a.score for a in expected["answers"]], abs=1e-3)


def test_any_embedding_retriever_will_do(indexed, tiny_checkpoint):
    retriever = InMemoryEmbeddingRetriever(indexed, top_k=1)
    assert len(ROMExtractiveQA(retriever=retriever, model=str(tiny_checkpoint)).run(query="Who?")["documents"]) == 1


@pytest.mark.parametrize("kind", ["SQLiteFAISSDocumentStore", "InMemoryDocumentStore"])
def test_a_store_is_searched_by_keywords_by_meaning_and_by_both(kind, tiny_checkpoint, tmp_path):
    model = str(tiny_checkpoint)
    store = InMemoryDocumentStore(shared=False)
    if kind == "SQLiteFAISSDocumentStore":
        store = SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64)
    texts = [*PARAGRAPHS, "Part XK-4711 fits.", "The sea is deep.", "Ibis wade."]
    ROMIndexer(store, model=model).run(documents=[Document(content=text) for text in texts])
    query = "Where is part XK-4711?"
    ways = {way: ROMExtractiveQA(store, model=model, retrieval=way) for way in (None, "hybrid", "dense", "keyword")}
    found = {way: qa.run(query=query) for way, qa in ways.items()}
    contents = {way: [document.content for document in result["documents"]] for way, result in found.items()}
    assert contents[None] == contents["hybrid"]
    assert contents["hybrid"][0] == contents["keyword"][0] == texts[2]
    assert sorted(contents["hybrid"]) == sorted(contents["dense"]) == sorted(texts)
    assert len(contents["keyword"]) < len(texts)
    for way, qa in ways.items():
        assert qa.run(query=query, top_k_retriever=1)["documents"][0].content == contents[way][0]
        batch = qa.run_batch([query, "Ibis"], top_k_retriever=2)
        assert [d.content for d in batch["documents"][0]] == contents[way][:2]
        assert component_from_dict(ROMExtractiveQA, component_to_dict(qa, "qa"), "qa").retrieval == (way or "hybrid")
    assert asyncio.run(ways["hybrid"].run_async(query=query))["documents"] == found["hybrid"]["documents"]


def test_more_documents_than_candidates_are_read_on_request(store, tiny_checkpoint):
    model = str(tiny_checkpoint)
    ROMIndexer(store, model=model).run(documents=[Document(content=f"Note {number}.") for number in range(60)])
    qa = ROMExtractiveQA(store, model=model, top_k_retriever=55)
    assert len(qa.run(query="Which note?")["documents"]) == 55
    assert len(qa.run(query="Which note?", top_k_retriever=60)["documents"]) == 60


def test_retrievers_that_take_a_query_will_do(indexed, tiny_checkpoint):
    model = str(tiny_checkpoint)
    for retriever in (
        InMemoryBM25Retriever(indexed, top_k=1),
        ROMHybridRetriever(indexed, model=model, top_k=1, weights=[1, 0]),  # a random encoder knows nothing of it
    ):
        qa = ROMExtractiveQA(retriever=retriever, model=model)
        found = qa.run(query="How high is Mount Everest?")["documents"]
        assert [document.meta["n"] for document in found] == [2]
        batch = qa.run_batch(["How high is Mount Everest?"])["documents"]
        assert [document.id for document in batch[0]] == [document.id for document in found]


def test_a_ranker_between_retriever_and_reader(indexed, tiny_checkpoint):
    model = str(tiny_checkpoint)
    pipeline = Pipeline()
    pipeline.add_component("search", ROMHybridRetriever(indexed, model=model))
    pipeline.add_component("ranker", ROMRanker(model=model))
    pipeline.connect("search.documents", "ranker.documents")
    inputs = {"query": ["search.query", "ranker.query"], "filters": ["search.filters"], "top_k": ["ranker.top_k"]}
    qa = ROMExtractiveQA(retriever=SuperComponent(pipeline, inputs, {"ranker.documents": "documents"}), model=model)
    query = "How high is Mount Everest?"
    expected = pipeline.run({"search": {"query": query}, "ranker": {"query": query, "top_k": 2}})["ranker"]["documents"]
    assert [d.id for d in qa.run(query=query, top_k_retriever=2)["documents"]] == [d.id for d in expected]
    assert [d.id for d in qa.run_batch([query], top_k_retriever=2)["documents"][0]] == [d.id for d in expected]
