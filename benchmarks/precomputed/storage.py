"""Passages' states on disk, memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.precomputed.split import to_int8

Stored = Literal["float16", "int8"]

_SCALE_BYTES = 2  # a float16 behind each token's codes


def bytes_per_token(hidden_size: int, stored_as: Stored) -> int:
    """Return what one token's state takes on disk."""
    return 2 * hidden_size if stored_as == "float16" else hidden_size + _SCALE_BYTES


class StateFile:
    """States of many passages in one file, token after token.

    Args:
        path: The file to write.
        passages: `[tokens, hidden_size]` states of each passage; at least one.
        stored_as: Their precision in the file.
    """

    def __init__(self, path: Path, passages: Iterable[Tensor], stored_as: Stored) -> None:
        self.path = path
        self.stored_as = stored_as
        ends = [0]
        with path.open("wb") as file:
            for states in passages:
                ends.append(ends[-1] + len(states))
                self._row_bytes = bytes_per_token(states.shape[1], stored_as)
                file.write(_encoded(states, stored_as).tobytes())
            file.flush()
            os.fsync(file.fileno())  # only pages that are on the disk can be dropped from the cache
        self._ends = np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def read(self, numbers: Iterable[int]) -> list[Tensor]:
        """Map the file and return the states of some passages, in float32."""
        rows = np.memmap(self.path, dtype=np.uint8, mode="r").reshape(-1, self._row_bytes)
        return [_decoded(np.array(rows[self._ends[n] : self._ends[n + 1]]), self.stored_as) for n in numbers]

    def drop_from_cache(self) -> None:
        """Make the next `read` fetch everything from the disk."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def _encoded(states: Tensor, stored_as: Stored) -> np.ndarray:
    if stored_as == "float16":
        return states.half().numpy()
    codes, scales = to_int8(states.float())
    return np.hstack([codes.numpy().view(np.uint8), scales.half().numpy().view(np.uint8)])


def _decoded(rows: np.ndarray, stored_as: Stored) -> Tensor:
    if stored_as == "float16":
        return torch.from_numpy(rows.view(np.float16)).float()
    codes = torch.from_numpy(rows[:, :-_SCALE_BYTES].view(np.int8)).float()
    scales = torch.from_numpy(np.ascontiguousarray(rows[:, -_SCALE_BYTES:]).view(np.float16)).float()
    return codes * scales
