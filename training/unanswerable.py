"""How well questions without an answer are told from others, and how far answers' scores can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference import Answer, ReadingOptions
from rom_haystack.metrics import (
    best_threshold,
    calibration_error,
    equal_mass_bins,
    exact_match,
    f1,
    roc_auc,
    withhold_above,
)
from rom_haystack.metrics import calibration_factor as best_factor
from training.data.dataset import Question
from training.samples import Articles

#: Bins of the expected calibration error, of about as many answers each.
_BINS = 15


@dataclass(frozen=True)
class Judged:
    """Best answers of questions, each from passages of its own, `[questions]` each.

    Attributes:
        answerable: Whether the passages hold an answer.
        logits: Log-odds of the best answer against "no answer"; minus infinity where there is no text.
        em: Exact match of that answer, whatever its log-odds, 0 or 1.
        f1: Its token overlap, from 0 to 1.
        articles: What the question is about; None where that is not known.
    """

    answerable: NDArray[np.bool_]
    logits: NDArray[np.float64]
    em: NDArray[np.float64]
    f1: NDArray[np.float64]
    articles: Articles | None = None

    @classmethod
    def of(
        cls, questions: Sequence[Question], answers: Sequence[Answer | None], articles: Articles | None = None
    ) -> Judged:
        """Judge the best answers of questions; one without gold answers has none."""
        pairs = [(answer.text if answer else "", q.answers) for q, answer in zip(questions, answers, strict=True)]
        return cls(
            answerable=np.array([bool(question.answers) for question in questions]),
            logits=np.array([answer.logit if answer else -np.inf for answer in answers]),
            em=np.array([exact_match(text, gold) for text, gold in pairs]),
            f1=np.array([f1(text, gold) for text, gold in pairs]),
            articles=articles,
        )

    @classmethod
    def joined(cls, groups: Sequence[Judged]) -> Judged:
        """Put groups of questions in one row; articles are known where those of all groups are."""
        columns = {spec.name: [getattr(group, spec.name) for group in groups] for spec in fields(cls)}
        known = {name: parts for name, parts in columns.items() if all(part is not None for part in parts)}
        return cls(**{name: np.concatenate(parts) for name, parts in known.items()})

    def take(self, rows: NDArray[np.int64]) -> Judged:
        """Return some of the questions, or some of them several times."""
        articles = None if self.articles is None else self.articles[rows]
        return Judged(self.answerable[rows], self.logits[rows], self.em[rows], self.f1[rows], articles)

    def __len__(self) -> int:
        return len(self.logits)


def squad2(judged: Judged) -> dict[str, Callable[[Judged], float | None]]:
    """Return SQuAD 2.0's figures by name, each as a function of questions (Rajpurkar et al., 2018).

    `EM` and `F1` answer where the best answer beats "no answer", as the reader does; `best EM` and `best F1` with the
    threshold that serves these very questions best, as the official script reports them.
    """
    if judged.answerable.all() or not judged.answerable.any():
        return {}
    return {
        "SQuAD 2.0 EM": lambda some: _withheld(some, some.em, 0.0),
        "SQuAD 2.0 F1": lambda some: squad2_f1(some, 0.0),
        "SQuAD 2.0 best EM": lambda some: best_threshold(*_told_by(some, some.em)).value,
        "SQuAD 2.0 best F1": lambda some: best_threshold(*_told_by(some, some.f1)).value,
        "no-answer AUROC, adversarial": auroc,
    }


def trust(judged: Judged) -> dict[str, Callable[[Judged], float | None]]:
    """Return how far scores of answers are from what answers are worth (F1), as functions of questions, by name.

    `calibration error` is of scores as the reader gives them by default, `calibration error fitted` of those with a
    factor that the other half of the articles fits best. Without answers there are none.
    """
    if not np.isfinite(judged.logits).any():
        return {}
    return {
        "calibration error": lambda some: expected_error(some.logits, some.f1, ReadingOptions().calibration_factor),
        "calibration error fitted": lambda some: cross_fitted_error(some.logits, some.f1, _named(some)),
    }


def _named(judged: Judged) -> list[str]:
    return [str(row) for row in range(len(judged))] if judged.articles is None else judged.articles.tolist()


def auroc(judged: Judged) -> float | None:
    """Return the chance that a question without an answer has the lower log-odds of two; None without both kinds."""
    return roc_auc(judged.answerable.tolist(), (-judged.logits).tolist())


def squad2_f1(judged: Judged, threshold: float) -> float:
    """Return SQuAD 2.0's F1 where answers are given from some log-odds (`threshold`) on."""
    return _withheld(judged, judged.f1, threshold)


def no_answer_threshold(judged: Judged) -> float:
    """Return the lowest log-odds of an answer that is given where SQuAD 2.0's F1 is to be highest."""
    return -best_threshold(*_told_by(judged, judged.f1)).threshold


def answer_probabilities(logits: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Turn answers' log-odds into scores, as the reader does with `calibration_factor`."""
    with np.errstate(over="ignore"):
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-factor * logits))
    return scores


def expected_error(logits: NDArray[np.float64], quality: NDArray[np.float64], factor: float) -> float:
    """Return the expected calibration error of scores against the answers' quality, from 0 to 1."""
    return calibration_error(equal_mass_bins(answer_probabilities(logits, factor), quality, _BINS))


def cross_fitted_error(logits: NDArray[np.float64], quality: NDArray[np.float64], articles: Sequence[str]) -> float:
    """Return the calibration error with fitted factors, each half of the articles judged by the other one's.

    Args:
        logits: Log-odds of answers.
        quality: How good they are, from 0 to 1.
        articles: By answer, what its question is about; questions about the same are alike, so they stay together.
            Where all are about one article, its answers are halved.
    """
    finite = np.where(np.isfinite(logits), logits, 0.0)
    first = _first_half(articles if len(set(articles)) > 1 else [str(row) for row in range(len(logits))])
    errors = [
        expected_error(logits[judged], quality[judged], best_factor(finite[fitted], quality[fitted])) * judged.sum()
        for judged, fitted in ((first, ~first), (~first, first))
        if judged.any() and fitted.any()
    ]
    return float(sum(errors) / len(logits))


def _first_half(names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which items belong to the first of two halves: whole names, the most frequent ones first."""
    halves: tuple[list[str], list[str]] = ([], [])
    sizes = [0, 0]
    for name, count in Counter(names).most_common():
        smaller = sizes.index(min(sizes))
        halves[smaller].append(name)
        sizes[smaller] += count
    return np.isin(names, halves[0])


def _withheld(judged: Judged, values: NDArray[np.float64], threshold: float) -> float:
    return float(np.mean(withhold_above(-threshold, *_told_by(judged, values))))


def _told_by(judged: Judged, values: NDArray[np.float64]) -> tuple[list[float], list[bool], list[float]]:
    return values.tolist(), judged.answerable.tolist(), (-judged.logits).tolist()
