"""Files of the original DPR: what is in them is read, and nothing in them is run."""

from __future__ import annotations

import os
import shutil
import sys
import types
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DPRContextEncoder, DPRQuestionEncoder, DPRReader

from rom_haystack.inference import EncoderSpec, ReadingOptions, ROMEncoder
from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.modeling import CheckpointError
from rom_haystack.modeling.conversion.convert import convert
from rom_haystack.modeling.conversion.weights import load_pickled

from .conftest import PASSAGES, QUERIES, SIZES, Bomb

PARAMETERS = {
    "do_lower_case": True,
    "pretrained_model_cfg": "bert-base-uncased",
    "encoder_model_type": "hf_bert",
    "projection_dim": 0,
    "sequence_length": 256,
}


def encoder_of(source, **options) -> ROMEncoder:
    converted = convert(source, **options)
    return ROMEncoder.from_model(converted.model, converted.tokenizer)


def bert_weights(bert) -> dict[str, torch.Tensor]:
    """The weights as DPR's training saves them: with BERT's pooler and table of positions."""
    pooler = {"pooler.dense.weight": torch.ones(128, 128), "pooler.dense.bias": torch.ones(128)}
    return {**bert.state_dict(), **pooler, "embeddings.position_ids": torch.arange(128).unsqueeze(0)}


def saved(weights, **changes) -> dict:
    """All that a file holds."""
    return {
        "model_dict": weights,
        "optimizer_dict": {"state": {0: {"step": 7, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 2e-5}]},
        "scheduler_dict": {"last_epoch": 7, "_last_lr": [2e-5]},
        "offset": 0,
        "epoch": 40,
        "encoder_params": PARAMETERS,
        **changes,
    }


@pytest.fixture(scope="module")
def pair_weights(dpr_question, dpr_passage) -> dict[str, torch.Tensor]:
    question = DPRQuestionEncoder.from_pretrained(dpr_question).question_encoder.bert_model
    passage = DPRContextEncoder.from_pretrained(dpr_passage).ctx_encoder.bert_model
    parts = {"question_model": bert_weights(question), "ctx_model": bert_weights(passage)}
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


@pytest.fixture
def folder(vocabulary, tmp_path) -> Path:
    """Where files lie, beside their tokenizer."""
    return Path(shutil.copytree(vocabulary, tmp_path / "files"))


@pytest.fixture
def pair(pair_weights, folder) -> Path:
    """A file with two encoders."""
    torch.save(saved(pair_weights), folder / "biencoder.cp")
    return folder / "biencoder.cp"


@pytest.fixture
def reader(dpr_reader, folder) -> Path:
    predictor = DPRReader.from_pretrained(dpr_reader).span_predictor
    weights = {f"encoder.{name}": tensor for name, tensor in bert_weights(predictor.encoder.bert_model).items()}
    for part in ("qa_outputs", "qa_classifier"):
        weights |= {f"{part}.{name}": tensor for name, tensor in getattr(predictor, part).state_dict().items()}
    torch.save(saved(weights), folder / "reader.cp")
    return folder / "reader.cp"


def check_pair(path, dpr_question, dpr_passage):
    """Both encoders give what the folders that they came from give."""
    for part, source in (("question", dpr_question), ("passage", dpr_passage)):
        found, expected = encoder_of(path, part=part), encoder_of(source)
        np.testing.assert_array_equal(found.encode_queries(QUERIES), expected.encode_queries(QUERIES))
        assert found.facts == expected.facts


def test_two_encoders_in_one_file(pair, dpr_question, dpr_passage):
    check_pair(pair, dpr_question, dpr_passage)


def test_the_part_is_named_after_the_file(pair, dpr_passage, monkeypatch):
    expected = encoder_of(dpr_passage).encode_passages(PASSAGES, max_length=100)
    found = EncoderSpec.create(f"{pair}:passage").load().encode_passages(PASSAGES, max_length=100)
    np.testing.assert_array_equal(found, expected)
    monkeypatch.chdir(pair.parent)
    assert EncoderSpec.create("biencoder.cp:passage") == EncoderSpec.create(f"{pair}:passage")
    assert EncoderSpec.create("biencoder.cp:passage") != EncoderSpec.create("biencoder.cp:question")


