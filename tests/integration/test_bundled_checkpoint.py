"""The bundled checkpoint at its work: the sample corpus, asked 52 questions, with sockets blocked."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from haystack.document_stores.in_memory import InMemoryDocumentStore
from safetensors import safe_open

from rom_haystack import ROMExtractiveQA, ROMIndexer
from rom_haystack.inference import EncoderSpec, ROMEncoder
from rom_haystack.metrics import f1
from rom_haystack.modeling import DEFAULT_CHECKPOINT, resolve_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("socket_disabled")]

CORPUS = Path(__file__).parents[2] / "rom_haystack" / "sample_corpus"
with (Path(__file__).parent / "sample_questions.tsv").open(encoding="utf-8") as lines:
    QUESTIONS = list(csv.DictReader(lines, delimiter="\t"))


@pytest.fixture(scope="module")
def encoder() -> ROMEncoder:
    return EncoderSpec(DEFAULT_CHECKPOINT).load()


@pytest.fixture(scope="module")
def qa() -> ROMExtractiveQA:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    ROMIndexer(store).run(sources=sorted(CORPUS.glob("*.md")))
    return ROMExtractiveQA(store)


def test_sample_corpus_is_what_the_readme_says() -> None:
    files = sorted(CORPUS.glob("*.md"))
    sections = [section for path in files for section in path.read_text(encoding="utf-8").split("\n## ")[1:]]
    assert (len(files), len(sections)) == (52, 260)
    for row in QUESTIONS:
        assert row["answer"] in (CORPUS / row["file"]).read_text(encoding="utf-8")


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
