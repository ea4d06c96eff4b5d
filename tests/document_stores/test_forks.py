"""The embedded store in processes that are forked from one that has it open."""

import gc
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores import faiss_index, synchronous

DIM = 8
VECTORS = np.random.default_rng(4).standard_normal((500, DIM))
PATIENCE = 60  # seconds after which something hangs
FORK = multiprocessing.get_context("fork")


def documents(start, end):
    return [
        Document(id=f"d{n}", content="heron", meta={"n": n}, embedding=VECTORS[n].tolist()) for n in range(start, end)
    ]


def search(store):
    found = store.embedding_retrieval(VECTORS[1].tolist(), top_k=50)
    words = store.bm25_retrieval("heron", top_k=50)
    return [(d.id, d.score) for d in found], [(d.id, d.score) for d in words], store.count_documents()


@pytest.fixture
def store(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM, lock_timeout=0.1) as store:
        store.write_documents(documents(0, 10))
        search(store)
        yield store


class Child:
    """A forked process that calls functions of the test when it is asked to."""

    def __init__(self, **functions):
        self._channel, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._serve, args=(theirs, functions), daemon=True)
        self.process.start()
        theirs.close()

    @staticmethod
    def _serve(channel, functions):
        while (name := channel.recv()) is not None:
            try:
                channel.send(functions[name]())
            except DocumentStoreError as error:
                channel.send(error)

    def __call__(self, name):
        self._channel.send(name)
        assert self._channel.poll(PATIENCE), "the forked process hangs"
        return self._channel.recv()

    def kill(self):
        self.process.kill()
        self.process.join()


@pytest.fixture
def fork():
    """Fork processes that end with the test."""
    children = []

    def start(**functions):
        children.append(Child(**functions))
        return children[-1]

    yield start
    for child in children:
        child.kill()


def check_refused(error, store):
    assert isinstance(error, DocumentStoreError)
    for part in (str(store.path), "was in use when this process was forked", "Fork while nothing uses it", "'spawn'"):
        assert part in str(error)


# Forked while nothing used the store


def test_what_a_forked_process_wrote_stays_when_the_parent_closes(store, fork):
    child = fork(
        first=lambda: store.write_documents(documents(10, 15)),
        second=lambda: store.write_documents(documents(15, 22)),
        search=lambda: search(store),
    )
    assert child("first") == 5
    assert store.count_documents() == 15
    store.close()
    assert child("second") == 7
    with SQLiteFAISSDocumentStore(store.path, DIM) as again:
        assert again.count_documents() == 22
        assert child("search") == search(again)
    child.kill()
    with SQLiteFAISSDocumentStore(store.path, DIM) as again:
        assert sorted(d.meta["n"] for d in again.filter_documents()) == list(range(22))


def test_parent_and_child_lock_each_other_out(store, fork):
    holds, done = threading.Event(), FORK.Event()

    def write():
        with store.collection.database.writing():
            holds.set()
            done.wait(PATIENCE)

    def write_slowly():
        threading.Thread(target=write).start()
        return holds.wait(PATIENCE)

    child = fork(write=lambda: store.write_documents(documents(10, 11)), write_slowly=write_slowly)
    with store.collection.database.writing():
        error = child("write")
    assert isinstance(error, DocumentStoreError)
    assert "another process, which did not finish within 0.1 s" in str(error)
    assert child("write") == 1
    assert child("write_slowly")
    with pytest.raises(DocumentStoreError, match="another process, which did not finish"):
        store.write_documents(documents(11, 12))
    done.set()