def test_which_encoder_must_be_said(pair):
    with pytest.raises(CheckpointError, match=r"two encoders. Name one: '.*biencoder.cp:question' for questions"):
        find_checkpoint(pair)


def test_equal_encoders_need_no_name(pair_weights, folder):
    question = {name: tensor for name, tensor in pair_weights.items() if name.startswith("question_model.")}
    shared = {name.replace("question_model.", "ctx_model."): tensor for name, tensor in question.items()}
    torch.save(saved({**question, **shared}), folder / "shared.cp")
    assert encoder_of(folder / "shared.cp").encode_queries(["x"]).any()


def test_a_projection(pair_weights, folder):
    projection = {"encode_proj.weight": torch.randn(8, 128), "encode_proj.bias": torch.randn(8)}
    question = {f"question_model.{name}": tensor for name, tensor in projection.items()}
    torch.save(saved({**pair_weights, **question}), folder / "projected.cp")
    converted = convert(folder / "projected.cp", part="question")
    head = converted.model.retrieval_head
    assert torch.equal(head.projection.weight, projection["encode_proj.weight"])
    assert (head.dim, head.pooling, head.similarity) == (8, "cls", "dot")


def test_a_reader(reader, dpr_reader):
    options = ReadingOptions(max_seq_length=100, stride=10)
    asked = ["Where does it flow?"], ["The Nile flows north. Its delta lies in Egypt."]
    assert encoder_of(reader).read(*asked, options) == encoder_of(dpr_reader).read(*asked, options)
    with pytest.raises(CheckpointError, match="a reader, which has no part 'question'"):
        convert(reader, part="question")


def test_sizes_are_read_off_the_weights(pair):
    config = convert(pair, part="question").model.config.encoder
    assert {name: getattr(config, name) for name in SIZES if name != "initializer_range"} == {
        name: size for name, size in SIZES.items() if name != "initializer_range"
    }
    assert (config.model_type, config.type_vocab_size) == ("bert", 2)


class TestTokenizers:
    def test_none(self, pair, vocabulary):
        (pair.parent / "vocab.txt").unlink()
        with pytest.raises(CheckpointError, match=r"\(that of bert-base-uncased\).*beside the file.*--tokenizer"):
            convert(pair, part="question")
        assert encoder_of(pair, part="question", tokenizer=vocabulary).encode_queries(["x"]).any()

    @pytest.mark.parametrize("lower_case", [True, False])
    def test_case_is_as_in_training(self, pair_weights, folder, lower_case):
        path = folder / "cased.cp"
        torch.save(saved(pair_weights, encoder_params={**PARAMETERS, "do_lower_case": lower_case}), path)
        tokenizer = convert(path, part="question").tokenizer
        assert (tokenizer.tokenize("THE NILE") == tokenizer.tokenize("the nile")) is lower_case


class TestOtherForms:
    """Files that other versions wrote."""

    def test_before_zip_archives(self, pair_weights, folder, dpr_question, dpr_passage):
        path = folder / "old.cp"
        torch.save(saved(pair_weights), path, _use_new_zipfile_serialization=False)
        check_pair(path, dpr_question, dpr_passage)

    def test_weights_alone(self, pair_weights, folder, dpr_question, dpr_passage):
        torch.save(pair_weights, folder / "weights.cp")
        check_pair(folder / "weights.cp", dpr_question, dpr_passage)

    @pytest.fixture
    def foreign(self, monkeypatch):
        """Make a class of a module that isn't installed; its pickles name it."""

        def foreign(name: str, base: type) -> type:
            module, _, own = name.rpartition(".")
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
            made = type(own, (base,), {"__module__": module, "__qualname__": own})
            setattr(sys.modules[module], own, made)
            return made

        return foreign

    def test_a_named_tuple(self, pair_weights, folder, foreign, dpr_question, dpr_passage):
        content = saved(pair_weights)
        state = foreign("dpr.utils.model_utils.CheckpointState", namedtuple("CheckpointState", content))
        torch.save(state(**content), folder / "tuple.cp")
        check_pair(folder / "tuple.cp", dpr_question, dpr_passage)

    def test_hydra_settings(self, pair_weights, folder, foreign, dpr_question, dpr_passage):
        settings = foreign("omegaconf.dictconfig.DictConfig", object)()
        settings.__dict__.update(_content={"projection_dim": 0}, _flags=dict)
        torch.save(
            saved(pair_weights, encoder_params={"do_lower_case": True, "encoder": settings}), folder / "hydra.cp"
        )
        check_pair(folder / "hydra.cp", dpr_question, dpr_passage)
        assert type(load_pickled(folder / "hydra.cp")["encoder_params"]["encoder"]).__name__ == "Inert"

    def test_stand_ins_are_gone_afterwards(self, pair):
        before = set(torch.serialization.get_safe_globals())
        load_pickled(pair)
        assert set(torch.serialization.get_safe_globals()) == before


