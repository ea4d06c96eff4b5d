"""Faults around the embedded store: foreign and damaged files, missing rights, other writers, full disks."""

import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.database import DamagedStoreError

DIM = 4
HEADER_BYTES = 64


def documents(count=5):
    vectors = np.random.default_rng(3).standard_normal((count, DIM)).tolist()
    return [Document(id=f"d{n}", content=f"heron {n}", meta={"n": n}, embedding=vectors[n]) for n in range(count)]


@pytest.fixture
def folder(tmp_path):
    """A store of five documents, closed."""
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM) as store:
        store.write_documents(documents())
    return tmp_path / "store"


@pytest.fixture
def store(folder):
    with SQLiteFAISSDocumentStore(folder, DIM) as store:
        yield store


def content(store):
    return (
        store.version,
        [[(d.to_dict(flatten=False), d.embedding) for d in batch] for batch in store.iter_documents()],
        [d.id for d in store.embedding_retrieval([1.0, 2.0, 3.0, 4.0])],
        [d.id for d in store.bm25_retrieval("heron 3 new")],
    )


def refused_to_open(folder, *parts, error=DocumentStoreError, **parameters):
    """Expect an error on opening, and files that are as before."""
    before = files(folder)
    store = SQLiteFAISSDocumentStore(folder, **{"embedding_dim": DIM, **parameters})
    with pytest.raises(error) as caught:
        store.count_documents()
    for part in parts:
        assert part in str(caught.value)
    assert files(folder) == before


def files(folder):
    if folder.is_file():
        return folder.read_bytes()
    ours = ("-wal", "-shm")  # which SQLite makes and removes as it likes
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.endswith(ours)}


# Files


def test_the_path_is_a_file(tmp_path):
    (tmp_path / "store").write_text("a letter")
    refused_to_open(tmp_path / "store", str(tmp_path / "store"), "is a file", "Choose another path")


def test_the_path_is_inside_a_file(tmp_path):
    (tmp_path / "file").write_text("a letter")
    refused_to_open(tmp_path / "file" / "store", str(tmp_path / "file" / "store"))


def test_the_folder_holds_other_files(tmp_path):
    (tmp_path / "letter.txt").write_text("a letter")
    refused_to_open(tmp_path, str(tmp_path), "letter.txt", "Choose an empty or a new folder")


def test_reading_where_there_is_no_store(tmp_path):
    refused_to_open(tmp_path / "store", "There is no store", "read_only", read_only=True)
    assert not (tmp_path / "store").exists()


def test_another_database(tmp_path):
    connection = sqlite3.connect(tmp_path / "documents.sqlite")
    connection.execute("CREATE TABLE documents(slot INTEGER PRIMARY KEY, id TEXT)")
    connection.close()
    for read_only in (False, True):
        refused_to_open(tmp_path, "documents.sqlite", "something else", "Choose another path", read_only=read_only)


@pytest.mark.parametrize("text", ["a letter", "a letter " * 5000, "SQLite format 3\0" + "x" * 9000])
def test_a_text_file_in_place_of_the_database(tmp_path, text):
    (tmp_path / "documents.sqlite").write_text(text)
    refused_to_open(tmp_path, "documents.sqlite", "damaged", "repair")


def test_a_newer_format(folder):
    connection = sqlite3.connect(folder / "documents.sqlite")
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    refused_to_open(folder, str(folder), "format version 2", "up to 1", "Update rom-haystack")


def test_a_vector_file_that_is_missing(folder):
    (folder / "vectors-1.bin").unlink()
    refused_to_open(folder, "vectors-1.bin", "missing", "repair")


@pytest.mark.parametrize("left", [0, 20, HEADER_BYTES, HEADER_BYTES + 5 * 2 * DIM - 1])
def test_a_vector_file_that_was_cut_off(folder, left):
    path = folder / "vectors-1.bin"
    path.write_bytes(path.read_bytes()[:left])
    refused_to_open(folder, "vectors-1.bin", "damaged", "repair")


@pytest.mark.parametrize("other", [{"embedding_dim": 8}, {"vector_dtype": "float32"}])
def test_the_vector_file_of_another_store(folder, tmp_path, other):
    with SQLiteFAISSDocumentStore(tmp_path / "other", **{"embedding_dim": DIM, **other}) as store:
        store.write_documents([Document(id=str(n), embedding=[1.0] * store.embedding_dim) for n in range(9)])
    shutil.copy(tmp_path / "other" / "vectors-1.bin", folder / "vectors-1.bin")
    refused_to_open(folder, "vectors-1.bin", "header", "4-dimensional float16", "repair")


