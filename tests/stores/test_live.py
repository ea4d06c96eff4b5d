"""Live stores: a warning comes where order or scores are wrong, and nowhere else; and ROM's parts work over each."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from haystack import Document
from haystack.utils import ComponentDevice

from rom_haystack import (
    ROMDocumentEmbedder,
    ROMExtractiveQA,
    ROMIndexer,
    ROMRetriever,
    ROMTextEmbedder,
    check_store_similarity,
)

pytestmark = pytest.mark.integration

CPU = ComponentDevice.from_str("cpu")
SETTINGS = [
    *(("InMemory", value) for value in ("dot_product", "cosine")),
    *(("SQLiteFAISS", value) for value in ("cosine", "dot_product")),
    *(("FAISS", value) for value in ("Flat", "HNSW32")),
    *(("Qdrant", value) for value in ("cosine", "dot_product", "l2")),
    *(("Chroma", value) for value in ("cosine", "ip", "l2")),
    *(("pgvector", "exact_nearest_neighbor", value) for value in ("cosine_similarity", "inner_product", "l2_distance")),
    *(("pgvector", "hnsw", value) for value in ("cosine_similarity", "inner_product", "l2_distance")),
    *(("Milvus", value) for value in (None, "L2", "COSINE", "IP")),
]
FITTING = [
    ("InMemory", "cosine"),
    ("SQLiteFAISS", "cosine"),
    ("FAISS", "Flat"),
    ("Qdrant", "cosine"),
    ("Chroma", "cosine"),
    ("pgvector", "hnsw", "cosine_similarity"),
    ("Milvus", "COSINE"),
]
#: Chroma has async methods for its server only, and Qdrant's local mode locks its folder to one client.
ASYNC = {"InMemory", "SQLiteFAISS", "FAISS", "pgvector", "Milvus"}
TEXTS = [
    "The Nile flows north.",
    "Radium glows in the dark; Marie Curie found it in 1898, in Paris, with her husband Pierre.",
    "Bees dance for their sisters.",
    "bees bees bees bees bees",
    "Mount Everest is 8,849 metres high.",
    "The Suez Canal joins two seas, the Mediterranean and the Red Sea.",
    "Glaciers.",
    "Volcanoes erupt where plates meet, and where the mantle is hot.",
    "Ada Lovelace wrote notes on the Analytical Engine.",
    "the the the the the the the the the the the the",
    "A whale is a mammal.",
    "Chess was played in Persia long before it reached Europe.",
]
DOCUMENTS = [Document(content=text, meta={"n": n}) for n, text in enumerate(TEXTS)]
QUERIES = ["Which river flows north?", "bees", "Who wrote about the engine?", "the the"]


@pytest.fixture(scope="module", autouse=True)
def warm(tiny_checkpoint, dot_checkpoint):
    """Keep both checkpoints loaded, as every test here uses one."""
    embedders = [ROMTextEmbedder(model=str(folder), device=CPU) for folder in (tiny_checkpoint, dot_checkpoint)]
    for embedder in embedders:
        embedder.warm_up()
    yield
    for embedder in embedders:
        embedder.close()


def name(setting):
    return "-".join(map(str, setting))


@cache
def similarities(checkpoint: str) -> np.ndarray:
    """Exact similarities between the queries and the documents, by NumPy."""
    queries = ROMTextEmbedder(model=checkpoint, device=CPU, progress_bar=False).run_batch(QUERIES)["embeddings"]
    return np.array(queries) @ passages(checkpoint).T


@cache
def passages(checkpoint: str) -> np.ndarray:
    embedder = ROMDocumentEmbedder(model=checkpoint, device=CPU, progress_bar=False)
    return np.array([document.embedding for document in embedder.run(DOCUMENTS)["documents"]])


def retriever_over(inner, checkpoint: str, **options) -> ROMRetriever:
    embedder = ROMTextEmbedder(model=checkpoint, device=CPU, progress_bar=False)
    return ROMRetriever(retriever=inner, text_embedder=embedder, **options)


def search(retriever: ROMRetriever) -> tuple[list[list[int]], np.ndarray]:
    """For every query the documents' numbers as they come, and the scores by document."""
    orders, scores = [], np.full((len(QUERIES), len(TEXTS)), np.nan)
    for row, query in enumerate(QUERIES):
        found = retriever.run(query, top_k=len(TEXTS))["documents"]
        assert all(type(document.score) is float for document in found)
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
        orders.append([document.meta["n"] for document in found])
        scores[row, orders[-1]] = [document.score for document in found]
    return orders, scores


