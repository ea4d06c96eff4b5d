"""What is known of stores by their names and attributes. tests/stores checks the same live, where that can be had."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from haystack import Document
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from rom_haystack import (
    ROMExtractiveQA,
    ROMIndexer,
    ROMRetriever,
    ROMTextEmbedder,
    SQLiteFAISSDocumentStore,
    check_store_similarity,
)
from rom_haystack.modeling import CheckpointError
from rom_haystack.store_similarity import score_to_similarity


def named(name, **attributes):
    """A stand-in for a store whose package isn't needed here, with the attributes that the real one has."""
    return type(name, (), attributes)()


def opensearch(**field):
    return named("OpenSearchDocumentStore", _mappings={"properties": {"embedding": field}})


def elasticsearch(similarity, custom=None):
    default = {"properties": {"embedding": {"type": "dense_vector", "index": True, "similarity": similarity}}}
    return named("ElasticsearchDocumentStore", _custom_mapping=custom, _default_mappings=default)


def weaviate(**settings):
    return named("WeaviateDocumentStore", _collection_settings={"class": "Default", **settings})


def milvus(index=None, search=None):
    return named(
        "MilvusDocumentStore",
        index_params=index and {"metric_type": index},
        search_params=search and {"metric_type": search},
    )


def chroma(function="l2", metadata=None, collection=None):
    return named("ChromaDocumentStore", _distance_function=function, _metadata=metadata, _collection=collection)


#: A store, its metric, whether a cosine checkpoint's order and scores fit, whether a dot checkpoint's order does.
STORES = {
    "opensearch": (opensearch(type="knn_vector", dimension=64), "l2", (True, False), False),
    "opensearch-ip": (opensearch(method={"space_type": "innerproduct"}), "inner_product", (True, True), True),
    "opensearch-top": (opensearch(space_type="cosinesimil"), "cosine", (True, True), False),
    "opensearch-l1": (opensearch(method={"space_type": "l1"}), None, (False, False), False),
    "elasticsearch": (elasticsearch("cosine"), "cosine", (True, True), False),
    "elasticsearch-dot": (elasticsearch("dot_product"), "cosine", (True, True), False),
    "elasticsearch-max": (elasticsearch("max_inner_product"), "inner_product", (True, True), True),
    "elasticsearch-l2": (elasticsearch("l2_norm"), "l2", (True, False), False),
    "elasticsearch-custom": (
        elasticsearch("l2_norm", {"properties": {"embedding": {"similarity": "max_inner_product", "dims": 64}}}),
        "inner_product",
        (True, True),
        True,
    ),
    "weaviate": (weaviate(), "cosine", (True, True), False),
    "weaviate-dot": (weaviate(vectorIndexConfig={"distance": "dot"}), "inner_product", (True, True), True),
    "weaviate-l2": (weaviate(vectorIndexConfig={"distance": "l2-squared"}), "l2", (True, False), False),
    "weaviate-hamming": (weaviate(vectorIndexConfig={"distance": "hamming"}), None, (False, False), False),
    "milvus-new": (milvus(), "l2", (True, True), False),
    "milvus-made": (milvus("L2", "L2"), "l2", (True, True), False),
    "milvus-reopened": (milvus(None, "L2"), "l2", (True, False), False),
    "milvus-reopened-ip": (milvus("COSINE", "IP"), "inner_product", (True, True), True),
    "chroma-metadata": (chroma("l2", {"hnsw:space": "ip"}), "inner_product", (True, True), True),
    "chroma-collection": (
        chroma("ip", None, named("Collection", configuration={"hnsw": {"space": "cosine"}})),
        "cosine",
        (True, True),
        False,
    ),
    "faiss-inner": (
        named("FAISSDocumentStore", index=named("Index", metric_type=0), index_string="HNSW32,Flat", embedding_dim=64),
        "inner_product",
        (True, True),
        True,
    ),
}


@pytest.fixture
def checkpoint_with(tiny_checkpoint, tmp_path):
    """The tiny checkpoint with another similarity: `checkpoint_with(similarity)`."""

    def make(similarity) -> str:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / similarity)
        config = json.loads((folder / "config.json").read_text())
        config["heads"]["retrieval"]["similarity"] = similarity
        (folder / "config.json").write_text(json.dumps(config))
        return str(folder)

    return make


