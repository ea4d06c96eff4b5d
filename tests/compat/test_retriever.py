from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from haystack import Document as HaystackDocument
from haystack.document_stores.in_memory import InMemoryDocumentStore as HaystackStore
from haystack.utils import Secret

from rom_haystack.compat import BM25Retriever, DensePassageRetriever, Document, models
from rom_haystack.compat.arguments import device_of, token_of
from rom_haystack.compat.models import copy_model
from rom_haystack.components import ROMDocumentEmbedder
from rom_haystack.modeling import DEFAULT_CHECKPOINT, ROMConfig, ROMModel


@pytest.fixture
def other_checkpoint(tiny_checkpoint, tiny_model, tmp_path):
    """A model that embeds in another way than the tiny one."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "other"))
    torch.manual_seed(11)
    ROMModel(ROMConfig(encoder=tiny_model.config.encoder)).save_pretrained(folder)
    return folder


@pytest.fixture
def filled(store, retriever, dicts):
    store.write_documents(dicts)
    store.update_embeddings(retriever)
    retriever.document_store = store
    return retriever


def test_embeddings_are_arrays_of_the_encoders_own(retriever, tiny_encoder, dicts):
    queries = ["Who found radium?", "Where is Egypt?"]
    embedded = retriever.embed_queries(queries)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, tiny_encoder.encode_queries(queries), atol=1e-5)
    documents = [Document.from_dict(d) for d in dicts]
    texts = [f"{d['meta']['name']} [SEP] {d['content']}" for d in dicts]
    np.testing.assert_allclose(retriever.embed_documents(documents), tiny_encoder.encode_passages(texts), atol=1e-5)
    assert [d.meta for d in documents] == [d["meta"] for d in dicts]


def test_titles_may_stay_out(tiny_checkpoint, tiny_encoder, dicts):
    model = str(tiny_checkpoint)
    retriever = DensePassageRetriever(None, model, model, use_gpu=False, embed_title=False, progress_bar=False)
    documents = [Document.from_dict(d) for d in dicts]
    texts = [d["content"] for d in dicts]
    np.testing.assert_allclose(retriever.embed_documents(documents), tiny_encoder.encode_passages(texts), atol=1e-5)
    retriever.close()


def test_texts_are_cut(tiny_checkpoint, tiny_encoder):
    model = str(tiny_checkpoint)
    retriever = DensePassageRetriever(
        None, model, model, max_seq_len_query=6, max_seq_len_passage=9, use_gpu=False, progress_bar=False
    )
    text = "the moon is a body that circles the earth and has no air at all"
    np.testing.assert_allclose(
        retriever.embed_queries([text]), tiny_encoder.encode_queries([text], max_length=6), atol=1e-5
    )
    np.testing.assert_allclose(
        retriever.embed_documents([Document(text)]), tiny_encoder.encode_passages([text], max_length=9), atol=1e-5
    )
    retriever.close()


def test_each_side_has_its_own_model(tiny_checkpoint, other_checkpoint, retriever):
    pair = DensePassageRetriever(None, tiny_checkpoint, other_checkpoint, use_gpu=False, progress_bar=False)
    np.testing.assert_allclose(pair.embed_queries(["a river"]), retriever.embed_queries(["a river"]), atol=1e-5)
    documents = [Document("The Nile flows north.", meta={"title": "The Nile"})]
    embedder = ROMDocumentEmbedder(model=str(other_checkpoint), meta_fields_to_embed=["title"], progress_bar=False)
    expected = embedder.run([HaystackDocument(content="The Nile flows north.", meta={"title": "The Nile"})])[
        "documents"
    ]
    np.testing.assert_allclose(pair.embed_documents(documents), [expected[0].embedding], atol=1e-5)
    assert not np.allclose(pair.embed_documents(documents), retriever.embed_documents(documents), atol=0.01)
    pair.close()
    embedder.close()


def test_retrieve(filled, dicts):
    found = filled.retrieve("Who found radium?")
    assert len(found) == 3
    assert all(isinstance(document, Document) and document.embedding is None for document in found)
    scores = [document.score for document in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    raw = filled.retrieve("Who found radium?", scale_score=False)
    expected = filled.embed_documents(found) @ filled.embed_queries(["Who found radium?"])[0]
    assert [document.score for document in raw] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [d.meta["name"] for d in filled.retrieve("Who found radium?", filters={"year": [1953]})] == ["Everest"]
    assert len(filled.retrieve("Who found radium?", top_k=2)) == 2
    assert filled.retrieve("Who found radium?", top_k=0) == []


def test_retrieve_batch_equals_single_calls(filled):
    queries = ["Who found radium?", "Where is Egypt?"]
    nested = filled.retrieve_batch(queries, top_k=2)
    singles = [filled.retrieve(query, top_k=2) for query in queries]
    assert [[d.id for d in found] for found in nested] == [[d.id for d in found] for found in singles]
    for found, single in zip(nested, singles, strict=True):
        assert [d.score for d in found] == pytest.approx([d.score for d in single], abs=1e-6)
    filters = [{"name": "Everest"}, None]
    nested = filled.retrieve_batch(queries, filters=filters)
    assert [len(found) for found in nested] == [1, 3]
    with pytest.raises(TypeError, match="list"):
        filled.retrieve_batch("Who found radium?")


def test_keyword_retriever(store, dicts):
    store.write_documents(dicts)
    retriever = BM25Retriever(store, top_k=1)
    assert [d.meta["name"] for d in retriever.retrieve("Which river flows north?")] == ["The Nile"]
    nested = retriever.retrieve_batch(["delta", "metres high"], filters=[None, {"name": "Everest"}])
    assert [[d.meta["name"] for d in found] for found in nested] == [["The Nile"], ["Everest"]]


@pytest.mark.parametrize("query", ["", "  ", None])
def test_blank_queries_are_refused(filled, query):
    for one in (filled, BM25Retriever(filled.document_store)):
        with pytest.raises((TypeError, ValueError), match="query"):
            one.retrieve(query)


def test_stores_must_be_there_and_of_our_kind(retriever, store):
    with pytest.raises(ValueError, match="no document store"):
        retriever.retrieve("a river")
    assert retriever.retrieve("a river", document_store=store) == []
    for call in (
        lambda: DensePassageRetriever(HaystackStore()),
        lambda: BM25Retriever(HaystackStore()),
        lambda: retriever.retrieve("a river", document_store=HaystackStore()),
    ):
        with pytest.raises(TypeError, match="ROMRetriever"):
            call()


def test_the_bundled_checkpoint_does_for_both():
    retriever = DensePassageRetriever()
    assert retriever.query_embedding_model == retriever.passage_embedding_model == DEFAULT_CHECKPOINT


class TestSaveAndLoad:
    def test_one_model_stays_one(self, retriever, tmp_path):
        retriever.save(tmp_path / "dpr", query_encoder_dir="q", passage_encoder_dir="p")
        loaded = DensePassageRetriever.load(
            tmp_path / "dpr", None, use_gpu=False, query_encoder_dir="q", passage_encoder_dir="p"
        )
        assert loaded.query_embedding_model == loaded.passage_embedding_model == str(tmp_path / "dpr" / "q")
        np.testing.assert_allclose(loaded.embed_queries(["a"]), retriever.embed_queries(["a"]), atol=1e-6)
        loaded.close()

    @pytest.mark.parametrize("side", ["query_encoder", "passage_encoder"])
    def test_another_file_makes_another_model(self, retriever, tmp_path, side):
        retriever.save(tmp_path)
        (tmp_path / side / "calibration.json").write_text("{}")
        loaded = DensePassageRetriever.load(tmp_path, None, use_gpu=False)
        assert loaded.query_embedding_model != loaded.passage_embedding_model

    def test_a_pair_stays_a_pair(self, tiny_checkpoint, other_checkpoint, tmp_path):
        pair = DensePassageRetriever(None, tiny_checkpoint, other_checkpoint, use_gpu=False, progress_bar=False)
        for _ in range(2):  # the second time it takes the place of the first
            pair.save(tmp_path / "dpr")
        loaded = DensePassageRetriever.load(tmp_path / "dpr", None, use_gpu=False)
        assert loaded.passage_embedding_model == str(tmp_path / "dpr" / "passage_encoder")
        documents = [Document("a river")]
        np.testing.assert_allclose(loaded.embed_documents(documents), pair.embed_documents(documents), atol=1e-6)
        loaded.save(tmp_path / "dpr")  # where it lies
        assert sorted(path.name for path in (tmp_path / "dpr").iterdir()) == ["passage_encoder", "query_encoder"]
        pair.close()
        loaded.close()

    @pytest.mark.parametrize(
        "files",
        [
            {"thesis.txt": "mine"},
            {"config.json": "{}"},
            {"config.json": "{}", "thesis.txt": "mine"},
            {"config.json": '{"model_type": "bert"}', "pytorch_model.bin": "mine"},
            {"config.json": '{"model_type": "rom"}', "thesis.txt": "mine"},
            {"config.json": '{"model_type": "rom"}', "notes/thesis.txt": "mine"},
        ],
        ids=" ".join,
    )
    def test_other_folders_are_left_alone(self, retriever, tmp_path, files):
        for name, text in files.items():
            file = tmp_path / "dpr" / "query_encoder" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        with pytest.raises(ValueError, match="query_encoder is there already"):
            retriever.save(tmp_path / "dpr")
        assert {name: (tmp_path / "dpr" / "query_encoder" / name).read_text() for name in files} == files
        assert [path.name for path in (tmp_path / "dpr").iterdir()] == ["query_encoder"]

    def test_folders_beside_are_left_alone(self, retriever, tmp_path):
        for _ in range(2):
            (tmp_path / "query_encoder.new").mkdir(exist_ok=True)
            (tmp_path / "query_encoder.new" / "thesis.txt").write_text("mine")
            retriever.save(tmp_path)
            assert (tmp_path / "query_encoder.new" / "thesis.txt").read_text() == "mine"
        assert len(list(tmp_path.iterdir())) == 3

    def test_an_interrupted_copy_leaves_what_was_there(self, retriever, tmp_path, monkeypatch):
        retriever.save(tmp_path)
        before = sorted(tmp_path.rglob("*"))

        def fail(*_args):
            raise OSError("disk full")

        monkeypatch.setattr(models.shutil, "copy2", fail)
        with pytest.raises(OSError, match="disk full"):
            retriever.save(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_copy_that_can_not_take_its_place_leaves_what_was_there(self, retriever, tmp_path, monkeypatch):
        retriever.save(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        replace = Path.replace

        def fail(path, target):
            if path.name == "new":
                raise OSError("no right")
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="no right"):
            retriever.save(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before

    def test_only_the_model_is_copied(self, tiny_checkpoint, tmp_path):
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "mine"))
        (folder / "thesis.txt").write_text("mine")
        copy_model(folder, tmp_path / "copy")
        copied = {path.name for path in (tmp_path / "copy").iterdir()}
        assert copied == {path.name for path in tiny_checkpoint.iterdir()}

    def test_what_is_not_there_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="query_encoder"):
            DensePassageRetriever.load(tmp_path, None)


class TestTrain:
    @pytest.fixture
    def calls(self, monkeypatch, other_checkpoint):
        """What the training function is called with; it gives back the other model."""
        calls = []

        def train_retriever(model, output, **options):
            calls.append((model, output, options))
            return Path(shutil.copytree(other_checkpoint, output))

        module = ModuleType("rom_haystack.compat.training")
        module.train_retriever = train_retriever
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return calls

    def test_arguments_arrive_and_the_model_is_taken(self, retriever, calls, tmp_path, warnings_of):
        before = retriever.embed_queries(["a"])
        start = Path(retriever.query_embedding_model)
        retriever.train(
            data_dir="data",
            train_filename="train.json",
            dev_filename="dev.json",
            batch_size=4,
            n_epochs=2,
            num_hard_negatives=3,
            num_warmup_steps=7,
            embed_title=False,
            save_dir=tmp_path / "saved",
            evaluate_every=10,
        )
        assert calls == [
            (
                start,
                tmp_path / "saved" / "query_encoder",
                {
                    "data_dir": Path("data"),
                    "train_filename": "train.json",
                    "dev_filename": "dev.json",
                    "epochs": 2,
                    "batch_size": 4,
                    "learning_rate": 1e-5,
                    "num_positives": 1,
                    "num_hard_negatives": 3,
                    "max_query_length": 64,
                    "max_passage_length": 256,
                    "embed_title": False,
                    "warmup_steps": 7,
                    "weight_decay": 0.0,
                },
            )
        ]
        assert not np.allclose(retriever.embed_queries(["a"]), before, atol=0.01)
        assert [text.partition(" has")[0] for text in warnings_of()] == [
            "DensePassageRetriever.train: evaluate_every=10"
        ]
        loaded = DensePassageRetriever.load(tmp_path / "saved", None, use_gpu=False)
        np.testing.assert_allclose(loaded.embed_queries(["a"]), retriever.embed_queries(["a"]), atol=1e-6)
        loaded.close()

    def test_a_pair_becomes_one_and_is_told_so(self, calls, tiny_checkpoint, other_checkpoint, tmp_path, warnings_of):
        pair = DensePassageRetriever(None, tiny_checkpoint, other_checkpoint, use_gpu=False)
        pair.train("data", "train.json", save_dir=tmp_path / "saved")
        assert pair.query_embedding_model == pair.passage_embedding_model
        assert any("one encoder" in text for text in warnings_of())

    def test_a_place_that_is_taken_is_told_before(self, calls, retriever, tmp_path):
        (tmp_path / "passage_encoder").mkdir()
        (tmp_path / "passage_encoder" / "thesis.txt").write_text("mine")
        with pytest.raises(ValueError, match=r"holds thesis\.txt"):
            retriever.train("data", "train.json", save_dir=tmp_path)
        assert not calls


class TestArguments:
    def test_those_without_meaning_are_warned_of_once_by_name(self, warnings_of):
        for _ in range(2):
            DensePassageRetriever(use_fast_tokenizers=False, global_loss_buffer_size=7, similarity_function="cosine")
        assert [text.partition(" has")[0] for text in warnings_of()] == [
            "DensePassageRetriever: use_fast_tokenizers=False",
            "DensePassageRetriever: similarity_function='cosine'",
            "DensePassageRetriever: global_loss_buffer_size=7",
        ]

    def test_1_x_defaults_need_no_warning(self, warnings_of):
        DensePassageRetriever(
            use_fast_tokenizers=True, similarity_function="dot_product", global_loss_buffer_size=150_000
        )
        assert warnings_of() == []

    def test_devices(self, warnings_of):
        assert device_of("X", use_gpu=True, devices=None) is None
        assert device_of("X", use_gpu=False, devices=["cuda:0"]).to_torch_str() == "cpu"
        assert device_of("X", use_gpu=True, devices=[torch.device("cuda:1")]).to_torch_str() == "cuda:1"
        assert warnings_of() == []
        assert device_of("X", use_gpu=True, devices=["cuda:0", "cuda:1"]).to_torch_str() == "cuda:0"
        assert "X: devices=['cuda:0', 'cuda:1']" in warnings_of()[0]

    def test_tokens(self, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "from the environment")
        assert token_of("abc").resolve_value() == "abc"
        assert token_of(True).resolve_value() == token_of(None).resolve_value() == "from the environment"
        assert token_of(False) is None
        assert isinstance(token_of("abc"), Secret)
