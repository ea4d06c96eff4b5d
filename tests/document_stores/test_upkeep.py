"""Upkeep of the embedded store: indexes that grow with it, compaction, index files, and readers meanwhile."""

import sqlite3
import threading

import faiss
import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores import faiss_index, upkeep

DIM = 32
VECTORS = np.random.default_rng(5).standard_normal((1000, DIM)).astype(np.float32)
QUERY = VECTORS[7].tolist()
TRAINED = "IVF32,PQ8x4fs"  # what auto takes for a few hundred vectors
ROW_BYTES = 2 * DIM
HEADER_BYTES = 64


@pytest.fixture(autouse=True)
def early_training(monkeypatch):
    """Let `auto` train from 300 documents on; in one thread, as so few gain nothing by more."""
    monkeypatch.setattr(faiss_index, "AUTO_TRAINED_FROM", 300)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


@pytest.fixture
def open_store(tmp_path):
    """Open the store, with other parameters where wanted; closed in the end."""
    opened = []

    def open_it(**parameters):
        opened.append(SQLiteFAISSDocumentStore(tmp_path / "store", DIM, **parameters))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def documents(start, end):
    return [
        Document(id=f"d{n}", content=f"word{n % 5} of {n}", meta={"n": n}, embedding=VECTORS[n].tolist())
        for n in range(start, end)
    ]


def factory(store):
    return store.collection._vectors._trained.factory


def names(store):
    """Names of the store's files, without those that SQLite makes and removes as it likes."""
    return {path.name for path in store.path.iterdir() if not path.name.startswith("documents.sqlite")}


def results(store):
    """Everything that can be found, with scores and embeddings."""
    everything = [(d.to_dict(flatten=False), d.embedding) for batch in store.iter_documents() for d in batch]
    searches = (
        store.embedding_retrieval(QUERY, top_k=1000, return_embedding=True),
        store.embedding_retrieval(QUERY, top_k=3, filters={"field": "meta.n", "operator": ">", "value": 500}),
        store.bm25_retrieval("word3", top_k=7),
    )
    return everything, [[d.to_dict(flatten=False) for d in found] for found in searches]


def registered(store):
    with sqlite3.connect(store.path / "documents.sqlite") as connection:
        rows = connection.execute("SELECT file, generation, factory, slots, size FROM vector_indexes").fetchall()
    connection.close()
    return rows


@pytest.fixture
def recorded(monkeypatch):
    """Slots that were added to FAISS indexes, call by call, and those that indexes were trained anew on."""
    calls = {"add": [], "build": []}
    for name in calls:
        original = getattr(faiss_index, name)

        def recording(*arguments, _name=name, _original=original):
            calls[_name].append(arguments[-1].tolist())
            return _original(*arguments)

        monkeypatch.setattr(faiss_index, name, recording)
    return calls


# Growing


def test_the_index_is_exact_until_the_collection_has_grown(open_store):
    store = open_store()
    store.write_documents(documents(0, 299))
    upkeep.wait(store.collection)
    before = [(d.id, d.score) for d in store.embedding_retrieval(QUERY, top_k=20)]
    assert factory(store) == "SQfp16"
    store.write_documents(documents(299, 300))
    upkeep.wait(store.collection)
    assert factory(store) == TRAINED
    found = store.embedding_retrieval(QUERY, top_k=21, search_parameters={"nprobe": 32})
    assert [(d.id, d.score) for d in found if d.id != "d299"][:20] == before


def test_the_index_is_trained_again_when_the_collection_has_grown_fourfold(open_store):
    store = open_store(auto_optimize=False)
    trained = []
    for start, end in ((0, 250), (250, 300), (300, 500), (500, 1000)):
        store.write_documents(documents(start, end))
        store.optimize()
        trained.append(factory(store))
    assert trained == ["SQfp16", "IVF32,PQ8x4fs", "IVF32,PQ8x4fs", "IVF64,PQ8x4fs"]


def test_without_auto_optimize_only_optimize_trains(open_store):
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 400))
    assert store.collection.upkeep is None
    store.embedding_retrieval(QUERY)
    assert factory(store) == "SQfp16"
    store.optimize()
    assert factory(store) == TRAINED


def test_training_runs_in_the_background_while_the_store_is_used(open_store, monkeypatch):
    store = open_store()
    build = faiss_index.build
    begun, go_on = threading.Event(), threading.Event()
    builders = []

    def waiting(*arguments):
        builders.append(threading.current_thread())
        begun.set()
        assert go_on.wait(60)
        return build(*arguments)

    monkeypatch.setattr(faiss_index, "build", waiting)
    store.write_documents(documents(0, 400))
    assert begun.wait(60)
    try:
        assert builders == [store.collection.upkeep]
        assert store.embedding_retrieval(QUERY, top_k=1)[0].id == "d7"
        store.write_documents(documents(400, 450))
        store.delete_documents(["d7", "d8"])
        assert store.embedding_retrieval(VECTORS[420].tolist(), top_k=1)[0].id == "d420"
        assert factory(store) == "SQfp16"
    finally:
        go_on.set()
    upkeep.wait(store.collection)
    assert factory(store) == TRAINED
    assert store.embedding_retrieval(VECTORS[420].tolist(), top_k=1)[0].id == "d420"
    assert "d7" not in [d.id for d in store.embedding_retrieval(QUERY, top_k=448)]
    assert len(store.embedding_retrieval(QUERY, top_k=1000)) == 448


