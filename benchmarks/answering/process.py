"""Measuring processes: one per system, each asked over a pipe, one JSON object per line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from benchmarks.answering.systems import Job
from benchmarks.errors import JobError

ROOT = Path(__file__).resolve().parents[2]

#: The benchmark is about CPUs, and nothing in it asks the network.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "HAYSTACK_TELEMETRY_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
_GRACE = 30  # seconds that a process has to end by itself


def environment_of_workers() -> dict[str, str]:
    """Return the environment variables of measuring processes."""
    return {**os.environ, **_ENVIRONMENT}


class Worker:
    """A measuring process, started at once; nothing is imported or loaded in it before the first request.

    Args:
        job: What it is for.
    """

    def __init__(self, job: Job) -> None:
        self._messages = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (`close` does)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.answering.worker"],
            cwd=ROOT,
            env=environment_of_workers(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            encoding="utf-8",
        )
        self._send(asdict(job))

    def request(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Have something done, and wait for it.

        Args:
            action: Name of a method of `Service`.
            **arguments: Its arguments.

        Returns:
            What the method returned, and `idle_cpu_s` and `idle_s`: the CPU time that the process used, and the time
            that passed, between its last reply and this request.

        Raises:
            JobError: The process failed; the message holds what it said.
        """
        self._send({"action": action, **arguments})
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise JobError(f"A measuring process ended during '{action}': {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise JobError(f"A measuring process failed during '{action}': {reply['error']}")
        return reply

    def close(self) -> None:
        """End the process and wait for its end."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._messages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin is None:
            raise JobError("A measuring process can't be asked: it has no standard input.")
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise JobError(f"A measuring process ended: {self._last_words()}") from error

    def _last_words(self) -> str:
        self._process.wait()
        self._messages.seek(0)
        return f"it returned {self._process.returncode} and said: {self._messages.read()[-4000:]}"


@contextmanager
def workers(jobs: Mapping[str, Job]) -> Iterator[dict[str, Worker]]:
    """Start a process per job, and end them all afterwards."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Worker(job)) for name, job in jobs.items()}
