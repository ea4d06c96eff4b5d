"""What a store must keep through long use: recall, speed and size after much was written, overwritten and deleted."""

import os
import threading

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack.document_stores import SQLiteFAISSDocumentStore, faiss_index, indexed_vectors, upkeep
from rom_haystack.document_stores.shared_lock import SharedLock

DIM = 32
RNG = np.random.default_rng(13)
#: Vectors in the order of their topics, as files of one topic after the other would be written.
VECTORS = np.repeat(RNG.standard_normal((60, DIM)), 100, axis=0) + 0.5 * RNG.standard_normal((6000, DIM))


def documents(first: int, last: int, **meta: object) -> list[Document]:
    return [
        Document(id=f"d{i}", content=f"heron number {i}", meta={"n": i, **meta}, embedding=VECTORS[i].tolist())
        for i in range(first, last)
    ]


def indexed_slots(store: SQLiteFAISSDocumentStore) -> int:
    return store.collection._vectors._trained.index.ntotal


def factory(store: SQLiteFAISSDocumentStore) -> str:
    return store.collection._vectors._trained.factory


@pytest.fixture
def low_thresholds(monkeypatch):
    monkeypatch.setattr(faiss_index, "AUTO_TRAINED_FROM", 300)


@pytest.fixture
def open_store(tmp_path):
    stores = []

    def open_it(folder="store", **options):
        store = SQLiteFAISSDocumentStore(tmp_path / folder, DIM, **options)
        stores.append(store)
        return store

    yield open_it
    for store in stores:
        store.close()


def test_training_sees_all_parts_of_a_collection(monkeypatch, open_store, low_thresholds):
    monkeypatch.setattr(faiss_index, "_TRAINING_MAX", 12)  # 12 × 256 of 6,000
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 6000))
    seen = []
    gather = type(store.collection._vectors.vectors).gather
    monkeypatch.setattr(
        type(store.collection._vectors.vectors), "gather", lambda self, slots: seen.append(slots) or gather(self, slots)
    )
    store.optimize()
    (sample,) = [slots for slots in seen if len(slots) == 12 * 256]
    assert (sample[0], sample[-1]) == (0, 5999)
    assert np.diff(sample).max() <= 2


def test_recall_does_not_depend_on_the_order_of_topics(open_store, low_thresholds):
    store = open_store()
    store.write_documents(documents(0, 6000))
    store.optimize()
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    for part in (range(0, 3000, 100), range(3000, 6000, 100)):
        hits = 0
        for i in part:
            found = {document.id for document in store.embedding_retrieval(VECTORS[i].tolist(), top_k=20)}
            hits += len(found & {f"d{j}" for j in np.argsort(-(unit @ unit[i]))[:20]})
        assert hits / (20 * len(part)) > 0.97


def test_a_reader_takes_over_an_index_that_another_core_trained(open_store, low_thresholds):
    writer, reader = open_store(auto_optimize=False), open_store(read_only=True)
    writer.write_documents(documents(0, 400))
    assert reader.embedding_retrieval(VECTORS[7].tolist(), top_k=1)[0].id == "d7"
    assert (factory(reader), indexed_slots(reader)) == ("SQfp16", 400)
    writer.optimize()
    writer.write_documents(documents(400, 420))
    assert reader.embedding_retrieval(VECTORS[410].tolist(), top_k=1)[0].id == "d410"
    assert factory(reader) == factory(writer) == "IVF32,PQ8x4fs"
    assert indexed_slots(reader) == 420
    taken = reader.collection._vectors._trained.index
    writer.write_documents(documents(420, 430))
    writer.optimize()
    assert reader.embedding_retrieval(VECTORS[425].tolist(), top_k=1)[0].id == "d425"
    assert reader.collection._vectors._trained.index is taken  # one of the same kind is no better


def test_a_trained_index_is_saved_at_once_and_again_when_much_has_come(open_store, low_thresholds, monkeypatch):
    monkeypatch.setattr(indexed_vectors, "SAVE_AGAIN_FROM", 100)

    def files() -> list[str]:
        return [path.name for path in store.path.glob("index-*")]

    store = open_store()
    store.write_documents(documents(0, 300))
    upkeep.wait(store.collection)
    assert files() == ["index-1-300.faiss"]
    store.write_documents(documents(300, 390))
    upkeep.wait(store.collection)
    assert files() == ["index-1-300.faiss"]
    store.write_documents(documents(390, 410))
    upkeep.wait(store.collection)
    assert files() == ["index-1-410.faiss"]


def test_overwriting_again_and_again_leaves_no_trail(open_store, low_thresholds):
    store = open_store()
    for _ in range(12):
        store.write_documents(documents(0, 100), DuplicatePolicy.OVERWRITE)
        upkeep.wait(store.collection)
    state = store.collection.state()
    assert state.documents == 100
    assert state.next_slot < 400
    assert [path.stat().st_size for path in store.path.glob("vectors-*")] == [64 + 2 * DIM * state.next_slot]
    assert store.embedding_retrieval(VECTORS[7].tolist(), top_k=1)[0].id == "d7"
    assert store.bm25_retrieval("57")[0].id == "d57"