def test_a_failure_in_the_background_costs_nothing_but_speed(open_store, monkeypatch, caplog):
    def failing(*arguments):
        raise MemoryError("no memory left")

    store = open_store()
    with monkeypatch.context() as context:
        context.setattr(faiss_index, "build", failing)
        store.write_documents(documents(0, 400))
        upkeep.wait(store.collection)
    assert "could not be renewed: no memory left" in caplog.text
    assert store.embedding_retrieval(QUERY, top_k=1)[0].id == "d7"
    store.write_documents(documents(400, 401))
    upkeep.wait(store.collection)
    assert factory(store) == TRAINED


def test_a_factory_is_trained_as_soon_as_there_is_enough_to_train_it_on(open_store, monkeypatch):
    monkeypatch.setattr(faiss_index, "_TRAINING_MIN", 2)
    store = open_store(index="IVF8,SQ8")
    store.write_documents(documents(0, 511))
    store.optimize()
    assert factory(store) == "SQfp16"
    store.write_documents(documents(511, 512))
    store.optimize()
    assert factory(store) == "IVF8,SQ8"


# Compaction


def test_optimizing_closes_the_gaps_that_deletions_left(open_store):
    store = open_store(auto_optimize=False)
    store.write_documents([*documents(0, 900), Document(id="bare", content="word3 without embedding")])
    store.optimize()
    store.delete_documents([f"d{n}" for n in range(900) if n % 3])
    expected = results(store)
    size = (store.path / "vectors-1.bin").stat().st_size
    store.optimize()
    assert results(store) == expected
    assert size == HEADER_BYTES + 901 * ROW_BYTES
    assert names(store) == {"vectors-2.bin", "index-2-301.faiss"}
    assert (store.path / "vectors-2.bin").stat().st_size == HEADER_BYTES + 301 * ROW_BYTES
    state = store.collection.state()
    assert (state.generation, state.next_slot, state.vacancies, state.documents) == (2, 301, 1, 301)
    store.close()
    assert results(open_store()) == expected


def test_overwritten_documents_are_compacted_too(open_store):
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 100))
    store.write_documents(documents(0, 100), DuplicatePolicy.OVERWRITE)
    expected = results(store)
    store.optimize()
    assert store.collection.state().next_slot == 100
    assert results(store) == expected


def test_few_deletions_are_left_alone(open_store):
    store = open_store()
    store.write_documents(documents(0, 100))
    store.delete_documents([f"d{n}" for n in range(10)])
    store.optimize()
    assert store.collection.state().generation == 1


def test_a_store_that_was_emptied_is_compacted(open_store):
    store = open_store()
    store.write_documents(documents(0, 50))
    store.delete_documents([f"d{n}" for n in range(50)])
    store.optimize()
    assert (store.path / "vectors-2.bin").stat().st_size == HEADER_BYTES
    store.write_documents(documents(0, 50))
    assert store.embedding_retrieval(QUERY, top_k=1)[0].id == "d7"


def test_deleting_all_documents_gives_their_space_back(open_store):
    store = open_store()
    store.write_documents(documents(0, 400))
    store.optimize()
    store.delete_all_documents()
    assert names(store) == {"vectors-2.bin"}
    assert (store.path / "vectors-2.bin").stat().st_size == HEADER_BYTES
    assert registered(store) == []


def test_optimizing_twice_changes_nothing(open_store):
    store = open_store()
    store.write_documents(documents(0, 400))
    store.optimize()
    before = {name: (store.path / name).stat().st_mtime_ns for name in names(store)}
    store.optimize()
    assert {name: (store.path / name).stat().st_mtime_ns for name in names(store)} == before


def test_packed_keyword_scores_survive_compaction(open_store):
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 1000))
    store.optimize()
    store.delete_documents([f"d{n}" for n in range(0, 1000, 2)])
    expected = [d.id for d in store.bm25_retrieval("word3 of 13", top_k=50)]
    assert expected[0] == "d13"
    store.optimize()
    assert [d.id for d in store.bm25_retrieval("word3 of 13", top_k=50)] == expected


# The index file


def test_the_saved_index_is_loaded_on_opening_and_not_built_again(open_store, recorded):
    store = open_store()
    store.write_documents(documents(0, 400))
    store.optimize()
    size = (store.path / "index-1-400.faiss").stat().st_size
    assert registered(store) == [("index-1-400.faiss", 1, TRAINED, 400, size)]
    expected = results(store)
    store.close()
    recorded["add"].clear()
    recorded["build"].clear()
    again = open_store()
    assert results(again) == expected
    assert factory(again) == TRAINED
    assert recorded == {"add": [], "build": []}


