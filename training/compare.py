"""Train and evaluate the variants of a grid, one after the other, and lay their figures side by side.

| file in the output folder | holds |
|---|---|
| `table.md` | the table of figures, the differences from the reference, and what failed |
| `report.json` | the same, in the form of evaluation reports |
| `<variant>/seed-<seed>/variant.json` | the recipes, which no other training in this folder may differ from |
| `<variant>/seed-<seed>/<model>/` | the run folders: `shared`, or `reading` and `retrieval`; or a model: `merged` |
| `<variant>/seed-<seed>/report.json`, `scores.npz` | what was measured, as figures and by question and article |

The table is written after every variant. What is finished is not done again; what was cut off goes on.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rom_haystack.durable import replace_file
from training.comparison import Comparison, Measured, compared
from training.errors import RecipeError, RunError
from training.evaluation import EvaluationOptions, Models, evaluate
from training.grid import READING, RETRIEVAL, SHARED, Grid, Training
from training.merging import merge
from training.release import read_report
from training.runs import make_folder
from training.samples import Sample
from training.towers import QUERY_MODEL
from training.trainer import train

logger = logging.getLogger(__name__)

TABLE_FILE, REPORT_FILE = "table.md", "report.json"
_SCORES_FILE, _VARIANT_FILE = "scores.npz", "variant.json"
_MERGED = "merged"


def compare(grid: Grid, trainings: Sequence[Training], data: Path, output: Path) -> Comparison:
    """Train and evaluate what is not finished yet, and write the table.

    A variant that fails is named in the table with what it said, and the others go on; the next call tries it again.

    Args:
        grid: What is compared.
        trainings: The grid's variants with their seeds.
        data: Root folder of the data.
        output: Folder to write.

    Raises:
        RecipeError: The folder can't be written, or holds a variant of the same name that is another one.
        RunError: Several processes were started; a grid is trained in one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunError("compare works in one process; start it without accelerate launch.")
    make_folder(output)
    for training in trainings:
        _claim(training, data, _folder(output, training))
    measured: dict[str, dict[int, Measured]] = {training.variant: {} for training in trainings}
    failures: dict[str, dict[int, str]] = {}
    for number, training in enumerate(trainings, start=1):
        name = f"{training.variant}, seed {training.seed} ({number} of {len(trainings)})"
        logger.info("Variant %s.", name)
        try:
            measured[training.variant][training.seed] = _measured(grid, training, data, output)
        except Exception as error:
            logger.warning("Variant %s failed.", name, exc_info=error)
            failures.setdefault(training.variant, {})[training.seed] = f"{type(error).__name__}: {error}"
        _free_memory()
        comparison = compared(grid, measured, failures)
        replace_file(output / TABLE_FILE, comparison.markdown())
        report = json.dumps(comparison.report(), default=asdict, indent=2)
        replace_file(output / REPORT_FILE, report + "\n")
    return comparison


def _folder(output: Path, training: Training) -> Path:
    return output / training.variant / f"seed-{training.seed}"


def _claim(training: Training, data: Path, folder: Path) -> None:
    """Tie a folder to what is trained there."""
    recipes = {name: {**asdict(recipe), "task_options": None} for name, recipe in training.recipes.items()}
    merged = {} if training.merge is None else {"merge": asdict(training.merge)}
    settings = json.loads(json.dumps({"recipes": recipes, "data_root": str(data.resolve()), **merged}))
    path = folder / _VARIANT_FILE
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != settings:
            raise RecipeError(
                f"{folder} belongs to another variant of this name: {_difference(before, settings)}. Choose another "
                "--output, or delete that folder."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(settings, indent=2) + "\n")


def _difference(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    """Name the first value in which two mappings differ."""
    key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
    old, new = before.get(key), now.get(key)
    if isinstance(old, dict) and isinstance(new, dict):
        return _difference(old, new, f"{prefix}{key}.")
    return f"{prefix}{key} was {old!r}, not {new!r}"


def _measured(grid: Grid, training: Training, data: Path, output: Path) -> Measured:
    """Train and evaluate a variant, or read what was measured before.

    Models are not trained again, but measured again if it was by other options, or by an older version, which kept no
    articles to draw.
    """
    first = training.variant == grid.first and training.seed == grid.seeds[0]
    options = grid.options if first else replace(grid.options, systems=[], base=None)
    folder = _folder(output, training)
    path = folder / REPORT_FILE
    before = read_report(path)["settings"] if path.is_file() else {}
    if before.get("evaluation") != asdict(options) or "article count" not in before:
        _evaluate(_models(training, data, output), data, folder, options)
    report = read_report(path)
    with np.load(folder / _SCORES_FILE) as arrays:
        scores = {metric: Sample.from_array(array) for metric, array in arrays.items()}
    return Measured(report["settings"], report["systems"], scores)


def _models(training: Training, data: Path, output: Path) -> Models:
    """Train, or merge, a variant's models where that is not done yet."""
    folder = _folder(output, training)
    trained = folder if training.merge is None else _folder(output, replace(training, variant=training.merge.of))
    for name, recipe in training.recipes.items():
        if not (trained / name / "model").is_dir():
            train(recipe, data, trained / name)
    if training.merge is not None:
        if not (folder / _MERGED).is_dir():
            base, share = training.recipes[SHARED].encoder, training.merge.base_share
            merge(trained / SHARED / "model", base, share, folder / _MERGED)
        return Models(folder / _MERGED)
    if SHARED in training.recipes:
        return Models(folder / SHARED / "model")
    retrieval = folder / RETRIEVAL
    return Models(folder / READING / "model", retrieval / "model", retrieval / QUERY_MODEL)


def _evaluate(models: Models, data: Path, folder: Path, options: EvaluationOptions) -> None:
    found = evaluate(models, data, options)
    partial = folder / f"partial.{_SCORES_FILE}"
    scores: dict[str, Any] = {metric: sample.to_array() for metric, sample in found.scores["rom"].items()}
    np.savez_compressed(partial, **scores)
    partial.replace(folder / _SCORES_FILE)
    report = found.report()
    report["settings"]["evaluation"] = asdict(options)
    replace_file(folder / REPORT_FILE, json.dumps(report, default=dataclasses.asdict, indent=2) + "\n")


def _free_memory() -> None:
    """Let go of the last variant's models, so that the next one has the memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
