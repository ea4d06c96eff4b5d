"""Answers of all documents and the no-answer in one order, by scores that compare."""

from __future__ import annotations

import copy

import pytest

from rom_haystack.inference.reading import sigmoid

from .conftest import PASSAGES, QUERY, data


class TestRanking:
    def test_answers_of_all_documents_and_the_no_answer_in_one_order(self, fake):
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}) == ["Marie Curie", "Radium", "found", "glows", None]
        assert [a.score for a in answers] == pytest.approx([sigmoid(s) for s in (3.0, 2.0, 0.5, -1.0, -3.0)])
        nothing = answers[-1]
        assert nothing.score == pytest.approx(1 - answers[0].score)
        assert (nothing.document, nothing.context, nothing.document_offset) == (None, None, None)
        assert all(a.query == QUERY for a in answers)

    def test_the_no_answer_comes_first_where_null_beats_every_span(self, fake):
        fake._encoder.spans = {"Radium glows.": [(0, 6, -0.5)]}
        assert data(fake.run(QUERY, PASSAGES)) == [None, "Radium"]

    @pytest.mark.parametrize("top_k", range(7))
    def test_never_more_than_top_k(self, fake, top_k):
        expected = ["Marie Curie", "Radium", "found", "glows", None][:top_k]
        assert data(fake.run(QUERY, PASSAGES, top_k=top_k)) == expected

    def test_without_no_answer(self, fake):
        assert None not in data(fake.run(QUERY, PASSAGES, no_answer=False))
        fake.no_answer = False
        assert None not in data(fake.run(QUERY, PASSAGES))
        assert None in data(fake.run(QUERY, PASSAGES, no_answer=True))

    def test_the_threshold_holds_for_all(self, fake):
        fake.score_threshold = 0.6
        assert data(fake.run(QUERY, PASSAGES)) == ["Marie Curie", "Radium", "found"]
        assert len(fake.run(QUERY, PASSAGES, score_threshold=0.0)["answers"]) == 5  # 0.0 is a value, not "not given"
        assert fake.run(QUERY, PASSAGES, score_threshold=0.99) == {"answers": []}

    def test_order_survives_saturated_scores(self, fake):
        fake._encoder.spans = {"Radium glows.": [(0, 6, 800.0), (7, 12, 900.0)]}
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}) == ["glows", "Radium", None]
        assert [a.score for a in answers] == [1.0, 1.0, 0.0]

    def test_calibration_scales_the_log_odds(self, tiny_checkpoint, fake):
        fake.calibration_factor = 0.5
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert answers[0].score == pytest.approx(sigmoid(1.5))
        assert answers[-1].score == pytest.approx(sigmoid(-1.5))

    def test_each_readable_document_is_read_once(self, fake):
        answers = fake.run(QUERY, [*PASSAGES, copy.deepcopy(PASSAGES[0])])
        assert data(answers).count("Radium") == 1
        assert [text for _, text in fake._encoder.pairs] == [document.content for document in PASSAGES]
