"""The embedded store used by several threads and processes at a time."""

import asyncio
import multiprocessing
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores import faiss_index

DIM = 16
BATCH = 10
VECTORS = np.random.default_rng(9).standard_normal((2000, DIM)).astype(np.float32)
QUERY = VECTORS[1]
SCORES = VECTORS @ QUERY / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(QUERY)
PATIENCE = 60  # seconds after which something hangs


def batch(number):
    """Documents that are written, and deleted, together."""
    return [
        Document(id=f"d{n}", content="heron", meta={"n": n, "batch": number}, embedding=VECTORS[n].tolist())
        for n in range(number * BATCH, (number + 1) * BATCH)
    ]


def ids(number):
    return [document.id for document in batch(number)]


@pytest.fixture
def store(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM) as store:
        for number in range(10):
            store.write_documents(batch(number))
        yield store


@pytest.fixture
def busy_upkeep(monkeypatch):
    """Let the index be trained in the background again and again."""
    monkeypatch.setattr(faiss_index, "AUTO_TRAINED_FROM", 150)


def check_batches(documents):
    """No batch is half there."""
    numbers = [document.meta["batch"] for document in documents]
    assert all(numbers.count(number) == BATCH for number in set(numbers))


def check_scores(found, count):
    """There are so many results, best first, each with its true score."""
    assert len(found) == count
    assert [d.score for d in found] == pytest.approx(SCORES[[d.meta["n"] for d in found]].tolist(), abs=2e-3)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def read_until(done, store, deleted):
    """Read again and again, and check what must hold at every moment; return how often."""
    rounds = 0
    while not done.is_set() or rounds == 0:
        gone = set(deleted)
        check_batches(store.filter_documents())
        found = store.embedding_retrieval(QUERY.tolist(), top_k=50)
        check_scores(found, 50)
        words = store.bm25_retrieval("heron", top_k=50)
        assert len(words) == 50
        one = store.embedding_retrieval(QUERY.tolist(), filters={"field": "meta.batch", "operator": "==", "value": 3})
        check_scores(one, BATCH)
        assert not gone & {d.id for d in [*found, *words]}
        assert store.count_documents() >= 100
        rounds += 1
    return rounds


@pytest.mark.parametrize("read_only", [False, True])
def test_threads_read_while_one_writes(store, read_only, busy_upkeep):
    done, deleted = threading.Event(), []
    reader = SQLiteFAISSDocumentStore(store.path, DIM, read_only=read_only)
    with reader, ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read_until, done, reader, deleted) for _ in range(3)]
        try:
            for number in range(10, 40):
                store.write_documents(batch(number))
                if number % 3 == 0:
                    store.write_documents(batch(3), DuplicatePolicy.OVERWRITE)
                if number % 2:
                    store.delete_documents(ids(number - 1))
                    deleted.extend(ids(number - 1))
                if number % 10 == 9:
                    store.optimize()
        finally:
            done.set()
        assert all(future.result(PATIENCE) > 0 for future in readers)
        assert store.count_documents() == 25 * BATCH
        assert store.collection.state().generation > 1


def test_threads_write_at_the_same_time(store):
    def write(number):
        return store.write_documents(batch(number))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, range(10, 50))) == [BATCH] * 40
    check_batches(store.filter_documents())
    check_scores(store.embedding_retrieval(QUERY.tolist(), top_k=500), 500)
    slots = [row[0] for row in slots_of(store)]
    assert slots == list(range(500))


def slots_of(store):
    with store.collection.database.reading() as connection:
        return connection.execute("SELECT slot FROM documents ORDER BY slot").fetchall()


def test_a_thread_does_not_wait_for_another_for_ever(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "new", DIM, lock_timeout=0.1) as store, ThreadPoolExecutor(1) as pool:
        with store.collection.database.writing():
            error = pool.submit(store.write_documents, batch(0)).exception(PATIENCE)
        assert isinstance(error, DocumentStoreError)
        for part in (str(store.path), "another thread", "0.1 s", "Try again later", "lock_timeout"):
            assert part in str(error)
        assert store.count_documents() == 0
        assert pool.submit(store.write_documents, batch(0)).result(PATIENCE) == BATCH


