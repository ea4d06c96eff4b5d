import json
import os
import shutil
from functools import wraps
from pathlib import Path

import pytest
from filelock import FileLock
from fpdf import FPDF

import rom_haystack.library as library_module
from rom_haystack import ROMExtractiveQA
from rom_haystack.folders import LibraryError, cache_home
from rom_haystack.inference import REGISTRY, EncoderSpec
from rom_haystack.library import Library
from rom_haystack.manifest import ManifestFile
from rom_haystack.pipelines import ROMFileConverter


def texts_of(library):
    return sorted(document.content for document in library.store.filter_documents())


def test_first_update_adds_everything(open_library, embedded):
    seen = []
    library = open_library()
    report = library.update(lambda done, total, name: seen.append((done, total, name)))

    assert report.added == ["birds/heron.md", "birds/owl.txt", "rivers.txt"]
    assert (report.replaced, report.removed, report.unchanged, report.skipped) == ([], [], [], [])
    assert report.passages == len(embedded) == 3
    assert report.rebuilt is None
    named = ["birds/heron.md", "birds/owl.txt", "rivers.txt"]
    assert seen == [(done + after, 3, name) for done, name in enumerate(named) for after in (0, 1)]
    assert {document.meta["file_path"] for document in library.store.filter_documents()} == set(report.added)


def test_only_what_changed_is_embedded(open_library, folder, embedded):
    open_library().update()
    embedded.clear()
    (folder / "birds" / "owl.txt").write_text("The owl sleeps all day.")  # as many bytes as before
    (folder / "lakes.txt").write_text("Lakes are still.")
    (folder / "rivers.txt").unlink()

    report = open_library().update()

    assert embedded == ["The owl sleeps all day.", "Lakes are still."]
    assert (report.added, report.replaced, report.removed) == (["lakes.txt"], ["birds/owl.txt"], ["rivers.txt"])
    assert report.unchanged == ["birds/heron.md"]
    assert texts_of(open_library()) == [
        "Heron\nThe heron waits beside the river.",
        "Lakes are still.",
        "The owl sleeps all day.",
    ]


def test_a_new_time_stamp_alone_changes_nothing(open_library, folder, embedded):
    open_library().update()
    version = open_library().store.version
    embedded.clear()
    os.utime(folder / "rivers.txt", ns=(10**18, 10**18))

    assert len(open_library().update().unchanged) == 3
    assert embedded == []
    manifest = json.loads((open_library().index / "manifest.json").read_text())
    assert manifest["files"]["rivers.txt"]["mtime_ns"] == 10**18
    assert manifest["store_version"] == version


def test_an_unchanged_folder_needs_no_model_and_no_lock(open_library, monkeypatch):
    open_library().update()

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(REGISTRY, "acquire", refuse)
    with FileLock(open_library().index / "lock"):
        library = open_library()
        report = library.update()
    assert len(report.unchanged) == report.passages == library.store.count_documents() == 3


def test_the_store_answers(open_library, tiny_checkpoint):
    library = open_library()
    library.update()
    reopened = open_library()
    for store in (library.store, reopened.store):
        result = ROMExtractiveQA(store, model=str(tiny_checkpoint)).run(query="Where does the heron wait?", top_k=50)
        quotes = [answer for answer in result["answers"] if answer.data is not None]
        assert quotes
        for answer in quotes:
            span = answer.document_offset
            assert answer.document.content[span.start : span.end] == answer.data


def test_a_long_file_is_reported_while_it_is_embedded(open_library, folder, embedded, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 2)
    open_library().update()
    embedded.clear()
    (folder / "long.txt").write_text(
        "\n\n".join(f"Number {n} is a passage by itself. " + "word " * 100 for n in range(5))
    )
    seen = []

    def interrupt(done, total, name):
        seen.append((done, total, name, len(embedded)))
        if len(embedded) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_library().update(interrupt)
    assert seen == [(0, 1, "long.txt", count) for count in (0, 2, 4)]
    assert open_library().update().added == ["long.txt"]


