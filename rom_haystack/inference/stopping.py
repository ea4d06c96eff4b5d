"""When reading may stop early: no unread passage can plausibly change the best answer any more.

Passages are read in the order of their retrieval. The further down one stands, the less it is likely to hold a better
answer: about in inverse proportion to its rank, so that ln(n / k) measures what is left after k of n passages. The
best answer so far settles the question once its log-odds reach a bound that grows with what is left. Level and slope
of the bound were measured on development data (`python -m training calibrate`) and are kept beside the model in
`calibration.json`.

The bound knows ranks alone, as scores of documents mean something else in every retriever.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rom_haystack.modeling import CheckpointError

#: The file in a checkpoint's folder that holds its stopping rules.
CALIBRATION_FILE = "calibration.json"

#: The setting that reads every passage.
OFF = "off"


@dataclass(frozen=True)
class StoppingRule:
    """Stop once the best answer's log-odds reach `level + slope * ln(total / read)`.

    Args:
        level: The bound when hardly a passage is left.
        slope: How much more is asked for per e-fold of passages left.
        passage_score_weight: The weight by which answers were scored when the bound was measured
            (`ReadingOptions.passage_score_weight`); it holds for no other.

    Raises:
        ValueError: The level is not finite, the slope negative or not finite, or the weight not from 0 to 1.
    """

    level: float
    slope: float
    passage_score_weight: float = 0.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.level):
            raise ValueError(f"level is {self.level}; it must be finite.")
        if not 0 <= self.slope < math.inf:
            raise ValueError(f"slope is {self.slope}; it must be finite and not below 0.")
        if not 0 <= self.passage_score_weight <= 1:
            raise ValueError(f"passage_score_weight is {self.passage_score_weight}; it must be from 0 to 1.")

    def bound(self, read: int, total: int) -> float:
        """Return the log-odds that settle a question after `read` of `total` passages, both at least 1."""
        return self.level + self.slope * math.log(total / read)

    def settled(self, read: int, total: int, best_logit: float) -> bool:
        """Tell whether reading may stop.

        Args:
            read: Passages read so far, in the order of their retrieval.
            total: Passages that there are.
            best_logit: Log-odds (`Answer.logit`) of the best answer so far; minus infinity where there is none.

        Returns:
            True if no unread passage can plausibly change the best answer, and always when none is left; False before
            the first passage.
        """
        if read >= total:
            return True
        return read > 0 and best_logit >= self.bound(read, total)


def load_stopping(folder: Path) -> dict[str, StoppingRule]:
    """Load a checkpoint's stopping rules.

    Args:
        folder: Checkpoint or export folder.

    Returns:
        By setting (`cautious`, `fast`) its rule; nothing where the folder has no `calibration.json`.

    Raises:
        CheckpointError: The file is damaged; the message names it.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["stopping"]
        weight = _number(content["passage_score_weight"])
        return {
            setting: StoppingRule(_number(values["level"]), _number(values["slope"]), weight)
            for setting, values in content["settings"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}). Make it anew by `python -m training calibrate`, or "
            "delete it to do without adaptive reading."
        ) from error


def chosen_rule(rules: Mapping[str, StoppingRule], setting: str, *, passage_score_weight: float) -> StoppingRule | None:
    """Pick the rule of a setting.

    Args:
        rules: The checkpoint's rules by setting.
        setting: `off`, or a setting of the checkpoint.
        passage_score_weight: The weight by which answers are to be scored.

    Returns:
        The rule; None for `off`.

    Raises:
        ValueError: The checkpoint has no such setting, or its rule was measured with another weight.
    """
    if setting == OFF:
        return None
    if setting not in rules:
        raise ValueError(
            f"adaptive_reading is '{setting}', which this checkpoint was not calibrated for; it has: "
            f"{', '.join([OFF, *rules])}. Calibrate it by `python -m training calibrate`."
        )
    rule = rules[setting]
    if rule.passage_score_weight != passage_score_weight:
        raise ValueError(
            f"passage_score_weight is {passage_score_weight}, but adaptive_reading '{setting}' was calibrated with "
            f"{rule.passage_score_weight}. Use that weight, or set adaptive_reading to '{OFF}'."
        )
    return rule


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