def test_threads_that_write_the_same_ids_write_each_once(store):
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: store.write_documents(batch(10), DuplicatePolicy.SKIP), range(8)))
    assert sorted(written) == [0] * 7 + [BATCH]
    assert store.count_documents() == 11 * BATCH


def test_threads_open_the_same_store(tmp_path):
    def opened(_):
        with SQLiteFAISSDocumentStore(tmp_path / "new", DIM) as store:
            return store.write_documents(batch(0), DuplicatePolicy.SKIP)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(opened, range(8))) == [0] * 7 + [BATCH]


async def test_awaiting_many_at_once(store):
    searches = [store.embedding_retrieval_async(QUERY.tolist(), top_k=20) for _ in range(20)]
    writes = [store.write_documents_async(batch(number)) for number in range(10, 20)]
    results = await asyncio.gather(*searches, *writes)
    for found in results[:20]:
        check_scores(found, 20)
    assert results[20:] == [BATCH] * 10
    assert await store.count_documents_async() == 20 * BATCH


def test_batches_of_documents_are_of_one_moment(store):
    before = store.filter_documents()
    batches = store.iter_documents(batch_size=7)
    seen = [next(batches)]

    def change():
        store.write_documents(batch(10))
        store.update_by_filter({"field": "meta.n", "operator": ">=", "value": 50}, {"batch": -1})
        store.write_documents(batch(9), DuplicatePolicy.OVERWRITE)
        store.delete_documents([name for number in range(1, 9) for name in ids(number)])
        store.optimize()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(change).result(PATIENCE)
    seen += batches
    assert [len(part) for part in seen] == [7] * 14 + [2]
    assert [(d.id, d.meta) for part in seen for d in part] == [(d.id, d.meta) for d in before]
    vectors = [d.embedding for part in seen for d in part]
    assert vectors == [pytest.approx(vector, abs=5e-3) for vector in VECTORS[:100].tolist()]
    assert store.count_documents() == 30


@pytest.mark.parametrize("side", [1, -1])
def test_what_is_written_after_a_snapshot_does_not_change_its_results(store, side):
    store.embedding_retrieval(QUERY.tolist())
    with store.collection.snapshot() as (connection, state, vectors):
        others = [Document(id=f"new{n}", embedding=(side * QUERY).tolist()) for n in range(1000)]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.write_documents, others).result(PATIENCE)
            pool.submit(store.delete_documents, [f"d{n}" for n in range(50)]).result(PATIENCE)
            assert len(pool.submit(store.embedding_retrieval, QUERY.tolist()).result(PATIENCE)) == 10
        vectors.synchronize(connection, state)
        query = QUERY / np.linalg.norm(QUERY)
        slots, scores = vectors.nearest(query, 10, {}, state)
        filtered, _ = vectors.nearest(query, 10, {}, state, np.arange(40))
    best = np.argsort(-SCORES[:100])[:10]
    assert slots.tolist() == best.tolist()
    assert filtered.tolist() == np.argsort(-SCORES[:40])[:10].tolist()
    assert scores == pytest.approx(SCORES[best], abs=2e-3)


def test_documents_can_be_written_while_they_are_read(store):
    for documents in store.iter_documents(batch_size=30):
        changed = [Document(id=d.id, content="kestrel", embedding=d.embedding) for d in documents]
        store.write_documents(changed, DuplicatePolicy.OVERWRITE)
    assert {d.content for d in store.filter_documents()} == {"kestrel"}
    assert store.count_documents() == 100


# Other processes. The module that they run is a file of its own, which those that are spawned can import.

