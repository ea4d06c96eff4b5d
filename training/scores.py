"""Fit and check how log-odds become scores and "no answer": on what reading found, without models and data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from rom_haystack.inference import ReadingOptions
from rom_haystack.inference.scores import ScoreCalibration
from rom_haystack.metrics import calibration_factor as best_factor
from training.data.dataset import Question
from training.figures import statistic_figure
from training.samples import Articles
from training.stopping import ReadPassages
from training.unanswerable import Judged, auroc, expected_error, no_answer_threshold, squad2_f1


def fit_scores(judged: Judged, passage_score_weight: float) -> ScoreCalibration:
    """Fit both to the best answers of questions.

    Args:
        judged: Best answers in lists of retrieved passages, as the reader gets them. The threshold gives them the best
            SQuAD 2.0 F1; where they are of one kind only, it is 0, at which the reader ranks "no answer" first anyway.
            The factor fits the F1 of answers, none for a question without an answer, to log-odds from there on.
        passage_score_weight: The weight by which answers were scored.
    """
    threshold = no_answer_threshold(judged) if _both_kinds(judged) else 0.0
    if math.isinf(threshold):  # answering everything is best
        threshold = min(judged.logits[np.isfinite(judged.logits)].min(initial=0.0), 0.0)
    threshold = math.floor(1000 * threshold) / 1000  # not above it, or the answer that set it is withheld
    given = _given(judged)
    return ScoreCalibration(
        calibration_factor=round(best_factor(given.logits - threshold, given.f1), 3),
        no_answer_logit=threshold,
        passage_score_weight=passage_score_weight,
    )


def check_scores(judged: Judged, scores: ScoreCalibration, seed: int = 13) -> dict[str, Any]:
    """Judge what was fitted on other questions.

    Args:
        judged: The questions' best answers.
        scores: What was fitted.
        seed: Seed of the bootstrap, as of evaluations.

    Returns:
        In percent, with their intervals (`mean`, `low`, `high`; None where the questions can't show it): the expected
        `calibration error` of the best answers' scores against their F1, and with the reader's own factor; SQuAD 2.0's
        `F1` with the threshold, and without; the `no-answer AUROC`. Beside the numbers of questions of either kind, on
        whose ratio all of this depends.
    """
    own = ScoreCalibration(calibration_factor=ReadingOptions().calibration_factor, no_answer_logit=0.0)
    statistics: dict[str, Callable[[Judged], float | None]] = {}
    for name, some in (("", scores), (" by default", own)):
        statistics[f"calibration error{name}"] = partial(_error, scores=some)
        statistics[f"SQuAD 2.0 F1{name}"] = partial(_squad2_f1, threshold=some.no_answer_logit)
    statistics["no-answer AUROC"] = auroc
    shown = {name: statistic for name, statistic in statistics.items() if statistic(judged) is not None}
    figures = {name: asdict(statistic_figure(statistic, [judged], seed)) for name, statistic in shown.items()}
    return {
        "question count": len(_given(judged)),
        **kinds(judged),
        **{name: figures.get(name) for name in statistics},
    }


def judge(found: ReadPassages, questions: Sequence[Question], articles: Articles | None = None) -> Judged:
    """Judge the best answer in each question's retrieved passages.

    A question with an answer counts as answerable wherever its answer is, also where retrieval has missed it.

    Args:
        found: What reading the passages found.
        questions: The questions, each with a gold answer or known to have none.
        articles: What they are about; None where that is not known.
    """
    best = found.logits.argmax(axis=1)[:, None]
    logits, em, f1 = (np.take_along_axis(values, best, axis=1)[:, 0] for values in (found.logits, found.em, found.f1))
    answerable = np.array([bool(question.answers) for question in questions], dtype=bool)
    return Judged(answerable, logits, np.where(answerable, em, 0.0), np.where(answerable, f1, 0.0), articles)


def kinds(judged: Judged) -> dict[str, int]:
    """Count questions with an answer and without."""
    return {"answerable": int(judged.answerable.sum()), "unanswerable": int((~judged.answerable).sum())}


def _given(judged: Judged) -> Judged:
    """Keep the questions that got an answer, whatever its log-odds."""
    return judged.take(np.flatnonzero(np.isfinite(judged.logits)))


def _both_kinds(judged: Judged) -> bool:
    return bool(judged.answerable.any() and not judged.answerable.all())


def _error(judged: Judged, scores: ScoreCalibration) -> float | None:
    given = _given(judged)
    if not len(given):
        return None
    return expected_error(given.logits - scores.no_answer_logit, given.f1, scores.calibration_factor)


def _squad2_f1(judged: Judged, threshold: float) -> float | None:
    return squad2_f1(judged, threshold) if _both_kinds(judged) else None