def test_the_vector_file_of_another_generation(folder):
    path = folder / "vectors-1.bin"
    content = path.read_bytes()
    path.write_bytes(content[:16] + struct.pack("<Q", 2) + content[24:])
    refused_to_open(folder, "vectors-1.bin", "header", "repair")


# Rights


def test_a_store_opened_for_reading_refuses_to_write(folder):
    with SQLiteFAISSDocumentStore(folder, DIM, read_only=True) as store:
        before = content(store)
        new = Document(id="new", embedding=[1.0] * DIM)
        for write in (
            lambda: store.write_documents([new]),
            lambda: store.write_documents([new], DuplicatePolicy.OVERWRITE),
            lambda: store.delete_documents(["d0"]),
            lambda: store.delete_by_filter({"field": "meta.n", "operator": "==", "value": 1}),
            lambda: store.update_by_filter({"field": "meta.n", "operator": "==", "value": 1}, {"n": 2}),
            store.delete_all_documents,
            store.optimize,
        ):
            with pytest.raises(DocumentStoreError, match="read_only=True; nothing is written") as caught:
                write()
            assert str(folder) in str(caught.value)
        assert content(store) == before


@pytest.fixture
def public_folder():
    """A folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for path in (Path(name), Path(name) / "store"):
            path.chmod(0o755)


def test_a_folder_that_can_not_be_written(public_folder, unprivileged):
    folder = public_folder / "store"
    with SQLiteFAISSDocumentStore(folder, DIM) as store:
        store.write_documents(documents())
        expected = content(store)
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    with unprivileged():
        before = files(folder)
        with SQLiteFAISSDocumentStore(folder, DIM, read_only=True) as store:
            assert content(store) == expected
        refused_to_open(folder, str(folder), "permissions", "read_only=True")
        assert files(folder) == before


def test_a_folder_that_can_not_be_written_while_another_user_writes(public_folder, unprivileged):
    folder = public_folder / "store"
    with SQLiteFAISSDocumentStore(folder, DIM) as writer:
        writer.write_documents(documents())
        for path in folder.iterdir():
            path.chmod(0o644)
        folder.chmod(0o555 if os.getuid() == 0 else 0o755)
        with SQLiteFAISSDocumentStore(folder, DIM, read_only=True) as reader:
            with unprivileged():
                assert content(reader) == content(writer)
            writer.write_documents([Document(id="new", content="new")])
            with unprivileged():
                assert content(reader) == content(writer)


@pytest.fixture
def unwritable(monkeypatch):
    """Let stores take every folder for one that they can't write, even if we are root."""
    monkeypatch.setattr(os, "access", lambda *_: False)


def test_what_another_user_writes_is_read(folder, unwritable):
    with SQLiteFAISSDocumentStore(folder, DIM, read_only=True) as reader:
        before = content(reader)
        with SQLiteFAISSDocumentStore(folder, DIM) as writer:
            writer.write_documents([Document(id=f"new{n}", content="new " * n) for n in range(500)])
            writer.delete_documents(["d1", "d2"])
            expected = content(writer)
        assert list(folder.glob("*-wal")) == []  # all is in the file, which has changed
        assert content(reader) == expected != before
        with SQLiteFAISSDocumentStore(folder, DIM) as writer:
            writer.delete_documents(["d3", "new300"])
            assert list(folder.glob("*-wal")) != []
            assert content(reader) == content(writer) != expected


def test_what_another_user_wrote_while_it_was_read_is_no_damage(folder, unwritable):
    with SQLiteFAISSDocumentStore(folder, DIM) as writer:
        writer.write_documents([Document(id=f"new{n}", content="new " * n) for n in range(500)])
    with SQLiteFAISSDocumentStore(folder, DIM, read_only=True) as reader:
        batches = reader.iter_documents(batch_size=10)
        next(batches)
        with SQLiteFAISSDocumentStore(folder, DIM) as writer:
            writer.delete_all_documents()
            writer.write_documents(documents())
            expected = content(writer)
        with pytest.raises(DocumentStoreError, match="written by another user while it was being read") as e:
            list(batches)
        assert str(folder) in str(e.value)
        assert "Try again" in str(e.value)
        assert not isinstance(e.value, DamagedStoreError)
        assert content(reader) == expected


def test_a_folder_that_can_not_be_made(public_folder, unprivileged):
    public_folder.chmod(0o555)
    folder = public_folder / "inside" / "store"
    with unprivileged():
        refused_to_open(folder, str(folder), "can't be made", "Permission denied")
    (public_folder / "store").mkdir()


