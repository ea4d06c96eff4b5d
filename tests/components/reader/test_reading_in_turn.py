"""Answers so far, group by group of documents."""

from __future__ import annotations

import pytest
from haystack import Document

from .conftest import QUERY, scores


class TestReadingInTurn:
    def test_answers_so_far_after_each_group(self, reader, documents):
        turns = list(reader.run_in_turn(QUERY, documents, top_k=1000, group_size=1))
        assert [turn["read"] for turn in turns] == [1, 2, 3]
        for turn in turns:
            expected = reader.run(QUERY, documents[: turn["read"]], top_k=1000)["answers"]
            assert scores(turn["answers"]) == pytest.approx(scores(expected), abs=1e-5)

    def test_nothing_is_read_before_it_is_asked_for(self, reader, documents, fake_encoder):
        reader._encoder = fake_encoder()
        turns = reader.run_in_turn(QUERY, documents)
        assert reader._encoder.backend.calls == []
        assert next(turns)["read"] == 2
        assert len(reader._encoder.backend.calls) == 1

    def test_options_are_those_of_run(self, reader, documents):
        options = {"top_k": 3, "score_threshold": 0.01, "no_answer": False, "answers_per_seq": 2}
        *_, last = reader.run_in_turn(QUERY, documents, **options)
        expected = reader.run(QUERY, documents, **options)["answers"]
        assert 0 < len(expected) <= 3
        assert scores(last["answers"]) == pytest.approx(scores(expected), abs=1e-5)

    def test_blank_and_repeated_documents_do_not_count(self, reader, documents):
        *_, last = reader.run_in_turn(QUERY, [Document(content=" "), *documents, *documents])
        assert last["read"] == 3

    def test_nothing_to_read_or_to_answer(self, reader, documents):
        assert [turn["read"] for turn in reader.run_in_turn(QUERY, [])] == [0]
        assert [[a.data for a in turn["answers"]] for turn in reader.run_in_turn(QUERY, [])] == [[None]]
        assert list(reader.run_in_turn(QUERY, documents, top_k=0)) == [{"answers": [], "read": 0}]

    def test_mistakes_are_told_at_once(self, reader, documents):
        with pytest.raises(ValueError, match="query is empty"):
            reader.run_in_turn(" ", documents)
        with pytest.raises(ValueError, match="group_size is 0; it must be at least 1"):
            reader.run_in_turn(QUERY, documents, group_size=0)
        with pytest.raises(ValueError, match="top_k is -1"):
            reader.run_in_turn(QUERY, documents, top_k=-1)
        reader.adaptive_reading = "fast"
        with pytest.raises(ValueError, match=r"adaptive_reading is 'fast'.*python -m training calibrate"):
            reader.run_in_turn(QUERY, documents)
