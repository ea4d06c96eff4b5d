"""Fit and check how log-odds become scores and "no answer": on what reading found, without models and data sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference import ReadingOptions
from rom_haystack.inference.scores import ScoreCalibration
from rom_haystack.metrics import calibration_factor as best_factor
from training.stopping import ReadPassages
from training.unanswerable import Judged, auroc, expected_error, no_answer_threshold, squad2_f1


def fit_scores(found: ReadPassages, judged: Judged, passage_score_weight: float) -> ScoreCalibration:
    """Fit both to questions.

    Args:
        found: What reading all retrieved passages found; the factor fits the F1 of the best answers.
        judged: Best answers in the questions' own passages, some of which hold none; the threshold gives them the best
            SQuAD 2.0 F1. Where they are of one kind only, it is 0, at which the reader ranks "no answer" first anyway.
        passage_score_weight: The weight by which answers were scored.
    """
    logits, quality = best_of(found)
    threshold = no_answer_threshold(judged) if _both_kinds(judged) else 0.0
    if math.isinf(threshold):  # answering everything is best
        threshold = min(judged.logits[np.isfinite(judged.logits)].min(initial=0.0), 0.0)
    return ScoreCalibration(
        calibration_factor=round(best_factor(logits, quality), 3),
        no_answer_logit=math.floor(1000 * threshold) / 1000,  # not above it, or the answer that set it is withheld
        passage_score_weight=passage_score_weight,
    )


def check_scores(found: ReadPassages, judged: Judged, scores: ScoreCalibration) -> dict[str, Any]:
    """Judge what was fitted on other questions.

    Returns:
        In percent (None where the questions can't show it): the expected `calibration error` of the best answers'
        scores against their F1, and with the reader's own factor; SQuAD 2.0's `F1` with the threshold, and without;
        the `no-answer AUROC`. Beside the numbers of questions.
    """
    logits, quality = best_of(found)
    factors = {"": scores.calibration_factor, " by default": ReadingOptions().calibration_factor}
    thresholds = {"": scores.no_answer_logit, " by default": 0.0}
    both = _both_kinds(judged)
    errors = {
        f"calibration error{name}": _percent(expected_error(logits, quality, factor)) if len(logits) else None
        for name, factor in factors.items()
    }
    squad2 = {
        f"SQuAD 2.0 F1{name}": _percent(squad2_f1(judged, threshold)) if both else None
        for name, threshold in thresholds.items()
    }
    area = auroc(judged)
    return {
        "question count": len(logits),
        **errors,
        "answerable": int(judged.answerable.sum()),
        "unanswerable": int((~judged.answerable).sum()),
        **squad2,
        "no-answer AUROC": None if area is None else _percent(area),
    }


def best_of(found: ReadPassages) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log-odds and F1 of the best answers, of the questions that got one and whose gold answer is known."""
    best = found.logits.argmax(axis=1)[:, None]
    logits, quality = (np.take_along_axis(values, best, axis=1)[:, 0] for values in (found.logits, found.f1))
    known = np.isfinite(logits) & ~np.isnan(quality)
    return logits[known], quality[known]


def _both_kinds(judged: Judged) -> bool:
    return bool(judged.answerable.any() and not judged.answerable.all())


def _percent(value: float) -> float:
    return round(100 * value, 2)
