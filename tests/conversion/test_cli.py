"""`rom convert`."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import DPRContextEncoder, DPRQuestionEncoder
from typer.testing import CliRunner

from rom_haystack.cli import MISTAKE, app
from rom_haystack.inference import EncoderSpec
from rom_haystack.modeling import load_checkpoint

from .conftest import PASSAGES, QUERIES


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what the command sets is gone afterwards


def rom(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def convert(*arguments):
    return rom("convert", *arguments)


@pytest.fixture
def pair(dpr_question, dpr_passage, vocabulary, tmp_path):
    """A file of the original DPR without tokenizer."""
    question = DPRQuestionEncoder.from_pretrained(dpr_question).question_encoder.bert_model.state_dict()
    passage = DPRContextEncoder.from_pretrained(dpr_passage).ctx_encoder.bert_model.state_dict()
    weights = {f"question_model.{name}": tensor for name, tensor in question.items()}
    weights |= {f"ctx_model.{name}": tensor for name, tensor in passage.items()}
    torch.save({"model_dict": weights, "encoder_params": {"do_lower_case": True}}, tmp_path / "biencoder.cp")
    return tmp_path / "biencoder.cp"


def test_a_folder_becomes_a_checkpoint(dpr_passage, tmp_path):
    result = convert(dpr_passage, "--output", tmp_path / "new" / "rom", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["sources"] == [str(dpr_passage)]
    assert (report["kind"], report["to"], report["output"]) == (
        "DPR passage encoder",
        "rom",
        str(tmp_path / "new" / "rom"),
    )
    assert report["heads"] == {"retrieval": {"pooling": "cls", "similarity": "dot"}}
    model, _ = load_checkpoint(tmp_path / "new" / "rom")
    assert report["parameters"] == model.parameter_counts()["total"]
    assert any("inner product" in note for note in report["notes"])
    specs = [EncoderSpec.create(folder) for folder in (dpr_passage, tmp_path / "new" / "rom")]
    found, expected = (spec.load().encode_passages(PASSAGES, max_length=100) for spec in specs)
    np.testing.assert_array_equal(found, expected)


def test_for_people(dpr_reader, tmp_path):
    result = convert(dpr_reader, "--output", tmp_path / "rom")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"From           {dpr_reader} (DPR reader)"
    assert lines[1] == f"To             {tmp_path / 'rom'} (ROM checkpoint)"
    assert lines[2] == "Heads          reading, null none"
    assert lines[-1].startswith("Note           ")


def test_a_part_of_a_file(pair, vocabulary, dpr_question, tmp_path):
    for number, arguments in enumerate(([pair, "--part", "question"], [f"{pair}:question"])):
        result = convert(*arguments, "--tokenizer", vocabulary, "--output", tmp_path / f"rom{number}")
        assert result.exit_code == 0, result.output
        found = EncoderSpec.create(tmp_path / f"rom{number}").load().encode_queries(QUERIES)
        np.testing.assert_array_equal(found, EncoderSpec.create(dpr_question).load().encode_queries(QUERIES))


def test_a_retriever_and_a_reader_on_one_encoder(squad_reader, tmp_path):
    """The retriever of the reader's encoder, by way of sentence-transformers."""
    assert convert(squad_reader, "--output", tmp_path / "reader").exit_code == 0
    retriever = tmp_path / "retriever"
    model, _ = load_checkpoint(tmp_path / "reader")
    shutil.copytree(squad_reader, retriever)
    model.encoder.save_pretrained(retriever)
    (retriever / "1_Pooling").mkdir()
    (retriever / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (retriever / "modules.json").write_text(json.dumps(modules))
    result = convert(retriever, "--reader", squad_reader, "--output", tmp_path / "both", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["heads"] == {
        "retrieval": {"pooling": "mean", "similarity": "unscaled_cosine"},
        "reading": {},
    }
    assert rom("info", tmp_path / "both", "--json").exit_code == 0


def test_to_sentence_transformers_and_back(tiny_checkpoint, tiny_encoder, tmp_path):
    result = convert(tiny_checkpoint, "--to", "sentence-transformers", "--output", tmp_path / "st")
    assert result.exit_code == 0, result.output
    assert "(sentence-transformers)" in result.stdout
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    for texts, embed in ((QUERIES, tiny_encoder.encode_queries), (PASSAGES, tiny_encoder.encode_passages)):
        limit = {"max_length": 256}
        assert (theirs.encode(texts) * embed(texts, **limit)).sum(1).min() >= 0.99999
    assert convert(tmp_path / "st", "--output", tmp_path / "rom", "--json").exit_code == 0
    again = EncoderSpec.create(tmp_path / "rom").load()
    np.testing.assert_array_equal(again.encode_queries(QUERIES), tiny_encoder.encode_queries(QUERIES))


def test_models_of_other_kinds_are_described(dpr_question):
    result = rom("info", dpr_question, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["model"] == str(dpr_question)
    assert report["heads"] == {"retrieval": {"pooling": "cls", "similarity": "dot"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tiny}", "--output", "{tmp}/rom"], "no model that can be converted"),
        (["{tmp}/nothing", "--output", "{tmp}/rom"], "No checkpoint"),
        (["{passage}", "--output", "{passage}"], "holds something already"),
        (["{passage}", "--reader", "{reader}", "--output", "{tmp}/rom"], "different encoders"),
        (["{pair}", "--output", "{tmp}/rom"], "holds two encoders"),
        (["{pair}:passage", "--part", "question", "--output", "{tmp}/rom"], "--part is question, but"),
        (["{pair}:passage", "--output", "{tmp}/rom"], "--tokenizer FOLDER"),
        (["{reader}", "--to", "sentence-transformers", "--output", "{tmp}/st"], "no head 'retrieval'"),
        (["{tiny}", "--to", "sentence-transformers", "--reader", "x", "--output", "{tmp}/st"], "--reader, --part and"),
    ],
)
def test_mistakes(arguments, message, tiny_checkpoint, dpr_passage, squad_reader, pair, tmp_path):
    places = {"tiny": tiny_checkpoint, "tmp": tmp_path, "passage": dpr_passage, "reader": squad_reader, "pair": pair}
    arguments = [argument.format(**places) for argument in arguments]
    for as_json in (False, True):
        result = convert(*arguments, *(["--json"] if as_json else []))
        assert result.exit_code == MISTAKE, result.output
        assert message in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.stderr
        if as_json:
            assert message in json.loads(result.stdout)["error"]
    assert not (tmp_path / "rom").exists()
    assert not (tmp_path / "st").exists()
