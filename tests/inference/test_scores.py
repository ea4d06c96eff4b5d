"""What `calibration.json` says of a checkpoint's scores."""

from __future__ import annotations

import json
import math

import pytest

from rom_haystack.inference.scores import ScoreCalibration, load_scores
from rom_haystack.modeling import CheckpointError

SCORES = {"calibration_factor": 0.2, "no_answer_logit": -1, "passage_score_weight": 0.5, "measured": {"anything": 1}}


def test_reads_what_was_measured(tmp_path):
    (tmp_path / "calibration.json").write_text(json.dumps({"scores": SCORES}))
    assert load_scores(tmp_path) == ScoreCalibration(0.2, -1.0, 0.5)


def test_there_may_be_none(tmp_path):
    assert load_scores(tmp_path) is None
    (tmp_path / "calibration.json").write_text(json.dumps({"stopping": {}}))
    assert load_scores(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({"scores": 3}),
        json.dumps({"scores": {**SCORES, "calibration_factor": 0}}),
        json.dumps({"scores": {**SCORES, "calibration_factor": "0.2"}}),
        json.dumps({"scores": {**SCORES, "no_answer_logit": True}}),
        json.dumps({"scores": {**SCORES, "no_answer_logit": math.inf}}),
        json.dumps({"scores": {**SCORES, "passage_score_weight": 2}}),
        json.dumps({"scores": {"calibration_factor": 0.2}}),
    ],
)
def test_damage_is_named(tmp_path, content):
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged .* `python -m training calibrate`"):
        load_scores(tmp_path)
