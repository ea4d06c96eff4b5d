"""Where a run takes place, for whoever wants to repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("rom-haystack", "torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy", "bm25s")


def environment() -> dict[str, Any]:
    """Describe this process's surroundings.

    Returns:
        `started` (UTC), `command`, `commit` of the checkout (None outside one; `-changed` behind it where files differ
        from it), `python`, `packages` with their versions (None where missing), `platform`, `processor`, `cores`,
        `memory_gib` (None where unknown) and `gpus`.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [*sys.orig_argv],
        "commit": _commit(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(folder: Path) -> str | None:
    """Return the commit of the checkout that holds a folder."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(folder), *arguments]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            return None
        return asked.stdout.strip() if asked.returncode == 0 else None

    # A copy without history inside some other project's checkout has no commit.
    if not ask("ls-files", "--", Path(__file__).name):
        return None
    commit = ask("rev-parse", "HEAD")
    return commit and commit + ("-changed" if ask("status", "--porcelain", "--untracked-files=no") else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):  # not on every system
        return None


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {"name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
