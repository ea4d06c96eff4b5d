from __future__ import annotations

import gc
import json
import os
import shutil
from pathlib import Path

import pytest
from haystack.document_stores.errors import DocumentStoreError

from rom_haystack.compat import Document, FAISSDocumentStore
from rom_haystack.compat.faiss_store import _remove, folder_of

DEFAULT = "sqlite:///faiss_document_store.db"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(**arguments):
    return FAISSDocumentStore(progress_bar=False, **arguments)


@pytest.mark.parametrize("url", [DEFAULT, "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://?cache=shared"])
def test_the_default_leaves_nothing_behind(url, workplace, dicts, counted):
    assert folder_of(url) is None
    store = make(sql_url=url)
    store.write_documents(dicts)
    store.update_embeddings(counted())
    folder = store._folder
    assert folder.is_dir()
    assert workplace not in folder.parents
    del store
    gc.collect()
    assert not folder.exists()
    assert list(workplace.iterdir()) == []


def test_a_forked_process_leaves_the_temporary_folder_alone(dicts):
    store = make()
    store.write_documents(dicts)
    _remove(store._folder, os.getpid() + 1)
    assert store.get_document_count() == 3


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("sqlite:///my.db", "my"),
        ("sqlite:///data/my.sqlite3?timeout=5", "data/my"),
        ("sqlite:///data/my_store", "data/my_store"),
        ("sqlite:////srv/v1.2/my.db", "/srv/v1.2/my"),
    ],
)
def test_a_url_means_the_folder_of_its_name(url, folder, workplace):
    assert folder_of(url) == (workplace / folder)


@pytest.mark.parametrize("url", ["postgresql://me@host/base", "my.db"])
def test_other_databases_are_refused(url):
    with pytest.raises(ValueError, match="sqlite:///path/to/name"):
        make(sql_url=url)


def test_a_database_of_1_x_is_not_passed_over(workplace, warnings_of):
    Path("old.db").write_bytes(b"SQLite format 3")
    with pytest.raises(ValueError, match=r"old\.db is a file, such as Haystack 1\.x's .* write them anew"):
        make(sql_url="sqlite:///old.db")
    assert warnings_of() == []
    Path("faiss_document_store.db").write_bytes(b"SQLite format 3")
    make()
    assert "faiss_document_store.db has no effect" in warnings_of()[0]


def test_making_a_store_touches_no_file(workplace):
    store = make(sql_url="sqlite:///my.db")
    assert store.get_document_count() == 0
    assert list(workplace.iterdir()) == []


def test_what_was_written_is_there_when_the_folder_is_opened_again(workplace, dicts, counted):
    store = make(sql_url="sqlite:///my.db")
    store.write_documents(dicts)
    store.write_documents(dicts[:1], index="second")
    store.update_embeddings(counted(6))
    before = store.get_all_documents(return_embedding=True)
    store.close()
    again = make(sql_url="sqlite:///my.db")  # whose dimension nobody names
    assert again.get_all_documents(return_embedding=True) == before
    assert again.get_document_count(index="second") == 1
    assert [path.name for path in workplace.iterdir()] == ["my"]
    assert sorted(path.name for path in (workplace / "my").iterdir()) == ["document.6", "second.384"]


def test_folders_of_others_are_left_alone(workplace, dicts, counted):
    store = make(sql_url="sqlite:///my.db")
    store.write_documents(dicts)
    store.update_embeddings(counted())
    for name in ("document.6", "document.6.new"):
        Path("my", name).mkdir()
        Path("my", name, "precious.txt").write_text("mine")
    with pytest.raises(DocumentStoreError, match=r"precious\.txt"):
        store.update_embeddings(counted(6))
    shutil.rmtree(Path("my", "document.6"))
    store.update_embeddings(counted(6))
    assert store.get_embedding_count() == 3
    assert Path("my", "document.6.new", "precious.txt").read_text() == "mine"


def test_embeddings_of_another_length_need_all_of_them_anew(workplace, dicts, counted):
    store = make(sql_url="sqlite:///my.db")
    store.write_documents(dicts)
    store.update_embeddings(counted())
    store.write_documents([{"content": "New."}])
    with pytest.raises(ValueError, match=r"have 6 components, 3 documents.*some of 4"):
        store.update_embeddings(counted(6), update_existing_embeddings=False)
    with pytest.raises(ValueError, match="have 2 components"):
        store.write_documents([Document("a", embedding=[1.0, 2.0])])
    store.update_embeddings(counted(6))
    assert store.get_embedding_count() == 4
    assert [path.name for path in (workplace / "my").iterdir()] == ["document.6"]


