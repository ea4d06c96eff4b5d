"""DPR's own models behind Haystack 1.x's names: the first step of who comes from there."""

from __future__ import annotations

import numpy as np
import pytest
from haystack.document_stores.in_memory import InMemoryDocumentStore

from rom_haystack import check_store_similarity
from rom_haystack.compat import DensePassageRetriever, FARMReader
from rom_haystack.compat import InMemoryDocumentStore as OldInMemoryDocumentStore

TEXTS = {
    "Radium": "Marie Curie found radium in 1898.",
    "The Nile": "The Nile flows north. Its delta lies in Egypt.",
    "Everest": "Mount Everest stands 8849 metres high.",
}
QUERY = "Where does the Nile flow?"
LENGTHS = {"max_seq_len_query": 32, "max_seq_len_passage": 100}


@pytest.fixture
def store():
    store = OldInMemoryDocumentStore(similarity="dot_product")
    store.write_documents([{"content": text, "meta": {"name": name}} for name, text in TEXTS.items()])
    return store


@pytest.fixture
def retriever(store, dpr_question, dpr_passage):
    retriever = DensePassageRetriever(store, dpr_question, dpr_passage, use_gpu=False, **LENGTHS)
    store.update_embeddings(retriever)
    yield retriever
    retriever.close()


def names(documents):
    return [document.meta["name"] for document in documents]


def test_a_pair_retrieves_by_inner_product(retriever, store):
    found = names(retriever.retrieve(QUERY, top_k=3))
    scores = retriever.embed_documents(store.get_all_documents()) @ retriever.embed_queries([QUERY])[0]
    assert found == [list(TEXTS)[i] for i in np.argsort(-scores)]


def test_a_pair_is_saved_and_loaded(retriever, store, tmp_path):
    retriever.save(tmp_path / "pair")
    loaded = DensePassageRetriever.load(tmp_path / "pair", document_store=store, use_gpu=False, **LENGTHS)
    assert loaded.query_embedding_model != loaded.passage_embedding_model
    before, after = (one.embed_queries([QUERY]) for one in (retriever, loaded))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert names(loaded.retrieve(QUERY)) == names(retriever.retrieve(QUERY))
    loaded.close()


def test_its_reader_reads(retriever, dpr_reader):
    reader = FARMReader(str(dpr_reader), use_gpu=False, max_seq_len=100, doc_stride=20)
    answers = reader.predict(QUERY, retriever.retrieve(QUERY), top_k=2)["answers"]
    assert len(answers) == 2
    for answer in answers:
        place = answer.offsets_in_document[0]
        assert TEXTS[answer.meta["name"]][place.start : place.end] == answer.answer
    reader.close()


def test_the_store_is_told_what_such_models_need(dpr_passage):
    found = check_store_similarity(InMemoryDocumentStore(embedding_similarity_function="cosine"), str(dpr_passage))
    assert not found.order_fits
    assert 'embedding_similarity_function="dot_product"' in found.message
    assert check_store_similarity(InMemoryDocumentStore(), str(dpr_passage)).fits
