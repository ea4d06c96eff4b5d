"""Whose turn it is: all systems do the same work, one at a time, each time in another order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

#: Seconds between one system's work and the next one's: threads that wait by spinning have stopped by then.
SETTLE = 0.05

Item = TypeVar("Item")


class Turns:
    """Orders drawn by a seed, with a rest after each turn.

    Args:
        seed: Seed of the orders.
        settle: Seconds to rest.
    """

    def __init__(self, seed: int, settle: float = SETTLE) -> None:
        self._rng = np.random.default_rng(seed)
        self._settle = settle

    def order(self, items: Iterable[Item]) -> Iterator[Item]:
        """Give all items, in an order drawn anew."""
        known = list(items)
        for index in self._rng.permutation(len(known)):
            yield known[index]
            time.sleep(self._settle)