class TestSaveAndLoad:
    def test_round_trip(self, workplace, dicts, counted):
        store = make(similarity="cosine", index="mine", return_embedding=True)
        store.write_documents(dicts)
        store.write_documents(dicts[:1], index="second")
        store.update_embeddings(counted())
        store.save("my_index.faiss")
        assert sorted(path.name for path in workplace.iterdir()) == ["my_index.faiss", "my_index.json"]
        loaded = FAISSDocumentStore.load(index_path="my_index.faiss")
        assert loaded.get_all_documents() == store.get_all_documents()
        assert loaded.get_document_count(index="second") == 1
        assert (loaded.similarity, loaded.index, loaded.return_embedding) == ("cosine", "mine", True)
        query = [1.0, 0.0, 0.0, 0.0]
        assert loaded.query_by_embedding(query) == store.query_by_embedding(query)

    def test_what_is_loaded_is_a_store_of_its_own(self, workplace, dicts):
        store = make()
        store.write_documents(dicts)
        store.save("saved", "elsewhere.json")
        loaded = FAISSDocumentStore(faiss_index_path="saved", faiss_config_path="elsewhere.json")
        loaded.delete_documents(filters={"name": "Radium"})
        assert store.get_document_count() == 3
        loaded.close()
        assert FAISSDocumentStore.load("saved", "elsewhere.json").get_document_count() == 2

    def test_saving_again_replaces(self, workplace, dicts):
        store = make()
        store.write_documents(dicts[:1])
        store.save("saved")
        store.write_documents(dicts)
        store.save("saved")
        loaded = FAISSDocumentStore.load("saved")
        assert loaded.get_document_count() == 3
        loaded.write_documents([{"content": "New."}])
        loaded.save("saved")  # where it lies already
        assert loaded.get_document_count() == 4

    def test_a_saved_store_that_is_open_is_not_replaced(self, workplace, dicts):
        store = make()
        store.write_documents(dicts)
        store.save("saved")
        loaded = FAISSDocumentStore.load("saved")
        assert loaded.get_document_count() == 3
        with pytest.raises(DocumentStoreError, match="open in this process"):
            store.save("saved")
        assert loaded.get_document_count() == 3

    @pytest.mark.parametrize(
        "files",
        [
            ["backups"],
            ["backups/mine.txt"],
            ["backups/2024.1/mine.txt"],
            ["backups/2024.1/documents.sqlite", "backups/2024.1/mine.txt"],
            ["backups/2024.1/documents.sqlite", "backups/2024.2/mine.txt"],
        ],
        ids="-".join,
    )
    def test_other_things_are_not_replaced(self, workplace, dicts, files):
        for name in files:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text("mine")
        store = make()
        store.write_documents(dicts)
        with pytest.raises(DocumentStoreError, match="no saved store"):
            store.save("backups")
        assert [Path(name).read_text() for name in files] == ["mine"] * len(files)
        assert not Path("backups.json").exists()

    def test_what_lies_beside_is_left_alone(self, workplace, dicts):
        Path("saved.new").mkdir()
        Path("saved.new", "mine.txt").write_text("mine")
        store = make()
        store.write_documents(dicts)
        store.save("saved")
        assert Path("saved.new", "mine.txt").read_text() == "mine"
        for text in ("[]", '{"mine": 1}', "mine"):
            Path("other.json").write_text(text)
            with pytest.raises(ValueError, match=r"other\.json"):
                store.save("other")
            assert Path("other.json").read_text() == text
        assert sorted(path.name for path in workplace.iterdir()) == ["other.json", "saved", "saved.json", "saved.new"]

    def test_errors_name_the_file(self, workplace):
        Path("old.faiss").write_bytes(b"IxFI")
        with pytest.raises(ValueError, match="such as Haystack"):
            FAISSDocumentStore.load("old.faiss")
        with pytest.raises(ValueError, match=r"missing\.json"):
            FAISSDocumentStore.load("missing.faiss")
        Path("lost.json").write_text(json.dumps({"index": "document"}))
        with pytest.raises(ValueError, match="no saved store in lost"):
            FAISSDocumentStore.load("lost.faiss")


@pytest.mark.parametrize("factory", ["HNSW", "auto", "Flat", "SQ8"])
def test_index_factories(factory, dicts, counted):
    store = make(faiss_index_factory_str=factory, n_links=16, ef_search=30)
    store.write_documents(dicts)
    store.update_embeddings(counted())
    lengths = sorted((len(d["content"]) for d in dicts), reverse=True)
    found = store.query_by_embedding([1.0, 0.0, 0.0, 0.0], scale_score=False)
    assert [d.score for d in found] == pytest.approx(lengths)


def test_an_unknown_factory_fails_at_once():
    with pytest.raises(ValueError, match="'Nonsense'"):
        make(faiss_index_factory_str="Nonsense")


def test_vector_dim_is_the_older_name(dicts, counted):
    store = make(vector_dim=6)
    store.write_documents(dicts)
    store.update_embeddings(counted(6))
    assert (store.embedding_dim, store.get_embedding_count()) == (6, 3)


def test_train_index_only_warns(warnings_of):
    store = make()
    store.train_index(documents=[])
    store.train_index(embeddings=None)
    assert len(warnings_of()) == 1
    assert "trained by itself" in warnings_of()[0]
