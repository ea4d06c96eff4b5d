"""Settings passed on, and wrong or doubtful ones told."""

import pytest
from haystack.components.retrievers import InMemoryBM25Retriever, InMemoryEmbeddingRetriever, TextEmbeddingRetriever

from rom_haystack import (
    ROMExtractiveQA,
    ROMHybridRetriever,
    ROMIndexer,
    ROMRetriever,
    ROMTextEmbedder,
    SQLiteFAISSDocumentStore,
)


def test_engine_and_adaptive_reading_reach_the_components(store, tiny_checkpoint):
    model = str(tiny_checkpoint)
    qa = ROMExtractiveQA(store, model=model, adaptive_reading="fast", backend="torch")
    indexer = ROMIndexer(store, model=model, backend="torch")
    reader, retriever = (qa.pipeline.get_component(name) for name in ("reader", "retriever"))
    assert reader.adaptive_reading == "fast"
    embedders = [retriever.dense_retriever.text_embedder, indexer.pipeline.get_component("embedder")]
    assert [part.backend for part in (reader, *embedders)] == ["torch"] * 3
    assert ROMExtractiveQA(store, model=model).pipeline.get_component("reader").backend == "auto"
    for part, wrong in [(ROMExtractiveQA, "backend"), (ROMExtractiveQA, "adaptive_reading"), (ROMIndexer, "backend")]:
        with pytest.raises(ValueError, match="swift"):
            part(store, model=model, **{wrong: "swift"})


def test_the_embedded_store_checks_the_number_of_documents(tiny_checkpoint, tmp_path):
    with (
        SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=64) as store,
        pytest.raises(ValueError, match="top_k_retriever is 0"),
    ):
        ROMExtractiveQA(store, model=str(tiny_checkpoint), top_k_retriever=0)


def test_another_model_in_the_retriever_is_told(indexed, tiny_checkpoint, caplog):
    model = str(tiny_checkpoint)

    def warned(retriever, **options):
        caplog.clear()
        ROMExtractiveQA(retriever=retriever(), **options)
        return "its retriever embeds queries with" in caplog.text

    inner, keyword = InMemoryEmbeddingRetriever(indexed), InMemoryBM25Retriever(indexed)
    default, ours = ROMTextEmbedder(), ROMTextEmbedder(model=model)
    for forgotten in (
        lambda: ROMHybridRetriever(indexed),
        lambda: ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=inner),
        lambda: ROMRetriever(retriever=inner, text_embedder=default),
        lambda: TextEmbeddingRetriever(retriever=inner, text_embedder=default),
        lambda: ROMHybridRetriever(keyword_retriever=keyword, dense_retriever=ROMRetriever(retriever=inner)),
    ):
        assert warned(forgotten, model=model)
        assert not warned(forgotten)
    assert warned(lambda: ROMHybridRetriever(indexed, model=model))
    assert not warned(lambda: ROMHybridRetriever(indexed, model=model), model=model)
    assert not warned(lambda: ROMHybridRetriever(indexed, model=model), model="a reader of its own")
    assert not warned(lambda: ROMRetriever(retriever=inner, text_embedder=ours), model=model)
    assert not warned(lambda: InMemoryEmbeddingRetriever(indexed), model=model)
    assert not warned(lambda: InMemoryBM25Retriever(indexed), model=model)


def test_wrong_stores_and_retrievers_are_refused(store):
    class OtherStore:
        pass

    class NoSearch:
        def run(self, text: str):
            return {"documents": []}

    with pytest.raises(ValueError, match="one of the two"):
        ROMExtractiveQA()
    with pytest.raises(ValueError, match="one of the two"):
        ROMExtractiveQA(store, retriever=InMemoryEmbeddingRetriever(store))
    with pytest.raises(ValueError, match="OtherStore is searched through retrievers of its own: give retriever, such"):
        ROMExtractiveQA(OtherStore())
    with pytest.raises(ValueError, match="NoSearch, given as retriever, can't be asked: its run takes no query_emb"):
        ROMExtractiveQA(retriever=NoSearch())
    with pytest.raises(ValueError, match="retrieval is dense, but a retriever is given"):
        ROMExtractiveQA(retriever=InMemoryEmbeddingRetriever(store), retrieval="dense")
    with pytest.raises(ValueError, match="Unknown retrieval 'sparse'"):
        ROMExtractiveQA(store, retrieval="sparse")
    with pytest.raises(ValueError, match="set top_k on the retriever"):
        ROMExtractiveQA(retriever=InMemoryEmbeddingRetriever(store), top_k_retriever=3)
    with pytest.raises(ValueError, match="top_k_retriever is 0"):
        ROMExtractiveQA(store, top_k_retriever=0)
