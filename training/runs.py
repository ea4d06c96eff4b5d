"""The folder of a run: whose it is, what was resolved, where it runs, and its metrics as they come.

| file | holds |
|---|---|
| `settings.json` | what the run is tied to, so that no other continues it |
| `recipe.resolved.yaml` | the recipe with every default, a recipe in its own right |
| `environment.json` | for each start: versions, hardware, commit, command line, the step it began after |
| `metrics.jsonl` | a JSON object a line: `step` and the metrics of the steps since the last one |
| `stores/` | until the model is there, data that is too large for memory; see `training.data.stores` |
| `checkpoint-<step>/` | what the run continues from |
| `curves.png`, `curves.html` | learning curves, at the end |
| `model/` | the trained model, at the end |
| `query_model/` | of two towers the query encoder, `model/` being the passage encoder |
| `failed-step-<step>/` | the batches of a step whose loss or gradient was no finite number |
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import yaml

from rom_haystack.durable import replace_file
from training.checkpoints import clear_leftovers, history_of, step_of
from training.data.stores import source_files
from training.environment import environment
from training.errors import RecipeError
from training.recipe import Recipe

METRICS_FILE = "metrics.jsonl"
STORES = "stores"

#: Recipe keys that may change when a run is continued.
_FREE = (
    "steps",
    "epochs",
    "checkpoint_every",
    "log_every",
    "patience",
    "workers",
    "tensorboard",
    "remarks",
    "task_options",
)


def make_folder(output: Path) -> None:
    """Make a run folder, unless it is there.

    Raises:
        RecipeError: It can't be made or written to.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):  # a name of its own, as several processes may look at once
            pass
    except OSError as error:
        raise RecipeError(f"The run folder {output} can't be written ({error}). Choose another --output.") from error


def claim_folder(recipe: Recipe, data: Path, output: Path, processes: int = 1) -> None:
    """Tie a run folder to what is trained there, so that no run continues another one's checkpoints.

    The number of steps or epochs, how often is saved and logged, the patience, the workers and the remarks may change.
    Files of data may not, as batches are numbers of what stands in them.

    Args:
        recipe: The recipe.
        data: Root folder of the data.
        output: The run folder.
        processes: Processes that train together; they share the batches, so another number sees others.

    Raises:
        RecipeError: The folder belongs to another recipe, other data or another number of processes.
    """
    settings = {key: value for key, value in asdict(recipe).items() if key not in _FREE}
    files = _digests(recipe, data)
    settings |= {"data_root": str(data.resolve()), "processes": processes}
    path = output / "settings.json"
    if path.is_file():
        before = {**_defaults(), "files": files, **json.loads(path.read_text(encoding="utf-8"))}
        for key, value in json.loads(json.dumps(settings)).items():
            if before.get(key) != value:
                raise RecipeError(
                    f"{output} belongs to a run with {key} = {before.get(key)!r}, not {value!r}. Choose another "
                    "--output."
                )
        for file in sorted({*before["files"], *files}):
            if before["files"].get(file) != files.get(file):
                raise RecipeError(
                    f"{output} belongs to a run that began with other data: {file} has changed since. Put the file "
                    "back, or choose another --output."
                )
    text = json.dumps({**settings, "files": files}, indent=2) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # the first process has written it for all
        replace_file(path, text)


def begin(recipe: Recipe, output: Path, checkpoint: Path | None, processes: int) -> None:
    """Prepare a run folder for a start from a checkpoint: as if the run had paused right there.

    What was half written is deleted, and `metrics.jsonl` ends with what was logged up to the checkpoint; what came
    after will come again.

    Args:
        recipe: The recipe, its epochs turned into steps.
        output: The run folder.
        checkpoint: Where the run starts; None for the beginning.
        processes: Processes that train together.
    """
    clear_leftovers(output)
    history = history_of(checkpoint)
    replace_file(output / METRICS_FILE, "".join(json.dumps(entry) + "\n" for entry in history))
    replace_file(output / "recipe.resolved.yaml", _resolved(recipe))
    path = output / "environment.json"
    starts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    after = step_of(checkpoint) if checkpoint else 0
    starts.append({"after_step": after, "processes": processes, **environment()})
    replace_file(path, json.dumps(starts, indent=2) + "\n")


def append_metrics(output: Path, entry: dict[str, Any]) -> None:
    """Write a line of metrics, so that it is there whatever comes next."""
    with (output / METRICS_FILE).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(entry) + "\n")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read a run's metrics, of a run that still goes on, too.

    Raises:
        RecipeError: It is no run folder, or a line before the last is damaged.
    """
    path = run / METRICS_FILE
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} can't be read ({error}); is {run} the folder of a run?") from error
    entries = []
    for number, line in enumerate(lines[:-1], start=1):  # behind the last line break a line is being written
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise RecipeError(f"{path}, line {number}: not JSON ({error}).") from error
    return entries


def _digests(recipe: Recipe, root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that a run reads, by its path."""
    named = [options.data or recipe.data for options in recipe.task_options.values()]
    names = {name for some in named for name in ([some] if isinstance(some, str) else some)}
    names |= {recipe.development} if recipe.development else set()
    digests = {}
    for file in (file for name in sorted(names) for file in source_files(root / name)):
        with file.open("rb") as content:
            digests[str(file.resolve())] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def _defaults() -> dict[str, Any]:
    """Return what the settings of a run were before their key was known: a recipe's defaults and one process."""
    return {spec.name: spec.default for spec in fields(Recipe) if spec.default is not MISSING} | {"processes": 1}


def _resolved(recipe: Recipe) -> str:
    values = {key: value for key, value in asdict(recipe).items() if key != "task_options"}
    values["tasks"] = {name: asdict(options) for name, options in recipe.task_options.items()}
    head = "# What was trained: the recipe with every default, epochs turned into steps.\n"
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
