"""Documents added to and removed from a collection, whatever goes wrong with some of them."""

from __future__ import annotations

import gc
import shutil
import threading
import zipfile
from functools import partial
from io import BytesIO

import pytest
from filelock import FileLock

from demo.core import collection as collection_module
from demo.core.adding import Adding, Removing, Updating, Works
from demo.core.jobs import CancelledError, Job
from demo.core.shelf import Added, Collection, Shelf, ShelfError, Upload, session_collection
from rom_haystack import library as library_module
from rom_haystack.document_stores.settings import DATABASE
from rom_haystack.folders import LibraryError
from rom_haystack.library import Library

HERON = Upload("heron.md", b"# Heron\n\nThe heron waits beside the river.")
OWL = Upload("owl.txt", b"The owl hunts at night.")
BROKEN = Upload("broken.pdf", b"%PDF-1.4 broken")
DEADLINE = 120


@pytest.fixture(autouse=True)
def tiny(tiny_checkpoint, monkeypatch):
    """All collections use the tiny model."""
    monkeypatch.setattr(Collection.library, "__defaults__", (str(tiny_checkpoint),))
    monkeypatch.setattr(Collection.reindex, "__defaults__", (collection_module.ignore, str(tiny_checkpoint)))


@pytest.fixture
def collection():
    return session_collection()


def contents(collection):
    return sorted(document.content for document in collection.library().store.filter_documents())


def on_disk(collection):
    return {path.name: path.read_bytes() for path in collection.folder.iterdir()}


def test_documents_are_added_replaced_and_removed(collection, pdf):
    manual = Upload("manual.pdf", pdf("One page.", "Another page."))
    added = collection.add([HERON, OWL, manual])
    assert (added.added, added.replaced, added.failed) == (("heron.md", "owl.txt", "manual.pdf"), (), ())
    assert [(file.name, file.size, file.passages, file.pages, file.problem) for file in collection.files()] == [
        ("heron.md", len(HERON.data), 1, None, None),
        ("manual.pdf", len(manual.data), 1, 2, None),
        ("owl.txt", len(OWL.data), 1, None, None),
    ]
    added = collection.add([Upload("owl.txt", b"The owl sleeps."), Upload("new.txt", b"New.")])
    assert (added.added, added.replaced, added.failed) == (("new.txt",), ("owl.txt",), ())
    assert "The owl sleeps." in contents(collection)
    assert OWL.data.decode() not in contents(collection)
    collection.remove(["owl.txt", "manual.pdf", "none.txt", "../in-use"])
    assert sorted(on_disk(collection)) == ["heron.md", "new.txt"]
    assert len(contents(collection)) == 2
    assert (collection.home / "in-use").exists()


def test_the_version_changes_with_the_passages_and_only_with_them(collection):
    versions = [collection.version]
    for change in (
        lambda: collection.add([HERON]),
        lambda: collection.add([OWL]),
        lambda: collection.add([Upload("owl.txt", b"The owl sleeps.")]),
        lambda: collection.remove(["owl.txt"]),
    ):
        change()
        versions.append(collection.version)
    assert len(set(versions)) == len(versions)
    collection.files()
    collection.close()
    assert collection.version == versions[-1]


def test_what_can_not_be_read_is_named_and_not_kept(collection, pdf):
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", bytes(30 * 1024 * 1024))
    uploads = [
        OWL,
        BROKEN,
        Upload("locked.pdf", pdf("Secret.", owner_password="o", user_password="u")),
        Upload("scan.pdf", pdf("")),
        Upload("binary.txt", bytes(range(256)) * 10),
        Upload("bomb.docx", bomb.getvalue()),
        Upload("deep.html", b"<div>" * 5000 + b"text"),
        Upload("blank.md", b" \n\n"),
        Upload("../path.txt", b"text"),
        HERON,
    ]
    added = collection.add(uploads)
    assert added.added == ("owl.txt", "heron.md")
    reasons = dict(added.failed)
    assert sorted(reasons) == sorted(upload.name for upload in uploads if upload not in (OWL, HERON))
    for name, words in {
        "broken.pdf": "no readable PDF file",
        "locked.pdf": "locked with a password",
        "scan.pdf": "text recognition",
        "binary.txt": "binary data",
        "bomb.docx": "a text of 30 MB",
        "deep.html": "nested more than",
        "blank.md": "is empty",
        "../path.txt": "path",
    }.items():
        assert words in reasons[name]
    assert on_disk(collection) == {"owl.txt": OWL.data, "heron.md": HERON.data}
    assert [file.name for file in collection.files()] == ["heron.md", "owl.txt"]


def test_scripts_are_no_text(collection):
    page = b"<title>Page</title><script>alert('evil')</script><p onclick='evil()'>Rivers flow to the sea.</p>"
    collection.add([Upload("page.html", page)])
    assert contents(collection) == ["Rivers flow to the sea."]


