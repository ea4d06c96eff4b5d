"""The index on disk: what a death, damage, another process or another version leaves of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

import rom_haystack.library as library_module
from rom_haystack import ROMExtractiveQA, SQLiteFAISSDocumentStore, manifest
from rom_haystack.cli import ANSWERED, NO_ANSWER, app
from rom_haystack.folders import LibraryError, NotUpdatableError
from rom_haystack.library import Library
from rom_haystack.manifest import ManifestFile
from rom_haystack.modeling import ROMConfig, ROMModel

HERON, OWL, RIVERS = "Heron\nThe heron waits beside the river.", "The owl hunts at night.", "Rivers flow to the sea."
CHANGED = "Rivers are changed."


def texts_of(library):
    return sorted(document.content for document in library.store.filter_documents())


def manifest_of(index):
    return json.loads((index / "manifest.json").read_text())


def edit_manifest(index, **changes):
    (index / "manifest.json").write_text(json.dumps({**manifest_of(index), **changes}))


def names_in(index):
    return sorted(path.name for path in index.iterdir())


# Deaths


@pytest.mark.parametrize(
    ("owner", "name", "after", "left"),
    [
        (SQLiteFAISSDocumentStore, "write_documents", False, [RIVERS]),
        (SQLiteFAISSDocumentStore, "write_documents", True, [RIVERS, CHANGED]),
        (SQLiteFAISSDocumentStore, "delete_documents", False, [RIVERS, CHANGED]),
        (SQLiteFAISSDocumentStore, "delete_documents", True, [CHANGED]),
        (manifest, "replace_file", False, [CHANGED]),
        (Path, "replace", False, [CHANGED]),
    ],
)
def test_a_death_leaves_what_can_be_searched_and_mended(
    open_library, index, folder, embedded, dying, owner, name, after, left
):
    (folder / "rivers.txt").write_text(CHANGED)
    with dying(owner, name, after=after):
        open_library().update()

    assert texts_of(open_library()) == sorted([HERON, OWL, *left])
    embedded.clear()
    report = open_library().update()
    assert embedded == [CHANGED]
    assert (report.replaced, report.rebuilt) == (["rivers.txt"], None)
    assert texts_of(open_library()) == sorted([HERON, OWL, CHANGED])
    assert len(open_library().update().unchanged) == 3
    assert names_in(index) == ["lock", "manifest.json", "store"]


def test_a_death_after_files_were_taken_out(open_library, index, folder, embedded, dying):
    (folder / "rivers.txt").unlink()
    embedded.clear()
    with dying(SQLiteFAISSDocumentStore, "delete_documents", after=True):
        open_library().update()
    report = open_library().update()
    assert (report.removed, report.passages, embedded) == (["rivers.txt"], 2, [])


@pytest.mark.parametrize("after", [False, True])
def test_a_death_while_optimizing_costs_nothing(open_library, index, folder, embedded, dying, after):
    (folder / "rivers.txt").write_text(CHANGED)
    embedded.clear()
    with dying(SQLiteFAISSDocumentStore, "optimize", after=after):
        open_library().update()
    assert len(open_library().update().unchanged) == 3
    assert embedded == [CHANGED]


@pytest.mark.parametrize("call", [1, 2])
def test_a_death_during_the_first_update_leaves_a_usable_place(open_library, tmp_path, dying, call):
    with dying(manifest, "replace_file", call=call):
        open_library().update()
    report = open_library().update()
    assert (len(report.added), report.passages, report.rebuilt) == (3, 3, None)


def test_a_killed_update_keeps_what_it_had_finished(open_library, embedded, dying, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 1)
    monkeypatch.setattr(manifest, "_TIMES_ITS_COST", 0)
    with dying(SQLiteFAISSDocumentStore, "write_documents", call=3):
        open_library().update()
    embedded.clear()
    report = open_library().update()
    assert (report.added, report.unchanged) == (["rivers.txt"], ["birds/heron.md", "birds/owl.txt"])
    assert embedded == [RIVERS]


def test_the_manifest_is_saved_now_and_then(tmp_path, monkeypatch):
    times = iter([0, 5, 54, 55, 100, 101])  # each look at the clock: a save takes 5 s, another 1 s
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    file = ManifestFile(tmp_path)
    content = manifest.Manifest("docs", "model", "hash", {}, {})
    file.save(content)  # from 0 to 5: not again before 55
    content.churn = 1
    file.save_when_due(content)  # 54
    assert manifest_of(tmp_path)["churn"] == 0
    file.save_when_due(content)  # 55; from 100 to 101
    assert manifest_of(tmp_path)["churn"] == 1


KILLED_BY_ITSELF = """
import os, signal
import rom_haystack.library
from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.cli import main

