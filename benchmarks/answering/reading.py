"""Reading: what each engine finds in the right passage, and what adaptive reading leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.answering.process import Worker
from benchmarks.answering.questions import Asked
from benchmarks.answering.scores import Best, agreement, answer_scores
from benchmarks.answering.systems import REFERENCE, Job
from benchmarks.measures import latency_figures
from training.data.dataset import Passage, Question


def gold_passages(
    jobs: Mapping[str, Job], questions: Sequence[Question], passages: Mapping[str, Passage]
) -> dict[str, dict[str, float]]:
    """Have every system read each question's own passage.

    Args:
        jobs: The systems, by name.
        questions: The questions.
        passages: The collection, by id.

    Returns:
        By system: `exact_match` and `f1` in percent, and, where the reference was measured, `f1_change` and
        `exact_match_change` from it and the `agreement` with it (share of the same quotes).

    Raises:
        JobError: A system failed.
    """
    found: dict[str, list[Best]] = {}
    for name, job in jobs.items():
        with Worker(job) as process:
            found[name] = [
                process.request("read", question=question.text, texts=[passages[question.passage_id].text])["best"]
                for question in questions
            ]
    figures = {name: answer_scores(questions, best) for name, best in found.items()}
    if REFERENCE in found:
        reference = dict(figures[REFERENCE])
        for name, best in found.items():
            for metric in ("exact_match", "f1"):
                figures[name][f"{metric}_change"] = figures[name][metric] - reference[metric]
            figures[name]["agreement"] = agreement(best, found[REFERENCE])
    return figures


def adaptive_figures(
    asked: Mapping[str, Asked], questions: Sequence[Question], exact: str
) -> dict[str, dict[str, Any]]:
    """Compare adaptive reading with reading everything.

    Args:
        asked: What was taken down of each, watched.
        questions: The questions that were counted.
        exact: Name of the system that reads everything.

    Returns:
        By system: `latency`, `windows_per_question` (windows read; most passages are one), `exact_match`, `f1`,
        `agreement` (share of questions with the same best quote as by `exact`), and how many times as fast as that,
        by the mean and the median (`speedup_mean`, `speedup_p50`).
    """
    latency = {name: latency_figures(one.seconds) for name, one in asked.items()}
    return {
        name: {
            "latency": latency[name],
            "windows_per_question": _windows(one) / len(questions),
            **answer_scores(questions, one.best),
            "agreement": agreement(one.best, asked[exact].best),
            "speedup_mean": latency[exact]["mean_ms"] / latency[name]["mean_ms"],
            "speedup_p50": latency[exact]["p50_ms"] / latency[name]["p50_ms"],
        }
        for name, one in asked.items()
    }


def _windows(asked: Asked) -> int:
    return sum(len(lengths) for path, lengths in asked.stages["lengths"].items() if path.startswith("whole/read"))
