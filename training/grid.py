"""Grids of variants of a recipe, read from YAML and checked before anything is trained.

```yaml
name: schedules
base: ../rom-minilm-l6.yaml    # a recipe, from the grid's folder
recipe: {steps: 400}           # changes for all variants
seeds: [13, 14]
evaluation: {limit: 2000}      # see training.evaluation.EvaluationOptions
variants:
  joint: {}                    # the first one is the reference
  alternating: {recipe: {schedule: alternating, steps: 800}}
  no anchor: {recipe: {tasks: {retrieval: {anchor_weight: 0}}}}
  separate: {separate: true}
  merged: {merge: {of: joint, base_share: 0.2}}
```

Changes go into mappings key by key; null takes a key out, and a mapping in the place of nothing is taken whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.errors import OptionError, RecipeError, require
from training.evaluation import EvaluationOptions
from training.recipe import Recipe, checked, read_mapping
from training.tasks import TASKS

#: What variants may be called, as they name folders and columns.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,+-]*")
#: The models of a variant: the shared one, or the separate ones.
SHARED = "shared"
READING, RETRIEVAL = "reading", "retrieval"


@dataclass(frozen=True)
class Merge:
    """A model that is not trained: another variant's, merged with its base, see `training.merging`.

    Args:
        of: Name of the other variant, which trains one shared encoder.
        base_share: Share of the base in the merged encoder.
    """

    of: str
    base_share: float

    def __post_init__(self) -> None:
        require(self, "base_share", 0 < self.base_share <= 1, "above 0 and at most 1")


@dataclass(frozen=True)
class Variant:
    """One column of the table.

    Args:
        recipe: Changes to the base recipe.
        separate: Train three separate encoders, by the same recipe, in the place of one: query encoder and passage
            encoder (two towers) by the tasks that train the `retrieval` head, and a reader by the others. Each model
            sees, in as many steps, the very batches of its tasks that the shared encoder sees under `joint`.
        merge: Options of `Merge`, in the place of a recipe.
    """

    recipe: dict[str, Any] = field(default_factory=dict)
    separate: bool = False
    merge: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        alone = self.merge is None or not (self.recipe or self.separate)
        require(self, "merge", alone, "alone, without 'recipe' and 'separate', as nothing is trained")


@dataclass(frozen=True)
class Grid:
    """Variants of a recipe that are compared.

    Args:
        name: Name of the grid.
        base: Recipe file, from the grid's folder.
        variants: By name the options of each variant, see `Variant`. Baselines are measured beside the first one.
        compared_with: Name of the variant that the others are compared with; None for the first one.
        seeds: Each variant is trained with each of these seeds.
        recipe: Changes to the base recipe for all variants; a variant's own go on top.
        evaluation: What is measured, see `EvaluationOptions`; the same questions for all variants and seeds.
    """

    name: str
    base: str
    variants: dict[str, Any]
    compared_with: str | None = None
    seeds: list[int] = field(default_factory=lambda: [13])
    recipe: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    options: EvaluationOptions = field(init=False, compare=False)

    def __post_init__(self) -> None:
        require(self, "variants", bool(self.variants), "a mapping with at least one variant")
        require(self, "seeds", bool(self.seeds) and len(set(self.seeds)) == len(self.seeds), "different seeds")
        for name in self.variants:
            if not _NAME.fullmatch(str(name)):
                raise OptionError(f"variants.{name}", "names a folder: use letters, digits, spaces and _.,+- only.")
        require(self, "compared_with", self.reference in self.variants, f"one of {', '.join(map(str, self.variants))}")
        object.__setattr__(self, "options", checked(EvaluationOptions, self.evaluation, "evaluation."))

    @property
    def first(self) -> str:
        """Name of the variant that baselines are measured beside."""
        return next(iter(self.variants))

    @property
    def reference(self) -> str:
        """Name of the variant that others are compared with."""
        return self.first if self.compared_with is None else self.compared_with


@dataclass(frozen=True)
class Training:
    """A variant with a seed: what is trained.

    Attributes:
        variant: Name of the variant.
        seed: The seed.
        recipes: Recipes by model: one named `SHARED`, or `READING` and `RETRIEVAL`.
        merge: How another variant's model, which has these recipes, becomes this one; None where it is trained.
    """

    variant: str
    seed: int
    recipes: dict[str, Recipe]
    merge: Merge | None = None


def load_grid(path: Path, encoder: str | None = None, seeds: list[int] | None = None) -> tuple[Grid, list[Training]]:
    """Read a grid, and what is to be trained for it, seed by seed.

    Args:
        path: A YAML file.
        encoder: Folder or hub id to use instead of the recipes' encoder, and as the untuned base.
        seeds: Seeds instead of the grid's; None, or none, for the grid's.

    Raises:
        RecipeError: The file is no YAML mapping, or a key of it or of a variant's recipe is unknown, missing or wrong.
    """
    values = read_mapping(path, "Grid")
    with _named(f"Grid {path}"):
        grid = checked(Grid, {**values, "seeds": seeds} if seeds else values)
    common = merged(read_mapping(path.parent / grid.base, "Recipe"), grid.recipe)
    if encoder is not None:
        common["encoder"] = encoder
        if grid.options.base is not None:
            grid = replace(grid, evaluation={**grid.evaluation, "base": encoder})
    variants = {}
    for name, options in grid.variants.items():
        with _named(f"Grid {path}, variant '{name}'"):
            variants[str(name)] = checked(Variant, options or {})
    trainings = []
    for seed in grid.seeds:
        for name, variant in variants.items():
            with _named(f"Grid {path}, variant '{name}'"):
                merge = None if variant.merge is None else checked(Merge, variant.merge, "merge.")
                trained = name if merge is None else _trained(merge, variants)
                recipes = _recipes(trained, variants[trained], {**common, "seed": seed})
            trainings.append(Training(name, seed, recipes, merge))
    return grid, trainings


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change a mapping, and the mappings in it, key by key; None takes a key out. Neither argument is changed."""
    result = dict(values)
    for key, change in changes.items():
        before = result.get(key)
        if change is None:
            result.pop(key, None)
        elif isinstance(change, dict):
            result[key] = merged(before if isinstance(before, dict) else {}, change)
        else:
            result[key] = change
    return result


