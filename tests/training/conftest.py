"""A small data set, recipes over it, and what runs leave behind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from training.data.formats import read_data
from training.recipe import Recipe, checked
from training.tasks.base import PassageTask

VARYING = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
FILLER = "Boats carry grain, salt and timber from one quiet harbour to the next in every season of the year. "
PASSAGES = [
    ("p0", "Nile", "The Nile flows north. John Speke reached Lake Victoria in 1858, and in 1858 he named it."),
    ("p1", "Nile", "Lake Victoria feeds the White Nile; it was named after the queen (Victoria)."),
    ("p2", "Nile", "Papyrus grows along the banks, and crocodiles rest there."),
    ("p3", "Moon", "The Moon circles the Earth in 27.3 days. Galileo drew its mountains in 1609."),
    ("p4", "Moon", "Apollo 11 landed in 1969; Michael Collins stayed in orbit."),
    ("p5", "Moon", FILLER * 6 + "Far down the river stands the lighthouse of Pharos. " + FILLER * 2),
    ("p6", "", "Untitled notes say that cheese was sold for 12% less."),
]
QUESTIONS = [
    ("q0", "When did Speke reach the lake?", ["1858"], "p0"),
    ("q1", "Who reached Lake Victoria?", ["John Speke", "Speke"], "p0"),
    ("q2", "What feeds the White Nile?", ["Lake Victoria"], "p1"),
    ("q3", "Which plant grows along the banks?", ["Papyrus"], "p2"),
    ("q4", "What rests on the banks?", ["crocodiles"], "p2"),
    ("q5", "How long does the Moon take?", ["27.3 days", "27.3"], "p3"),
    ("q6", "Who drew the mountains?", ["Galileo"], "p3"),
    ("q7", "Who stayed in orbit?", ["Michael Collins"], "p4"),
    ("q8", "When was the landing?", ["1969"], "p4"),
    ("q9", "What stands far down the river?", ["the lighthouse of Pharos"], "p5"),
    ("q10", "How much less was paid?", ["12%"], "p6"),
    ("q11", "Who built the pyramids?", [], "p2"),
]
#: Paragraphs in two sentences or more, with a span that stands in two of them.
TEXTS = [
    "Marie Curie was born in Warsaw. In Paris, Marie Curie found radium.",
    "The Nile flows north through Egypt. Ships on the Nile carry grain and salt.",
    "Mount Everest stands in Nepal. Climbers reach Mount Everest in May, before the rains.",
    "Bees dance in the dark hive. A returning swarm of Bees tells where flowers grow.",
    "Galileo drew the Moon in 1609. He saw mountains, which nobody before Galileo had seen.",
    "Pharos had a lighthouse. Sailors saw the fire of Pharos from far away at night.",
    "The Danube rises in Germany. Ten countries share the Danube and its water.",
    "Apollo 11 left in July. Michael Collins flew Apollo 11 around the Moon alone.",
    "Venice stands on wooden piles. Boats take people through Venice and out to sea.",
    "Papyrus grew along the banks. Scribes wrote on Papyrus with pens of reed.",
    "Amsterdam has more bridges than Venice. Bicycles fill Amsterdam on every day of the year.",
]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """What a run has logged, but for times."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in VARYING} for line in lines]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """The weights of a run's model."""
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Root of the data: the data set is the folder `mini` in it, and `texts` holds the paragraphs of a text file."""
    folder = tmp_path / "data" / "mini"
    folder.mkdir(parents=True)
    passages = [{"id": i, "title": title, "text": text} for i, title, text in PASSAGES]
    questions = [
        {
            "id": i,
            "question": text,
            "answers": [{"text": a, "start": 0} for a in answers],
            "passage_id": passage,
            "unanswerable": not answers,
        }
        for i, text, answers, passage in QUESTIONS
    ]
    for name, rows in (("passages", passages), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder.parent / "texts").mkdir()
    (folder.parent / "texts" / "notes.txt").write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    return folder.parent


@pytest.fixture
def make_task(data_root: Path, tiny_tokenizer: Any) -> Callable[..., Any]:
    """Build a task over the small data set, or the texts: `make_task(kind, seed=…, **options)`."""
    mini, texts = read_data(data_root / "mini"), read_data(data_root / "texts")

    def make(kind: Any, seed: int = 1, **options: Any) -> Any:
        if issubclass(kind, PassageTask):
            return kind(kind.Options(**options), kind.items_of(texts), texts.passages, tiny_tokenizer, seed)
        questions = [question for question in mini.questions if question.answers]
        return kind(kind.Options(**options), questions, mini.passages, tiny_tokenizer, seed)

    return make


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """Build a recipe for a tiny run: `make_recipe(encoder_folder, **changes)`."""

    def make(encoder: Path, **changes: Any) -> Recipe:
        values = {
            "name": "tiny",
            "encoder": str(encoder),
            "data": "mini",
            "steps": 2,
            "bf16": False,
            "learning_rate": 1e-3,
            "tasks": {
                "reading": {"batch_size": 4, "max_length": 48, "stride": 8, "max_query_length": 12},
                "retrieval": {"batch_size": 3, "max_query_length": 16, "max_passage_length": 48},
            },
        }
        return checked(Recipe, {**values, **changes})

    return make


@pytest.fixture
def bert_folder(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any) -> Path:
    """Folder of a plain tiny BERT with its tokenizer."""
    folder = tmp_path / "bert"
    copy.deepcopy(tiny_model.encoder).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
