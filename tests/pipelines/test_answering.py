"""Questions answered over a store: one by one, async and in batches."""

import asyncio

import pytest
from haystack.components.retrievers import InMemoryBM25Retriever

from rom_haystack import ROMExtractiveQA


def test_answers_obey_the_offset_law(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    result = qa.run(query="How high is Mount Everest?", top_k=20)
    quotes = [answer for answer in result["answers"] if answer.data is not None]
    assert {answer.document.meta["n"] for answer in quotes} == {1, 2, 3}
    for answer in quotes:
        assert answer.document.content[answer.document_offset.start : answer.document_offset.end] == answer.data
        assert answer.context[answer.context_offset.start : answer.context_offset.end] == answer.data
    assert len(result["documents"]) == 3


def test_answering_obeys_filters_and_numbers(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint), top_k_retriever=2, top_k_reader=4)
    assert len(qa.run(query="Who?")["documents"]) == 2
    assert len(qa.run(query="Who?")["answers"]) == 4
    result = qa.run(query="Who?", filters={"field": "meta.n", "operator": "==", "value": 2}, top_k=3)
    assert [document.meta["n"] for document in result["documents"]] == [2]
    assert len(result["answers"]) == 3
    assert len(qa.run(query="Who?", top_k_retriever=1)["documents"]) == 1
    with pytest.raises(Exception, match="query is empty"):
        qa.run(query=" ")


def test_an_empty_store_has_no_answer(store, tiny_checkpoint):
    result = ROMExtractiveQA(store, model=str(tiny_checkpoint)).run(query="Who?")
    assert result["documents"] == []
    assert [answer.data for answer in result["answers"]] == [None]


def test_runs_async(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    result = asyncio.run(qa.run_async(query="Who?"))
    assert [a.data for a in result["answers"]] == [a.data for a in qa.run(query="Who?")["answers"]]


def test_a_batch_of_queries_is_answered_like_single_ones(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    queries = ["How high is Mount Everest?", "Who wrote notes?", "Who?"]
    filters = {"field": "meta.n", "operator": "<", "value": 3}
    for options in ({}, {"filters": filters, "top_k": 3, "top_k_retriever": 1}, {"top_k": 0}):
        batch = qa.run_batch(queries, **options)
        assert set(batch) == {"answers", "documents"}
        for query, answers, documents in zip(queries, batch["answers"], batch["documents"], strict=True):
            alone = qa.run(query=query, **options)
            assert [d.id for d in documents] == [d.id for d in alone["documents"]]
            assert [(a.query, a.data) for a in answers] == [(query, a.data) for a in alone["answers"]]
            assert [a.score for a in answers] == pytest.approx([a.score for a in alone["answers"]], abs=1e-4)


def test_a_batch_reads_all_documents_in_one_stream(indexed, tiny_checkpoint, monkeypatch):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    qa.warm_up()
    backend = qa.pipeline.get_component("reader")._encoder.backend
    calls, run = [], backend.run
    monkeypatch.setattr(
        backend,
        "run",
        lambda inputs, head, **options: calls.append((head, len(inputs))) or run(inputs, head, **options),
    )
    qa.run_batch(["Who?", "Where?"])
    assert calls == [("retrieval", 2), ("reading", 6)]


def test_bad_batches(indexed, tiny_checkpoint):
    qa = ROMExtractiveQA(indexed, model=str(tiny_checkpoint))
    assert qa.run_batch([]) == {"answers": [], "documents": []}
    with pytest.raises(TypeError, match="found a single str"):
        qa.run_batch("Who?")
    with pytest.raises(ValueError, match="query is empty"):
        qa.run_batch(["Who?", " "])
    with pytest.raises(ValueError, match="top_k is -1"):
        qa.run_batch(["Who?"], top_k_retriever=-1)


def test_documents_are_read_without_embeddings(indexed, tiny_checkpoint):
    model = str(tiny_checkpoint)
    query = "How high is Mount Everest?"
    for qa in (
        ROMExtractiveQA(indexed, model=model, retrieval="keyword"),
        ROMExtractiveQA(retriever=InMemoryBM25Retriever(indexed), model=model),
    ):
        found = qa.run(query=query)
        batch = {name: groups[0] for name, groups in qa.run_batch([query]).items()}
        for result in (found, asyncio.run(qa.run_async(query=query)), batch):
            read = [answer.document for answer in result["answers"] if answer.document is not None]
            assert read
            assert all(document.embedding is None for document in (*read, *result["documents"]))
    assert all(document.embedding for document in indexed.filter_documents())
