"""The parts of the benchmark, each of which can be measured by itself."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.answering import growth, indexing, limit, reading, starting
from benchmarks.answering.prepare import Preparation, Report, Sources, load_texts
from benchmarks.answering.process import Worker
from benchmarks.answering.questions import Asked, ask_in_turn, question_figures
from benchmarks.answering.systems import ADAPTIVE, DEFAULT, ENGINES, GROWING, UNCOALESCED, Job, System
from benchmarks.answering.turns import SETTLE, Turns
from rom_haystack.modeling import resolve_checkpoint
from training.data.dataset import Question

#: The parts, in the order in which they are measured.
PARTS = ("questions", "start", "indexing", "embeddings", "reading", "adaptive", "limit", "growth")


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        passages: Passages in the collection; None for all.
        questions: Questions counted, end to end and for the stages.
        warm_up: Questions before them.
        adaptive: Questions by which adaptive reading is compared.
        indexed: Passages that every embedder embeds.
        read: Questions whose own passages are read, and by which retrieval is judged.
        rounds: Cold starts of each system.
        points: Where growth is measured.
        seed: Seed of everything that is drawn.
        settle: Seconds to wait after each turn.
    """

    passages: int | None = None
    questions: int = 200
    warm_up: int = 10
    adaptive: int = 1000
    indexed: int = 1000
    read: int = 2000
    rounds: int = 3
    points: growth.Points = field(default_factory=growth.Points)
    seed: int = 13
    settle: float = SETTLE


class Measurement:
    """One run: its texts and its systems, ready to be measured part by part.

    Args:
        sources: What it is made of.
        settings: How much is measured.
        systems: The systems by name.
        report: Takes a line about what is being done.

    Raises:
        DataError: A data set is missing or damaged.
        CheckpointError: The checkpoint can't be loaded.
        ValueError: A system can't be measured here.
    """

    def __init__(self, sources: Sources, settings: Settings, systems: Mapping[str, System], report: Report) -> None:
        self._sources = sources
        self._settings = settings
        self._report = report
        self._texts = load_texts(sources.data, settings.passages, settings.seed)
        self._preparation = Preparation(sources, list(self._texts.passages.values()), settings.seed, report)
        self._jobs = {name: Job(system, self._preparation.place(system)) for name, system in systems.items()}

    def engines(self) -> dict[str, str]:
        """Have every ROM system answer once, so that graphs are exported and engines chosen; return their names."""
        found = {}
        for name, job in self._jobs.items():
            if job.system.family == "rom":
                self._report(f"preparing {name}")
                with Worker(job) as process:
                    process.request("ask", question=self._texts.questions[0].text)
                    found[name] = str(process.request("engine")["engine"])
        return found

    def measure(self, part: str) -> dict[str, Any]:
        """Measure one of `PARTS`."""
        self._report(f"measuring {part}")
        figures: dict[str, Any] = getattr(self, f"_{part}")()
        return figures

    def _questions(self) -> dict[str, Any]:
        count = self._settings.questions
        return question_figures(self._asked(self._end_to_end, count), self._counted(count))

    def _start(self) -> dict[str, Any]:
        rounds = self._settings.rounds
        return {
            "rom_haystack": starting.import_and_load(self._sources.model, rounds),
            "systems": starting.first_answers(self._end_to_end, self._texts.questions[0], rounds),
        }

    def _indexing(self) -> dict[str, Any]:
        texts = self._drawn_texts(self._settings.indexed + indexing.WARM_UP)
        return indexing.embed_in_turn(self._engine_jobs | self._of(("stock",)), texts, self._turns())

    def _embeddings(self) -> dict[str, Any]:
        return indexing.embedding_quality(
            self._engine_jobs,
            list(self._texts.passages.values()),
            self._preparation.vectors("rom"),
            self._texts.questions[: self._settings.read],
            self._sources.work,
        )

    def _reading(self) -> dict[str, Any]:
        questions = self._texts.questions[: self._settings.read]
        return reading.gold_passages(self._engine_jobs, questions, self._texts.passages)

    def _adaptive(self) -> dict[str, Any]:
        jobs = self._of((DEFAULT, *ADAPTIVE))
        if DEFAULT not in jobs:
            raise ValueError(f"Adaptive reading is compared with the system '{DEFAULT}', which --systems leaves out.")
        count = self._settings.adaptive
        return reading.adaptive_figures(self._asked(jobs, count, watched=True), self._counted(count), DEFAULT)

    def _limit(self) -> dict[str, Any]:
        if not self._engine_jobs:
            raise ValueError("The stages are those of ROM's systems, and --systems leaves all of them out.")
        architecture = limit.Architecture.of(resolve_checkpoint(self._sources.model))
        with Worker(next(iter(self._engine_jobs.values()))) as process:
            reply = process.request("peak")
        peak = {name: reply[name] for name in ("float32", "bfloat16")}
        asked = self._asked(self._engine_jobs, self._settings.questions, watched=True)
        return {
            "peak_gflops": {name: value / 1e9 for name, value in peak.items()},
            "question": {
                name: limit.stage_figures(one.stages, len(one.seconds), architecture, peak)
                for name, one in asked.items()
            },
            "document": {
                name: limit.stage_figures(self._embedding_stages(job), self._settings.indexed, architecture, peak)
                for name, job in self._engine_jobs.items()
            },
        }

    def _growth(self) -> dict[str, Any]:
        jobs, points, turns = self._of(GROWING), self._settings.points, self._turns()
        questions, passages = self._texts.questions, self._texts.passages
        return {
            "passages": growth.by_passages(jobs, questions, points, turns),
            "words": growth.by_words(jobs, questions, passages, points, turns),
            "cores": growth.by_cores(jobs, questions, points, turns),
            "users": growth.by_users(jobs | self._of((UNCOALESCED,)), questions, points, turns),
        }

    def _asked(self, jobs: Mapping[str, Job], count: int, *, watched: bool = False) -> dict[str, Asked]:
        warm_up = self._settings.warm_up
        questions = self._texts.questions[: warm_up + count]
        return ask_in_turn(jobs, questions, self._turns(), warm_up=warm_up, watched=watched)

    def _counted(self, count: int) -> list[Question]:
        return self._texts.questions[self._settings.warm_up : self._settings.warm_up + count]

    def _embedding_stages(self, job: Job) -> dict[str, Any]:
        texts = self._drawn_texts(self._settings.indexed)
        with Worker(job) as process:
            process.request("embed", texts=texts)
            process.request("watch")
            process.request("embed", texts=texts)
            return process.request("stages")

    def _drawn_texts(self, count: int) -> list[str]:
        passages = list(self._texts.passages.values())
        if count > len(passages):
            raise ValueError(
                f"{count} passages are to be embedded, warming up counted, but the collection has {len(passages)}: "
                "take more by --passages, or embed fewer by --indexed."
            )
        rows = np.random.default_rng(self._settings.seed).choice(len(passages), count, replace=False)
        return [passages[row].text for row in rows]

    def _turns(self) -> Turns:
        return Turns(self._settings.seed, self._settings.settle)

    @property
    def _end_to_end(self) -> dict[str, Job]:
        return {name: job for name, job in self._jobs.items() if name != UNCOALESCED}

    @property
    def _engine_jobs(self) -> dict[str, Job]:
        return self._of(ENGINES)

    def _of(self, names: Container[str]) -> dict[str, Job]:
        return {name: job for name, job in self._jobs.items() if name in names}