@pytest.fixture
def dot_checkpoint(checkpoint_with) -> str:
    return checkpoint_with("dot")


@pytest.mark.parametrize(("store", "metric", "cosine_fits", "dot_fits"), STORES.values(), ids=list(STORES))
def test_settings_are_read(store, metric, cosine_fits, dot_fits, tiny_checkpoint, dot_checkpoint, caplog):
    for model, expected in ((str(tiny_checkpoint), cosine_fits), (dot_checkpoint, (dot_fits, dot_fits))):
        caplog.clear()
        found = check_store_similarity(store, model)
        assert found.store == type(store).__name__
        assert found.metric == metric
        assert (found.order_fits, found.scores_fit) == expected
        assert found.fits == all(expected) == (found.message == "")
        assert [record.getMessage() for record in caplog.records] == ([] if found.fits else [found.message])
        assert f"'{model}'" in found.message or found.fits


@pytest.mark.parametrize(("store", "metric"), [row[:2] for row in STORES.values()], ids=list(STORES))
def test_cosine_of_embeddings_that_differ_in_length(store, metric, checkpoint_with):
    model = checkpoint_with("unscaled_cosine")
    found = check_store_similarity(store, model)
    assert found.order_fits == found.scores_fit == (metric == "cosine")
    assert (
        found.fits or f"'{model}' needs cosine, as its embeddings differ in length: the order is wro" in found.message
    )
    assert check_store_similarity(store, model, normalize_embeddings=True).order_fits == (metric is not None)


@pytest.mark.parametrize("normalize", [True, False])
def test_embedders_know_theirs(normalize, checkpoint_with, caplog):
    embedder = ROMTextEmbedder(model=checkpoint_with("unscaled_cosine"), normalize_embeddings=normalize)
    assert embedder.check_store(InMemoryDocumentStore(embedding_similarity_function="dot_product"))
    assert ("needs cosine, as its embeddings differ in length" in caplog.text) == (not normalize)
    embedder.close()


def test_the_message_names_store_setting_and_remedy(tiny_checkpoint, dot_checkpoint):
    cosine = check_store_similarity(elasticsearch("l2_norm"), str(tiny_checkpoint)).message
    assert 'ElasticsearchDocumentStore compares embeddings by L2 distance (embedding_similarity_function="l2_' in cosine
    assert "the order is right" in cosine
    assert 'Create the store with embedding_similarity_function="cosine"' in cosine

    dot = check_store_similarity(weaviate(), dot_checkpoint).message
    assert 'by cosine (collection_settings={"vectorIndexConfig": {"distance": "cosine"}})' in dot
    assert "the order is wrong" in dot
    assert 'Create the store with collection_settings={"vectorIndexConfig": {"distance": "dot"}}' in dot

    assert '"metric_type": "IP"' in check_store_similarity(milvus(), dot_checkpoint).message


def test_the_remedy_is_right(tiny_checkpoint, dot_checkpoint):
    """What the message says to set is what fits."""
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    assert 'embedding_similarity_function="dot_product"' in check_store_similarity(store, dot_checkpoint).message
    store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
    assert check_store_similarity(store, dot_checkpoint).fits
    assert check_store_similarity(store, str(tiny_checkpoint)).fits


def test_dimensions_are_compared(tiny_checkpoint, tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=32) as store:
        found = check_store_similarity(store, str(tiny_checkpoint))
        assert found.order_fits
        assert not found.dimension_fits
        assert not found.fits
        assert "of 32 dimensions" in found.message
        assert "have 64" in found.message
        assert "embedding_dim=64" in found.message
        assert check_store_similarity(store, str(tiny_checkpoint), truncate_dim=32).fits
    pgvector = named("PgvectorDocumentStore", vector_function="cosine_similarity", embedding_dimension=768)
    found = check_store_similarity(pgvector, str(tiny_checkpoint))
    assert "embedding_dimension=64" in found.message
    both = named("PgvectorDocumentStore", vector_function="l2_distance", embedding_dimension=768)
    message = check_store_similarity(both, str(tiny_checkpoint)).message
    assert message.count("Create the store") == 2


def test_normalised_embeddings_of_a_dot_checkpoint_are_cosine(dot_checkpoint):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    assert not check_store_similarity(store, dot_checkpoint).fits
    assert check_store_similarity(store, dot_checkpoint, normalize_embeddings=True).fits