READER = """
from rom_haystack import SQLiteFAISSDocumentStore

def answer(store, query):
    found = store.embedding_retrieval(query, top_k=40)
    words = store.bm25_retrieval("heron", top_k=40)
    return [(d.id, d.score) for d in found], [(d.id, d.score) for d in words], store.count_documents()

def read(store, path, dim, channel):
    # `store` is None, or the parent's, in a forked process.
    store = store or SQLiteFAISSDocumentStore(path, dim, read_only=True)
    try:
        channel.send("ready")
        while (query := channel.recv()) is not None:
            while not channel.poll(0):  # reading goes on while the parent writes
                counts = [d.meta["batch"] for d in store.filter_documents()]
                assert all(counts.count(number) == 10 for number in set(counts))
                answer(store, query)
            channel.recv()
            channel.send(answer(store, query))
        store.close()
        channel.send("closed")
    except BaseException as error:
        channel.send(repr(error))
        raise
"""


@pytest.fixture
def reader_process(store, tmp_path, monkeypatch):
    """Start a process that reads; returns it and the channel to it."""
    (tmp_path / "store_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    started = []

    def start(method, *, inherit=False):
        from store_reader import read  # noqa: PLC0415 (written just now)

        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        process = context.Process(target=read, args=(store if inherit else None, store.path, DIM, theirs))
        process.start()
        theirs.close()
        started.append(process)
        return process, ours

    yield start
    for process in started:
        process.kill()
        process.join()
    sys.modules.pop("store_reader", None)


def hear(channel):
    assert channel.poll(PATIENCE), "the other process does not answer"
    return channel.recv()


@pytest.mark.parametrize(("method", "inherit"), [("fork", True), ("fork", False), ("spawn", False)])
def test_another_process_reads_while_this_one_writes(store, method, inherit, reader_process):
    query = QUERY.tolist()
    check_scores(store.embedding_retrieval(query, top_k=40), 40)
    process, channel = reader_process(method, inherit=inherit)
    assert hear(channel) == "ready"
    channel.send(query)
    for number in range(10, 100):
        store.write_documents(batch(number))
    store.delete_documents([name for number in range(20, 80) for name in ids(number)])
    channel.send("answer")
    assert hear(channel) == expected(store)
    channel.send(query)
    store.optimize()
    assert store.collection.state().generation == 2
    store.write_documents(batch(100))
    channel.send("answer")
    assert hear(channel) == expected(store)
    channel.send(None)
    assert hear(channel) == "closed"
    process.join(PATIENCE)
    assert process.exitcode == 0
    store.write_documents(batch(101))
    assert store.count_documents() == 42 * BATCH
    store.close()
    with SQLiteFAISSDocumentStore(store.path, DIM) as again:
        check_batches(again.filter_documents())
        assert again.count_documents() == 42 * BATCH


def expected(store):
    found = store.embedding_retrieval(QUERY.tolist(), top_k=40)
    words = store.bm25_retrieval("heron", top_k=40)
    return [(d.id, d.score) for d in found], [(d.id, d.score) for d in words], store.count_documents()


WRITER = """
from haystack import Document
from rom_haystack import SQLiteFAISSDocumentStore

def write(path, dim, start, end):
    with SQLiteFAISSDocumentStore(path, dim, lock_timeout=50) as store:
        for number in range(start, end):
            store.write_documents([Document(id=f"d{number}", embedding=[float(number)] * dim)])
"""


def test_processes_make_and_write_one_store(tmp_path, monkeypatch):
    (tmp_path / "store_writer.py").write_text(WRITER)
    monkeypatch.syspath_prepend(tmp_path)
    from store_writer import write  # noqa: PLC0415 (written just now)

    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(tmp_path / "new", 4, k * 20, k * 20 + 20)) for k in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
    sys.modules.pop("store_writer")
    assert [writer.exitcode for writer in writers] == [0] * 6
    with SQLiteFAISSDocumentStore(tmp_path / "new", 4) as store:
        assert sorted(d.id for d in store.filter_documents()) == sorted(f"d{n}" for n in range(120))
        assert [row[0] for row in slots_of(store)] == list(range(120))
        assert len(store.embedding_retrieval([1.0] * 4, top_k=200)) == 120