def test_what_the_index_holds_of_each_file(open_library, folder, pdf):
    (folder / "two.pdf").write_bytes(pdf("The first page.", "The second page."))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    library = open_library()
    assert library.files() == {}
    library.update()
    library.update()  # which only notes what may be trusted of the files' times
    files = library.files()
    assert {name: (len(entry.ids), entry.pages) for name, entry in files.items()} == {
        "birds/heron.md": (1, None),
        "birds/owl.txt": (1, None),
        "broken.pdf": (0, None),
        "rivers.txt": (1, None),
        "two.pdf": (1, 2),
    }
    assert files["two.pdf"].size == (folder / "two.pdf").stat().st_size
    assert files["broken.pdf"].reason.startswith("is no readable PDF file")


def test_an_index_goes_with_documents_that_move(open_library, folder, tmp_path, embedded):
    open_library().update()
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    with pytest.raises(LibraryError, match="belongs to another folder"):
        open_library(folder=moved).update()
    ManifestFile(tmp_path / "index").adopt(moved)
    embedded.clear()
    report = open_library(folder=moved).update()
    assert (len(report.unchanged), embedded) == (3, [])
    ManifestFile(tmp_path / "no-index").adopt(moved)
    assert not (tmp_path / "no-index").exists()


def test_an_interrupt_keeps_the_files_that_were_finished(open_library, embedded, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 1)

    def interrupt(done, _total, _name):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_library().update(interrupt)
    assert len(embedded) == 2
    report = open_library().update()
    assert len(embedded) == 3
    assert (report.added, report.unchanged) == (["rivers.txt"], ["birds/heron.md", "birds/owl.txt"])


@pytest.fixture
def bad_files(folder):
    """Put files into the folder that can't be indexed; return their names with a word of each reason."""
    (folder / "empty.txt").write_text("")
    (folder / "blank.md").write_text(" \n\n ")
    (folder / "junk.txt").write_bytes(bytes(range(256)) * 4)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing more")
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 no archive")
    (folder / "no-text.html").write_text("<html><head></head><body></body></html>")
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica")
    pdf.cell(text="secret")
    pdf.set_encryption(owner_password="owner", user_password="user")
    pdf.output(str(folder / "locked.pdf"))
    (folder / "dangling.txt").symlink_to(folder / "nowhere.txt")
    return {
        "blank.md": "empty",
        "broken.docx": "Word",
        "broken.pdf": "PDF",
        "dangling.txt": "can't be read",
        "empty.txt": "empty",
        "junk.txt": "binary",
        "locked.pdf": "password",
        "no-text.html": "no text",
    }


def test_bad_files_are_reported_and_the_rest_is_indexed(open_library, bad_files, monkeypatch):
    first = open_library().update()

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(ROMFileConverter, "run", refuse)  # what is known to be bad is not tried again
    second = open_library().update()

    for report in (first, second):
        assert [name for name, _ in report.skipped] == list(bad_files)
        for name, reason in report.skipped:
            assert bad_files[name] in reason
        assert report.passages == 3
    assert len(first.added) == len(second.unchanged) == 3


def test_a_file_that_turns_bad_loses_its_own_passages_only(open_library, folder):
    open_library().update()
    (folder / "rivers.txt").write_bytes(b"\0\1\2\3")
    report = open_library().update()
    assert [name for name, _ in report.skipped] == ["rivers.txt"]
    assert texts_of(open_library()) == ["Heron\nThe heron waits beside the river.", "The owl hunts at night."]

    (folder / "rivers.txt").write_text("Rivers flow again.")
    assert open_library().update().replaced == ["rivers.txt"]


def test_a_file_that_goes_while_it_is_indexed_is_skipped(open_library, folder, monkeypatch):
    convert = Library._convert

    def late(self, name, file):
        if name == "rivers.txt":
            (folder / name).unlink()
        return convert(self, name, file)

    monkeypatch.setattr(Library, "_convert", late)
    report = open_library().update()
    assert [name for name, _ in report.skipped] == ["rivers.txt"]
    assert report.passages == 2


