"""Fit and judge stopping rules on what reading found: arrays only, without models and data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.stopping import StoppingRule
from training.errors import DataError

#: How sure the questions that fit a rule must make us of its promise.
CONFIDENCE = 0.95

#: Slopes to choose from.
_SLOPES = tuple(round(0.05 * step, 2) for step in range(51))


@dataclass(frozen=True)
class ReadPassages:
    """What reading found in the passages of questions, `[questions, passages]` each, passages as they were retrieved.

    Attributes:
        logits: Log-odds of each passage's best answer; minus infinity where it has none.
        em: Exact match of that answer, 0 or 1; NaN where the gold answer is not known.
        f1: Its token overlap with the gold answer, from 0 to 1; NaN likewise.
    """

    logits: NDArray[np.float64]
    em: NDArray[np.float64]
    f1: NDArray[np.float64]

    def top(self, count: int) -> ReadPassages:
        """Keep the first passages of each question."""
        return ReadPassages(self.logits[:, :count], self.em[:, :count], self.f1[:, :count])


def passages_read(logits: NDArray[np.float64], rule: StoppingRule, group_size: int = 1) -> NDArray[np.int64]:
    """Count the passages that each question reads until the rule says stop.

    Args:
        logits: `[questions, passages]` in retrieval order, minus infinity where a passage has no answer.
        rule: The rule.
        group_size: The rule is asked after every so many passages.

    Returns:
        `[questions]`.
    """
    total = logits.shape[1]
    stops = [*range(group_size, total, group_size), total]
    bounds = np.array([rule.bound(read, total) for read in stops[:-1]] + [-np.inf])
    best = np.maximum.accumulate(logits, axis=1)[:, np.array(stops) - 1]
    read: NDArray[np.int64] = np.array(stops)[(best >= bounds).argmax(axis=1)]
    return read


def agreement(logits: NDArray[np.float64], read: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which questions get the answer of exact reading though only the first passages were read.

    That is the same span of the same passage, or no answer in both: log-odds below 0, where the reader ranks "no
    answer" first.
    """
    return np.take_along_axis(_right(logits), read[:, None] - 1, axis=1)[:, 0]


def fit_rule(
    logits: NDArray[np.float64],
    promise: float,
    *,
    passage_score_weight: float = 0.5,
    confidence: float = CONFIDENCE,
    below: StoppingRule | None = None,
) -> StoppingRule:
    """Find the rule that reads least and keeps a promise.

    Asking the rule less often than after every passage reads more, and agrees more often.

    Args:
        logits: As in `passages_read`.
        promise: How often the answer must be that of exact reading, between 0 and 1.
        passage_score_weight: The weight by which the answers were scored.
        confidence: How sure the questions must make us of the promise, taken as independent of each other.
        below: A rule that was fitted to the same answers for a higher promise; the bounds of the one sought are nowhere
            above its own, whatever the number of passages. None for any rule.

    Returns:
        The rule; its level is at least 0, since answers worse than "no answer" settle nothing.

    Raises:
        DataError: There are too few questions to be that sure.
    """
    errors = allowed_errors(len(logits), promise, confidence)

    def rule_of(slope: float) -> StoppingRule:
        highest_wrong = np.sort(critical_levels(logits, slope))[-1 - errors]
        level = math.floor(100 * max(0.0, highest_wrong) + 1.0001) / 100  # a hundredth above, beyond rounding errors
        return StoppingRule(level, slope, passage_score_weight)

    rules = [rule_of(slope) for slope in _SLOPES]
    if below is not None:  # the rule of its own slope is among them, as a lower promise takes no higher level
        rules = [rule for rule in rules if rule.slope <= below.slope and rule.level <= below.level]
    return min(rules, key=lambda rule: passages_read(logits, rule).mean())


def fit_rules(
    logits: NDArray[np.float64], promises: Mapping[str, float], *, passage_score_weight: float = 0.5
) -> dict[str, StoppingRule]:
    """Find a rule for each of several promises, the higher ones reading at least as much everywhere; see `fit_rule`."""
    rules: dict[str, StoppingRule] = {}
    stricter: StoppingRule | None = None
    for name, promise in sorted(promises.items(), key=lambda of: -of[1]):
        stricter = fit_rule(logits, promise, passage_score_weight=passage_score_weight, below=stricter)
        rules[name] = stricter
    return {name: rules[name] for name in promises}


