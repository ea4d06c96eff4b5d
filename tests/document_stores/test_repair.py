"""A damaged store is refused, and repaired from what is readable."""

import os
import random
import sqlite3

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError

from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.repair import repair

DIM = 8
COUNT = 2000
PAGE = 8192


def documents() -> dict[str, Document]:
    vectors = np.random.default_rng(13).standard_normal((COUNT, DIM))
    return {
        f"d{i}": Document(
            id=f"d{i}",
            content=f"Document number {i} is about foxes. " * 4,
            meta={"group": i % 7},
            embedding=None if i % 100 == 99 else vector.tolist(),
        )
        for i, vector in enumerate(vectors)
    }


@pytest.fixture
def store(tmp_path):
    with SQLiteFAISSDocumentStore(
        tmp_path / "store", DIM, vector_dtype="float32", indexed_meta_fields=["group"]
    ) as made:
        made.write_documents(list(documents().values()))
    return made


def overwrite(path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def assert_as_written(store: SQLiteFAISSDocumentStore, without_embedding: set[str] = frozenset()) -> None:
    """Every document in the store is as it was written, but for embeddings that were lost."""
    written = documents()
    for batch in store.iter_documents():
        for document in batch:
            original = written[document.id]
            assert (document.content, document.meta) == (original.content, original.meta)
            if original.embedding is None or document.id in without_embedding:
                assert document.embedding is None
            else:
                assert document.embedding == pytest.approx(original.embedding, abs=1e-5)


def test_a_sound_store_stays_as_it_is(store):
    before = {path.name: path.stat().st_mtime_ns for path in store.path.glob("vectors-*")}
    report = repair(store)
    assert (report.problems, report.kept, report.without_embedding, report.damaged_folder) == ([], COUNT, [], None)
    assert {path.name: path.stat().st_mtime_ns for path in store.path.glob("vectors-*")} == before
    assert [path.name for path in store.path.parent.iterdir()] == ["store"]


def test_damaged_pages_cost_the_documents_in_them(store):
    database = store.path / "documents.sqlite"
    noise = random.Random(13).randbytes(PAGE)
    for page in range(20, 50, 6):
        overwrite(database, page * PAGE, noise)
    with pytest.raises(DocumentStoreError, match=r"documents\.sqlite is damaged .* `rom index FOLDER --repair`"):
        store.filter_documents()
    store.close()
    report = repair(store)
    assert len(report.problems) == 1
    assert COUNT // 2 < report.kept < COUNT
    assert store.count_documents() == report.kept
    assert_as_written(store)
    survivor = store.filter_documents()[-1]
    assert store.bm25_retrieval(survivor.content.split()[2])[0].id == survivor.id
    found = store.embedding_retrieval(documents()["d5"].embedding, top_k=3)
    assert len(found) == 3
    assert report.damaged_folder == store.path.parent / "store.damaged-1"
    assert (report.damaged_folder / "documents.sqlite").read_bytes()[20 * PAGE : 21 * PAGE] == noise


def test_damaged_vectors_cost_only_themselves(store):
    overwrite(store.path / "vectors-1.bin", 64 + 4 * DIM * 100, np.full(DIM * 5, 7, np.float32).tobytes())
    overwrite(store.path / "vectors-1.bin", 64 + 4 * DIM * 300, np.full(DIM, np.nan, np.float32).tobytes())
    report = repair(store)
    lost = {"d100", "d101", "d102", "d103", "d104", "d300"}
    assert set(report.without_embedding) == lost
    assert "6 damaged vectors" in report.problems[0]
    assert report.kept == store.count_documents() == COUNT
    assert_as_written(store, lost)
    nearest = store.embedding_retrieval(documents()["d100"].embedding, top_k=10)
    assert not lost & {document.id for document in nearest}


def test_a_truncated_vector_file_is_refused_and_costs_its_end(store):
    os.truncate(store.path / "vectors-1.bin", 64 + 4 * DIM * 1500)
    with pytest.raises(DocumentStoreError, match=r"vectors-1\.bin is damaged .*64,064 are needed"):
        store.count_documents()
    report = repair(store)
    assert report.kept == COUNT
    lost = {f"d{i}" for i in range(1500, COUNT) if i % 100 != 99}
    assert set(report.without_embedding) == lost
    assert_as_written(store, lost)


def test_a_missing_vector_file_costs_all_embeddings_and_no_text(store):
    (store.path / "vectors-1.bin").unlink()
    report = repair(store)
    assert "it is missing" in report.problems[0]
    assert report.kept == COUNT
    assert len(report.without_embedding) == COUNT - COUNT // 100
    assert store.bm25_retrieval("1234")[0].id == "d1234"


def test_a_keyword_index_that_disagrees_is_found(store):
    with sqlite3.connect(store.path / "documents.sqlite") as connection:
        connection.execute("DELETE FROM keywords_data WHERE id > 1000")
    connection.close()
    report = repair(store)
    assert report.problems
    assert report.kept == COUNT
    assert store.bm25_retrieval("1234")[0].id == "d1234"


def test_wrong_counters_are_found_and_put_right(store):
    with sqlite3.connect(store.path / "documents.sqlite") as connection:
        connection.execute("UPDATE state SET documents = 5")
    connection.close()
    report = repair(store)
    assert "counts" in report.problems[0]
    assert store.count_documents() == COUNT


def test_a_second_repair_keeps_both_damaged_folders(store):
    for number in (1, 2):
        next(store.path.glob("vectors-*.bin")).unlink()
        assert repair(store).damaged_folder.name == f"store.damaged-{number}"
        store.close()


def test_what_is_no_store_is_refused(store, tmp_path):
    with pytest.raises(DocumentStoreError, match=r"There is no store in .*nowhere"):
        repair(SQLiteFAISSDocumentStore(tmp_path / "nowhere", DIM))
    overwrite(store.path / "documents.sqlite", 0, b"\xff" * 4096)
    with pytest.raises(DocumentStoreError, match="none of its documents can be read"):
        repair(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_other_settings_are_refused_and_change_nothing(store):
    other = SQLiteFAISSDocumentStore(store.path, DIM + 1, vector_dtype="float32")
    with pytest.raises(DocumentStoreError, match="made with embedding_dim=8"):
        repair(other)
    assert store.count_documents() == COUNT


def test_vectors_of_another_store_are_refused(store, tmp_path):
    with SQLiteFAISSDocumentStore(tmp_path / "other", DIM, vector_dtype="float32") as other:
        other.write_documents([Document(id=f"o{i}", embedding=[1.0] * DIM) for i in range(COUNT)])
    (other.path / "vectors-1.bin").replace(store.path / "vectors-1.bin")
    with pytest.raises(DocumentStoreError, match=r"vectors-1\.bin is damaged .*of this store"):
        store.count_documents()
    report = repair(store)
    assert report.kept == COUNT
    assert len(report.without_embedding) == COUNT - COUNT // 100