def test_odd_folders(open_library, folder, monkeypatch):
    (folder / ".hidden.txt").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "notes.txt").write_text("hidden")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "again").symlink_to(folder / "birds", target_is_directory=True)
    (folder / "self.txt").symlink_to(folder / "self.txt")
    (folder / "table.csv").write_text("a,b")
    os.mkfifo(folder / "pipe.txt")
    (folder / "huge.txt").write_text("x" * 2000)
    monkeypatch.setattr("rom_haystack.folders.MAX_FILE_SIZE", 1000)

    report = open_library().update()

    assert report.added == ["birds/heron.md", "birds/owl.txt", "rivers.txt"]
    reasons = dict(report.skipped)
    assert sorted(reasons) == ["huge.txt", "pipe.txt", "self.txt"]
    assert "too large" in reasons["huge.txt"]
    assert "no regular file" in reasons["pipe.txt"]


def test_file_names_of_any_script_and_none(open_library, folder):
    (folder / "naïve 日本語 \U0001f600.TXT").write_text("Names may be anything.")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("Not even Unicode.")
    report = open_library().update()
    assert {"naïve 日本語 \U0001f600.TXT", "caf\ufffd.txt"} < set(report.added)
    assert len(open_library().update().unchanged) == 5
    titles = {document.meta["title"] for document in open_library().store.filter_documents()}
    assert {"naïve 日本語 \U0001f600", "caf\ufffd"} < titles


def test_two_megabytes_in_one_file(open_library, folder):
    shutil.rmtree(folder / "birds")
    text = "\n\n".join(f"Paragraph {n} says {'something ' * 100}." for n in range(2000))
    (folder / "rivers.txt").write_text(text)
    assert len(text) > 2_000_000
    library = open_library(split_length=600)
    library.update()
    passages = sorted(library.store.filter_documents(), key=lambda d: d.meta["split_idx_start"])
    assert " ".join(passage.content for passage in passages).split() == text.split()
    assert all(text[p.meta["split_idx_start"] :].startswith(p.content) for p in passages)
    assert all(len(passage.content.split()) <= 600 for passage in passages)


def test_one_process_writes(open_library):
    library = open_library()
    library.index.mkdir()
    with FileLock(library.index / "lock"), pytest.raises(LibraryError, match="Another process is updating"):
        library.update()
    assert len(library.update().added) == 3


def test_another_model_or_other_settings_make_the_index_anew(open_library, tiny_checkpoint, tmp_path, embedded):
    open_library().update()
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "note": "different"}))

    assert "another model" in open_library(model=str(other)).update().rebuilt
    assert len(embedded) == 6
    assert "other settings" in open_library(model=str(other), split_length=50).update().rebuilt
    assert open_library(model=str(other), split_length=50).update().rebuilt is None
    assert open_library(model=str(other), split_length=50).store.count_documents() == 3


def test_a_newer_index_is_left_alone(open_library):
    open_library().update()
    path = open_library().index / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    before = path.read_text()
    with pytest.raises(LibraryError, match="format version 99"):
        open_library().update()
    assert path.read_text() == before


def test_places_that_are_no_index_are_refused(open_library, folder, tmp_path):
    open_library().update()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("a")
    with pytest.raises(LibraryError, match="belongs to another folder"):
        open_library(folder=tmp_path / "elsewhere").update()
    with pytest.raises(LibraryError, match="holds other files"):
        open_library(index=folder)
    with pytest.raises(LibraryError, match="is a file; an index is a folder"):
        open_library(index=folder / "rivers.txt")
    with pytest.raises(LibraryError, match="can't be read: Not a directory"):
        open_library(index=folder / "rivers.txt" / "index").update()


@pytest.mark.parametrize("manifest", ['{"name": "My app", "icons": []}', "{broken", None])
def test_files_of_someone_else_are_never_touched(open_library, tmp_path, manifest):
    place = tmp_path / "app"
    place.mkdir()
    (place / "passages-from-my-book.txt").write_text("mine")
    if manifest:
        (place / "manifest.json").write_text(manifest)
    with pytest.raises(LibraryError, match="holds other files"):
        open_library(index=place)


