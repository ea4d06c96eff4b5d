"""What the hybrid benchmark counts, and what it is held to."""

from __future__ import annotations

import json

import pytest

from benchmarks.expectations import read_expectations
from benchmarks.hybrid import COLLECTIONS, EXPECTATIONS, drawn_questions


def test_questions_with_answers_come_first(tmp_path):
    rows = [
        {"id": str(n), "question": f"Q{n}?", "answers": [{"text": "a"}] if n % 2 else [], "passage_id": "p"}
        for n in range(9)
    ]
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [question.id for question in drawn_questions(tmp_path, "set", None, 13)] == ["1", "3", "5", "7"]
    drawn = [question.id for question in drawn_questions(tmp_path, "set", 2, 13)]
    assert len(drawn) == 2
    assert drawn == sorted(drawn)
    assert drawn == [question.id for question in drawn_questions(tmp_path, "set", 2, 13)]
    file.write_text(json.dumps(rows[0]))
    assert [question.id for question in drawn_questions(tmp_path, "set", None, 13)] == ["0"]


def test_expectations_are_about_figures_that_are_measured():
    sets = {
        name: {
            **{
                system: {f"recall_at_{k}": {"mean": 50} for k in (1, 5, 20)}
                for system in ("hybrid", "keyword", "dense")
            },
            "gain_over": {"keyword": {f"recall_at_{k}": {"low": 1} for k in (1, 5, 20)}},
        }
        for name in COLLECTIONS
    }
    results = {"sets": sets, "end_to_end": {way: {"em": {"mean": 50}} for way in ("hybrid", "dense")}}
    for expectation in read_expectations(EXPECTATIONS):
        assert expectation.value(results) == pytest.approx(1)
