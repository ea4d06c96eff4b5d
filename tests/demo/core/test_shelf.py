"""The shelf: collections that stay, whatever happens meanwhile, and those that don't."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from demo.core import collection as collection_module
from demo.core import shelf as shelf_module
from demo.core.shelf import Collection, Shelf, ShelfError, Upload, demo_home, session_collection

HERON = Upload("heron.md", b"# Heron\n\nThe heron waits beside the river.")
OWL = Upload("owl.txt", b"The owl hunts at night.")
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def tiny(tiny_checkpoint, monkeypatch, tmp_path):
    """All collections use the tiny model; leftovers of sessions are looked for in a folder of the test's own."""
    monkeypatch.setattr(Collection.library, "__defaults__", (str(tiny_checkpoint),))
    monkeypatch.setattr(Collection.reindex, "__defaults__", (collection_module.ignore, str(tiny_checkpoint)))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def shelf(home):
    return Shelf(home)


def names(collection):
    return [file.name for file in collection.files()]


def contents(collection):
    return sorted(document.content for document in collection.library().store.filter_documents())


def test_the_home_is_named_by_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("ROM_DEMO_HOME", str(tmp_path))
    assert demo_home() == tmp_path
    monkeypatch.delenv("ROM_DEMO_HOME")
    assert demo_home().parts[-2:] == ("rom_haystack", "demo")


def test_a_home_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ShelfError, match="ROM_DEMO_HOME"):
        Shelf(tmp_path / "file" / "home")


def test_the_sample_comes_first_and_only_reads(shelf, home):
    shelf.create("An own one")
    sample, own = shelf.collections()
    assert (sample.kind, sample.changeable, own.kind, own.changeable) == ("sample", False, "own", True)
    assert shelf.get("sample") is sample
    assert home in sample.home.parents
    for change in (lambda: sample.add([HERON]), lambda: sample.remove(["the-moon.md"])):
        with pytest.raises(ShelfError, match="only read"):
            change()
    with pytest.raises(ShelfError, match="can't be deleted"):
        shelf.delete("sample")


def test_collections_survive_a_restart(shelf, home):
    created = shelf.create("  Vögel & Flüsse ")
    created.add([HERON, OWL])
    version = created.version
    again = Shelf(home).get(created.id)
    assert again is not created
    assert (again.id, again.name, again.kind) == (created.id, "Vögel & Flüsse", "own")
    assert again.id.startswith("vogel-flusse-")
    assert names(again) == ["heron.md", "owl.txt"]
    assert (again.version, contents(again)) == (version, contents(created))


def test_another_process_s_collections_are_seen(shelf, home):
    other = Shelf(home)
    made = other.create("Made elsewhere")
    assert shelf.get(made.id).name == "Made elsewhere"
    other.delete(made.id)
    assert [one.kind for one in shelf.collections()] == ["sample"]
    with pytest.raises(ShelfError, match="no such collection"):
        shelf.get(made.id)


@pytest.mark.parametrize(
    "identifier", ["", ".", "..", "../../etc", "a/b", "none", ".made", "\0", "SAMPLE", "lock", "a" * 5000]
)
def test_ids_are_no_paths(shelf, home, identifier):
    (home / "collections" / ".made").mkdir()
    (home / "collections" / ".made" / "collection.json").write_text('{"name": "x", "folder": null}')
    with pytest.raises(ShelfError, match="no such collection"):
        shelf.get(identifier)
    with pytest.raises(ShelfError, match="no such collection"):
        shelf.delete(identifier)


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\nb", "a\u202eb", "a\0b"])
def test_names_that_can_not_be_used(shelf, name):
    with pytest.raises(ShelfError, match="name"):
        shelf.create(name)
    assert len(shelf.collections()) == 1


def test_names_are_given_once(shelf):
    shelf.create("Birds")
    for name in ("birds", " BIRDS "):
        with pytest.raises(ShelfError, match="already"):
            shelf.create(name)
    ids = {shelf.create(name).id for name in ("鳥", "河", "../..", "<b>")}
    assert len(ids) == 4


