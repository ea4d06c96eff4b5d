"""Run folders of `python -m training train`, finished or not, as they lie on the disk.

The training itself is not imported: the demo reads its files only.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.core.training_reports import Report, find_reports

#: Metric to its values, each with its step.
Curves = Mapping[str, Sequence[tuple[int, float]]]

#: Most bytes of a log that is read, and most runs that are listed.
MAX_LOG, MAX_RUNS = 50 * 2**20, 100
#: What every run logs beside its losses and its tasks' metrics.
BESIDES = ("learning_rate", "grad_norm", "epoch")

_LOG, _SETTINGS, _STATE = "metrics.jsonl", "settings.json", "trainer_state.json"
_CHECKPOINTS = "checkpoint-*"
# Of the last line of an ended run's log.
_RUNTIME = "train_runtime"
_SUMMARY = (_RUNTIME, "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss")


class RunError(ValueError):
    """A folder can't be shown; the message says why and what to do."""


@dataclass(frozen=True)
class TrainingRun:
    """A training run.

    Attributes:
        name: Its folder's name.
        folder: Its folder.
        settings: What it was started with, by key; those of tasks as `tasks.reading.batch_size`.
        curves: What it logged.
        step: The last step that is known of.
        steps: How many there are to be; None where that is not known.
        finished: Whether it reached its end.
        seconds: How long it took, where it is finished; without what came before an interruption.
        reports: Evaluations whose reports lie in its folder.
    """

    name: str
    folder: Path
    settings: Mapping[str, str]
    curves: Curves
    step: int
    steps: int | None
    finished: bool
    seconds: float | None
    reports: tuple[Report, ...]


def find_runs(folder: Path) -> list[Path]:
    """Find the runs in a folder: itself, else the folders in it, the latest first.

    Raises:
        RunError: It is no folder, can't be read, or has no run.
    """
    try:
        if not folder.is_dir():
            raise RunError(f"There is no folder '{folder}' on this machine.")
        if _is_run(folder):
            return [folder]
        found = [path for path in folder.iterdir() if path.is_dir() and _is_run(path)]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        if isinstance(error, RunError):
            raise
        raise RunError(f"'{folder}' can't be read ({error}).") from error
    if not found:
        raise RunError(
            f"There is no training run in '{folder}', nor in the folders in it: a run has a file {_LOG}, or a folder "
            f"{_CHECKPOINTS} while it is going on."
        )
    return found[:MAX_RUNS]


def read_run(folder: Path) -> TrainingRun:
    """Read a run as far as it has come.

    Raises:
        RunError: A file in it can't be read; the message names it.
    """
    entries = _log_lines(folder / _LOG)
    state = _last_state(folder)
    step = max(_last_step(entries), _whole(state.get("global_step")) or 0)
    steps = _whole(state.get("max_steps"))
    # A run that was stopped on its way has that line, too, and one that goes on after its end has a model.
    seconds = _number(entries[-1].get(_RUNTIME)) if entries else None
    finished = seconds is not None and (folder / "model").is_dir() and (steps is None or step >= steps)
    return TrainingRun(
        name=folder.resolve().name,
        folder=folder,
        settings=dict(_flat(_json_object(folder / _SETTINGS))),
        curves=_curves(entries),
        step=step,
        steps=steps,
        finished=finished,
        seconds=seconds if finished else None,
        reports=tuple(find_reports(folder)),
    )


def smoothed(points: Sequence[tuple[int, float]], weight: float) -> list[tuple[int, float]]:
    """Smooth a curve by an exponential moving average that makes up for its start.

    Args:
        points: Steps and values.
        weight: What the values before count together, from 0 to below 1; 0 changes nothing.
    """
    found, total, mass = [], 0.0, 0.0
    for step, value in points:
        total = weight * total + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        found.append((step, total / mass))
    return found


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Leave points out evenly, where there are more than can be seen; the last one stays."""
    apart = -(-len(points) // most)
    return list(points[::-1][::apart][::-1]) if apart > 1 else list(points)


def differences(runs: Sequence[TrainingRun]) -> dict[str, list[str]]:
    """Give the settings in which runs differ, with each run's value; a dash where it has none."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {key: [run.settings.get(key, "–") for run in runs] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}


def _is_run(folder: Path) -> bool:
    if (folder / _LOG).is_file() or any(folder.glob(f"{_CHECKPOINTS}/{_STATE}")):
        return True
    try:
        return "tasks" in _json_object(folder / _SETTINGS)  # it has just begun
    except RunError:
        return False


def _log_lines(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_LOG:
            raise RunError(f"{path} has more than {MAX_LOG // 2**20} MB, which is more than this page reads.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} can't be read ({error}).") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # it is being written
                break
            raise RunError(f"{path}, line {number}: no JSON ({error}).") from error
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _last_state(folder: Path) -> dict[str, Any]:
    """Read the state of the checkpoint that is furthest; one that is being written or removed is passed over."""
    best: dict[str, Any] = {}
    for path in folder.glob(f"{_CHECKPOINTS}/{_STATE}"):
        try:
            state = _json_object(path)
        except RunError:
            continue
        if (_whole(state.get("global_step")) or 0) > (_whole(best.get("global_step")) or -1):
            best = state
    return best


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} can't be read ({error}).") from error
    return found if isinstance(found, dict) else {}


def _curves(entries: Sequence[Mapping[str, Any]]) -> Curves:
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for entry in entries:
        step = _whole(entry.get("step"))
        for name, value in entry.items():
            number = _number(value)
            if step is not None and number is not None and name != "step" and name not in _SUMMARY:
                curves[name][step] = number
    ordered = sorted(curves, key=lambda name: (name in BESIDES, name != "loss", name))
    return {name: sorted(curves[name].items()) for name in ordered}


def _last_step(entries: Sequence[Mapping[str, Any]]) -> int:
    return max((_whole(entry.get("step")) or 0 for entry in entries), default=0)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        found += _flat(inner, f"{name}.") if isinstance(inner, dict) else [(name, _as_text(inner))]
    return found


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None