def test_the_metrics_disagree_for_the_dot_checkpoint(dot_checkpoint):
    """Else a wrong metric would give the right order by chance."""
    lengths = np.linalg.norm(passages(str(dot_checkpoint)), axis=1)
    inner = similarities(str(dot_checkpoint))
    assert lengths.max() > 1.5 * lengths.min()
    assert (np.argsort(-inner) != np.argsort(-inner / lengths)).any(axis=1).all()
    assert (np.argsort(-inner) != np.argsort(lengths**2 - 2 * inner)).any(axis=1).all()


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_a_warning_comes_exactly_where_order_or_scores_are_wrong(setting, checkpoint, live, caplog):
    made = live(*setting)
    ROMIndexer(made.store, model=checkpoint, device=CPU).run(documents=DOCUMENTS)
    warned_in_indexing = "compares embeddings" in caplog.text
    for opened in (lambda: made.store, made.reopened):
        store = opened()
        caplog.clear()
        retriever = retriever_over(made.retriever(store), checkpoint)
        orders, scores = search(retriever)
        warned = "compares embeddings" in caplog.text
        found = check_store_similarity(store, checkpoint)

        exact = similarities(checkpoint)
        order_right = orders == np.argsort(-exact, kind="stable").tolist()
        # The similarity itself, or scaled from 0 to 1; our store keeps half precision, of which dot products of long
        # embeddings that come near zero keep less.
        close = 1e-3 * max(1.0, np.abs(exact).max())
        scores_right = any(np.allclose(scores, x, atol=close, rtol=1e-3) for x in (exact, (exact + 1) / 2))
        assert (found.order_fits, found.scores_fit) == (order_right, scores_right)
        assert warned == (not (order_right and scores_right))
        assert caplog.text.count("compares embeddings") == 2 * warned  # once for the retriever, once for the call
        if store is made.store:
            assert warned_in_indexing == warned
        elif hasattr(store, "close"):
            store.close()


@pytest.mark.parametrize("setting", FITTING, ids=name)
async def test_indexing_retrieving_and_answering(setting, tiny_checkpoint, live, tmp_path):
    model = str(tiny_checkpoint)
    made = live(*setting)
    indexer = ROMIndexer(made.store, model=model, device=CPU)
    bad, good = tmp_path / "bad.txt", tmp_path / "good.md"
    bad.write_bytes(b"\0\1\2")
    good.write_text("# Herons\n\nThe heron waits beside the river for its supper.\n\n## Kestrels\n\nThey hover.")

    nothing = indexer.run(sources=[bad])
    assert nothing["documents_written"] == 0
    assert list(nothing["skipped"]) == [str(bad)]
    assert indexer.run(documents=DOCUMENTS)["documents_written"] == 12
    written = indexer.run(sources=[bad, good], documents=DOCUMENTS)["documents_written"]
    assert made.store.count_documents() == written > 12

    last = {"field": "meta.n", "operator": ">=", "value": 6}
    herons = {"field": "meta.title", "operator": "==", "value": "Herons"}
    retriever = retriever_over(made.retriever(top_k=5), model, return_embedding=True)
    assert len(retriever.run("river")["documents"]) == 5
    assert len(retriever.run("river", top_k=50)["documents"]) == written
    assert retriever.run("river", top_k=0)["documents"] == []
    filtered = retriever.run("bees", filters=last, top_k=50)["documents"]
    assert [d.meta["n"] for d in filtered] == [
        d.meta["n"] for d in retriever.run("bees", top_k=50)["documents"] if d.meta.get("n", 0) >= 6
    ]
    assert len(filtered) == 6
    assert len(retriever.run("bees", filters=last, top_k=2)["documents"]) == 2
    (best,) = retriever.run(TEXTS[4], top_k=1)["documents"]
    assert best.content == TEXTS[4]
    if best.embedding is not None:
        assert {type(number) for number in best.embedding} == {float}

    qa = ROMExtractiveQA(retriever=made.retriever(top_k=5), model=model, device=CPU)
    result = qa.run(query="Who waits?", filters=herons)
    assert {document.meta["title"] for document in result["documents"]} == {"Herons"}
    assert all(document.embedding is None for document in result["documents"])
    answers = [answer for answer in result["answers"] if answer.data is not None]
    assert answers
    for answer in answers:
        assert answer.document.content[answer.document_offset.start : answer.document_offset.end] == answer.data

    if setting[0] in ASYNC:
        assert (await indexer.run_async(documents=DOCUMENTS))["documents_written"] == 12
        assert (await indexer.run_async(sources=[bad]))["documents_written"] == 0
        again = (await retriever.run_async("bees", filters=last, top_k=50))["documents"]
        assert [document.id for document in again] == [document.id for document in filtered]
        if hasattr(made.store, "close_async"):
            await made.store.close_async()


def test_a_retrievers_own_function_counts(dot_checkpoint, live, caplog):
    made = live("pgvector", "exact_nearest_neighbor", "inner_product")
    ROMIndexer(made.store, model=str(dot_checkpoint), device=CPU).run(documents=DOCUMENTS)
    assert check_store_similarity(made.store, str(dot_checkpoint)).fits
    inner = made.retriever(vector_function="cosine_similarity")
    retriever_over(inner, str(dot_checkpoint)).warm_up()
    assert 'vector_function="cosine_similarity"' in caplog.text
    assert not check_store_similarity(inner, str(dot_checkpoint)).fits