def test_a_pool_of_forked_workers_writes(tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM, lock_timeout=50) as store:
        store.write_documents(documents(0, 10))
        writers = [FORK.Process(target=write_all, args=(store, range(k, 200, 4))) for k in range(10, 14)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(PATIENCE)
        assert [writer.exitcode for writer in writers] == [0] * 4
        assert sorted(d.meta["n"] for d in store.filter_documents()) == list(range(200))


def write_all(store, numbers):
    for number in numbers:
        store.write_documents(documents(number, number + 1))


def test_a_forked_process_forks(store):
    child = FORK.Process(target=fork_and_write, args=(store,))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert sorted(d.meta["n"] for d in store.filter_documents()) == list(range(30))


def fork_and_write(store):
    write_all(store, range(10, 20))
    child = FORK.Process(target=write_all, args=(store, range(20, 25)))
    child.start()
    child.join(PATIENCE)
    write_all(store, range(25, 30))
    sys.exit(child.exitcode)


def test_locks_that_were_held_at_the_fork(store, fork, monkeypatch):
    """An index is being trained, and another store opened, in other threads: neither reads or writes just then."""
    monkeypatch.setattr(faiss_index, "build", lambda *_: entered.set() or done.wait(PATIENCE))
    entered, done = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool, synchronous._OPENING:
        vectors = store.collection._vectors
        training = pool.submit(vectors.train, "Flat")
        assert entered.wait(PATIENCE)
        before = search(store)
        try:
            child = fork(
                search=lambda: search(store),
                write=lambda: store.write_documents(documents(10, 12)),
                close=store.close,
            )
            assert child("search") == before
            assert child("write") == 2
            assert child("close") is None
        finally:
            done.set()
            training.exception(PATIENCE)


def test_closing_does_not_wait_for_a_lock_that_was_held_at_the_fork(store, fork):
    with store.collection.upkeep_lock:
        child = fork(close=store.close, count=store.count_documents)
        assert child("close") is None
        assert child("count") == 10


# Forked while the store was in use


@contextmanager
def another_thread(using):
    """Let another thread be inside a context."""
    entered, done = threading.Event(), threading.Event()

    def use():
        with using:
            entered.set()
            done.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(use)
        assert entered.wait(PATIENCE)
        try:
            yield
        finally:
            done.set()
            future.result(PATIENCE)


@contextmanager
def unfinished(store):
    batches = store.iter_documents(batch_size=3)
    seen = next(batches)
    yield
    assert [d.id for d in [*seen, *(d for batch in batches for d in batch)]] == [f"d{n}" for n in range(10)]


USES = {
    "a write": lambda store: another_thread(store.collection.database.writing()),
    "a search": lambda store: another_thread(store.collection.snapshot()),
    "a reader": lambda store: unfinished(SQLiteFAISSDocumentStore(store.path, DIM, read_only=True)),
    "a batch": unfinished,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_store_that_was_in_use_is_refused(store, tmp_path, fork, use):
    other = SQLiteFAISSDocumentStore(tmp_path / "other", DIM)
    other.write_documents(documents(0, 3))
    before = search(store)
    core = store.collection
    with use(store):
        child = fork(
            read=store.count_documents,
            write=lambda: store.write_documents(documents(10, 11)),
            new=lambda: SQLiteFAISSDocumentStore(store.path, DIM).write_documents(documents(10, 11)),
            reader=lambda: SQLiteFAISSDocumentStore(store.path, DIM, read_only=True).count_documents(),
            core_read=core.state,
            core_write=lambda: core.delete([]),
            other=lambda: other.write_documents(documents(3, 5)),
            close=lambda: store.close() or gc.collect() * 0,
        )
        for name in ("read", "write", "new", "reader", "core_read", "core_write"):
            check_refused(child(name), store)
        assert child("other") == 2
        assert child("close") == 0
        check_refused(child("read"), store)
    assert search(store) == before
    assert store.write_documents(documents(10, 12)) == 2
    assert other.count_documents() == 5


def test_unfinished_batches_end_in_a_forked_process_only(store, fork):
    batches, later = store.iter_documents(batch_size=3), store.iter_documents(batch_size=3)
    ids = [d.id for d in next(batches)]
    child = fork(go_on=lambda: [d.id for batch in batches for d in batch], begin=lambda: next(later))
    check_refused(child("go_on"), store)
    check_refused(child("begin"), store)
    store.delete_documents(["d8"])
    ids += [d.id for batch in batches for d in batch]
    assert ids == [f"d{n}" for n in range(10)]
    assert store.count_documents() == 9


FORK_WHILE_WRITING = """
import os, sys
from rom_haystack import SQLiteFAISSDocumentStore

store = SQLiteFAISSDocumentStore(sys.argv[1], 8)
store.delete_documents(["d0"])
with store.collection.database.writing() as connection:
    text = "heron " * 2000  # more than the cache holds: some is in the log before it is committed
    rows = ((n, f"n{n}", text, "{}") for n in range(100, 1100))
    connection.executemany("INSERT INTO documents(slot, id, content, meta) VALUES (?, ?, ?, ?)", rows)
    child = os.fork()
    if child == 0 and sys.argv[2] == "undo":
        sys.exit(0)
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
# Here the forked process ends, by which all its objects are freed.
"""


@pytest.mark.parametrize(("end", "code"), [("undo", "0"), ("commit", "1")])
def test_a_forked_process_neither_undoes_nor_commits_what_the_parent_writes(store, end, code):
    command = [sys.executable, "-c", FORK_WHILE_WRITING, str(store.path), end]
    store.close()
    done = subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True)
    assert done.stdout == f"{code}\n"
    assert ("was in use when this process was forked" in done.stderr) == (end == "commit")
    with store.collection.database.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM documents WHERE slot >= 100").fetchone() == (1000,)
