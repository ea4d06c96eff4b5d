"""How time grows: with the passages read, their length, the cores, and the users that ask at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from benchmarks.answering.process import workers
from benchmarks.answering.systems import TOP_PASSAGES, Job
from benchmarks.answering.turns import Turns
from benchmarks.measures import latency_figures
from training.data.dataset import Passage, Question

#: Questions before anything is counted.
_WARM_UP = 3
#: Questions that each of the most users asks.
_QUESTIONS_PER_USER = 4


@dataclass(frozen=True)
class Points:
    """Where growth is measured.

    Args:
        questions: Questions per point.
        passages: Numbers of passages.
        words: Words per passage.
        cores: Numbers of cores.
        users: Numbers of users.
    """

    questions: int = 30
    passages: Sequence[int] = (1, 2, 5, 10, 20, 50, 100)
    words: Sequence[int] = (50, 100, 200, 300, 400)
    cores: Sequence[int] = (1, 2)
    users: Sequence[int] = (1, 4, 16)


#: By system and point on the x axis, its figures.
Curves = dict[str, dict[str, dict[str, Any]]]


def by_passages(jobs: Mapping[str, Job], questions: Sequence[Question], points: Points, turns: Turns) -> Curves:
    """Ask questions, reading more and more passages; each number of them has questions of its own.

    Returns:
        By system and number of passages, latencies.

    Raises:
        JobError: A system failed.
    """
    shares = {top_k: _share(questions, number, points) for number, top_k in enumerate(points.passages)}
    requests = {
        str(top_k): [("ask", {"question": question.text, "top_k": top_k}) for question in share]
        for top_k, share in shares.items()
    }
    return _in_turn(jobs, requests, turns)


def by_words(
    jobs: Mapping[str, Job],
    questions: Sequence[Question],
    passages: Mapping[str, Passage],
    points: Points,
    turns: Turns,
) -> Curves:
    """Have ten passages of a length read, made of the question's own passage and those that follow it.

    Returns:
        By system and words per passage, the latencies of reading alone.

    Raises:
        JobError: A system failed.
    """
    texts, places = [passage.text for passage in passages.values()], {id_: row for row, id_ in enumerate(passages)}
    requests = {}
    for number, words in enumerate(points.words):
        share = _share(questions, number, points)
        requests[str(words)] = [
            ("read", {"question": q.text, "texts": joined(texts, places[q.passage_id], words, TOP_PASSAGES)})
            for q in share
        ]
    return _in_turn(jobs, requests, turns)


def by_cores(jobs: Mapping[str, Job], questions: Sequence[Question], points: Points, turns: Turns) -> Curves:
    """Ask questions of processes that may use so many cores.

    Returns:
        By system and number of cores, latencies.

    Raises:
        JobError: A system failed.
    """
    curves: Curves = {name: {} for name in jobs}
    asked = [("ask", {"question": question.text}) for question in _share(questions, 0, points)]
    for cores in points.cores:
        limited = {name: replace(job, cores=cores) for name, job in jobs.items()}
        for name, curve in _in_turn(limited, {str(cores): asked}, turns).items():
            curves[name] |= curve
    return curves


def by_users(jobs: Mapping[str, Job], questions: Sequence[Question], points: Points, turns: Turns) -> Curves:
    """Have several users ask at once, each the next question when the last is answered.

    Returns:
        By system and number of users, latencies, `questions_per_s` and `failures`.

    Raises:
        JobError: A system failed.
    """
    curves: Curves = {name: {} for name in jobs}
    count = _QUESTIONS_PER_USER * max(points.users)
    with workers(jobs) as processes:
        for process in processes.values():
            for question in questions[:_WARM_UP]:
                process.request("ask", question=question.text)
        for number, users in enumerate(points.users):
            asked = [question.text for question in _cyclic(questions, _WARM_UP + number * count, count)]
            for name in turns.order(jobs):
                curves[name][str(users)] = _served(processes[name].request("users", questions=asked, users=users))
    return curves


def joined(texts: Sequence[str], first: int, words: int, count: int) -> list[str]:
    """Make passages of so many words, by joining the texts from `first` on, and from the start again at their end."""
    wanted = words * count
    following = (word for row in range(len(texts)) for word in texts[(first + row) % len(texts)].split())
    found = list(islice(following, wanted))
    return [" ".join(found[start : start + words]) for start in range(0, len(found), words)]


def _in_turn(
    jobs: Mapping[str, Job], requests: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]], turns: Turns
) -> Curves:
    """Make the requests of every point, of every system in turn; the first few of each point are not counted."""
    curves: Curves = {name: {} for name in jobs}
    with workers(jobs) as processes:
        for point, share in requests.items():
            seconds: dict[str, list[float]] = {name: [] for name in jobs}
            for number, (action, arguments) in enumerate(share):
                for name in turns.order(jobs):
                    reply = processes[name].request(action, **arguments)
                    if number >= _WARM_UP:
                        seconds[name].append(reply["seconds"])
            for name in jobs:
                curves[name][point] = latency_figures(seconds[name])
    return curves


def _share(questions: Sequence[Question], number: int, points: Points) -> list[Question]:
    count = points.questions + _WARM_UP
    return _cyclic(questions, number * count, count)


def _cyclic(questions: Sequence[Question], first: int, count: int) -> list[Question]:
    return [questions[(first + number) % len(questions)] for number in range(count)]


def _served(reply: Mapping[str, Any]) -> dict[str, Any]:
    latency = latency_figures(reply["seconds"]) if reply["seconds"] else {}
    return {
        **latency,
        "questions_per_s": len(reply["seconds"]) / reply["elapsed_s"],
        "failures": reply["failures"],
    }
