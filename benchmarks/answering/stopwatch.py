"""Where the time of one question goes: nested stages, each with the time that none of its inner stages took."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Time nested stages of one thread.

    Attributes:
        seconds: By path (`read/forward`), the time spent there, inner stages left out; so that all of them add up to
            the whole.
        lengths: By path, the lengths of what was worked on there, where a stage counts them.
    """

    def __init__(self) -> None:
        self._path: list[str] = []
        self._mark = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.lengths: dict[str, list[int]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str, lengths: Sequence[int] = ()) -> Iterator[None]:
        """Time what is done inside; a stage within a stage of its own name is no stage."""
        if self._path and self._path[-1] == name:
            yield
            return
        self._lap()
        self._path.append(name)
        self.lengths["/".join(self._path)] += lengths
        try:
            yield
        finally:
            self._lap()
            self._path.pop()

    def watch(
        self, owner: type, method: str, name: str, lengths: Callable[..., Sequence[int]] = lambda *_, **__: ()
    ) -> None:
        """Make every call of a method a stage, for good.

        Args:
            owner: The class that has the method.
            method: Its name.
            name: Of the stage.
            lengths: Gives, from the method's arguments, the lengths of what it works on.
        """
        plain = getattr(owner, method)

        @functools.wraps(plain)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.stage(name, lengths(*arguments, **named)):
                return plain(*arguments, **named)

        setattr(owner, method, timed)

    def _lap(self) -> None:
        now = time.perf_counter()
        if self._path:
            self.seconds["/".join(self._path)] += now - self._mark
        self._mark = now
