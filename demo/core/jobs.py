"""Long work in the background, with progress, and an end on request."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Outcome = TypeVar("Outcome")
State = Literal["running", "done", "failed", "cancelled"]


class CancelledError(Exception):
    """The job is to end; raised where it reports its progress."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        done: Units of work that are done.
        total: Units of work that there are; 0 where that is not known yet.
        label: What is worked on, such as a file's name.
    """

    done: int = 0
    total: int = 0
    label: str = ""


#: What a job calls to report: units done, units in all, label. Raises `CancelledError` once the job is to end.
Report = Callable[[int, int, str], None]


class Job(Generic[Outcome]):
    """Work that runs in a thread of its own from the start.

    Args:
        work: What to do. It reports its progress, and so learns that it is to end.
        title: What it is, in a few words.

    Attributes:
        title: As given.
        progress: How far it is.
        state: `running`, `done`, `failed` or `cancelled`.
        outcome: What `work` returned, once it is `done`.
        error: What it raised, where it `failed`.
    """

    def __init__(self, work: Callable[[Report], Outcome], title: str) -> None:
        self.title = title
        self.progress = Progress()
        self.state: State = "running"
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self._to_end = threading.Event()
        # The thread lets go of the work in the end, so that a job that is kept keeps nothing else alive.
        self._thread = threading.Thread(target=self._run, args=(work,), name=title, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ask the job to end; it does where it reports next."""
        self._to_end.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end.

        Args:
            timeout: Most seconds to wait; None for as long as it takes.

        Returns:
            Whether it has ended.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _report(self, done: int, total: int, label: str) -> None:
        self.progress = Progress(done, total, label)
        if self._to_end.is_set():
            raise CancelledError

    def _run(self, work: Callable[[Report], Outcome]) -> None:
        try:
            self.outcome = work(self._report)
            self.state = "done"
        except CancelledError:
            self.state = "cancelled"
        except Exception as error:  # noqa: BLE001 (whatever it is, who waits for the job must learn of it)
            self.error = error
            self.state = "failed"