def test_deleting_takes_the_documents_too(shelf, home):
    made = shelf.create("Made")
    made.add([HERON])
    shelf.delete(made.id)
    assert not made.home.exists()
    assert [path.name for path in (home / "collections").iterdir()] in ([], ["lock"])
    with pytest.raises(ShelfError):
        shelf.delete(made.id)


def test_a_half_deleted_collection_is_finished_at_the_next_start(shelf, home, monkeypatch):
    made = shelf.create("Made")
    made.add([HERON])
    with monkeypatch.context() as dying:
        dying.setattr(shutil, "rmtree", lambda *_, **__: None)  # the process dies before it
        shelf.delete(made.id)
    left = home / "collections" / f".{made.id}"
    assert (left / "documents" / "heron.md").exists()
    assert [one.kind for one in shelf.collections()] == ["sample"]
    Shelf(home)
    assert not left.exists()


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"name": "x"}', "\0"])
def test_a_damaged_record_hides_one_collection(shelf, home, record):
    made, whole = shelf.create("Made"), shelf.create("Whole")
    (made.home / "collection.json").write_text(record)
    later = Shelf(home)
    assert [one.id for one in later.collections()] == ["sample", whole.id]
    with pytest.raises(ShelfError, match="damaged"):
        later.get(made.id)


def test_a_home_may_move(shelf, home, tmp_path):
    made = shelf.create("Made")
    made.add([HERON])
    made.close()
    home.rename(tmp_path / "moved")
    moved = Shelf(tmp_path / "moved").get(made.id)
    assert len(moved.reindex().unchanged) == 1
    assert contents(moved) == [HERON.data.decode().replace("# ", "").replace("\n\n", "\n")]


def test_a_folder_is_linked_and_only_read(shelf, home, tmp_path):
    folder = tmp_path / "notes"
    (folder / "birds").mkdir(parents=True)
    (folder / "birds" / "heron.md").write_bytes(HERON.data)
    linked = shelf.link(" ", folder)
    assert linked.name == "notes"
    assert (linked.kind, linked.changeable, linked.folder) == ("linked", False, folder)
    assert linked.files() == []
    assert linked.reindex().added == ["birds/heron.md"]
    assert names(Shelf(home).get(linked.id)) == ["birds/heron.md"]
    before = linked.version
    (folder / "owl.txt").write_bytes(OWL.data)
    assert linked.version == before
    linked.reindex()
    assert (linked.version != before, names(linked)) == (True, ["birds/heron.md", "owl.txt"])
    with pytest.raises(ShelfError, match="only read"):
        linked.add([HERON])
    shelf.delete(linked.id)
    assert sorted(path.name for path in folder.rglob("*")) == ["birds", "heron.md", "owl.txt"]


def test_links_out_of_a_linked_folder_are_not_followed(shelf, tmp_path):
    folder, outside = tmp_path / "notes", tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    folder.mkdir()
    (folder / "heron.md").write_bytes(HERON.data)
    (outside / "secret.txt").write_bytes(OWL.data)
    (outside / "inner" / "deep.txt").write_bytes(OWL.data)
    (folder / "secret.txt").symlink_to(outside / "secret.txt")
    (folder / "inner").symlink_to(outside / "inner")
    (folder / "same.md").symlink_to(folder / "heron.md")
    report = shelf.link("Notes", folder).reindex()
    assert report.added == ["heron.md", "same.md"]
    assert report.skipped == [(name, "is a link that leads out of the folder") for name in ("inner", "secret.txt")]


