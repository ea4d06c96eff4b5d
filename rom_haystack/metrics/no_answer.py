"""How well unanswerable questions are told from others, as SQuAD 2.0 asks (Rajpurkar et al., 2018).

A question's no-answer score says how likely it has no answer: a probability, or any other number that grows with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BestThreshold:
    """The threshold that serves a metric best.

    Attributes:
        value: Mean of the metric with it.
        threshold: Questions whose no-answer score is above it are not answered.
    """

    value: float
    threshold: float


def withhold_above(
    threshold: float, values: Sequence[float], answerable: Sequence[bool], no_answer_scores: Sequence[float]
) -> list[float]:
    """Score predictions that are withheld where the no-answer score is above a threshold.

    Args:
        threshold: The highest no-answer score at which a question is still answered.
        values: By question, the metric's value of the answer, from 0 to 1.
        answerable: By question, whether it has an answer.
        no_answer_scores: By question, its no-answer score.

    Returns:
        By question, its value, or where the answer is withheld, 1 if the question has none, else 0.
    """
    return [
        float(not has) if score > threshold else value
        for value, has, score in zip(values, answerable, no_answer_scores, strict=True)
    ]


def best_threshold(
    values: Sequence[float], answerable: Sequence[bool], no_answer_scores: Sequence[float]
) -> BestThreshold:
    """Find the threshold of the no-answer score under which a metric is highest, as SQuAD 2.0's official script does.

    Questions are answered in the order of their no-answer scores, lowest first, beginning with none. Of equally good
    thresholds the lowest is taken; it is the no-answer score of the last question that is answered, and 0 where none
    should be (less, if scores reach down to 0).

    The value is always what `withhold_above` gives with the threshold. There the script differs in two ways: among
    questions with one and the same score it may stop halfway, which no threshold can do, and a prediction without a
    word besides articles costs it a point where the question has no answer.

    Args:
        values: By question, the metric's value of the answer, whatever the no-answer score.
        answerable: By question, whether it has an answer.
        no_answer_scores: By question, its no-answer score.

    Raises:
        ValueError: There are no questions.
    """
    if not len(values):
        raise ValueError("There are no questions, so no threshold is best.")
    scores = np.asarray(no_answer_scores, dtype=np.float64)
    withheld = 1 - np.asarray(answerable, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    totals = withheld.sum() + np.cumsum((np.asarray(values, dtype=np.float64) - withheld)[order])
    last = _ends_of_ties(ranked)
    totals = np.concatenate([[withheld.sum()], totals[last]])
    nothing = min(0.0, math.nextafter(float(ranked[0]), -math.inf)) if ranked[0] <= 0 else 0.0
    best = int(np.argmax(totals))
    return BestThreshold(float(totals[best] / len(scores)), nothing if best == 0 else float(ranked[last[best - 1]]))


def roc_auc(answerable: Sequence[bool], no_answer_scores: Sequence[float]) -> float | None:
    """Return the probability that an unanswerable question scores above an answerable one; a tie counts half.

    None where questions of either kind are missing.
    """
    hits, ranked = _ranked_hits(answerable, no_answer_scores)
    last = _ends_of_ties(ranked)
    true = np.concatenate([[0], np.cumsum(hits)[last]])
    false = np.concatenate([[0], np.cumsum(~hits)[last]])
    if not len(hits) or not true[-1] or not false[-1]:
        return None
    area = np.sum(np.diff(false) * (true[1:] + true[:-1])) / 2
    return float(area / (true[-1] * false[-1]))


def average_precision(answerable: Sequence[bool], no_answer_scores: Sequence[float]) -> float | None:
    """Return the mean precision in finding unanswerable questions, over the steps in recall, highest score first.

    Equal scores make one step; nothing is interpolated. None where no question is unanswerable.
    """
    hits, ranked = _ranked_hits(answerable, no_answer_scores)
    if not hits.any():
        return None
    last = _ends_of_ties(ranked)
    found = np.cumsum(hits)[last]
    precision = found / (last + 1)
    return float(np.sum(np.diff(found, prepend=0) * precision) / found[-1])


def _ranked_hits(
    answerable: Sequence[bool], no_answer_scores: Sequence[float]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which questions are unanswerable, and their scores, highest first."""
    scores = np.asarray(no_answer_scores, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    return ~np.asarray(answerable, dtype=bool)[order], scores[order]


def _ends_of_ties(ranked: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the last of each run of equal numbers."""
    return np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0)).astype(np.int64)