def _trained(merge: Merge, variants: Mapping[str, Variant]) -> str:
    """Return the name of the variant that is merged."""
    shared = [name for name, variant in variants.items() if not variant.separate and variant.merge is None]
    if merge.of not in shared:
        raise RecipeError(
            f"Key 'merge.of' is '{merge.of}'; it must be a variant that trains one encoder: {', '.join(shared)}."
        )
    return merge.of


def _recipes(name: str, variant: Variant, common: dict[str, Any]) -> dict[str, Recipe]:
    """Return the recipes of a variant's models."""
    values = merged(common, {"name": name, **variant.recipe})
    shared = checked(Recipe, values)
    if not variant.separate:
        return {SHARED: shared}
    if shared.schedule != "joint":
        raise RecipeError(
            f"Key 'separate' is true, but 'schedule' is '{shared.schedule}'; it must be 'joint', so that each model "
            "sees as many batches of its tasks as the shared one does there."
        )
    by_head = {task: RETRIEVAL if TASKS[task].head == "retrieval" else READING for task in shared.tasks}
    if set(by_head.values()) != {READING, RETRIEVAL}:
        raise RecipeError("Key 'separate' is true, but there are no tasks for both retrieval and reading.")
    recipes = {}
    for model in (READING, RETRIEVAL):
        tasks = {task: options for task, options in shared.tasks.items() if by_head[task] == model}
        change = {"name": f"{name}, {model}", "tasks": tasks, "two_towers": model == RETRIEVAL}
        recipes[model] = checked(Recipe, {**values, **change})
    return recipes


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say where a recipe's mistake is."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
