"""Damage to a library's index: it is named, and repaired by keeping what can be read."""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.folders import LibraryError, NotUpdatableError
from rom_haystack.library_index import LibraryIndex

HERON, OWL, RIVERS = "Heron\nThe heron waits beside the river.", "The owl hunts at night.", "Rivers flow to the sea."


def texts_of(library):
    return sorted(document.content for document in library.store.filter_documents())


def manifest_of(index):
    return json.loads((index / "manifest.json").read_text())


def names_in(index):
    return sorted(path.name for path in index.iterdir())


def overwrite(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        file.write(data)


def lose_vectors(index):
    overwrite(index / "store" / "vectors-1.bin", 0, b"?" * 64)


def wreck_database(index):
    (index / "store" / "documents.sqlite").write_bytes(b"no database" * 1000)


@pytest.mark.parametrize(
    ("damage", "file"),
    [(lose_vectors, "vectors-1.bin"), (wreck_database, "documents.sqlite")],
    ids=["vectors lost", "no database"],
)
def test_damage_is_named_with_its_remedy(open_library, index, damage, file):
    damage(index)
    for attempt in (open_library().update, lambda: open_library().store, lambda: open_library().update(required=False)):
        with pytest.raises(LibraryError, match=rf"{file} is damaged .*`rom index FOLDER --repair`"):
            attempt()


def test_repair_of_what_is_whole_changes_nothing(open_library, index, embedded):
    embedded.clear()
    before = manifest_of(index)
    report = open_library().repair()
    assert (report.repaired.problems, report.repaired.kept, report.repaired.damaged_folder) == ([], 3, None)
    assert (len(report.unchanged), report.passages, report.rebuilt, embedded) == (3, 3, None, [])
    assert {**manifest_of(index), "files": 0} == {**before, "files": 0}


def test_repair_makes_an_index_where_there_is_none(open_library):
    report = open_library().repair()
    assert (report.repaired.problems, len(report.added), report.rebuilt) == ([], 3, None)


def test_repair_embeds_again_what_lost_its_embedding(open_library, index, embedded):
    overwrite(index / "store" / "vectors-1.bin", -4, b"\xff\xff\xff\xff")  # the last passage's ends in NaN
    embedded.clear()
    report = open_library().repair()
    assert embedded == [RIVERS]
    assert len(report.repaired.problems) == 1
    assert "vectors-1.bin" in report.repaired.problems[0]
    assert (report.repaired.kept, report.replaced, report.passages) == (2, ["rivers.txt"], 3)
    assert report.rebuilt is None
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS])
    assert open_library().repair().repaired.problems == []


def test_repair_embeds_all_again_where_the_vectors_are_lost(open_library, index, embedded):
    lose_vectors(index)
    embedded.clear()
    report = open_library().repair()
    assert (report.repaired.kept, len(report.replaced), len(embedded)) == (0, 3, 3)
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS])


def test_repair_begins_anew_where_nothing_can_be_read(open_library, index):
    wreck_database(index)
    report = open_library().repair()
    assert "documents.sqlite is damaged" in report.repaired.problems[0]
    assert (report.repaired.kept, len(report.added), report.passages) == (0, 3, 3)
    assert report.rebuilt == "the index was damaged"
    assert open_library().update().rebuilt is None


def test_damaged_files_are_kept_until_the_next_repair(open_library, index):
    wreck_database(index)
    first = Path(open_library().repair().repaired.damaged_folder)
    assert (first / "documents.sqlite").read_bytes().startswith(b"no database")
    wreck_database(index)
    second = Path(open_library().repair().repaired.damaged_folder)
    assert first != second
    (index / "store.repaired-1").mkdir()  # as a killed repair leaves it
    assert open_library().update().rebuilt is None
    assert names_in(index) == sorted(["lock", "manifest.json", "store", "store.repaired-1", second.name])
    open_library().repair()
    assert names_in(index) == ["lock", "manifest.json", "store"]


@pytest.mark.parametrize("method", ["update", "repair"])
def test_a_repair_that_died_with_the_store_moved_away_is_followed_by_a_new_index(open_library, index, method):
    (index / "store").rename(index / "store.repaired-1")
    (index / "store.damaged-1").mkdir()
    report = getattr(open_library(), method)()
    assert (report.rebuilt, len(report.added), report.passages) == ("the index was damaged", 3, 3)
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS])
    assert not (index / "store.repaired-1").exists()


def test_a_damaged_store_that_somebody_has_open_stays_where_it_is(open_library, index):
    overwrite(index / "store" / "vectors-1.bin", -4, b"\xff\xff\xff\xff")
    with SQLiteFAISSDocumentStore(index / "store", 64, keyword_meta_fields=["title"], read_only=True) as other:
        assert other.count_documents() == 3
        with pytest.raises(LibraryError, match="open in this process, in another store object"):
            open_library().repair()
    assert names_in(index) == ["lock", "manifest.json", "store"]
    assert open_library().repair().repaired.kept == 2


@pytest.mark.parametrize("updated", [False, True])
def test_repair_of_a_damaged_manifest_and_store(open_library, index, updated):
    (index / "manifest.json").write_text("{")
    wreck_database(index)
    if updated:
        with pytest.raises(LibraryError, match=r"documents\.sqlite is damaged"):
            open_library().update()
    report = open_library().repair()
    assert (len(report.added), report.passages) == (3, 3)
    assert report.repaired.problems if updated else report.rebuilt == "the index was damaged"


def test_a_death_right_after_the_repair_hides_no_loss(open_library, index, dying, embedded):
    lose_vectors(index)
    with dying(LibraryIndex, "writable"):
        open_library().repair()
    assert manifest_of(index)["store_version"] is None
    with SQLiteFAISSDocumentStore(index / "store", 64, keyword_meta_fields=["title"]) as store:
        assert store.count_documents() == 0
    embedded.clear()
    assert len(open_library().update().replaced) == len(embedded) == 3


def test_repair_waits_for_nobody(open_library, index):
    with FileLock(index / "lock"), pytest.raises(NotUpdatableError, match="Another process is updating"):
        open_library().repair()


def test_a_store_that_is_held_open_follows_a_repair(open_library, index):
    library = open_library()
    library.update()
    store = library.store
    lose_vectors(index)
    library.repair()
    assert sorted(document.content for document in store.filter_documents()) == sorted([HERON, OWL, RIVERS])