def test_the_dimension_of_a_projection(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "projected")
    config = json.loads((folder / "config.json").read_text())
    config["heads"]["retrieval"] = {"projection_dim": 48}
    (folder / "config.json").write_text(json.dumps(config))
    store = named("QdrantDocumentStore", similarity="cosine", embedding_dim=48)
    assert check_store_similarity(store, str(folder)).fits


def test_unknown_and_odd_stores(tiny_checkpoint, caplog):
    class Odd:
        @property
        def similarity(self):
            raise OSError("no")

    odd = type("QdrantDocumentStore", (Odd,), {})()
    empty = named("QdrantDocumentStore")
    lists = named("InMemoryDocumentStore", embedding_similarity_function=["cosine"])
    with caplog.at_level("DEBUG", logger="rom_haystack.store_similarity"):
        for store in (object(), None, named("VespaDocumentStore"), odd, empty, lists):
            assert check_store_similarity(store, str(tiny_checkpoint)) is None
            assert score_to_similarity(store) is None
    assert "Nothing is known about how VespaDocumentStore compares embeddings" in caplog.text
    assert all(record.levelname == "DEBUG" for record in caplog.records)


def test_a_store_made_of_a_known_one_is_known(tiny_checkpoint):
    class Mine(InMemoryDocumentStore):
        pass

    assert check_store_similarity(Mine(), str(tiny_checkpoint)).store == "InMemoryDocumentStore"


@pytest.mark.usefixtures("no_hub")
def test_checkpoints_that_are_not_there(tiny_checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="No checkpoint 'no/such'"):
        check_store_similarity(InMemoryDocumentStore(), "no/such")
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "headless")
    config = json.loads((folder / "config.json").read_text())
    del config["heads"]["retrieval"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no retrieval head"):
        check_store_similarity(InMemoryDocumentStore(), str(folder))


def test_components_warn_once_and_go_on(dot_checkpoint, caplog):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
    indexer = ROMIndexer(store, model=dot_checkpoint)
    qa = ROMExtractiveQA(store, model=dot_checkpoint)
    for part, inputs in ((indexer, {"documents": [Document(content="The sea is deep.")]}), (qa, {"query": "Why?"})):
        caplog.clear()
        part.run(**inputs)
        part.run(**inputs)
        part.warm_up()
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert 'embedding_similarity_function="dot_product"' in warnings[0]


def test_components_are_silent_where_all_is_well_or_nothing_is_known(dot_checkpoint, tiny_checkpoint, caplog):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
    inner = InMemoryEmbeddingRetriever(store)

    class Foreign:
        def run(self, text: str) -> dict:
            return {"embedding": [1.0] * 64}

    for embedder in (
        Foreign(),
        ROMTextEmbedder(model=str(tiny_checkpoint)),
        ROMTextEmbedder(model=dot_checkpoint, normalize_embeddings=True),
        ROMTextEmbedder(model=dot_checkpoint, precision="binary"),
    ):
        ROMRetriever(retriever=inner, text_embedder=embedder).warm_up()
    assert caplog.text == ""


def test_distances_become_similarities():
    assert score_to_similarity(chroma("cosine"))(0.25) == 0.75
    assert score_to_similarity(chroma("l2"))(0.25) == -0.25
    assert score_to_similarity(milvus(None, "L2"))(0.25) == -0.25
    assert score_to_similarity(milvus("L2", "L2")) is None
    assert score_to_similarity(InMemoryDocumentStore()) is None
    assert score_to_similarity(named("TextEmbeddingRetriever", retriever=named("Any", document_store=chroma("l2"))))
    by_l2 = named("PgvectorDocumentStore", vector_function="l2_distance", embedding_dimension=64)
    vectors = named("PgvectorEmbeddingRetriever", document_store=by_l2, vector_function="l2_distance")
    assert score_to_similarity(vectors)(0.25) == -0.25
    assert score_to_similarity(named("PgvectorKeywordRetriever", document_store=by_l2)) is None


def test_the_example_in_the_docs(capsys):
    text = (Path(__file__).parents[1] / "docs" / "stores.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "stores.md", "exec"), {})
    assert capsys.readouterr().out == "True inner_product \n"
