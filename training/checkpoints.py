"""The resumable checkpoints of a run: written at once, kept as long as they are needed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from training.files import delete_folder, replace_folder

#: The trainer's state in a checkpoint.
STATE_FILE = "trainer_state.json"

#: Latest checkpoints that are kept.
KEPT = 2

_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = "partial"


def checkpoint_at(output: Path, step: int) -> Path:
    """Return where a run keeps the checkpoint of a step."""
    return output / f"checkpoint-{step}"


def whole_checkpoints(output: Path) -> dict[int, Path]:
    """Find a run folder's whole checkpoints by step, in rising order.

    The trainer writes its state last, so a folder without it was cut off while an older version wrote it.
    """
    named = {int(match[1]): path for path in output.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))}
    return {step: named[step] for step in sorted(named) if _state(named[step]) is not None}


def last_checkpoint(output: Path) -> Path | None:
    """Find a run folder's last whole checkpoint; None where there is none."""
    return next(reversed(whole_checkpoints(output).values()), None)


def step_of(checkpoint: Path) -> int:
    """Return the step after which a run wrote a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def history_of(checkpoint: Path | None) -> list[dict[str, Any]]:
    """Return everything that a run had logged when it wrote a checkpoint; nothing where there is no checkpoint."""
    state = None if checkpoint is None else _state(checkpoint)
    return list(state["log_history"]) if state else []


def partial_checkpoints(output: Path) -> Path:
    """Return the folder in which a run writes a checkpoint that is not whole yet."""
    return output / _PARTIAL


def publish(output: Path, step: int, best: int | None) -> None:
    """Give the checkpoint of a step its name, and delete those that are no longer needed.

    Args:
        output: Run folder.
        step: The step; its checkpoint lies in `partial_checkpoints`.
        best: Step of the checkpoint to keep for its model, if any.
    """
    replace_folder(checkpoint_at(partial_checkpoints(output), step), checkpoint_at(output, step))
    partial_checkpoints(output).rmdir()
    steps = list(whole_checkpoints(output))
    for old in steps[:-KEPT]:
        if old != best:
            delete_folder(checkpoint_at(output, old))


def clear_leftovers(output: Path) -> None:
    """Delete what a killed run left half written or half deleted."""
    for path in (partial_checkpoints(output), *output.glob("*model.partial"), *output.glob("deleted.*")):
        shutil.rmtree(path, ignore_errors=True)


def _state(checkpoint: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and "log_history" in state else None
