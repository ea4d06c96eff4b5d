"""Unsaved documents of browser sessions that have left."""

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from demo.core.collection import Collection, ShelfError
from demo.core.visits import PATIENCE

# Streamlit lets a session come back within two minutes; what was removed later nobody can miss.
_AFTER = PATIENCE + 60
_EVERY = 30.0  # seconds


@dataclass(eq=False)
class _Watched:
    drafts: weakref.ref[Collection]
    visited: Callable[[], bool]
    seen: float


class Sweeper:
    """Removes the unsaved documents of sessions that have been away for long; their objects may live on.

    Args:
        clock: Tells the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []

    def start(self) -> None:
        """Sweep now and then, as long as the process lives."""
        threading.Thread(target=self._run, name="Sweeping unsaved documents", daemon=True).start()

    def watch(self, drafts: Collection, visited: Callable[[], bool]) -> None:
        """Remove unsaved documents once their session has been away for long.

        Args:
            drafts: The documents.
            visited: Tells whether the session is there now.
        """
        with self._lock:
            self._watched.append(_Watched(weakref.ref(drafts), visited, self._clock()))

    def sweep(self) -> None:
        """Look once at all sessions."""
        with self._lock:
            watched = list(self._watched)
        ended = [one for one in watched if self._has_left(one)]
        for one in ended:
            if (drafts := one.drafts()) is not None:
                with suppress(ShelfError):  # gone already
                    drafts.discard()
        with self._lock:
            self._watched = [one for one in self._watched if one not in ended]

    def _has_left(self, one: _Watched) -> bool:
        if one.drafts() is None:
            return True
        if one.visited():
            one.seen = self._clock()
        return self._clock() - one.seen > _AFTER

    def _run(self) -> None:
        while True:
            time.sleep(_EVERY)
            self.sweep()
