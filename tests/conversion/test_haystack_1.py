"""DPR's own models behind Haystack 1.x's names: the first step of who comes from there."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from haystack import Document as HaystackDocument
from haystack.document_stores.in_memory import InMemoryDocumentStore
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DPRQuestionEncoder
from typer.testing import CliRunner

from rom_haystack import ROMExtractiveReader, check_store_similarity
from rom_haystack.compat import DensePassageRetriever, Document, FARMReader, TransformersReader, models
from rom_haystack.compat import InMemoryDocumentStore as OldInMemoryDocumentStore
from rom_haystack.compat import training as compat_training
from rom_haystack.compat.models import checkpoint_of, passage_score_weight
from rom_haystack.inference.converted import find_checkpoint
from training.__main__ import app

TEXTS = {
    "Radium": "Marie Curie found radium in 1898.",
    "The Nile": "The Nile flows north. Its delta lies in Egypt.",
    "Everest": "Mount Everest stands 8849 metres high.",
}
QUERY = "Where does the Nile flow?"
LENGTHS = {"max_seq_len_query": 32, "max_seq_len_passage": 100}


@pytest.fixture
def store():
    store = OldInMemoryDocumentStore(similarity="dot_product")
    store.write_documents([{"content": text, "meta": {"name": name}} for name, text in TEXTS.items()])
    return store


@pytest.fixture
def retriever(store, dpr_question, dpr_passage):
    retriever = DensePassageRetriever(store, dpr_question, dpr_passage, use_gpu=False, **LENGTHS)
    store.update_embeddings(retriever)
    yield retriever
    retriever.close()


def names(documents):
    return [document.meta["name"] for document in documents]


def test_a_pair_retrieves_by_inner_product(retriever, store):
    found = names(retriever.retrieve(QUERY, top_k=3))
    scores = retriever.embed_documents(store.get_all_documents()) @ retriever.embed_queries([QUERY])[0]
    assert found == [list(TEXTS)[i] for i in np.argsort(-scores)]


def test_a_pair_is_saved_and_loaded(retriever, store, tmp_path):
    retriever.save(tmp_path / "pair")
    loaded = DensePassageRetriever.load(tmp_path / "pair", document_store=store, use_gpu=False, **LENGTHS)
    assert loaded.query_embedding_model != loaded.passage_embedding_model
    before, after = (one.embed_queries([QUERY]) for one in (retriever, loaded))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert names(loaded.retrieve(QUERY)) == names(retriever.retrieve(QUERY))
    loaded.close()


def test_its_reader_reads(retriever, dpr_reader):
    reader = FARMReader(str(dpr_reader), use_gpu=False, max_seq_len=100, doc_stride=20)
    answers = reader.predict(QUERY, retriever.retrieve(QUERY), top_k=2)["answers"]
    assert len(answers) == 2
    for answer in answers:
        place = answer.offsets_in_document[0]
        assert TEXTS[answer.meta["name"]][place.start : place.end] == answer.answer
    reader.close()


def test_the_store_is_told_what_such_models_need(dpr_passage):
    found = check_store_similarity(InMemoryDocumentStore(embedding_similarity_function="cosine"), str(dpr_passage))
    assert not found.order_fits
    assert 'embedding_similarity_function="dot_product"' in found.message
    assert check_store_similarity(InMemoryDocumentStore(), str(dpr_passage)).fits


class TestReadersRankAsTheirModelsDo:
    def test_dprs_by_relevance(self, dpr_reader):
        options = {"no_answer": False, "context_window_size": 150, "max_seq_length": 100, "stride": 31}
        own = ROMExtractiveReader(str(dpr_reader), passage_score_weight=1.0, answers_per_seq=3, **options)
        expected = own.run(QUERY, [HaystackDocument(content=text) for text in TEXTS.values()])["answers"]
        reader = FARMReader(str(dpr_reader), use_gpu=False, max_seq_len=100, doc_stride=20)
        found = reader.predict(QUERY, [Document(text) for text in TEXTS.values()])["answers"]
        assert [answer.answer for answer in found] == [answer.data for answer in expected]
        assert [answer.score for answer in found] == pytest.approx([answer.score for answer in expected], abs=1e-5)
        own.close()
        reader.close()

    @torch.inference_mode()
    @pytest.mark.parametrize("kind", [FARMReader, TransformersReader])
    def test_squads_by_their_spans(self, squad_reader, kind):
        """The gap is 1.x's: start and end against the null position."""
        reader = kind(str(squad_reader), use_gpu=False, max_seq_len=100, doc_stride=20)
        text = TEXTS["The Nile"]
        result = reader.predict(QUERY, [Document(text)], top_k=1)
        (span,) = result["answers"][0].offsets_in_document
        encoded = AutoTokenizer.from_pretrained(squad_reader)(QUERY, text, return_tensors="pt")
        output = AutoModelForQuestionAnswering.from_pretrained(squad_reader).eval()(**encoded)
        first, last = (encoded.char_to_token(0, place, 1) for place in (span.start, span.end - 1))
        score = output.start_logits[0, first] + output.end_logits[0, last]
        null = output.start_logits[0, 0] + output.end_logits[0, 0]
        assert result["no_ans_gap"] == pytest.approx(float(score - null), abs=1e-3)
        reader.close()

    def test_roms_by_both(self, tiny_checkpoint):
        assert passage_score_weight(tiny_checkpoint) == 0.5