def test_folders_that_can_not_be_linked(shelf, home, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    (home / "a.txt").write_text("text")
    (tmp_path / "many").mkdir()
    for number in range(3):
        (tmp_path / "many" / f"{number}.txt").write_text("text")
    monkeypatch.setattr(shelf_module, "MAX_LINKED_FILES", 2)
    for folder, reason in [
        ("no-such-folder", "no folder"),
        ("file.txt", "is a file"),
        ("empty", "no file that can be read"),
        ("home", "demo's own files"),
        ("", "demo's own files"),
        ("home/collections", "demo's own files"),
        ("many", "more than 2 files"),
    ]:
        with pytest.raises(ShelfError, match=reason):
            shelf.link("Linked", tmp_path / folder)
    assert len(shelf.collections()) == 1


def test_unsaved_uploads_are_seen_by_nobody_else(shelf):
    first, second = session_collection(), session_collection()
    first.add([HERON])
    assert (names(first), names(second)) == (["heron.md"], [])
    assert first.id != second.id
    assert [one.kind for one in shelf.collections()] == ["sample"]
    with pytest.raises(ShelfError):
        shelf.get(first.id)


def test_unsaved_uploads_go_with_their_session():
    drafts = session_collection()
    drafts.add([HERON])
    home = drafts.home
    assert home.exists()
    del drafts
    gc.collect()
    assert not home.exists()


def run_apart(code, **variables):
    """Run a program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_unsaved_uploads_go_with_the_process_even_if_it_is_killed(tmp_path):
    code = "from demo.core.shelf import session_collection as made\ndrafts = made()\nprint(drafts.home, flush=True)\n"
    temporary = str(tmp_path / "temporary")
    ended = run_apart(code, TMPDIR=temporary)
    home = Path(ended.communicate()[0].strip())
    assert (home.parent, home.exists()) == (Path(temporary), False)

    running = run_apart(f"{code}input()", TMPDIR=temporary)
    home = Path(running.stdout.readline().strip())
    os.utime(home / "in-use", (0, 0))
    session_collection()
    assert home.exists()  # as its process lives
    running.kill()
    running.communicate()
    session_collection()
    assert not home.exists()


def test_keeping_unsaved_uploads(shelf, home):
    drafts = session_collection()
    with pytest.raises(ShelfError, match="no unsaved documents"):
        shelf.keep(drafts, "Kept")
    drafts.add([HERON, OWL])
    shelf.create("Taken")
    with pytest.raises(ShelfError, match="already"):
        shelf.keep(drafts, "Taken")
    assert names(drafts) == ["heron.md", "owl.txt"]
    kept = shelf.keep(drafts, "Kept")
    assert (kept.kind, names(kept), names(drafts)) == ("own", ["heron.md", "owl.txt"], [])
    assert len(kept.reindex().unchanged) == 2  # the index came along
    assert contents(Shelf(home).get(kept.id)) == contents(kept)
    assert contents(drafts) == []


def test_a_kill_while_keeping_loses_nothing(shelf, home, monkeypatch):
    drafts = session_collection()
    drafts.add([HERON])

    class Killed(BaseException):
        pass

    def die(*_args, **_options):
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(shelf_module, "replace_file", die)
        dying.setattr(shelf_module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            shelf.keep(drafts, "Kept")
    assert len(list((home / "collections").glob(".kept-*"))) == 1
    assert [one.kind for one in Shelf(home).collections()] == ["sample"]
    assert list((home / "collections").glob(".kept-*")) == []
    assert names(drafts) == ["heron.md"]


def test_a_kill_while_adding_keeps_each_document_whole(home, tiny_checkpoint):
    """The process is killed, again and again, at whatever it is doing; the next finds every document in full or not."""
    shelf = Shelf(home)
    made = shelf.create("Made")
    code = f"""
from pathlib import Path
from demo.core.shelf import Shelf, Upload, Collection
Collection.library.__defaults__ = ({str(tiny_checkpoint)!r},)
made = Shelf(Path({str(home)!r})).get({made.id!r})
made.reindex()
print("ready", flush=True)
for number in range(1000):
    made.add([Upload(f"{{n}}.txt", f"Number {{number}} of file {{n}}.".encode() * 20) for n in range(8)])
"""
    for after in (0.02, 0.3, 0.6):
        running = run_apart(code)
        assert running.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(after)
        running.kill()
        running.communicate()
        again = Shelf(home).get(made.id)
        again.reindex()
        found = {file.name: file.passages for file in again.files()}
        assert all(found.values())
        assert sorted(found) == sorted(path.name for path in again.folder.iterdir())
        written = "".join(path.read_text() for path in again.folder.iterdir())
        assert all(document.content in written for document in again.library().store.filter_documents())
        again.close()


def test_records_hold_what_was_typed(shelf):
    name = "<img src=x onerror=alert(1)> :red[x] $a$"
    made = shelf.create(name)
    assert json.loads((made.home / "collection.json").read_text())["name"] == name
    assert Shelf(shelf.home).get(made.id).name == name
