"""docs/migration.md, run step by step as it stands there, on tiny models where it names a user's own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from haystack import Pipeline
from haystack.document_stores.in_memory import InMemoryDocumentStore
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertForQuestionAnswering, DPRContextEncoder, DPRQuestionEncoder
from typer.testing import CliRunner

from rom_haystack.cli import app as rom
from rom_haystack.compat import arguments
from training.__main__ import app as training

pytestmark = pytest.mark.usefixtures("socket_disabled")

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "migration.md"
STOCK_PIPELINE = ROOT / "tests" / "swap" / "extractive_qa.yaml"
SQUAD = {
    "data": [
        {
            "title": "Radium",
            "paragraphs": [
                {
                    "context": "Radium was discovered by Marie and Pierre Curie in 1898.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "When was radium discovered?",
                            "answers": [{"text": "1898", "answer_start": 51}],
                        }
                    ],
                }
            ],
        }
    ]
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Where the steps are taken."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what the commands set is gone afterwards
    return tmp_path


@pytest.fixture
def steps(capsys) -> Callable[[str], list[str]]:
    """Run a chapter's steps, code and commands, in order; return what each printed."""

    def run(chapter: str) -> list[str]:
        text = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (found,) = (part for part in text if part.startswith(f"{chapter}\n"))
        names: dict[str, object] = {}
        printed = []
        for language, step in re.findall(r"^```(\w*)\n(.*?)^```", found, re.DOTALL | re.MULTILINE):
            if language == "python":
                exec(compile(step, GUIDE.name, "exec"), names)
            else:
                for line in step.splitlines():
                    command(line)
            printed.append(capsys.readouterr().out)
        return printed

    return run


def command(line: str) -> None:
    known = {"rom": rom, "python -m training": training}
    (name,) = (name for name in known if line.startswith(f"{name} "))
    result = CliRunner().invoke(known[name], shlex.split(line.removeprefix(name)))
    assert result.exit_code == 0, result.output


@pytest.mark.integration
def test_from_haystack_1(steps, folder, monkeypatch, caplog):
    monkeypatch.setattr(arguments, "_warned", set())
    (folder / "data").mkdir()
    (folder / "data" / "dev.json").write_text(json.dumps(SQUAD))
    printed = steps("From Haystack 1.x and DPR")
    assert "Query: Who discovered radium?" in printed[0]
    assert re.search(r"^Marie and Pierre Curie 0\.\d+ Radium 25$", printed[0], re.MULTILINE)
    assert "100.0 100.0 100.0\n" in printed
    assert printed[-1] == "Marie and Pierre Curie\n"
    assert [text for text in caplog.messages if "no effect" in text] == []
    assert sorted(path.name for path in folder.iterdir()) == ["data", "dpr.json", "my_documents", "my_retriever"]


def test_from_dprs_checkpoints(steps, folder, dpr_question, dpr_passage, dpr_reader, vocabulary):
    for name, source in (("question", dpr_question), ("passage", dpr_passage), ("reader", dpr_reader)):
        shutil.copytree(source, folder / f"dpr-{name}")
    question = DPRQuestionEncoder.from_pretrained(dpr_question).question_encoder.bert_model.state_dict()
    passage = DPRContextEncoder.from_pretrained(dpr_passage).ctx_encoder.bert_model.state_dict()
    weights = {f"question_model.{name}": tensor for name, tensor in question.items()}
    weights |= {f"ctx_model.{name}": tensor for name, tensor in passage.items()}
    torch.save({"model_dict": weights}, folder / "biencoder.cp")
    shutil.copy(vocabulary / "vocab.txt", folder)
    first, *_ = steps("From DPR's checkpoints")
    fits, answer = first.splitlines()
    assert fits == "True"
    assert answer in "The Nile flows north. Its delta lies in Egypt. Radium was discovered in 1898."
    for name in ("my-question-encoder", "my-passage-encoder", "start"):
        assert (folder / name / "model.safetensors").is_file()


@pytest.mark.integration
def test_from_haystacks_own_parts(steps, folder):
    stock = STOCK_PIPELINE.read_text(encoding="utf-8").replace("STORE", str(folder))
    (folder / "pipeline.yaml").write_text(Pipeline.loads(stock).dumps(), encoding="utf-8")
    try:
        _, answer, same = steps("From Haystack 3's own parts")
    finally:
        InMemoryDocumentStore(index=str(folder)).delete_all_documents()
    assert answer == same == "Marie and Pierre Curie\n"
    assert "haystack_integrations" not in (folder / "pipeline.yaml").read_text(encoding="utf-8")


def test_from_sentence_transformers(steps, folder, squad_reader):
    shutil.copytree(squad_reader, folder / "my-reader")
    encoder = shutil.copytree(squad_reader, folder / "encoder")
    BertForQuestionAnswering.from_pretrained(squad_reader).bert.save_pretrained(encoder)
    modules = [Transformer(str(encoder), max_seq_length=128), Pooling(128, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "my-sentence-transformer"))
    *_, cosine = steps("From sentence-transformers")
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)