rom_haystack.library._GROUP = 1
write, calls = SQLiteFAISSDocumentStore.write_documents, []

def write_and_die(store, documents, policy):
    calls.append(write(store, documents, policy=policy))
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls[-1]

SQLiteFAISSDocumentStore.write_documents = write_and_die
main()
"""


def test_a_real_kill(open_library, folder, tmp_path, tiny_checkpoint):
    place = ["--index", str(tmp_path / "index"), "--model", str(tiny_checkpoint)]
    command = [sys.executable, "-c", KILLED_BY_ITSELF, "index", str(folder), *place]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with SQLiteFAISSDocumentStore(tmp_path / "index" / "store", 64, keyword_meta_fields=["title"]) as store:
        assert store.count_documents() == 3

    asked = CliRunner().invoke(app, ["ask", "What hunts at night?", "--docs", str(folder), "--json", *place])
    report = json.loads(asked.stdout)
    assert asked.exit_code in {ANSWERED, NO_ANSWER}
    assert len(report["passages"]) == report["index"]["passages"] == 3
    assert "rivers.txt" in report["index"]["added"]  # it was written, and the manifest did not say so yet
    assert report["index"]["rebuilt"] is None
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS])


# Store and manifest


def test_passages_of_no_file_go_and_lost_ones_come_back(open_library, index, embedded):
    with SQLiteFAISSDocumentStore(index / "store", 64, keyword_meta_fields=["title"]) as store:
        heron, owl = (d for d in store.filter_documents() if d.meta["file_path"].startswith("birds"))
        store.delete_documents([owl.id])
        store.write_documents([replace(heron, id="stranger", embedding=[1.0] * 64)])
    embedded.clear()

    report = open_library().update()

    assert embedded == [OWL]
    assert (report.replaced, report.rebuilt) == (["birds/owl.txt"], None)
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS])


def test_files_that_are_shown_by_one_name_keep_their_passages(open_library, folder):
    twins = [Path(os.fsdecode(os.fsencode(folder) + name)) for name in (b"/caf\xe8.txt", b"/caf\xe9.txt")]
    for path in twins:
        path.write_text("Twins are alike.")
    open_library().update()
    twins[0].write_text("One twin grew up.")
    report = open_library().update()
    assert len(report.unchanged) == 4
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS, "One twin grew up.", "Twins are alike."])
    twins[1].unlink()
    open_library().update()
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS, "One twin grew up."])


def test_a_store_that_churns_is_optimized(open_library, index, folder):
    for number in range(5):
        (folder / "rivers.txt").write_text(f"Rivers are changed, the {number}th time.")
        open_library().update()
    with open_library() as library:
        assert library.store.collection.state().next_slot == library.store.count_documents() == 3
        assert (manifest_of(index)["churn"], manifest_of(index)["store_version"]) == (0, library.store.version)


def test_the_manifest_follows_every_change_of_the_store(open_library, index, folder, monkeypatch):
    monkeypatch.setattr("rom_haystack.library_index._OPTIMIZE_ABOVE", 100)
    (folder / "birds" / "owl.txt").unlink()
    (folder / "rivers.txt").write_text(CHANGED)
    with open_library() as library:
        library.update()
        assert manifest_of(index)["store_version"] == library.store.version
    assert manifest_of(index)["churn"] == 3  # one written, two deleted


def test_the_title_is_found_by_keywords(open_library, index, folder):
    (folder / "birds" / "osprey.txt").write_text("It dives for fish.")
    library = open_library()
    library.update()
    assert [d.content for d in library.store.bm25_retrieval("osprey")] == ["It dives for fish."]


@pytest.mark.parametrize("damage", ["{", "[]", '{"format_version": 2}', "\ud800"])
def test_a_damaged_manifest_is_made_anew(open_library, index, embedded, damage):
    (index / "manifest.json").write_bytes(damage.encode("utf-8", "surrogatepass"))
    embedded.clear()
    if damage.startswith('{"'):
        edit_manifest(index, fingerprint="")
    report = open_library().update()
    assert report.rebuilt == "the index was damaged"
    assert len(report.added) == report.passages == open_library().store.count_documents() == len(embedded) == 3
    assert open_library().update().rebuilt is None


@pytest.mark.parametrize("lost", ["store", "store/documents.sqlite"])
def test_a_lost_store_is_made_anew(open_library, index, lost):
    shutil.rmtree(index / lost) if lost == "store" else (index / lost).unlink()
    report = open_library().update()
    assert (len(report.added), report.passages, report.rebuilt) == (3, 3, "the index was damaged")
    assert open_library().update().rebuilt is None


def test_a_lost_manifest_is_made_anew(open_library, index):
    (index / "manifest.json").unlink()
    with pytest.raises(LibraryError, match="There is no index of"):
        open_library().store  # noqa: B018
    report = open_library().update()
    assert (len(report.added), report.passages, open_library().store.count_documents()) == (3, 3, 3)


def test_an_index_of_format_1_is_made_anew(open_library, index, tmp_path):
    shutil.rmtree(index / "store")
    old = manifest_of(index)
    for name in ("store_settings", "store_version", "churn"):
        del old[name]
    (index / "manifest.json").write_text(json.dumps({**old, "format_version": 1, "generation": 7}))
    (index / "passages-7.json").write_text("{}")
    (index / "passages-8.json.new").write_text("{")
    (index / "passages-of-mine.json").write_text("mine")

    report = open_library().update()

    assert report.rebuilt == "the index was made by an earlier version of rom-haystack"
    assert len(report.added) == report.passages == open_library().store.count_documents() == 3
    assert names_in(index) == ["lock", "manifest.json", "passages-of-mine.json", "store"]
    assert open_library().update().rebuilt is None


def test_an_index_of_format_1_of_another_folder_is_refused(open_library, index):
    edit_manifest(index, format_version=1, folder="/elsewhere")
    with pytest.raises(LibraryError, match="belongs to another folder, /elsewhere"):
        open_library().update()


def test_a_model_of_another_width_gets_a_new_store(open_library, index, tiny_checkpoint, tmp_path, embedded):
    wide = shutil.copytree(tiny_checkpoint, tmp_path / "wide")
    config = ROMConfig.from_pretrained(tiny_checkpoint)
    config.heads = {"retrieval": {"projection_dim": 24, "similarity": "dot"}, "reading": {}}
    ROMModel(config).save_pretrained(wide)
    embedded.clear()
    assert open_library(model=str(wide)).update().rebuilt == "the index was made with another model"
    store = open_library(model=str(wide)).store
    assert (store.embedding_dim, store.similarity, store.count_documents(), len(embedded)) == (24, "dot_product", 3, 3)
    assert ROMExtractiveQA(store, model=str(wide)).run(query="What hunts?")["documents"]


def test_a_store_is_as_wide_as_any_family_s_embeddings(open_library, encoder_folder, family, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    ROMModel.from_encoder(str(encoder_folder)).save_pretrained(checkpoint)
    family.tokenizer.save_pretrained(checkpoint)
    with open_library(model=str(checkpoint)) as library:
        library.update()
        assert library.store.embedding_dim == 32


@pytest.mark.parametrize("call", [1, 2])
def test_a_death_while_the_store_is_exchanged(open_library, index, tiny_checkpoint, tmp_path, dying, call):
    edit_manifest(index, store_settings={"embedding_dim": 3})
    with dying(manifest, "replace_file", call=call):
        open_library().update()
    report = open_library().update()
    assert (len(report.added), texts_of(open_library())) == (3, sorted([HERON, OWL, RIVERS]))


def test_a_store_with_other_settings_is_replaced(open_library, index):
    edit_manifest(index, store_settings={**manifest_of(index)["store_settings"], "keyword_meta_fields": ["title", "x"]})
    with pytest.raises(LibraryError, match=r"can be searched \(the index was made with other settings\)"):
        open_library().store  # noqa: B018
    assert open_library().update().rebuilt == "the index was made with other settings"
    assert texts_of(open_library()) == sorted([HERON, OWL, RIVERS])


def test_a_store_that_is_not_what_the_manifest_says_is_refused(open_library, index, tmp_path):
    shutil.rmtree(index / "store")
    SQLiteFAISSDocumentStore(index / "store", 3).count_documents()
    for attempt in (open_library().update, open_library().repair):
        with pytest.raises(LibraryError, match="embedding_dim=3; embedding_dim=64 was asked for"):
            attempt()


def test_files_of_someone_else_in_the_store_are_never_touched(open_library, tmp_path):
    mine = tmp_path / "index" / "store" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(LibraryError, match=r"holds other files \(mine.txt, …\)"):
        open_library().update()
    assert mine.read_text() == "mine"


# Other processes


def test_two_libraries_at_once(open_library, index, folder, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 1)
    first, second = open_library(), open_library()
    seen = []
    (folder / "birds" / "owl.txt").write_text("Owls are changed.")
    (folder / "rivers.txt").write_text(CHANGED)

    def look(done, _total, _name):
        if done == 1:
            with pytest.raises(NotUpdatableError, match="Another process is updating"):
                second.update()
            seen.append((second.update(required=False), texts_of(second)))

    first.update(look)
    report, texts = seen[0]
    assert report.stale.startswith("Another process is updating the index")
    assert (report.passages, texts) == (3, sorted([HERON, "Owls are changed.", RIVERS]))
    assert texts_of(second) == sorted([HERON, "Owls are changed.", CHANGED])
    report = second.update()
    assert (len(report.unchanged), report.stale) == (3, None)


def test_searching_goes_on_from_the_first_passages_to_the_last(open_library, monkeypatch):
    monkeypatch.setattr(library_module, "_GROUP", 1)
    passages = []
    second = open_library()

    def look(done, _total, _name):
        if done == 1:
            passages.append(second.update(required=False).passages)
        passages.append(second.store.count_documents())

    open_library().update(look)
    assert passages == sorted(passages)
    assert set(passages) == {0, 1, 2, 3}


def test_a_store_that_was_replaced_is_noticed(open_library, index, folder):
    library = open_library()
    library.update()
    version = library.store.version
    shutil.rmtree(index / "store")
    (folder / "rivers.txt").write_text(CHANGED)
    open_library().update()
    assert manifest_of(index)["store_version"] == version  # which tells nothing apart here
    assert len(library.update().unchanged) == 3
    assert texts_of(library) == sorted([HERON, OWL, CHANGED])


def test_an_update_leaves_no_log_beside_the_database(open_library, index, folder):
    (folder / "rivers.txt").write_text(CHANGED)
    library = open_library()
    library.store.count_documents()
    library.update()
    assert [name for name in names_in(index / "store") if name.startswith("documents")] == ["documents.sqlite"]


def test_nothing_to_search_yet_is_an_error(open_library, tmp_path):
    (tmp_path / "index").mkdir()
    with FileLock(tmp_path / "index" / "lock"), pytest.raises(NotUpdatableError, match="Another process"):
        open_library().update(required=False)


@pytest.fixture
def public_folder(tiny_checkpoint, folder):
    """A folder that everybody may enter, unlike pytest's, with documents and a model."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(folder, place / "docs")
        shutil.copytree(tiny_checkpoint, place / "model")
        for path in (place / "model").iterdir():
            path.chmod(0o644)
        yield place
        for path in (place / "index", place / "index" / "store"):
            path.chmod(0o755)


def test_an_index_that_can_not_be_written_is_searched(public_folder, unprivileged):
    def open_library():
        return Library(public_folder / "docs", index=public_folder / "index", model=str(public_folder / "model"))

    with open_library() as library:
        library.update()  # the files are so new that their time stamps are not trusted yet
    for path in (public_folder / "docs").rglob("*.*"):
        os.utime(path, ns=(10**18, 10**18))
    for path in (public_folder / "index" / "store", public_folder / "index"):
        for file in path.iterdir():
            file.chmod(file.stat().st_mode & 0o555)
        path.chmod(0o555)
    with unprivileged(), open_library() as library:
        report = library.update()
        assert (len(report.unchanged), report.stale) == (3, None)
        assert texts_of(library) == sorted([HERON, OWL, RIVERS])
    (public_folder / "docs" / "rivers.txt").write_text(CHANGED)
    with unprivileged(), open_library() as library:
        with pytest.raises(NotUpdatableError, match=r"can't be written .* Choose another place"):
            library.update()
        report = library.update(required=False)
        assert (report.passages, "can't be written" in report.stale) == (3, True)
        assert texts_of(library) == sorted([HERON, OWL, RIVERS])