# Other writers

HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


def test_another_process_that_writes(folder):
    with SQLiteFAISSDocumentStore(folder, DIM, lock_timeout=0.1) as store:
        new = Document(id="new", content="new", embedding=[1.0] * DIM)
        before = content(store)
        command = [sys.executable, "-c", HOLD_THE_LOCK, str(folder / "documents.sqlite")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "locked\n"
            for write in (
                lambda: store.write_documents([new]),
                lambda: store.delete_documents(["d0"]),
                store.delete_all_documents,
                store.optimize,
            ):
                with pytest.raises(DocumentStoreError) as caught:
                    write()
                for part in (str(folder), "another process", "0.1 s", "Try again later", "lock_timeout"):
                    assert part in str(caught.value)
            assert content(store) == before
            with SQLiteFAISSDocumentStore(folder, DIM, read_only=True) as reader:
                assert content(reader) == before
            other.communicate("done\n")
        assert content(store) == before
        assert store.write_documents([new]) == 1


# Full disks: files may not become larger than a limit, for which Python ignores the signal SIGXFSZ.


@contextmanager
def largest_file(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


DIM_LARGE = 4000


@pytest.fixture
def large(tmp_path):
    """A store whose vectors are much larger than all else."""
    with SQLiteFAISSDocumentStore(tmp_path / "store", DIM_LARGE, auto_optimize=False) as store:
        store.write_documents(large_documents(0, 40))
        yield store


def large_documents(start, end):
    vectors = np.random.default_rng(start).standard_normal((end - start, DIM_LARGE))
    return [Document(id=f"d{start + n}", content="heron", embedding=v) for n, v in enumerate(vectors.tolist())]


def large_content(store):
    return store.version, [d.to_dict() for d in store.embedding_retrieval([1.0] * DIM_LARGE, top_k=500)]


def test_the_disk_is_full_for_vectors(large):
    before = large_content(large)
    size = (large.path / "vectors-1.bin").stat().st_size
    with largest_file(size + 100_000), pytest.raises(DocumentStoreError) as caught:
        large.write_documents(large_documents(40, 70), DuplicatePolicy.OVERWRITE)
    for part in (str(large.path), "disk is full", "nothing was changed"):
        assert part in str(caught.value)
    assert large_content(large) == before
    assert large.write_documents(large_documents(30, 60), DuplicatePolicy.OVERWRITE) == 30
    assert large.count_documents() == 60
    query = large_documents(30, 60)[-1].embedding
    assert [(d.id, d.score) for d in large.embedding_retrieval(query, top_k=1)] == [("d59", pytest.approx(1, abs=1e-3))]


def test_the_disk_is_full_for_compaction(large):
    large.delete_documents([f"d{n}" for n in range(0, 40, 5)])
    before = large_content(large)
    with largest_file(200_000), pytest.raises(DocumentStoreError, match="disk is full; nothing was changed"):
        large.optimize()
    assert large_content(large) == before
    assert len(large.bm25_retrieval("heron", top_k=100)) == 32
    large.optimize()
    assert large.collection.state().generation == 2
    assert large_content(large)[1] == before[1]


def test_the_disk_is_full_for_an_index_file(large):
    large.close()
    with SQLiteFAISSDocumentStore(large.path, DIM_LARGE, index="Flat") as store:
        before = large_content(store)
        with largest_file(100_000), pytest.raises(DocumentStoreError, match="disk is full; nothing was changed"):
            store.optimize()
        assert list(large.path.glob("index-*")) == []
        assert large_content(store) == before
        store.optimize()
        assert [path.name for path in large.path.glob("index-*")] == ["index-1-40.faiss"]


def test_the_disk_is_full_for_documents(store):
    before = content(store)
    long = [Document(id=f"new{n}", content="new " * 50_000) for n in range(20)]
    with largest_file(1_000_000):
        for write in (
            lambda: store.write_documents(long),
            lambda: store.update_by_filter({"field": "meta.n", "operator": ">", "value": 0}, {"x": "y" * 1_000_000}),
        ):
            with pytest.raises(DocumentStoreError) as caught:
                write()
            for part in (str(store.path), "disk is full", "nothing was changed"):
                assert part in str(caught.value)
            assert content(store) == before
    assert store.write_documents(long) == 20
    assert content(store)[0] == before[0] + 1
    store.close()
    with SQLiteFAISSDocumentStore(store.path, DIM) as again:
        assert again.count_documents() == 25
