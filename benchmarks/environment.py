"""What a figure was measured with."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "rom-haystack",
    "haystack-ai",
    "faiss-cpu",
    "faiss-haystack",
    "numpy",
    "onnxruntime",
    "openvino",
    "sentence-transformers",
    "sentence-transformers-haystack",
    "torch",
    "transformers",
    "transformers-haystack",
)
#: What makes matrix products in half precision and in int8 fast.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def environment() -> dict[str, str]:
    """Describe the machine and name the versions of what was measured."""
    packages = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    flags = _first(Path("/proc/cpuinfo"), "flags").split()
    return {
        "processor": _first(Path("/proc/cpuinfo"), "model name"),
        "instructions": " ".join(name for name in _INSTRUCTIONS if name in flags),
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