def test_a_lone_manifest_of_something_else_is_refused(open_library, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text('{"name": "My app"}')
    with pytest.raises(LibraryError, match="holds other files"):
        open_library(index=tmp_path / "app")


def test_files_put_beside_an_index_stay(open_library, folder):
    open_library().update()
    mine = [open_library().index / name for name in ("passages-from-my-book.txt", "passages-1.json.bak", "locks")]
    for path in mine:
        path.write_text("mine")
    (folder / "rivers.txt").write_text("Rivers are changed.")
    assert open_library().update().replaced == ["rivers.txt"]
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_a_home_that_is_nowhere_is_refused(open_library, monkeypatch):
    for options in ({"folder": "~nosuchuser/x"}, {"index": "~nosuchuser/x"}):
        with pytest.raises(LibraryError, match="'~nosuchuser/x' can't be found"):
            open_library(**options)
    monkeypatch.setenv("ROM_HOME", "~nosuchuser/x")
    with pytest.raises(LibraryError, match="'~nosuchuser/x' can't be found"):
        open_library(index=None)


def test_a_converter_that_fails_costs_one_file(open_library, monkeypatch):
    convert = ROMFileConverter.run

    @wraps(convert)
    def fail(self, sources, **_):
        if sources[0].meta["file_path"] == "birds/owl.txt":
            raise RecursionError("too deep")
        return convert(self, sources=sources)

    with monkeypatch.context() as patch:
        patch.setattr(ROMFileConverter, "run", fail)
        report = open_library().update()
    assert report.skipped == [("birds/owl.txt", "can't be converted (RecursionError: too deep)")]
    assert report.added == ["birds/heron.md", "rivers.txt"]
    assert open_library().update().added == ["birds/owl.txt"]  # the file may be fine, so it is tried again


def test_a_change_that_sets_the_clock_to_its_beginning_is_seen(open_library, folder):
    (folder / "rivers.txt").write_text("Rivers flow.")  # too new for its time to be trusted
    open_library().update()
    (folder / "rivers.txt").write_text("Rivers stop.")
    os.utime(folder / "rivers.txt", ns=(0, 0))
    assert open_library().update().replaced == ["rivers.txt"]


@pytest.fixture
def held(monkeypatch):
    """The specs of the encoders that are held, one for each holder."""
    held = []
    acquire, release = REGISTRY.acquire, REGISTRY.release
    monkeypatch.setattr(REGISTRY, "acquire", lambda spec: held.append(spec) or acquire(spec))
    monkeypatch.setattr(REGISTRY, "release", lambda spec: held.remove(spec) or release(spec))
    return held


def test_the_model_is_given_back_when_the_library_is_closed(open_library, folder, held):
    with open_library() as library:
        library.update()
        assert len(held) == 1
    assert held == []
    (folder / "rivers.txt").write_text("Rivers are changed.")

    def interrupt(done, _total, _name):
        if done:
            assert held
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), library:
        library.update(interrupt)
    assert held == []
    assert texts_of(library)[-2:] == ["Rivers are changed.", "The owl hunts at night."]  # the store opens again


def test_the_model_is_loaded_once_to_index_and_to_answer(open_library, tiny_checkpoint, tmp_path, monkeypatch):
    model = str(shutil.copytree(tiny_checkpoint, tmp_path / "own"))  # nobody else has it in memory
    loaded = []
    load = EncoderSpec.load
    monkeypatch.setattr(EncoderSpec, "load", lambda spec: loaded.append(spec) or load(spec))
    library = open_library(model=model)
    library.update()
    ROMExtractiveQA(library.store, model=model).run(query="Where does the heron wait?")
    assert len(loaded) == 1


def test_folders_that_are_none_are_refused(open_library, folder):
    with pytest.raises(LibraryError, match="no folder"):
        open_library(folder=folder / "missing")
    with pytest.raises(LibraryError, match="is a file"):
        open_library(folder=folder / "rivers.txt")


def test_default_place_is_per_folder_and_never_in_it(open_library, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    library = open_library(index=None)
    library.update()
    assert library.index.parent == tmp_path / "home"
    assert open_library(index=None).update().unchanged
    assert open_library(index=None, folder=folder / "birds").index != library.index
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_the_cache_follows_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv("ROM_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_home() == tmp_path / "rom_haystack"
    monkeypatch.setattr("sys.platform", "win32")
    assert cache_home() == tmp_path / "local" / "rom_haystack"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_home().parts[-3:] == ("Library", "Caches", "rom_haystack")


def test_an_empty_folder_has_no_passages(open_library, tmp_path):
    (tmp_path / "empty").mkdir()
    report = open_library(folder=tmp_path / "empty").update()
    assert (report.passages, report.added, report.skipped) == (0, [], [])
