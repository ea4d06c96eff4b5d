from __future__ import annotations

import pytest

from rom_haystack.compat import BM25Retriever, ExtractiveQAPipeline

QUERY = "Who found radium?"


@pytest.fixture
def pipe(store, dicts, retriever, reader):
    store.write_documents(dicts)
    store.update_embeddings(retriever)
    retriever.document_store = store
    return ExtractiveQAPipeline(reader, retriever)


def test_run_has_1_x_s_keys_and_does_what_the_nodes_do(pipe, alike):
    params = {"Retriever": {"top_k": 2}, "Reader": {"top_k": 3}}
    prediction = pipe.run(query=QUERY, params=params)
    assert set(prediction) == {"query", "answers", "documents", "no_ans_gap", "params", "root_node", "node_id"}
    documents = pipe.retriever.retrieve(QUERY, top_k=2)
    assert [d.id for d in prediction["documents"]] == [d.id for d in documents]
    assert alike(prediction["answers"]) == pipe.reader.predict(QUERY, documents, top_k=3)["answers"]
    assert (prediction["query"], prediction["params"]) == (QUERY, params)
    assert (prediction["root_node"], prediction["node_id"]) == ("Query", "Reader")


def test_parameters_outside_of_nodes_are_for_all_that_have_them(pipe):
    prediction = pipe.run(QUERY, params={"filters": {"name": "Everest"}, "top_k": 1})
    assert [d.meta["name"] for d in prediction["documents"]] == ["Everest"]
    assert len(prediction["answers"]) == 1
    prediction = pipe.run(QUERY, params={"top_k": 1, "Retriever": {"top_k": 3}})
    assert (len(prediction["documents"]), len(prediction["answers"])) == (3, 1)


def test_batches_equal_single_runs(pipe, alike):
    queries = [QUERY, "Where is Egypt?"]
    params = {"Retriever": {"top_k": 2}, "Reader": {"top_k": 1}}
    batch = pipe.run_batch(queries=queries, params=params)
    singles = [pipe.run(query, params) for query in queries]
    assert batch["queries"] == queries
    assert alike(batch["answers"]) == [single["answers"] for single in singles]
    assert alike(batch["no_ans_gaps"]) == [single["no_ans_gap"] for single in singles]
    assert [[d.id for d in found] for found in batch["documents"]] == [
        [d.id for d in single["documents"]] for single in singles
    ]


def test_without_documents_there_are_no_answers(pipe):
    prediction = pipe.run(QUERY, params={"Retriever": {"filters": {"name": "nothing"}}})
    assert prediction["documents"] == prediction["answers"] == []
    batch = pipe.run_batch([QUERY, QUERY], params={"Retriever": {"filters": {"name": "nothing"}}})
    assert batch["documents"] == batch["answers"] == [[], []]


def test_debug_shows_what_went_in_and_out(pipe):
    prediction = pipe.run(QUERY, params={"Reader": {"top_k": 1}}, debug=True)
    shown = prediction["_debug"]
    assert shown["Retriever"]["output"]["documents"] == prediction["documents"]
    assert shown["Reader"]["input"] == {"query": QUERY, "documents": prediction["documents"], "top_k": 1}
    assert shown["Reader"]["output"]["answers"] == prediction["answers"]
    assert "_debug" in pipe.run_batch([QUERY], debug=True)
    assert "_debug" not in pipe.run(QUERY)


def test_keyword_retrieval(store, dicts, reader):
    store.write_documents(dicts)
    prediction = ExtractiveQAPipeline(reader, BM25Retriever(store)).run("Which river flows north?")
    assert prediction["documents"][0].meta["name"] == "The Nile"
    assert prediction["answers"]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"Ranker": {"top_k": 1}}, "'Ranker'"),
        ({"topk": 1}, "'topk'.*top_k"),
        ({"Reader": {"filters": {}}}, "Reader takes no parameter 'filters'"),
        ({"Retriever": {"topk": 1}}, "Retriever takes no parameter 'topk'"),
    ],
)
def test_unknown_parameters_are_named(pipe, params, named):
    with pytest.raises(ValueError, match=named):
        pipe.run(QUERY, params=params)


@pytest.mark.parametrize("query", ["", " "])
def test_blank_queries_are_refused(pipe, query):
    with pytest.raises(ValueError, match="query is empty"):
        pipe.run(query)
