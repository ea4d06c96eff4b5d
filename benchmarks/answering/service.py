"""What a measuring process does when it is asked; times are taken here, around the system's own calls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from haystack import Document, ExtractedAnswer

from benchmarks.answering.stopwatch import Stopwatch
from benchmarks.answering.systems import TOP_PASSAGES, Job
from benchmarks.measures import memory, timed


class Answering(Protocol):
    """A system at work."""

    def ask(self, question: str, top_k: int) -> list[ExtractedAnswer]:
        """Answer a question from the document store, reading `top_k` passages; best answer first."""
        ...

    def read(self, question: str, documents: list[Document]) -> list[ExtractedAnswer]:
        """Answer a question from documents; best answer first."""
        ...

    def embed(self, documents: list[Document], batch_size: int | None) -> list[Document]:
        """Embed documents; a batch size of None is the default one."""
        ...

    def embed_questions(self, questions: list[str]) -> list[list[float]]:
        """Embed questions."""
        ...


class Service:
    """The actions of a measuring process. All of them take and return what JSON can hold.

    Args:
        job: What the process is for.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stopwatch = Stopwatch()
        self._watched = False
        self._imported: dict[str, int] = {}

    @cached_property
    def _system(self) -> Answering:
        if self._job.system.family == "rom":
            from benchmarks.answering.rom import ROMAnswering  # noqa: PLC0415 (only one family is needed)

            self._imported = memory()
            return ROMAnswering(self._job.system, self._job.place)
        from benchmarks.answering.stock import StockAnswering  # noqa: PLC0415

        self._imported = memory()
        return StockAnswering(self._job.system, self._job.place)

    def ask(self, question: str, top_k: int = TOP_PASSAGES) -> dict[str, Any]:
        """Answer a question from the document store.

        Returns:
            `seconds`, and `best`: the best quote (`text`, `document`, `start`, `end`, `score`), or None.
        """
        system = self._system
        with self._stopwatch.stage("whole"):
            answers, seconds = timed(partial(system.ask, question, top_k))
        return {"seconds": seconds, "best": _best(answers)}

    def read(self, question: str, texts: list[str]) -> dict[str, Any]:
        """Answer a question from texts; see `ask` for what comes back."""
        system = self._system
        documents = [Document(id=str(number), content=text) for number, text in enumerate(texts)]
        answers, seconds = timed(partial(system.read, question, documents))
        return {"seconds": seconds, "best": _best(answers)}

    def embed(self, texts: list[str], batch_size: int | None = None, file: str | None = None) -> dict[str, Any]:
        """Embed texts as documents without titles.

        Args:
            texts: The texts.
            batch_size: Of the embedder; None for its default.
            file: Where the embeddings go (`.npy`); None for nowhere.

        Returns:
            `seconds`.
        """
        system = self._system
        documents = [Document(id=str(number), content=text) for number, text in enumerate(texts)]
        with self._stopwatch.stage("whole"):
            embedded, seconds = timed(partial(system.embed, documents, batch_size))
        if file is not None:
            _save(Path(file), [document.embedding for document in embedded])
        return {"seconds": seconds}

    def embed_questions(self, questions: list[str], file: str) -> dict[str, Any]:
        """Embed questions into a file (`.npy`)."""
        _save(Path(file), self._system.embed_questions(questions))
        return {}

    def users(self, questions: list[str], users: int) -> dict[str, Any]:
        """Have users ask at once, in a thread each, one question after the other.

        Args:
            questions: Shared out among the users.
            users: How many.

        Returns:
            `seconds` per question, of those that were answered; `elapsed_s` for all; and `failures`: by error, the
            number of questions that met it.
        """
        shares = [questions[user::users] for user in range(users)]
        start = time.perf_counter()
        with ThreadPoolExecutor(users) as pool:
            results = [result for share in pool.map(self._ask_all, shares) for result in share]
        elapsed = time.perf_counter() - start
        errors = [result for result in results if isinstance(result, str)]
        return {
            "seconds": [result for result in results if isinstance(result, float)],
            "elapsed_s": elapsed,
            "failures": {error: errors.count(error) for error in errors},
        }

    def watch(self) -> dict[str, Any]:
        """Time the stages of what is done from now on; a system's models must have been loaded.

        A second call forgets what was measured since the first.
        """
        from benchmarks.answering.watching import watch_rom  # noqa: PLC0415 (only ROM's stages are known)

        if not self._watched:
            watch_rom(self._stopwatch)
        self._watched = True
        self._stopwatch.reset()
        return {}

    def stages(self) -> dict[str, Any]:
        """Return the `seconds` of each stage since `watch`, and the `lengths` of what was worked on, in tokens."""
        return {"seconds": self._stopwatch.seconds, "lengths": self._stopwatch.lengths}

    def engine(self) -> dict[str, Any]:
        """Name ROM's `engine` and the type of its arithmetic, such as `openvino-bfloat16`."""
        from benchmarks.answering.rom import engine_name  # noqa: PLC0415

        return {"engine": engine_name(self._job.system, self._job.place)}

    def peak(self) -> dict[str, Any]:
        """Measure this machine's matrix products; see `peak.peak_flops`."""
        from benchmarks.answering.peak import peak_flops  # noqa: PLC0415 (it imports torch)

        return dict(peak_flops())

    def memory(self) -> dict[str, Any]:
        """Read the process's memory; see `measures.memory`.

        Returns:
            What it is now; and `added`, by how much `resident` grew since the system's components were imported.
        """
        now = memory()
        return {**now, "added": now["resident"] - self._imported.get("resident", 0)}

    def _ask_all(self, questions: Sequence[str]) -> list[float | str]:
        return [self._ask_one(question) for question in questions]

    def _ask_one(self, question: str) -> float | str:
        try:
            return timed(partial(self._system.ask, question, TOP_PASSAGES))[1]
        except Exception as error:  # noqa: BLE001 (a system that can't serve several users is a result)
            return f"{type(error).__name__}: {error}"[:300]


def _best(answers: Sequence[ExtractedAnswer]) -> dict[str, Any] | None:
    """Describe the best quote; that there may be no answer is no quote."""
    best = next((answer for answer in answers if answer.data), None)
    if best is None or best.document is None or best.document_offset is None:
        return None
    return {
        "text": best.data,
        "document": best.document.id,
        "start": best.document_offset.start,
        "end": best.document_offset.end,
        "score": best.score,
    }


def _save(file: Path, embeddings: Sequence[Sequence[float] | None]) -> None:
    np.save(file, np.array(embeddings, dtype=np.float32))
