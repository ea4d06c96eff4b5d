"""What a measurement of engines depends on: the machine and the versions."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: How processors say that they multiply matrices in bfloat16.
_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
_CPU_INFO = Path("/proc/cpuinfo")
_MEASURED_PACKAGES = ("rom-haystack", "torch", "openvino", "onnxruntime")


def circumstances() -> dict[str, Any]:
    """Describe this machine and the versions of what is measured, in plain values.

    Returns:
        `cpu` (its model), `features` (a hash of its instruction sets), `cores` that this process may use, and
        `versions` by package, None where one is not installed.
    """
    model, features = _processor()
    return {
        "cpu": model,
        "features": hashlib.blake2b(features.encode(), digest_size=8).hexdigest(),
        "cores": usable_cores(),
        "versions": {name: _version(name) for name in _MEASURED_PACKAGES},
    }


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def computes_in_bfloat16() -> bool:
    """Tell whether the CPU multiplies matrices in bfloat16; False also where the system doesn't tell."""
    _, features = _processor()
    return not _BFLOAT16.isdisjoint(features.split())


def _processor() -> tuple[str, str]:
    """Model and instruction sets of the CPU, as far as the system tells."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine(), platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    features = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.machine(), " ".join(sorted(features.split()))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
