"""Documents go over to the store and back, compared with Haystack's own stores."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import faiss
import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.faiss import FAISSDocumentStore
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores import migration
from rom_haystack.document_stores.migration import copy_documents, export_faiss_store, import_faiss_store

DIM = 6


def vectors(count: int, seed: int = 3) -> np.ndarray:
    """Random vectors of different lengths, so that L2, cosine and dot product rank them differently."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, DIM)) * rng.uniform(0.2, 3.0, (count, 1))


def plain_documents(embeddings: np.ndarray) -> list[Document]:
    return [
        Document(id=f"d{n}", content=f"passage {n}", meta={"n": n}, embedding=embedding.tolist())
        for n, embedding in enumerate(embeddings)
    ]


@pytest.fixture
def documents():
    """One of each kind of document, most of them with an embedding."""
    odd = [
        Document(id="ünï-😀", content='" and \\ and ]}, {[ and \n\u2028.', meta={"deep": {"a": [1, None, True]}}),
        Document(id="fields", content="Meta named like fields.", meta={"content": "mine", "id": 7, "score": 1.5}),
        Document(id="blob", blob=ByteStream(b"\x00\xff]", meta={"k": "v"}, mime_type="image/png"), meta={"f": 0.1}),
        Document(id="sparse", content="", sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25])),
    ]
    embedded = [replace(document, embedding=v.tolist()) for document, v in zip(odd, vectors(4), strict=True)]
    return [*embedded, Document(id="bare", content="No embedding."), Document(id="nothing", meta={"empty": ""})]


@pytest.fixture
def store(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=DIM, vector_dtype="float32") as store:
        yield store


def stock_store(documents: list[Document]) -> FAISSDocumentStore:
    stock = FAISSDocumentStore(embedding_dim=DIM)
    stock.write_documents(documents)
    return stock


def contents(store) -> list[Document]:
    """Every document of a store, with its embedding, by id."""
    if isinstance(store, SQLiteFAISSDocumentStore):
        found = [document for batch in store.iter_documents() for document in batch]
    else:
        found = store.filter_documents()
    return sorted(found, key=lambda document: document.id)


def assert_same(found: list[Document], expected: list[Document]) -> None:
    """Everything is equal, embeddings but for what single precision rounds off."""
    expected = sorted(expected, key=lambda document: document.id)
    assert [replace(d, embedding=None) for d in found] == [replace(d, embedding=None) for d in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.embedding is None) == (theirs.embedding is None), ours.id
        if theirs.embedding is not None:
            assert ours.embedding == pytest.approx(theirs.embedding, rel=1e-5, abs=1e-6)


# Import


def test_import_brings_every_field(documents, store, tmp_path):
    stock_store(documents).save(tmp_path / "stock")
    assert import_faiss_store(tmp_path / "stock", store) == len(documents)
    assert_same(contents(store), documents)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_import_reads_piece_by_piece(documents, store, tmp_path, monkeypatch, chunk):
    stock_store(documents).save(tmp_path / "stock")
    opening = len('{"documents": [')
    monkeypatch.setattr(migration, "_CHUNK", max(chunk, opening))
    assert import_faiss_store(tmp_path / "stock", store, batch_size=2) == len(documents)
    assert_same(contents(store), documents)


def test_import_takes_the_path_as_the_stock_store_does(documents, store, tmp_path):
    stock_store(documents).save(tmp_path / "my.v1")
    assert (tmp_path / "my.json").exists()
    (tmp_path / "my.faiss").unlink()
    assert import_faiss_store(str(tmp_path / "my.v1"), store) == len(documents)


def test_import_of_an_empty_and_of_a_reformatted_file(documents, store, tmp_path):
    stock_store([]).save(tmp_path / "stock")
    assert import_faiss_store(tmp_path / "stock", store) == 0
    stock_store(documents).save(tmp_path / "stock")
    file = tmp_path / "stock.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=4, ensure_ascii=False), encoding="utf-8")
    assert import_faiss_store(tmp_path / "stock", store) == len(documents)
    assert_same(contents(store), documents)