class TestTraining:
    """What 1.x's names were given is what is trained on, whatever kind of model it was."""

    @pytest.fixture(autouse=True)
    def _in_this_process(self, monkeypatch):
        def run(command, _root):
            result = CliRunner().invoke(app, command[command.index("training") + 1 :])
            return result.exit_code, result.output

        monkeypatch.setattr(compat_training, "_run", run)

    @pytest.fixture
    def data(self, tmp_path):
        """Folder with `dpr.json` and `squad.json`."""
        passages = [{"title": title, "text": text} for title, text in TEXTS.items()]
        dpr = [
            {"question": f"What of {p['title']}?", "answers": [p["title"]], "positive_ctxs": [p], "negative_ctxs": []}
            for p in passages
        ]
        answer = {"text": "north", "answer_start": TEXTS["The Nile"].index("north")}
        paragraph = {"context": TEXTS["The Nile"], "qas": [{"id": "1", "question": QUERY, "answers": [answer]}]}
        (tmp_path / "dpr.json").write_text(json.dumps(dpr))
        (tmp_path / "squad.json").write_text(json.dumps({"data": [{"title": "Nile", "paragraphs": [paragraph]}]}))
        return tmp_path

    @pytest.mark.parametrize("form", ["folder", "file"])
    def test_a_dpr_pair_goes_on_with_its_question_encoder(
        self, form, data, dpr_question, dpr_passage, vocabulary, tmp_path
    ):
        name = str(dpr_question)
        if form == "file":
            weights = DPRQuestionEncoder.from_pretrained(dpr_question).question_encoder.bert_model.state_dict()
            weights = {f"{part}_model.{key}": value for part in ("question", "ctx") for key, value in weights.items()}
            torch.save({"model_dict": weights}, tmp_path / "biencoder.cp")
            shutil.copy(vocabulary / "vocab.txt", tmp_path)
            name = f"{tmp_path / 'biencoder.cp'}:question"
        retriever = DensePassageRetriever(None, name, dpr_passage, use_gpu=False, progress_bar=False, **LENGTHS)
        before, start = retriever.embed_queries([QUERY]), load_file(find_checkpoint(name) / "model.safetensors")
        retriever.train(data, "dpr.json", n_epochs=1, num_warmup_steps=0, save_dir=tmp_path / "saved")
        after = retriever.embed_queries([QUERY])
        np.testing.assert_allclose(after, before, rtol=0.05, atol=0.05)  # two small steps from there
        assert not np.allclose(after, before, atol=1e-6)
        trained = load_file(tmp_path / "saved" / "query_encoder" / "model.safetensors")
        assert trained.keys() == start.keys()
        retriever.close()

    def test_a_question_answering_model_keeps_its_head(self, data, squad_reader, tmp_path):
        reader = FARMReader(str(squad_reader), use_gpu=False, max_seq_len=100)
        start = load_file(checkpoint_of(reader.reader) / "model.safetensors")
        reader.train(data, "squad.json", n_epochs=1, save_dir=tmp_path / "saved")
        trained = load_file(tmp_path / "saved" / "model.safetensors")
        head = "heads.reading.span.weight"
        torch.testing.assert_close(trained[head].float(), start[head].float(), atol=1e-3, rtol=0)
        assert reader.predict(QUERY, [Document(TEXTS["The Nile"])])["answers"]
        reader.close()

    def test_revision_and_token_count(self, data, tiny_checkpoint, tmp_path, monkeypatch):
        asked = []

        def find(model, **options):
            asked.append((model, options))
            return tiny_checkpoint

        monkeypatch.setattr(models, "find_checkpoint", find)
        reader = FARMReader("me/mine", model_version="v2", use_auth_token="secret", local_files_only=True)
        reader.train(data, "squad.json", n_epochs=1, save_dir=tmp_path / "saved")
        retriever = DensePassageRetriever(None, "me/q", "me/p", model_version="v3", use_auth_token="secret")
        retriever.train(data, "dpr.json", n_epochs=1, save_dir=tmp_path / "dpr")
        assert asked == [
            ("me/mine", {"revision": "v2", "token": "secret", "local_files_only": True}),
            ("me/q", {"revision": "v3", "token": "secret", "local_files_only": False}),
        ]
