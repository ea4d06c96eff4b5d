"""A damaged store is refused, and repaired from what is readable."""

import os
import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError

from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.repair import find_problems, repair

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


# Somebody else has it open


def damage_vector(store: SQLiteFAISSDocumentStore, slot: int = 7) -> None:
    next_file = next(store.path.glob("vectors-*.bin"))
    overwrite(next_file, 64 + 4 * DIM * slot, np.full(DIM, 9, np.float32).tobytes())


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_that_another_object_has_open_is_refused(store, read_only):
    damage_vector(store)
    other = SQLiteFAISSDocumentStore(store.path, DIM, vector_dtype="float32", read_only=read_only)
    assert other.count_documents() == COUNT
    with pytest.raises(DocumentStoreError, match=r"open in this process, .*close\(\)"):
        repair(store)
    assert other.count_documents() == COUNT
    other.close()
    assert repair(store).without_embedding == ["d7"]
    assert other.count_documents() == COUNT


def test_a_store_object_that_is_gone_is_in_nobodys_way(store):
    damage_vector(store)
    other = SQLiteFAISSDocumentStore(store.path, DIM, vector_dtype="float32")
    other.count_documents()
    other.itself = other  # so that only the garbage collector frees it
    del other
    assert repair(store).without_embedding == ["d7"]


def test_what_is_written_after_a_repair_while_an_error_is_handled_is_in_the_new_store(store):
    damage_vector(store)
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection, connection:
        connection.execute("UPDATE documents SET content = CAST(x'ff' AS TEXT) WHERE slot = 3")
    try:
        store.filter_documents()
    except DocumentStoreError:  # whose traceback keeps the open files
        report = repair(store)
    assert report.kept == COUNT - 1
    store.write_documents([Document(id="new", content="x")])
    store.close()
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (COUNT,)


def test_a_database_that_another_process_has_open_is_refused(store):
    damage_vector(store)
    store.lock_timeout = 0.05
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection:  # as any process has it
        connection.execute("SELECT count(*) FROM documents").fetchone()
        with pytest.raises(DocumentStoreError, match=r"open in another process.*Close it there"):
            repair(store)
        assert [path.name for path in store.path.parent.iterdir()] == ["store"]
    assert repair(store).kept == COUNT


def test_whoever_waited_for_the_end_of_a_repair_can_not_write_to_the_damaged_store(store):
    damage_vector(store)
    with closing(sqlite3.connect(store.path / "documents.sqlite", isolation_level=None)) as connection:
        repair(store)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM documents")
    assert store.count_documents() == COUNT


# Repairs that are killed


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_repair_that_was_killed_is_taken_up(store, monkeypatch, renames):
    damage_vector(store)
    done = []
    rename = Path.rename

    def dying(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(KeyboardInterrupt):
        repair(store)
    monkeypatch.undo()
    store.close()
    names = [["store", "store.repairing-1"], ["store", "store.repaired-1"], ["store.damaged-1", "store.repaired-1"]]
    assert sorted(path.name for path in store.path.parent.iterdir()) == names[renames]
    if renames == 2:
        for read_only in (False, True):
            with pytest.raises(DocumentStoreError, match=r"interrupted.*store\.repaired-1\. Run the repair again"):
                SQLiteFAISSDocumentStore(store.path, DIM, vector_dtype="float32", read_only=read_only).count_documents()
        assert not store.path.exists()
    report = repair(store)
    assert (report.kept, report.damaged_folder) == (COUNT, store.path.parent / "store.damaged-1")
    assert len(report.problems) == 1
    assert "d7" in report.without_embedding
    assert_as_written(store, {"d7"})
    store.close()
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["store", "store.damaged-1"]
    assert repair(store).problems == []


def test_a_damaged_folder_kept_from_earlier_does_not_hinder_a_new_store(store):
    damage_vector(store)
    repair(store)
    store.close()
    for path in store.path.iterdir():
        path.unlink()
    store.path.rmdir()
    assert store.count_documents() == 0


# What is kept, and what is not


@pytest.mark.parametrize(("asked", "kept"), [(None, ["group"]), (["number"], ["number"]), ([], [])])
def test_sql_indexes_on_metadata_are_kept(store, asked, kept):
    damage_vector(store)
    other = SQLiteFAISSDocumentStore(store.path, DIM, vector_dtype="float32", indexed_meta_fields=asked)
    repair(other)
    other.close()
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection:
        found = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'meta!_%' ESCAPE '!'"
        )
        names = {name for (name,) in found}
    assert names - {"meta_with_nul"} == {f"meta_{field.encode().hex()}" for field in kept}


