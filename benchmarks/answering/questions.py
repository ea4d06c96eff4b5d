"""Questions, end to end: every system is asked the same ones, in turn, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.answering.process import Worker, workers
from benchmarks.answering.scores import Best, agreement, answer_scores
from benchmarks.answering.systems import REFERENCE, SYSTEMS, Job
from benchmarks.answering.turns import Turns
from benchmarks.measures import latency_figures
from training.data.dataset import Question


@dataclass
class Asked:
    """What was taken down of one system.

    Attributes:
        seconds: Per question.
        best: Per question, the best quote.
        memory: The process's memory after the questions.
        idle_s: Time that the process spent waiting while the others were asked.
        idle_cpu_s: CPU time that it used meanwhile.
        stages: Where the time went, of all questions together, if that was watched; see `Service.stages`.
    """

    seconds: list[float] = field(default_factory=list)
    best: list[Best] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    idle_s: float = 0.0
    idle_cpu_s: float = 0.0
    stages: dict[str, Any] = field(default_factory=dict)


def ask_in_turn(
    jobs: Mapping[str, Job], questions: Sequence[Question], turns: Turns, *, warm_up: int, watched: bool = False
) -> dict[str, Asked]:
    """Ask every system every question, each time in another order.

    Args:
        jobs: The systems, by name.
        questions: Questions, those for warming up first.
        turns: In which order they are asked.
        warm_up: How many of the questions are not counted.
        watched: Whether to time the stages, which only ROM's systems have; it takes a little time itself.

    Raises:
        JobError: A system failed.
    """
    asked = {name: Asked() for name in jobs}
    with workers(jobs) as processes:
        for number, question in enumerate(questions):
            if watched and number == warm_up:
                for process in processes.values():
                    process.request("watch")
            for name in turns.order(jobs):
                reply = processes[name].request("ask", question=question.text)
                if number >= warm_up:
                    _take_down(asked[name], reply)
        for name, process in processes.items():
            asked[name].memory = _memory(process)
            asked[name].stages = process.request("stages")
    return asked


def question_figures(asked: Mapping[str, Asked], questions: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """Sum up what was taken down.

    Args:
        asked: Systems by name.
        questions: The questions that were counted.

    Returns:
        By system: `latency`; `memory` after the questions (bytes, see `Service.memory`); `idle_cpu_share` (CPU seconds
        per second of waiting); `exact_match` and `f1`. Of ROM's systems also the `agreement` with the reference and,
        under `against`, by peer how many times as fast (`p50`, `p95`), by how much better (`f1_change`), and with
        which part of its resident `memory` and of what models, documents and questions added (`added_memory`).
    """
    figures = {name: _figures(one, questions) for name, one in asked.items()}
    peers = {name: peer for name, peer in figures.items() if SYSTEMS[name].family != "rom"}
    for name, ours in figures.items():
        if name not in peers:
            ours["against"] = {peer: _against(ours, theirs) for peer, theirs in peers.items()}
            if REFERENCE in asked:
                ours["agreement"] = agreement(asked[name].best, asked[REFERENCE].best)
    return figures


def _take_down(asked: Asked, reply: Mapping[str, Any]) -> None:
    asked.seconds.append(reply["seconds"])
    asked.best.append(reply["best"])
    asked.idle_s += reply["idle_s"]
    asked.idle_cpu_s += reply["idle_cpu_s"]


def _memory(process: Worker) -> dict[str, int]:
    reply = process.request("memory")
    return {name: reply[name] for name in ("resident", "anonymous", "file_backed", "peak", "added")}


def _figures(asked: Asked, questions: Sequence[Question]) -> dict[str, Any]:
    return {
        "latency": latency_figures(asked.seconds),
        "memory": asked.memory,
        "idle_cpu_share": asked.idle_cpu_s / asked.idle_s,
        **answer_scores(questions, asked.best),
    }


def _against(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, float]:
    return {
        "p50": peer["latency"]["p50_ms"] / ours["latency"]["p50_ms"],
        "p95": peer["latency"]["p95_ms"] / ours["latency"]["p95_ms"],
        "f1_change": ours["f1"] - peer["f1"],
        "memory": ours["memory"]["resident"] / peer["memory"]["resident"],
        "added_memory": ours["memory"]["added"] / peer["memory"]["added"],
    }