def test_what_came_after_saving_is_added_on_opening(open_store, recorded):
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 400))
    store.optimize()
    store.write_documents(documents(400, 450))
    store.delete_documents(["d7", "d410"])
    expected = results(store)
    store.close()
    recorded["add"].clear()
    again = open_store()
    assert results(again) == expected
    assert recorded["add"] == [[slot for slot in range(400, 450) if slot != 410]]
    assert again.embedding_retrieval(VECTORS[444].tolist(), top_k=1)[0].id == "d444"
    assert not {"d7", "d410"} & {d.id for d in again.embedding_retrieval(QUERY, top_k=1000)}


@pytest.mark.parametrize("harm", ["missing", "cut off", "changed", "empty", "other file"])
def test_a_damaged_index_file_is_made_anew(open_store, harm, recorded):
    store = open_store(auto_optimize=False)
    store.write_documents(documents(0, 400))
    store.optimize()
    expected = results(store)
    store.close()
    file = store.path / "index-1-400.faiss"
    content = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        changed = content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]
        file.write_bytes({"cut off": content[:-1], "changed": changed, "empty": b""}.get(harm, b"no index"))
    recorded["build"].clear()
    again = open_store(auto_optimize=False)
    assert results(again) == expected
    again.optimize()
    assert recorded["build"] == [list(range(400))]
    assert factory(again) == TRAINED
    assert results(again) == expected
    again.close()
    recorded["build"].clear()
    assert results(open_store()) == expected
    assert recorded["build"] == []


def test_an_index_of_another_factory_is_not_used(open_store, monkeypatch):
    monkeypatch.setattr(faiss_index, "_TRAINING_MIN", 1)
    store = open_store(index="IVF8,SQ8")
    store.write_documents(documents(0, 400))
    store.optimize()
    expected = results(store)
    store.close()
    other = open_store(index="HNSW16")
    assert results(other) == expected
    assert factory(other) == "SQfp16"
    other.optimize()
    assert factory(other) == "HNSW16"
    assert [row[2] for row in registered(other)] == ["HNSW16"]
    assert results(other) == expected


def test_old_and_half_written_files_are_removed_and_others_are_not(open_store):
    store = open_store()
    store.write_documents(documents(0, 400))
    store.optimize()
    for name in ("vectors-9.bin", "index-1-3.faiss", "index-1-400.faiss.new", "notes.txt", "index-1.faiss.bak"):
        (store.path / name).write_bytes(b"x")
    store.optimize()
    assert names(store) == {"vectors-1.bin", "index-1-400.faiss", "notes.txt", "index-1.faiss.bak"}


# Readers meanwhile: a read-only store object has a core of its own, as another process would have.


def test_a_snapshot_outlives_compaction(open_store):
    writer = open_store(auto_optimize=False, lock_timeout=600)
    writer.write_documents(documents(0, 400))
    reader = open_store(read_only=True)
    batches = reader.iter_documents(batch_size=100)
    seen = next(batches)
    with reader.collection.snapshot() as (_, _, vectors):
        writer.delete_documents([f"d{n}" for n in range(0, 400, 2)])
        optimizing = threading.Thread(target=writer.optimize, daemon=True)
        optimizing.start()
        optimizing.join(60)
        assert not optimizing.is_alive(), "it waits for the reader"
        assert names(writer) == {"vectors-2.bin"}  # too few documents are left for an index that is worth a file
        assert vectors.vectors.gather(np.arange(400)).shape == (400, DIM)
    for batch in batches:
        seen += batch
    assert [d.id for d in seen] == [f"d{n}" for n in range(400)]
    assert [d.embedding for d in seen] == [pytest.approx(v, abs=5e-3) for v in VECTORS[:400].tolist()]
    assert reader.count_documents() == 200
    assert results(reader) == results(writer)


def test_vectors_that_were_not_read_yet_can_be_read_after_their_file_is_gone(open_store):
    writer = open_store(auto_optimize=False)
    writer.write_documents(documents(0, 100))
    reader = open_store(read_only=True)
    with reader.collection.snapshot() as (_, _, vectors):
        writer.delete_all_documents()
        assert not (writer.path / "vectors-1.bin").exists()
        assert vectors.vectors.gather(np.arange(100)) @ VECTORS[3] == pytest.approx(
            VECTORS[:100] @ VECTORS[3] / np.linalg.norm(VECTORS[:100], axis=1), abs=1e-2
        )
    assert reader.embedding_retrieval(QUERY) == []


def test_readers_follow_through_generations(open_store):
    writer = open_store(auto_optimize=False)
    reader = open_store(read_only=True)
    for round_ in range(4):
        writer.write_documents(documents(round_ * 100, round_ * 100 + 100), DuplicatePolicy.OVERWRITE)
        assert results(reader) == results(writer)
        writer.delete_documents([f"d{round_ * 100 + n}" for n in range(0, 100, 3)])
        assert results(reader) == results(writer)
        writer.optimize()
        assert results(reader) == results(writer)
    assert writer.collection.state().generation > 2
