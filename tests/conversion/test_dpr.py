"""Hugging Face's DPR models against their own outputs."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from haystack import Document
from haystack.utils import ComponentDevice
from tokenizers import Tokenizer, normalizers
from transformers import (
    DPRContextEncoder,
    DPRContextEncoderTokenizer,
    DPRQuestionEncoder,
    DPRQuestionEncoderTokenizer,
    DPRReader,
    DPRReaderTokenizer,
)

from rom_haystack.components import ROMExtractiveReader
from rom_haystack.inference import EncoderSpec, ReadingOptions, ROMEncoder
from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.modeling import CheckpointError, load_checkpoint
from rom_haystack.modeling.conversion.convert import convert
from rom_haystack.modeling.errors import MissingHeadError

from .conftest import PASSAGES, QUERIES, SIZES, Bomb

CPU = ComponentDevice.from_str("cpu")


def encoder_of(source, **options) -> ROMEncoder:
    converted = convert(source, **options)
    return ROMEncoder.from_model(converted.model, converted.tokenizer)


@torch.inference_mode()
def own_embeddings(model, tokenizer, texts, max_length) -> np.ndarray:
    """What the source library gives, text by text."""
    cut = {"truncation": True, "max_length": max_length, "return_tensors": "pt"}
    return np.concatenate([model(**tokenizer(text, **cut)).pooler_output.numpy() for text in texts])


@pytest.mark.parametrize("projection", [0, 24])
def test_questions_are_embedded_as_by_transformers(dpr_folder, projection):
    folder = dpr_folder(DPRQuestionEncoder, projection_dim=projection)
    model = DPRQuestionEncoder.from_pretrained(folder).eval()
    tokenizer = DPRQuestionEncoderTokenizer.from_pretrained(folder)
    encoder = encoder_of(folder)
    assert encoder.facts.similarity == "dot"
    assert encoder.embedding_dim == (projection or SIZES["hidden_size"])
    expected = own_embeddings(model, tokenizer, QUERIES, 64)
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), expected, atol=1e-4)
    assert np.linalg.norm(expected[0]) > 2  # so unit length would be seen


def test_passages_are_embedded_as_by_transformers(dpr_passage):
    model = DPRContextEncoder.from_pretrained(dpr_passage).eval()
    tokenizer = DPRContextEncoderTokenizer.from_pretrained(dpr_passage)
    encoder = encoder_of(dpr_passage)
    expected = own_embeddings(model, tokenizer, PASSAGES, 100)
    np.testing.assert_allclose(encoder.encode_passages(PASSAGES, max_length=100), expected, atol=1e-4)
    pair = tokenizer("Nile", "The Nile flows north.", return_tensors="pt")
    one_segment = model(pair["input_ids"]).pooler_output.detach().numpy()
    two_segments = model(**pair).pooler_output.detach().numpy()
    found = encoder.encode_passages([f"Nile{encoder.separator}The Nile flows north."], max_length=100)
    np.testing.assert_allclose(found, one_segment, atol=1e-4)
    assert np.abs(two_segments - one_segment).max() > 1e-2  # the difference that the docstring names


class TestReader:
    @pytest.fixture(scope="class")
    def source(self, dpr_reader):
        return DPRReader.from_pretrained(dpr_reader).eval(), DPRReaderTokenizer.from_pretrained(dpr_reader)

    @torch.inference_mode()
    def test_logits(self, dpr_reader, source):
        model, tokenizer = source
        own = tokenizer(["who found it"], titles=[""], texts=["Marie Curie found radium."], return_tensors="pt")
        expected = model(**own)
        encoder = encoder_of(dpr_reader)
        lengths = {"max_seq_length": 100, "stride": 10, "max_query_length": 20}
        pairs = encoder.tokenizer.pairs(["who found it"], ["Marie Curie found radium."], **lengths)
        assert pairs.tokens[0].input_ids.tolist() == own["input_ids"][0].tolist()
        assert not pairs.tokens[0].token_type_ids.any()
        (found,) = encoder.backend.run(pairs.tokens, "reading")
        np.testing.assert_allclose(found["relevance_logits"], expected.relevance_logits[0], atol=1e-4)
        for name in ("start_logits", "end_logits"):
            own_scores = torch.log_softmax(expected[name][0], dim=-1).numpy()
            np.testing.assert_allclose(found[name][1:], own_scores[1:], atol=1e-4)
            assert found[name][0] == 0

    @torch.inference_mode()
    def test_best_answers_are_those_of_transformers(self, dpr_reader, source, tiny_tokenizer):
        """Passages by relevance, spans by their scores; texts of whole words, as ours never part a word."""
        model, tokenizer = source
        words = sorted(word for word in tiny_tokenizer.get_vocab() if word.isalpha() and word.isascii() and word[2:])
        words = [word for word in words if tiny_tokenizer.tokenize(word) == [word]]
        rng = random.Random(5)
        reader = ROMExtractiveReader(
            model=str(dpr_reader),
            device=CPU,
            top_k=1,
            no_answer=False,
            passage_score_weight=1.0,
            max_answer_length=10,
            max_seq_length=128,
            stride=16,
            max_query_length=32,
        )
        compared = 0
        for _ in range(30):
            question = " ".join(rng.choices(words, k=5))
            texts = [" ".join(rng.choices(words, k=rng.randint(5, 20))) for _ in range(4)]
            own = tokenizer([question] * 4, titles=[""] * 4, texts=texts, padding=True, return_tensors="pt")
            best = tokenizer.decode_best_spans(own, model(**own), max_answer_length=10, num_spans=1)[0]
            if tokenizer.sep_token in best.text:  # transformers lets answers begin before the passage
                continue
            compared += 1
            (answer,) = reader.run(question, [Document(content=text) for text in texts])["answers"]
            assert (answer.document.content, answer.data) == (texts[best.doc_id], best.text)
        reader.close()
        assert compared >= 10

    def test_span_scores_are_log_probabilities(self, dpr_reader):
        options = ReadingOptions(max_seq_length=100, stride=10, passage_score_weight=0.0)
        answers = encoder_of(dpr_reader).read(["who"], ["Marie Curie found radium."], options)[0]
        assert answers
        assert all(answer.logit < 0 for answer in answers)

    def test_the_no_answer_is_warned_of_once(self, dpr_reader, caplog):
        readers = [
            ROMExtractiveReader(model=dpr_reader, device=CPU, backend=backend, no_answer=wanted)
            for backend, wanted in (("torch", True), ("onnx", True), ("torch", False))
        ]
        warned = []
        for reader in readers:
            caplog.clear()
            reader.warm_up()
            reader.warm_up()
            warned.append(sum("Set no_answer=False" in message for message in caplog.messages))
            reader.close()
        assert warned == [1, 1, 0]

    def test_it_orders_documents(self, dpr_reader):
        assert encoder_of(dpr_reader).facts.has_relevance

    def test_as_graphs(self, dpr_reader):
        options = ReadingOptions(max_seq_length=100, stride=10)
        pair = ["Where does it flow?"], ["The Nile flows north. Its delta lies in Egypt."]
        expected = encoder_of(dpr_reader).read(*pair, options)[0]
        for backend in ("onnx", "openvino"):
            spec = EncoderSpec.create(dpr_reader, backend=backend, model_kwargs={"dtype": "float32"})
            found = spec.load().read(*pair, options)[0]
            assert [answer.text for answer in found] == [answer.text for answer in expected]
            np.testing.assert_allclose([a.logit for a in found], [a.logit for a in expected], atol=1e-3)


class TestHalves:
    def test_a_reader_does_not_embed(self, dpr_reader):
        with pytest.raises(MissingHeadError, match="only reads: it has no head 'retrieval'"):
            encoder_of(dpr_reader).encode_queries(["x"])

    def test_an_encoder_does_not_read(self, dpr_passage):
        with pytest.raises(MissingHeadError, match=r"^This model has no head 'reading', only: retrieval.$"):
            encoder_of(dpr_passage).read(["x"], ["y"], ReadingOptions(max_seq_length=100, stride=10))

    def test_auto_is_torch(self, dpr_passage, dpr_reader, monkeypatch):
        monkeypatch.setenv("ROM_BACKEND", "")
        for folder in (dpr_passage, dpr_reader):
            spec = EncoderSpec.create(folder).resolved()
            assert (spec.backend, spec.dtype) == ("torch", "float32")


@pytest.mark.parametrize("with_vocabulary", [True, False])
@pytest.mark.parametrize("lower_case", [True, False])
def test_a_tokenizer_file_is_taken_as_it_is(dpr_question, tmp_path, tiny_tokenizer, lower_case, with_vocabulary):
    folder = Path(shutil.copytree(dpr_question, tmp_path / "copy"))
    if not with_vocabulary:
        (folder / "vocab.txt").unlink()
    backend = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    backend.save(str(folder / "tokenizer.json"))
    encoder = encoder_of(folder)
    found = encoder.encode_queries(["THE NILE", "the nile"])
    assert np.allclose(*found) is lower_case
    expected = encoder_of(dpr_question).encode_queries(["the nile"])
    np.testing.assert_allclose(found[1:], expected, atol=1e-5)


class TestMistakes:
    @pytest.fixture
    def folder(self, dpr_question, tmp_path) -> Path:
        return Path(shutil.copytree(dpr_question, tmp_path / "copy"))

    def test_no_tokenizer(self, folder, vocabulary):
        (folder / "vocab.txt").unlink()
        with pytest.raises(CheckpointError, match=r"holds no tokenizer \(tokenizer.json or vocab.txt\).*--tokenizer"):
            convert(folder)
        assert encoder_of(folder, tokenizer=vocabulary).encode_queries(["x"]).any()

    def test_another_architecture(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["DPRSomething"]}))
        with pytest.raises(CheckpointError, match="architecture 'DPRSomething'; known are DPRQuestionEncoder"):
            convert(folder)

    def test_weights_of_another_model(self, folder, dpr_passage):
        shutil.copy(dpr_passage / "model.safetensors", folder)
        with pytest.raises(CheckpointError, match=r"do not fit its config.json.*missing"):
            convert(folder)

    def test_damaged_weights(self, folder):
        (folder / "model.safetensors").write_bytes(b"nonsense")
        with pytest.raises(CheckpointError, match=f"The model in {folder} can't be loaded"):
            convert(folder)

    def test_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match="holds no weights"):
            convert(folder)

    def test_parts_are_for_files(self, folder):
        with pytest.raises(CheckpointError, match=r"a folder with one model.*'question'"):
            convert(folder, part="question")


class TestPickledWeights:
    @pytest.fixture
    def folder(self, dpr_question, tmp_path) -> Path:
        """As on the hub of old: with pytorch_model.bin only."""
        folder = Path(shutil.copytree(dpr_question, tmp_path / "old"))
        model = DPRQuestionEncoder.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        return folder

    def test_are_read(self, folder, dpr_question):
        expected = encoder_of(dpr_question).encode_queries(QUERIES)
        np.testing.assert_array_equal(encoder_of(folder).encode_queries(QUERIES), expected)

    def test_nothing_is_run(self, folder, tmp_path):
        state = torch.load(folder / "pytorch_model.bin", weights_only=True)
        torch.save({**state, "bomb": Bomb(tmp_path / "bang")}, folder / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match="can't be loaded"):
            find_checkpoint(folder)
        assert not (tmp_path / "bang").exists()


def test_the_checkpoint_is_an_ordinary_one(dpr_passage):
    folder = find_checkpoint(dpr_passage)
    model, tokenizer = load_checkpoint(folder)
    assert model.config.heads == {"retrieval": {"pooling": "cls", "similarity": "dot"}}
    assert type(tokenizer).__name__ == "TokenizersBackend"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".md", ".safetensors"}
    card = (folder / "README.md").read_text()
    assert f"made from `{dpr_passage}`" in card
    assert "DPR passage encoder" in card
    assert "inner product" in card
