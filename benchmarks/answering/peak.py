"""How fast this machine multiplies matrices: the limit that the encoder's arithmetic is held against."""

from __future__ import annotations

import time

import torch

#: Widths of the square matrices; the best of them counts.
_SIZES = (1024, 2048, 4096)
_REPETITIONS = 8


def peak_flops() -> dict[str, float]:
    """Multiply matrices in torch, on all cores that this process may use.

    Returns:
        `float32` and `bfloat16`: floating-point operations per second, the best of all sizes and repetitions.
    """
    return {
        name: max(_flops(size, dtype) for size in _SIZES)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }


def _flops(size: int, dtype: torch.dtype) -> float:
    one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        _ = one @ other
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
