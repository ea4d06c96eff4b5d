"""What is measured of a process and of a folder: memory, disk blocks, times. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")

_BLOCK = 512  # st_blocks counts these, whatever the file system's block size
_STATUS = Path("/proc/self/status")
_MEMORY = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "file_backed", "VmHWM": "peak"}


def memory() -> dict[str, int]:
    """Read this process's memory in bytes.

    Returns:
        `resident` (what counts: everything in RAM, mapped files included), its parts `anonymous` and `file_backed`
        (the kernel takes the latter back when it needs memory), and `peak`, the highest `resident` so far.
    """
    lines = (line.split() for line in _STATUS.read_text(encoding="ascii").splitlines())
    return {_MEMORY[name[0].rstrip(":")]: int(name[1]) * 1024 for name in lines if name[0].rstrip(":") in _MEMORY}


def disk_bytes(folder: Path) -> int:
    """Add up the disk blocks that a folder's files occupy, in bytes."""
    return sum(path.stat().st_blocks * _BLOCK for path in folder.rglob("*") if path.is_file())


def drop_from_page_cache(folder: Path) -> None:
    """Ask the kernel to forget a folder's files, so that the next one to open them reads the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # only clean pages are dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Call, and return the result with the seconds it took."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def latency_figures(seconds: Sequence[float]) -> dict[str, float]:
    """Summarise latencies in milliseconds: `p50_ms`, `p95_ms`, `p99_ms`, `max_ms`, `mean_ms`, and their `count`."""
    milliseconds = 1000 * np.asarray(seconds, dtype=np.float64)
    return {
        "p50_ms": float(np.percentile(milliseconds, 50)),
        "p95_ms": float(np.percentile(milliseconds, 95)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "max_ms": float(milliseconds.max()),
        "mean_ms": float(milliseconds.mean()),
        "count": len(milliseconds),
    }