def test_a_bad_new_version_leaves_the_old_one(collection, pdf):
    good = Upload("manual.pdf", pdf("The good version."))
    collection.add([good])
    added = collection.add([Upload("manual.pdf", BROKEN.data), OWL])
    assert (added.added, added.replaced) == (("owl.txt",), ())
    assert [name for name, _ in added.failed] == ["manual.pdf"]
    assert on_disk(collection)["manual.pdf"] == good.data
    assert "The good version." in contents(collection)


@pytest.mark.parametrize("ending", [CancelledError, MemoryError])
def test_what_was_not_read_yet_is_taken_back(collection, ending, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 1)
    collection.add([HERON, OWL])

    def end(done, _total, _label):
        if done == 2:
            raise ending

    changed = [Upload("heron.md", b"# Heron\n\nChanged."), Upload("owl.txt", b"Changed."), Upload("a.txt", b"First.")]
    with pytest.raises(ending):
        collection.add([*changed, Upload("z.txt", b"Last.")], end)
    assert on_disk(collection) == {"a.txt": b"First.", "heron.md": b"# Heron\n\nChanged.", "owl.txt": OWL.data}
    assert contents(collection) == ["First.", "Heron\nChanged.", OWL.data.decode()]
    assert len(collection.reindex().unchanged) == 3
    assert not (collection.home / "replaced").exists()


def test_a_file_that_can_not_be_saved_does_not_lose_the_others(collection):
    (collection.folder / "a.txt").mkdir()
    added = collection.add([Upload("a.txt", b"text"), OWL])
    assert added.added == ("owl.txt",)
    assert [(name, reason.split(":")[0]) for name, reason in added.failed] == [("a.txt", "can't be saved")]


def test_documents_that_a_killed_process_left_are_indexed_next_time(collection):
    collection.add([HERON])
    (collection.folder / "owl.txt").write_bytes(OWL.data)
    (collection.home / "replaced").mkdir()
    (collection.home / "replaced" / "owl.txt").write_bytes(b"Before.")
    assert [(file.name, file.problem) for file in collection.files()] == [
        ("heron.md", None),
        ("owl.txt", "is not indexed yet"),
    ]
    assert collection.reindex().added == ["owl.txt"]
    collection.add([Upload("new.txt", b"New.")])
    assert sorted(on_disk(collection)) == ["heron.md", "new.txt", "owl.txt"]


@pytest.mark.parametrize("broken", ["library", "files"])
def test_replaced_documents_come_back_even_if_the_index_can_not_be_asked(collection, monkeypatch, broken):
    collection.add([OWL])

    def fail(*_args, **_options):
        raise LibraryError("The index is damaged.")

    def fail_at_last(self, *_args):
        monkeypatch.setattr(*((Collection, "library") if broken == "library" else (Library, "files")), fail)
        raise LibraryError("The disk is full.")

    with monkeypatch.context() as breaking:
        breaking.setattr(Collection, "_update", fail_at_last)
        with pytest.raises(LibraryError, match="disk is full"):
            collection.add([Upload("owl.txt", b"Changed."), HERON])
    assert on_disk(collection) == {"owl.txt": OWL.data}


def test_a_deleted_collection_stays_deleted(tmp_path):
    shelf = Shelf(tmp_path / "home")
    made = shelf.create("Made")
    made.add([OWL])
    shelf.delete(made.id)
    for use in (lambda: made.add([HERON]), lambda: made.remove(["owl.txt"]), made.reindex):
        with pytest.raises(ShelfError, match="deleted"):
            use()
    assert not made.home.exists()


def test_documents_that_were_cleared_away(collection):
    collection.add([OWL])
    shutil.rmtree(collection.home)
    with pytest.raises(ShelfError, match="are gone"):
        collection.files()
    with pytest.raises(ShelfError, match="not there any more"):
        collection.add([HERON])


def test_changes_are_counted_even_if_they_end_early(collection):
    def end(_done, _total, _label):
        raise CancelledError

    collection.add([HERON])
    assert collection.changes == 1
    with pytest.raises(CancelledError):
        collection.add([OWL], end)
    collection.remove(["heron.md"])
    collection.reindex()
    assert collection.changes == 3


def test_threads_may_change_a_collection_at_once(collection):
    jobs = [
        Job(lambda report, n=n: collection.add([Upload(f"{n}.txt", f"Text {n}.".encode())], report), str(n))
        for n in range(4)
    ]
    jobs.append(Job(collection.reindex, "update"))
    assert all(job.wait(DEADLINE) for job in jobs)
    assert [job.error for job in jobs] == [None] * 5
    assert contents(collection) == [f"Text {n}." for n in range(4)]