def test_imported_documents_are_found_in_the_same_order(store, tmp_path):
    embeddings = vectors(50)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    stock = stock_store(plain_documents(embeddings))
    stock.save(tmp_path / "stock")
    import_faiss_store(tmp_path / "stock", store)
    for query in vectors(5, seed=8):
        expected = [d.id for d in stock.search(query.tolist(), top_k=50)]
        assert [d.id for d in store.embedding_retrieval(query.tolist(), top_k=50)] == expected


def test_import_goes_into_any_store(documents, tmp_path):
    stock_store(documents).save(tmp_path / "stock")
    target = InMemoryDocumentStore(shared=False)
    assert import_faiss_store(tmp_path / "stock", target) == len(documents)
    assert_same(contents(target), documents)


def test_import_obeys_the_policy(documents, store, tmp_path):
    stock_store(documents).save(tmp_path / "stock")
    store.write_documents([Document(id="bare", content="Mine.")])
    with pytest.raises(DuplicateDocumentError, match="bare"):
        import_faiss_store(tmp_path / "stock", store)
    assert import_faiss_store(tmp_path / "stock", store, policy=DuplicatePolicy.SKIP) == len(documents) - 1
    assert store.filter_documents({"field": "id", "operator": "==", "value": "bare"})[0].content == "Mine."
    assert import_faiss_store(tmp_path / "stock", store, policy=DuplicatePolicy.OVERWRITE) == len(documents)
    assert_same(contents(store), documents)


def test_a_file_cut_off_anywhere_is_refused_or_whole(tmp_path):
    documents = plain_documents(vectors(2))
    stock_store(documents).save(tmp_path / "stock")
    file = tmp_path / "stock.json"
    text = file.read_text(encoding="utf-8")
    end_of_list = text.index('], "id_map"') + 1
    for length in range(len(text)):
        file.write_text(text[:length], encoding="utf-8")
        target = InMemoryDocumentStore(shared=False)
        if length < end_of_list:
            with pytest.raises(DocumentStoreError, match=r"stock\.json is damaged after document \d"):
                import_faiss_store(tmp_path / "stock", target)
        else:
            assert import_faiss_store(tmp_path / "stock", target) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\xff\xfe\x00",
        b"[]",
        b'{"documents": {"a": 1}}',
        b'{"documents": ["text"]}',
        b'{"documents": [{"title": "a", "text": "b"}]}',
        b'{"documents": [{"id": "a", "content": 5, "embedding": null}]}',
        b'{"documents": [{"id": "a", "content": "b", "embedding": null, "blob": {"size": 3}}]}',
        b'{"documents": [{"id": "a", "content": "\xff", "embedding": null}]}',
        b'{"documents": [nonsense]}',
    ],
)
def test_foreign_files_are_named_and_refused(content, store, tmp_path):
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(DocumentStoreError, match=r"other\.json is .*no file of a FAISSDocumentStore"):
        import_faiss_store(tmp_path / "other", store)
    assert store.count_documents() == 0


def test_wrong_values_for_import_are_named(store, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.json"):
        import_faiss_store(tmp_path / "missing.faiss", store)
    with pytest.raises(ValueError, match="batch_size is 0"):
        import_faiss_store(tmp_path / "missing", store, batch_size=0)


def test_embeddings_of_another_dimension_are_refused(tmp_path, documents):
    stock_store(documents).save(tmp_path / "stock")
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=DIM + 1) as store:
        with pytest.raises(DocumentStoreError, match=f"{DIM} dimensions.* embedding_dim={DIM + 1}"):
            import_faiss_store(tmp_path / "stock", store)
        assert store.count_documents() == 0


# Export


