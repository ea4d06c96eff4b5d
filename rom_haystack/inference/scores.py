"""How a checkpoint's log-odds become scores, and from where on an answer is given: measured, and kept beside it.

`python -m training calibrate` writes both into `calibration.json`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from rom_haystack.inference.stopping import CALIBRATION_FILE
from rom_haystack.modeling import CheckpointError


@dataclass(frozen=True)
class ScoreCalibration:
    """What fits a checkpoint's answers.

    Args:
        calibration_factor: What their log-odds, counted from `no_answer_logit`, are multiplied by to become those of an
            answer's being right, the inverse of a temperature (Guo et al., 2017, section 4.2).
        no_answer_logit: The lowest log-odds at which an answer is better than "no answer", where SQuAD 2.0's F1 counts;
            there its score is one half.
        passage_score_weight: The weight by which answers were scored when both were measured; they hold for no other.

    Raises:
        ValueError: The factor is not finite and above 0, the log-odds are not finite, or the weight is not from 0 to 1.
    """

    calibration_factor: float
    no_answer_logit: float
    passage_score_weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.calibration_factor < math.inf:
            raise ValueError(f"calibration_factor is {self.calibration_factor}; it must be finite and above 0.")
        if not math.isfinite(self.no_answer_logit):
            raise ValueError(f"no_answer_logit is {self.no_answer_logit}; it must be finite.")
        if not 0 <= self.passage_score_weight <= 1:
            raise ValueError(f"passage_score_weight is {self.passage_score_weight}; it must be from 0 to 1.")


def load_scores(folder: Path) -> ScoreCalibration | None:
    """Load how a checkpoint's answers are scored.

    Args:
        folder: Checkpoint or export folder.

    Returns:
        What was measured; None where the folder has no `calibration.json`, or one without it.

    Raises:
        CheckpointError: The file is damaged; the message names it.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8")).get("scores")
        if content is None:
            return None
        names = ("calibration_factor", "no_answer_logit", "passage_score_weight")
        return ScoreCalibration(**{name: _number(content[name]) for name in names})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}). Make it anew by `python -m training calibrate`, or "
            "delete it to do without what was measured."
        ) from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
