"""Small files in SQuAD's and DPR's formats."""

from __future__ import annotations

import gzip
import json

import pytest

NILE = "The Nile flows north. John Speke named Lake Victoria in 1858; the lake feeds the Nile."

MOON = "Apollo 11 landed in 1969; Michael Collins stayed in orbit 🌙."

QA = {
    "id": "a1",
    "question": "Who named the lake?",
    "answers": [{"text": "Speke", "answer_start": 27}, {"text": "John Speke", "answer_start": 22}],
    "is_impossible": False,
}

IMPOSSIBLE = {
    "id": "a2",
    "question": "Who drained the lake?",
    "answers": [],
    "plausible_answers": [{"text": "Speke", "answer_start": 27}],
    "is_impossible": True,
}

COLLINS = {"id": "b1", "question": "Who stayed?", "answers": [{"text": "Michael Collins", "answer_start": 26}]}

SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "Nile", "paragraphs": [{"context": NILE, "qas": [QA, IMPOSSIBLE]}]},
        {"title": "Moon", "paragraphs": [{"context": MOON, "qas": [COLLINS]}]},
    ],
}


def context(text, title="T", **more):
    return {"title": title, "text": text, **more}


ITEM = {
    "dataset": "nq",
    "question": "Who named the lake?",
    "answers": ["John Speke", "Speke"],
    "positive_ctxs": [
        context("The lake has a name.", score=1.0, title_score=1, passage_id="p1"),
        context(NILE, "Nile", psg_id=7),
    ],
    "negative_ctxs": [context(MOON, "Moon", passage_id="p3")],
    "hard_negative_ctxs": [context("Lakes are named by kings.", None, score="12.5", passage_id="p4")],
}


@pytest.fixture
def save(tmp_path):
    """Write a value as JSON, or bytes as they are: `save(value, name)`."""

    def write(value, name="data.json"):
        path = tmp_path / name
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write
