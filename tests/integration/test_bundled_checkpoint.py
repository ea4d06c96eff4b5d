"""The bundled checkpoint at its work: the sample corpus, asked 52 questions, with sockets blocked."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from haystack.document_stores.in_memory import InMemoryDocumentStore
from safetensors import safe_open

from rom_haystack import ROMExtractiveQA, ROMIndexer
from rom_haystack.inference import EncoderSpec, ROMEncoder
from rom_haystack.inference.fidelity import MIN_SPAN_AGREEMENT, compare
from rom_haystack.inference.loading import default_dtype
from rom_haystack.inference.machine import computes_in_bfloat16
from rom_haystack.inference.samples import SAMPLE_CORPUS, SAMPLE_QUESTIONS, read_sample
from rom_haystack.metrics import f1
from rom_haystack.modeling import DEFAULT_CHECKPOINT, resolve_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("socket_disabled")]

with SAMPLE_QUESTIONS.open(encoding="utf-8") as lines:
    QUESTIONS = list(csv.DictReader(lines, delimiter="\t"))


@pytest.fixture(scope="module")
def encoder() -> ROMEncoder:
    return EncoderSpec(DEFAULT_CHECKPOINT).load()


@pytest.fixture(scope="module")
def qa() -> ROMExtractiveQA:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    ROMIndexer(store).run(sources=sorted(SAMPLE_CORPUS.glob("*.md")))
    return ROMExtractiveQA(store)


def test_sample_corpus_is_what_the_readme_says() -> None:
    files = sorted(SAMPLE_CORPUS.glob("*.md"))
    sections = [section for path in files for section in path.read_text(encoding="utf-8").split("\n## ")[1:]]
    assert (len(files), len(sections)) == (52, 260)
    for row in QUESTIONS:
        assert row["answer"] in (SAMPLE_CORPUS / row["file"]).read_text(encoding="utf-8")


def test_answers_to_the_sample_questions(qa: ROMExtractiveQA) -> None:
    right = retrieved = 0
    for row in QUESTIONS:
        result = qa.run(query=row["question"])
        quotes = [answer for answer in result["answers"] if answer.data is not None]
        for quote in quotes:
            span = quote.document_offset
            assert quote.document.content[span.start : span.end] == quote.data
        retrieved += any(row["answer"] in document.content for document in result["documents"])
        right += f1(quotes[0].data, [row["answer"]]) >= 0.5
    assert retrieved >= 0.98 * len(QUESTIONS)
    assert right >= 0.85 * len(QUESTIONS)


def test_passage_with_the_answer_scores_above_others(encoder: ROMEncoder) -> None:
    answering = "Michael Collins remained in lunar orbit aboard the command module Columbia during Apollo 11."
    related = "The Moon has a diameter of 3,474 kilometres, roughly one quarter that of the Earth."
    unrelated = "Honey bees communicate the direction of flowers by a waggle dance."
    best = [answers[0] for answers in encoder.read(["Who stayed in lunar orbit?"] * 3, [answering, related, unrelated])]
    assert best[0].text == "Michael Collins"
    assert best[0].score > max(best[1].score, best[2].score)
    assert best[2].score < 0.5  # the null position wins


def test_checkpoint_is_a_release() -> None:
    folder = resolve_checkpoint(DEFAULT_CHECKPOINT)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt", ".md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 50e6
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
    card = (folder / "README.md").read_text(encoding="utf-8")
    for needed in ("python -m training train", "python -m training evaluate", "CC BY-SA", "recall@5", "seed"):
        assert needed in card


class Chosen(NamedTuple):
    """What auto was found to mean on this machine."""

    spec: EncoderSpec
    measured: dict[str, Any]
    home: Path


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chosen]:
    """Let auto choose in an empty cache: the one time that the bundled checkpoint is exported by tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROM_HOME", str(home))
        environment.delenv("ROM_BACKEND")
        spec = EncoderSpec(DEFAULT_CHECKPOINT).resolved()
        (record,) = home.glob("exports/*/selection.json")
        (entry,) = json.loads(record.read_text(encoding="utf-8"))["choices"].values()
        yield Chosen(spec, entry["measured"], home)


@pytest.mark.skipif(not computes_in_bfloat16(), reason="the CPU has no bfloat16")
def test_in_bfloat16_torch_is_faithful(encoder: ROMEncoder) -> None:
    spec = EncoderSpec(DEFAULT_CHECKPOINT, backend="torch", dtype="bfloat16")
    found = compare(encoder, {spec: spec.load()}, read_sample())[spec]
    assert found.faithful
    assert found.cosine_mean > 0.9999


def test_auto_chooses_a_faithful_engine(chosen: Chosen) -> None:
    assert set(chosen.measured) == {f"openvino-{default_dtype('openvino')}", "onnx-float32"}
    for found in chosen.measured.values():
        assert found["cosine_mean"] > 0.9999
        assert found["top_overlap"] > 0.97
        assert found["span_agreement"] > 0.95
        assert abs(found["f1"] - found["reference_f1"]) < 0.03  # less than one of the questions
    speed = {
        name: found["tokens_per_second"] / found["reference_tokens_per_second"]
        for name, found in chosen.measured.items()
        if found["span_agreement"] >= MIN_SPAN_AGREEMENT
    }
    best = max([*speed, "torch-float32"], key=lambda name: speed.get(name, 1.0))
    assert f"{chosen.spec.backend}-{chosen.spec.dtype}" == best


def test_graphs_answer_as_torch_does(chosen: Chosen, encoder: ROMEncoder) -> None:
    onnx = EncoderSpec(DEFAULT_CHECKPOINT, backend="onnx", dtype="float32").load()
    sample = read_sample()
    queries, passages = zip(*sample.pairs()[:8], strict=True)
    found, expected = ([answers[0] for answers in each.read(list(queries), list(passages))] for each in (onnx, encoder))
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert [answer.score for answer in found] == pytest.approx([answer.score for answer in expected], abs=1e-4)


def test_with_openvino_components_import_no_transformers(chosen: Chosen) -> None:
    script = """
import sys
from haystack import Document
from rom_haystack import ROMDocumentEmbedder, ROMExtractiveReader, ROMTextEmbedder
documents = [Document(content="Michael Collins remained in lunar orbit during Apollo 11.")]
documents = ROMDocumentEmbedder(progress_bar=False).run(documents)["documents"]
answer = ROMExtractiveReader().run("Who stayed in lunar orbit?", documents)["answers"][0].data
print(answer, len(documents[0].embedding), len(ROMTextEmbedder().run("Who?")["embedding"]))
print({"transformers", "onnx", "onnxruntime"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ROM_HOME": str(chosen.home), "ROM_BACKEND": "openvino"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Michael Collins 384 384\nset()\n", "")


def test_the_second_question_finds_everything_prepared(chosen: Chosen) -> None:
    environment = {**os.environ, "ROM_HOME": str(chosen.home), "ROM_BACKEND": ""}
    script = "from rom_haystack.cli import main; main()"
    command = [sys.executable, "-c", script, "ask", "Who stayed in lunar orbit during Apollo 11?", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["answers"][0]["answer"] == "Michael Collins"
