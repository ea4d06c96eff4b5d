"""Scores by what was measured for a checkpoint."""

from __future__ import annotations

import json
import shutil

import pytest

from rom_haystack.components import ROMExtractiveReader
from rom_haystack.inference.reading import sigmoid
from rom_haystack.inference.scores import ScoreCalibration

from .conftest import CPU, PASSAGES, QUERY, data

STOPPING = {"passage_score_weight": 0.5, "settings": {}}


class TestMeasuredScoring:
    """With `calibration_factor=None`, what was measured for the checkpoint."""

    @pytest.fixture
    def measured(self, fake):
        def make(**values):
            fake.calibration_factor = None
            fake._encoder.scores = ScoreCalibration(**{"calibration_factor": 0.5, "no_answer_logit": 0.0, **values})
            return fake

        return make

    def test_the_factor(self, measured):
        answers = measured().run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}) == ["Marie Curie", "Radium", "found", "glows", None]
        assert [a.score for a in answers] == pytest.approx([sigmoid(s / 2) for s in (3.0, 2.0, 0.5, -1.0, -3.0)])

    @pytest.mark.parametrize(("threshold", "place"), [(-9.0, 4), (0.0, 4), (2.6, 1), (3.0, 1), (3.1, 0), (9.0, 0)])
    def test_the_no_answer_comes_first_below_the_threshold(self, measured, threshold, place):
        answers = measured(no_answer_logit=threshold).run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}).index(None) == place
        assert answers[place].score == pytest.approx(sigmoid((threshold - 3.0) / 2))

    @pytest.mark.parametrize("threshold", [-9.0, -1.0, 0.0, 2.5, 3.0, 9.0])
    def test_answers_and_the_no_answer_are_in_the_order_of_their_scores(self, measured, threshold):
        reader = measured(no_answer_logit=threshold)
        scores = [answer.score for answer in reader.run(QUERY, PASSAGES)["answers"]]
        assert scores == sorted(scores, reverse=True)
        quotes = reader.run(QUERY, PASSAGES, no_answer=False)["answers"]
        assert [a.score for a in quotes] == pytest.approx([sigmoid((s - threshold) / 2) for s in (3.0, 2.0, 0.5, -1.0)])

    def test_without_measurements_it_is_the_default(self, fake):
        fake.calibration_factor, fake._encoder.scores = None, None
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert [a.score for a in answers][::4] == pytest.approx([sigmoid(0.45), sigmoid(-0.45)])

    def test_holds_for_one_weight(self, measured):
        reader = measured(passage_score_weight=0.25)
        with pytest.raises(ValueError, match=r"passage_score_weight is 0\.5, but .* measured with 0\.25"):
            reader.run(QUERY, PASSAGES)
        reader.calibration_factor = 1.0
        assert reader.run(QUERY, PASSAGES)["answers"][0].score == pytest.approx(sigmoid(3.0))

    def test_is_read_with_the_checkpoint(self, tiny_checkpoint, documents, tmp_path):
        folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
        scores = {"calibration_factor": 0.5, "no_answer_logit": 1e6, "passage_score_weight": 0.5, "measured": {}}
        (folder / "calibration.json").write_text(json.dumps({"scores": scores, "stopping": STOPPING}))
        given = ROMExtractiveReader(folder, CPU, calibration_factor=0.5).run(QUERY, documents)["answers"]
        reader = ROMExtractiveReader(folder, CPU, calibration_factor=None)
        found = reader.run(QUERY, documents)["answers"]
        assert (found[0].data, found[0].score) == (None, 1.0)
        quotes = [(a.data, a.document_offset) for a in found if a.data]
        assert quotes == [(a.data, a.document_offset) for a in given if a.data]
        again = ROMExtractiveReader.from_dict(reader.to_dict())
        assert again.calibration_factor is None