class TestNothingIsRun:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("place", ["model_dict", "encoder_params", "whole"])
    def test_a_bomb(self, pair_weights, folder, tmp_path, zipped, place):
        bomb = Bomb(tmp_path / "bang")
        content = bomb if place == "whole" else saved(pair_weights, **{place: bomb})
        torch.save(content, folder / "bomb.cp", _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match=r"nothing pickled is ever run. If you trust the file"):
            find_checkpoint(f"{folder / 'bomb.cp'}:question")
        assert not (tmp_path / "bang").exists()
        torch.load(folder / "bomb.cp", weights_only=False)
        assert (tmp_path / "bang").exists()  # it was one

    def test_a_call_hidden_in_what_is_known(self, pair_weights, folder, tmp_path):
        class Sneaky:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'bang'}",)

        torch.save(saved(pair_weights, encoder_params={"encoder": Sneaky()}), folder / "sneaky.cp")
        with pytest.raises(CheckpointError, match=r"Unsupported|blocked|nothing pickled"):
            convert(folder / "sneaky.cp", part="question")
        assert not (tmp_path / "bang").exists()


class TestMistakes:
    @pytest.mark.parametrize("content", [b"PK\x03\x04 cut", b"\x80\x02 cut", b"\x80"], ids=["zip", "pickle", "short"])
    def test_damaged(self, folder, content):
        (folder / "damaged.cp").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged.cp .*damaged"):
            convert(folder / "damaged.cp")

    def test_another_file(self, folder):
        (folder / "notes.cp").write_text("notes")
        with pytest.raises(CheckpointError, match="no model that can be converted"):
            convert(folder / "notes.cp")
        with pytest.raises(CheckpointError, match=r"'.*notes.cp' is a file; a ROM checkpoint is a folder"):
            find_checkpoint(folder / "notes.cp")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([1, 2], "no file of DPR's training: it holds a list"),
            ({"model_dict": {"a": 1}}, "holds no weights by name"),
            ({"model_dict": {}}, "holds no weights by name"),
            ({"layer.weight": torch.ones(1)}, r"neither DPR's encoders .* but layer.weight, …"),
            ({"qa_outputs.weight": torch.ones(2, 128)}, r"no encoder of BERT's kind"),
        ],
    )
    def test_something_else(self, folder, content, message):
        torch.save(content, folder / "other.cp")
        with pytest.raises(CheckpointError, match=message):
            convert(folder / "other.cp")

    def test_another_kind_of_encoder(self, pair_weights, folder):
        parameters = {**PARAMETERS, "encoder_model_type": "fairseq_roberta"}
        torch.save(saved(pair_weights, encoder_params=parameters), folder / "roberta.cp")
        with pytest.raises(CheckpointError, match="type 'fairseq_roberta'; only 'hf_bert'"):
            convert(folder / "roberta.cp", part="question")

    def test_a_width_that_tells_nothing(self, folder):
        weights = {
            "embeddings.word_embeddings.weight": torch.ones(10, 60),
            "embeddings.position_embeddings.weight": torch.ones(10, 60),
            "embeddings.token_type_embeddings.weight": torch.ones(2, 60),
            "encoder.layer.0.intermediate.dense.bias": torch.ones(10),
        }
        torch.save(
            {f"{part}.{n}": t for part in ("question_model", "ctx_model") for n, t in weights.items()}, folder / "x.cp"
        )
        with pytest.raises(CheckpointError, match="60 wide, which is no multiple of 64"):
            convert(folder / "x.cp")

    def test_weights_are_missing(self, pair_weights, folder):
        torch.save({k: v for k, v in pair_weights.items() if "layer.1.output" not in k}, folder / "part.cp")
        with pytest.raises(CheckpointError, match="do not fit its configuration"):
            convert(folder / "part.cp", part="question")