def test_the_stock_store_opens_what_was_exported(documents, store, tmp_path):
    store.write_documents(documents)
    assert export_faiss_store(store, tmp_path / "new" / "exported") == len(documents)
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["exported.faiss", "exported.json"]
    stock = FAISSDocumentStore(str(tmp_path / "new" / "exported"), embedding_dim=DIM)
    assert_same(contents(stock), documents)
    assert stock.index.ntotal == 4
    fresh = stock_store([document for document in contents(store) if document.embedding is not None])
    assert type(stock.index) is type(fresh.index)
    assert sorted(stock.id_map.values()) == sorted(fresh.id_map.values())
    assert stock.inverse_id_map == {id_: number for number, id_ in stock.id_map.items()}
    assert stock._next_id == fresh._next_id == 4


def test_the_stock_store_goes_on_with_what_was_exported(store, tmp_path):
    store.write_documents(plain_documents(vectors(5)))
    export_faiss_store(store, tmp_path / "exported")
    stock = FAISSDocumentStore(str(tmp_path / "exported"), embedding_dim=DIM)
    stock.delete_documents(["d1"])
    stock.write_documents([Document(id="new", content="n", embedding=[9.0] * DIM)])
    assert [d.id for d in stock.search([9.0] * DIM, top_k=1)] == ["new"]
    assert {d.id for d in stock.search([0.0] * DIM, top_k=9)} == {"d0", "d2", "d3", "d4", "new"}


@pytest.mark.parametrize("unit", [True, False])
def test_the_stock_store_ranks_by_cosine_what_was_exported(store, tmp_path, unit):
    embeddings = vectors(1100)  # more than one batch
    if unit:
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    store.write_documents(plain_documents(embeddings))
    export_faiss_store(store, tmp_path / "exported")
    stock = FAISSDocumentStore(str(tmp_path / "exported"), embedding_dim=DIM)
    for query in vectors(5, seed=8):
        expected = [d.id for d in store.embedding_retrieval(query.tolist(), top_k=30)]
        assert [d.id for d in stock.search(query.tolist(), top_k=30)] == expected


@pytest.mark.parametrize("same_length", [True, False])
def test_a_ranking_by_dot_product_is_kept_or_warned_of(tmp_path, caplog, same_length):
    embeddings = vectors(40)
    if same_length:
        embeddings *= 2.5 / np.linalg.norm(embeddings, axis=1, keepdims=True)
    query = vectors(1, seed=8)[0].tolist()
    with SQLiteFAISSDocumentStore(tmp_path / "store", embedding_dim=DIM, similarity="dot_product") as store:
        store.write_documents(plain_documents(embeddings))
        with caplog.at_level(logging.WARNING):
            export_faiss_store(store, tmp_path / "exported")
        expected = [d.id for d in store.embedding_retrieval(query, top_k=40)]
    stock = FAISSDocumentStore(str(tmp_path / "exported"), embedding_dim=DIM)
    assert ([d.id for d in stock.search(query, top_k=40)] == expected) is same_length
    assert ("only L2 distance" in caplog.text) is not same_length


@pytest.mark.parametrize("written", [[], [Document(id="bare", content="No embedding.")]])
def test_a_store_without_embeddings_is_exported(written, store, tmp_path):
    store.write_documents(written)
    assert export_faiss_store(store, tmp_path / "exported") == len(written)
    stock = FAISSDocumentStore(str(tmp_path / "exported"), embedding_dim=DIM)
    assert contents(stock) == written
    assert stock.search([1.0] * DIM) == []
    stock.write_documents(plain_documents(vectors(1)))
    assert [d.id for d in stock.search([1.0] * DIM)] == ["d0"]


def test_there_and_back_again(documents, store, tmp_path):
    store.write_documents(documents)
    export_faiss_store(store, tmp_path / "exported")
    with SQLiteFAISSDocumentStore(tmp_path / "again", embedding_dim=DIM, vector_dtype="float32") as again:
        assert import_faiss_store(tmp_path / "exported", again) == len(documents)
        assert_same(contents(again), documents)


