"""What a figure was measured with."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("rom-haystack", "haystack-ai", "faiss-cpu", "faiss-haystack", "numpy")


def environment() -> dict[str, str]:
    """Describe the machine and name the versions of what was measured."""
    packages = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    return {
        "processor": _first(Path("/proc/cpuinfo"), "model name"),
        "cores": str(os.cpu_count()),
        "memory": _first(Path("/proc/meminfo"), "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **packages,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first(file: Path, name: str) -> str:
    """Find the first `name: value` of one of the kernel's files."""
    lines = (line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
    return next((value.strip() for key, value in lines if key.strip() == name), "unknown")