def test_so_does_deleting(open_store, low_thresholds):
    store = open_store()
    store.write_documents(documents(0, 1000))
    upkeep.wait(store.collection)
    store.delete_by_filter({"field": "meta.n", "operator": "<", "value": 900})
    upkeep.wait(store.collection)
    assert store.collection.state().next_slot == 100
    assert store.embedding_retrieval(VECTORS[907].tolist(), top_k=1)[0].id == "d907"


def test_an_update_of_other_metadata_leaves_the_keyword_index_alone(open_store):
    store = open_store(keyword_meta_fields=["title"])
    store.write_documents(documents(0, 50, title="Birds"))

    def changed() -> int:
        with store.collection.database.reading() as connection:
            return connection.execute("SELECT count(*) FROM keyword_changes").fetchone()[0]

    assert store.update_by_filter({"field": "meta.n", "operator": "<", "value": 10}, {"flag": True}) == 10
    assert changed() == 0
    assert store.update_by_filter({"field": "meta.n", "operator": "<", "value": 10}, {"title": "Waders"}) == 10
    assert changed() == 10
    assert {document.id for document in store.bm25_retrieval("waders", top_k=20)} == {f"d{i}" for i in range(10)}
    assert len(store.bm25_retrieval("birds", top_k=50)) == 40


def test_two_store_objects_have_one_thread_for_upkeep(open_store, low_thresholds, monkeypatch):
    one, two = open_store(), open_store()
    begun, go_on = threading.Event(), threading.Event()
    build = faiss_index.build

    def waiting(*arguments):
        assert not begun.is_set()
        begun.set()
        assert go_on.wait(60)
        return build(*arguments)

    monkeypatch.setattr(faiss_index, "build", waiting)
    one.write_documents(documents(0, 350))
    assert begun.wait(60)
    thread = one.collection.upkeep
    two.write_documents(documents(350, 400))
    assert two.collection.upkeep is thread
    go_on.set()
    two.close()
    assert not thread.is_alive()
    assert factory(one) == "IVF32,PQ8x4fs"


def test_deleted_documents_give_their_space_back(open_store):
    store = open_store()
    store.write_documents([Document(content=f"{i} " + "word " * 500) for i in range(400)])
    store.optimize()
    size = (store.path / "documents.sqlite").stat().st_size
    store.delete_by_filter({"field": "content", "operator": "!=", "value": None})
    store.optimize()
    assert (store.path / "documents.sqlite").stat().st_size < size / 4
    store.write_documents([Document(content=f"{i} " + "word " * 500) for i in range(400)])
    store.delete_all_documents()
    assert (store.path / "documents.sqlite").stat().st_size < size / 4


@pytest.mark.parametrize("name", ["Bücher 本", os.fsdecode(b"caf\xe9")], ids=["unicode", "no unicode"])
def test_an_index_is_saved_in_folders_of_any_name(open_store, low_thresholds, name):
    with open_store(folder=name) as store:
        store.write_documents(documents(0, 400))
        store.optimize()
    again = open_store(folder=name)
    assert again.embedding_retrieval(VECTORS[7].tolist(), top_k=1)[0].id == "d7"
    assert again.collection._vectors._trained.saved == 400


def test_searches_go_on_while_an_index_is_saved(open_store, low_thresholds, monkeypatch):
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 400))
    begun, go_on = threading.Event(), threading.Event()
    save = faiss_index.save

    def waiting(*arguments):
        begun.set()
        assert go_on.wait(60)
        return save(*arguments)

    monkeypatch.setattr(faiss_index, "save", waiting)
    saving = threading.Thread(target=store.optimize)
    saving.start()
    try:
        assert begun.wait(60)
        assert store.embedding_retrieval(VECTORS[7].tolist(), top_k=1)[0].id == "d7"
    finally:
        go_on.set()
        saving.join()
    assert len(list(store.path.glob("index-*"))) == 1


def test_a_shared_lock_is_shared_or_held_alone():
    lock, order = SharedLock(), []
    entered, leave = threading.Event(), threading.Event()

    def alone():
        with lock.alone():
            order.append("alone")
            entered.set()
            assert leave.wait(60)

    def shared():
        with lock.shared():
            order.append("shared")

    with lock.shared():
        other = threading.Thread(target=shared)
        other.start()
        other.join()
        assert order == ["shared"]
        writer = threading.Thread(target=alone)
        writer.start()
        assert not entered.is_set()
        order.append("first reader leaves")
    assert entered.wait(60)
    reader = threading.Thread(target=shared)
    reader.start()
    order.append("writer leaves")
    leave.set()
    for thread in (writer, reader):
        thread.join()
    assert order == ["shared", "first reader leaves", "alone", "writer leaves", "shared"]