def critical_levels(logits: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """Find the highest level at which a rule of this slope stops each question on a wrong answer.

    Whether the best answer so far is the final one never turns from yes to no, so every level above is right too.

    Returns:
        `[questions]`; minus infinity where no level is wrong.
    """
    total = logits.shape[1]
    best = np.maximum.accumulate(logits, axis=1)
    levels = best[:, :-1] - slope * np.log(total / np.arange(1, total))
    found: NDArray[np.float64] = np.where(_right(logits)[:, :-1], -np.inf, levels).max(axis=1, initial=-np.inf)
    return found


def allowed_errors(count: int, promise: float, confidence: float = CONFIDENCE) -> int:
    """Return the most errors in `count` questions that still show a promise.

    That is, with more errors than promised, so few of them would be found with a chance of 1 - confidence at most.

    Raises:
        DataError: Not even a perfect result would show it.
    """
    chances = binomial_cdf(count, 1 - promise)
    errors = int(np.sum(chances <= 1 - confidence)) - 1
    if errors < 0:
        needed = math.ceil(math.log(1 - confidence) / math.log(promise))
        raise DataError(
            f"{count} questions can't show an agreement of {100 * promise:g}% with {100 * confidence:g}% confidence; "
            f"that takes at least {needed}. Give more questions."
        )
    return errors


def agreement_interval(errors: int, count: int) -> tuple[float, float]:
    """Return the 95% confidence interval (Clopper and Pearson, 1934) of an agreement with some errors in `count`."""
    # Both chances fall as the rate of errors grows.
    low = 1 - _root(lambda rate: float(binomial_cdf(count, rate)[errors]) - 0.025)
    high = 1 - _root(lambda rate: float(binomial_cdf(count, rate)[errors - 1]) - 0.975) if errors else 1.0
    return low, high


def binomial_cdf(count: int, rate: float) -> NDArray[np.float64]:
    """Return the chances of at most 0, 1, …, `count` errors in `count` independent questions, rate from 0 to 1."""
    if not 0 < rate < 1:
        return np.full(count + 1, 1.0) if rate == 0 else np.append(np.zeros(count), 1.0)
    errors = np.arange(count + 1)
    factorials = np.array([math.lgamma(n + 1) for n in errors])
    likelihoods = errors * math.log(rate) + (count - errors) * math.log1p(-rate)
    chances: NDArray[np.float64] = np.exp(factorials[-1] - factorials - factorials[::-1] + likelihoods)
    return np.minimum(np.cumsum(chances), 1.0)


def check(found: ReadPassages, rule: StoppingRule) -> dict[str, Any]:
    """Compare reading by a rule with reading all passages, on questions that did not fit the rule.

    Args:
        found: What reading all passages found.
        rule: The rule.

    Returns:
        `question count`, `passages` (of each), `agreement` (mean and 95% interval, in percent), `passages read` on
        average, also when two are read at a time, and the change of EM and F1 in points (of the best answer, be it
        worse than "no answer").
    """
    read = passages_read(found.logits, rule)
    agreed = agreement(found.logits, read)
    low, high = agreement_interval(int(np.sum(~agreed)), len(agreed))
    return {
        "question count": len(read),
        "passages": found.logits.shape[1],
        "agreement": {
            name: round(100 * float(value), 2)
            for name, value in (("mean", agreed.mean()), ("low", low), ("high", high))
        },
        "passages read": round(float(read.mean()), 2),
        "passages read in twos": round(float(passages_read(found.logits, rule, group_size=2).mean()), 2),
        "EM change": _change(found, found.em, read),
        "F1 change": _change(found, found.f1, read),
    }


def _change(found: ReadPassages, values: NDArray[np.float64], read: NDArray[np.int64]) -> float | None:
    """Return by how much stopping changes the mean value of the best answers; None where no value is known."""
    unread = np.arange(found.logits.shape[1]) >= read[:, None]
    best = [np.where(mask, -np.inf, found.logits).argmax(axis=1) for mask in (unread, np.zeros_like(unread))]
    stopped, exact = (np.take_along_axis(values, row[:, None], axis=1) for row in best)
    known = ~np.isnan(exact)
    return round(100 * float((stopped - exact)[known].mean()), 2) if known.any() else None


def _root(falling: Callable[[float], float]) -> float:
    """Find where a falling function of a rate passes 0."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low


def _right(logits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell after which passages the best answer so far is the final one, or both are none."""
    best = np.maximum.accumulate(logits, axis=1)
    final = best[:, -1:]
    right: NDArray[np.bool_] = (best == final) | ((best < 0) & (final < 0))
    return right