def test_a_change_waits_for_another_and_can_be_cancelled(collection):
    waiting = threading.Event()
    with FileLock(collection.home / "lock", thread_local=False):

        def look(_done, _total, label):
            if "waiting" in label:
                waiting.set()
                raise CancelledError

        job = Job(lambda _: collection.add([HERON], look), "add")
        assert job.wait(DEADLINE)
        assert (job.state, waiting.is_set()) == ("cancelled", True)
    assert on_disk(collection) == {}


def test_a_damaged_index_is_mended(tmp_path):
    made = Shelf(tmp_path / "home").create("Made")
    made.add([HERON, OWL])
    made.close()
    gc.collect()  # or the store is still open, and its log beside it
    (database,) = made.home.glob(f"indexes/*/store/{DATABASE}")
    database.write_bytes(b"damage" + database.read_bytes()[6:])
    again = Shelf(tmp_path / "home").get(made.id)
    report = again.reindex()
    assert report.repaired.problems
    assert len(contents(again)) == 2


def test_a_folder_that_is_gone(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "owl.txt").write_bytes(OWL.data)
    linked = Shelf(tmp_path / "home").link("Notes", folder)
    linked.reindex()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(LibraryError, match="notes"):
        linked.reindex()


def test_an_index_for_each_model(collection, tiny_checkpoint, tmp_path):
    other = tmp_path / "other"
    other.symlink_to(tiny_checkpoint)
    collection.add([HERON])
    assert collection.library() is collection.library(str(tiny_checkpoint))
    before = collection.version
    assert collection.reindex(model=str(other)).added == ["heron.md"]
    assert collection.version != before
    assert collection.library(str(other)).store.count_documents() == 1
    collection.add([OWL])  # brings both up to date
    assert collection.library(str(other)).store.count_documents() == 2
    collection.close()
    assert len(collection.reindex(model=str(other)).unchanged) == 2


def test_steps_of_files_on_their_way(collection, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 1)
    go_on, at_work = threading.Semaphore(0), threading.Semaphore(0)
    add = Collection.add

    def slowly(self, uploads, report):
        def stop(done, total, label):
            report(done, total, label)
            at_work.release()
            assert go_on.acquire(timeout=DEADLINE)

        return add(self, uploads, stop)

    monkeypatch.setattr(Collection, "add", slowly)
    adding = Adding(collection, [OWL, HERON, Upload("table.csv", b"a,b")])
    seen = []
    for _ in range(4):  # before and after each of the two
        assert at_work.acquire(timeout=DEADLINE)
        seen.append([step for _, step in adding.steps()])
        go_on.release()
    assert adding.job.wait(DEADLINE)
    assert [name for name, _ in adding.steps()] == ["heron.md", "owl.txt", "table.csv"]
    assert seen[0] == ["reading", "waiting", "waiting"]
    assert seen[2] == ["done", "reading", "waiting"]
    assert adding.job.outcome.added == ("owl.txt", "heron.md")


def test_removing_is_not_left_half_done(collection):
    collection.add([HERON, OWL])

    def end(_done, _total, _label):
        raise CancelledError

    (collection.folder / "new.txt").write_bytes(b"New.")  # so that there is something to read, and to report
    collection.remove(["owl.txt"], end)
    assert (sorted(on_disk(collection)), len(contents(collection))) == (["heron.md", "new.txt"], 2)


def test_work_that_has_ended_keeps_no_documents_alive():
    works, drafts = Works(), session_collection()
    adding = works.begin(drafts, partial(Adding, drafts, [OWL]))
    assert adding.job.wait(DEADLINE)
    assert works.running_on(drafts) is None
    home = drafts.home
    del drafts, adding
    gc.collect()
    assert not home.exists()


def test_work_in_progress_is_not_replaced(collection, monkeypatch):
    go_on = threading.Event()

    def wait(self, uploads, report):
        assert go_on.wait(DEADLINE)
        report(1, 1, "owl.txt")
        return Added()

    monkeypatch.setattr(Collection, "add", wait)
    works = Works()
    works.begin(collection, lambda: Adding(collection, [OWL]))
    gc.collect()  # nobody here holds it
    adding = works.running_on(collection)
    assert isinstance(adding, Adding)
    assert works.begin(collection, lambda: Updating(collection)) is adding
    go_on.set()
    assert adding.job.wait(DEADLINE)
    assert isinstance(works.begin(collection, lambda: Updating(collection)), Updating)


def test_removing(collection):
    collection.add([HERON, OWL])
    removing = Removing(collection, ["owl.txt"])
    assert removing.job.wait(DEADLINE)
    assert (removing.job.outcome.names, list(on_disk(collection))) == (("owl.txt",), ["heron.md"])


def test_updating(collection):
    (collection.folder / "owl.txt").write_bytes(OWL.data)
    updating = Updating(collection)
    assert updating.job.wait(DEADLINE)
    assert (updating.job.outcome.added, updating.steps()) == (["owl.txt"], [])