@pytest.mark.parametrize("name", ["exported.json", "exported.faiss"])
def test_export_replaces_no_file(name, store, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=name):
        export_faiss_store(store, tmp_path / "exported.v2")
    assert (tmp_path / name).read_text() == "mine"


def test_a_failed_export_leaves_nothing(documents, store, tmp_path, monkeypatch):
    def full(*arguments):
        raise RuntimeError("No space left on device")

    store.write_documents(documents)
    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(RuntimeError, match="No space"):
        export_faiss_store(store, tmp_path / "out" / "exported")
    assert list((tmp_path / "out").iterdir()) == []


# Copy


def test_copy_to_the_store_and_back(documents, store):
    source, back = InMemoryDocumentStore(shared=False), InMemoryDocumentStore(shared=False)
    source.write_documents(documents)
    assert copy_documents(source, store, batch_size=4) == len(documents)
    assert_same(contents(store), documents)
    assert copy_documents(store, back, batch_size=4) == len(documents)
    assert_same(contents(back), documents)


def test_our_store_is_never_read_as_a_whole(store, monkeypatch):
    class Target(InMemoryDocumentStore):
        sizes: list[int] = []  # noqa: RUF012

        def write_documents(self, documents, policy=DuplicatePolicy.NONE):
            self.sizes.append(len(documents))
            return super().write_documents(documents, policy)

    def refuse(*arguments):
        raise AssertionError("read as a whole")

    store.write_documents(plain_documents(vectors(7)))
    monkeypatch.setattr(store, "filter_documents", refuse)
    assert copy_documents(store, Target(shared=False), batch_size=3) == 7
    assert Target.sizes == [3, 3, 1]


def test_an_interrupted_copy_goes_on_with_skip(documents, store):
    source = InMemoryDocumentStore(shared=False)
    source.write_documents(documents)
    store.write_documents(documents[:2])
    with pytest.raises(DuplicateDocumentError):
        copy_documents(source, store)
    assert store.count_documents() == 2
    assert copy_documents(source, store, policy=DuplicatePolicy.SKIP) == len(documents) - 2
    assert_same(contents(store), documents)


def test_a_source_that_hides_embeddings_is_refused(documents, store):
    source = InMemoryDocumentStore(shared=False, return_embedding=False)
    source.write_documents(documents)
    with pytest.raises(ValueError, match="return_embedding=True"):
        copy_documents(source, store)
    assert store.count_documents() == 0


def test_a_store_is_not_copied_to_itself(store):
    other = SQLiteFAISSDocumentStore(store.path, embedding_dim=DIM, vector_dtype="float32")
    memory = InMemoryDocumentStore(shared=False)
    for source, target in ((store, other), (memory, memory)):
        with pytest.raises(ValueError, match="same store"):
            copy_documents(source, target, policy=DuplicatePolicy.OVERWRITE)
    with pytest.raises(ValueError, match="batch_size is 0"):
        copy_documents(memory, store, batch_size=0)


@pytest.mark.integration
def test_copy_from_and_to_qdrant(store, tmp_path):
    embeddings = vectors(6)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)  # as Qdrant itself does for cosine
    documents = plain_documents(embeddings)
    store.write_documents(documents)
    qdrant = QdrantDocumentStore(":memory:", embedding_dim=DIM, return_embedding=True)
    assert copy_documents(store, qdrant) == 6
    with SQLiteFAISSDocumentStore(tmp_path / "back", embedding_dim=DIM, vector_dtype="float32") as back:
        assert copy_documents(qdrant, back) == 6
        assert_same(contents(back), documents)
    with pytest.raises(ValueError, match="return_embedding=True"):
        copy_documents(QdrantDocumentStore(":memory:", embedding_dim=DIM), store)