@pytest.mark.parametrize(
    "damage",
    ["meta = '{\"n'", "meta = '5'", "meta = '{\"n\": NaN}'", "extra = '['", "extra = '{\"blob\": 3}'",
     "id = CAST(x'ff' AS TEXT)", "meta = CAST(x'7b2261223a22ff227d' AS TEXT)"],
)  # fmt: skip
def test_damaged_rows_are_named_and_dropped(tmp_path, damage):
    store = SQLiteFAISSDocumentStore(tmp_path / "store", DIM)
    with store:
        store.write_documents(
            [Document(id=f"d{i}", content="fox", meta={"n": i}, embedding=[1.0] * DIM) for i in range(5)]
        )
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection, connection:
        connection.execute(f"UPDATE documents SET {damage} WHERE slot = 2")
    uses = [store.filter_documents, lambda: store.embedding_retrieval([1.0] * DIM), lambda: store.bm25_retrieval("fox")]
    for use in uses:
        with pytest.raises(DocumentStoreError, match=r"documents\.sqlite is damaged"):
            use()
    if "x'" not in damage:
        with pytest.raises(DocumentStoreError, match=r"documents\.sqlite is damaged \(slot 2: "):
            store.filter_documents()
    store.close()
    assert re.search(
        r"documents\.sqlite (is damaged|has 1 damaged documents, the first in slot 2)", find_problems(store)[0]
    )
    assert repair(store).kept == 4
    assert [document.id for document in store.filter_documents()] == ["d0", "d1", "d3", "d4"]
    assert len(store.embedding_retrieval([1.0] * DIM)) == 4


def test_broken_metadata_are_damage_to_filters_and_changes_too(tmp_path):
    store = SQLiteFAISSDocumentStore(tmp_path / "store", DIM)
    with store:
        store.write_documents([Document(id=f"d{i}", content="fox", meta={"n": i}) for i in range(5)])
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection, connection:
        connection.execute("UPDATE documents SET meta = '{\"n' WHERE slot = 2")
    filters = {"field": "meta.n", "operator": "==", "value": 1}
    for use in (
        lambda: store.filter_documents(filters),
        lambda: store.bm25_retrieval("fox", filters),
        lambda: store.update_by_filter({}, {"new": 1}),
        store.get_metadata_fields_info,
    ):
        with pytest.raises(DocumentStoreError, match=r"documents\.sqlite is damaged"):
            use()


def test_a_length_that_can_not_be_costs_the_embedding(store):
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection, connection:
        for slot, norm in ((4, "1e300"), (5, "-1.0"), (6, "'long'"), (8, "9e999")):
            connection.execute(f"UPDATE documents SET norm = {norm} WHERE slot = {slot}")
    report = repair(store)
    assert "4 damaged documents, the first in slot 4" in report.problems[0]
    assert report.kept == COUNT
    assert report.without_embedding == ["d4", "d5", "d6", "d8"]
    assert_as_written(store, {"d4", "d5", "d6", "d8"})


def page_of(store: SQLiteFAISSDocumentStore, table: str) -> int:
    with closing(sqlite3.connect(store.path / "documents.sqlite")) as connection:
        return connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0] - 1


@pytest.mark.parametrize("tables", [["state"], ["settings"], ["state", "settings"]])
def test_vectors_of_a_store_whose_state_is_lost_are_kept(store, tables):
    store.write_documents([Document(id="late", embedding=[1.0] * DIM)])
    store.delete_documents([f"d{i}" for i in range(0, COUNT, 2)])
    store.optimize()
    store.close()
    assert [path.name for path in store.path.glob("vectors-*")] == ["vectors-2.bin"]
    for table in tables:
        overwrite(store.path / "documents.sqlite", page_of(store, table) * PAGE, b"\xff" * PAGE)
    report = repair(store)
    assert (report.kept, report.without_embedding) == (COUNT // 2 + 1, [])
    store.delete_documents(["late"])
    assert_as_written(store)


def test_vectors_are_lost_where_it_is_unknown_which_belong_to_the_documents(store):
    vectors = (store.path / "vectors-1.bin").read_bytes()
    store.delete_documents([f"d{i}" for i in range(500)])
    store.optimize()
    store.close()
    (store.path / "vectors-1.bin").write_bytes(vectors)  # as if the process had died before it was removed
    overwrite(store.path / "documents.sqlite", page_of(store, "state") * PAGE, b"\xff" * PAGE)
    report = repair(store)
    assert report.kept == COUNT - 500
    assert_as_written(store, set(report.without_embedding))
