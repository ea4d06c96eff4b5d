"""Which batch of which task comes when: the schedule's plan as a data set for the trainer."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from training.errors import RecipeError
from training.recipe import Recipe
from training.schedules import SCHEDULES, Plan, shares, stage_lengths
from training.tasks import Task


class StepDataset(Dataset):  # type: ignore[type-arg]
    """Item i holds the features of every task that batch i trains, as the schedule planned it.

    An optimizer step takes as many items, one after the other, as the run has processes, times the recipe's
    `gradient_accumulation`; of `n` processes, process `r` takes items `r`, `r + n`, `r + 2n`, …
    """

    def __init__(self, tasks: Mapping[str, Task[Any]], plan: Plan) -> None:
        self.tasks = tasks
        self.plan = plan
        self._numbers: list[dict[str, int]] = []
        counts: dict[str, int] = defaultdict(int)
        for active in plan:
            self._numbers.append({name: counts[name] for name in active})
            for name in active:
                counts[name] += 1

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, item: int) -> dict[str, Any]:
        features = {name: self.tasks[name].batch(number) for name, number in self._numbers[item].items()}
        return {"features": features, "weights": self.plan[item], "item": item}

    def numbers(self, item: int) -> dict[str, int]:
        """Return by task the number of its batch in an item."""
        return self._numbers[item]


def only_item(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Pass on an item as it is: it is a batch already."""
    (item,) = items
    return item


def plan_of(recipe: Recipe, processes: int) -> Plan:
    """Plan what every batch of a run trains, those of all processes in one row.

    Raises:
        RecipeError: The run is too short for a stage of `sequential`.
    """
    mixture, batches = recipe.mixture, recipe.steps * _batches_per_step(recipe, processes)
    if recipe.schedule == "sequential":
        for number, length in enumerate(stage_lengths(mixture, batches)):
            if length == 0:
                tasks = ", ".join(mixture.stage_weights[number])
                raise RecipeError(
                    f"Recipe key 'steps' is {recipe.steps}, of which stage {number + 1} of 'sequential' ({tasks}) gets "
                    "none; train longer, or give it a larger 'share' in 'stages'."
                )
    return SCHEDULES[recipe.schedule](mixture, batches, recipe.seed)


def in_steps(recipe: Recipe, tasks: Mapping[str, Task[Any]]) -> Recipe:
    """Turn a recipe's epochs into steps, shared by the processes of a run on several devices."""
    if recipe.epochs is None:
        return recipe
    share = shares(recipe.schedule, recipe.mixture)
    batches = recipe.epochs * max(task.batches_per_epoch / share[name] for name, task in tasks.items())
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return replace(recipe, steps=math.ceil(round(batches) / _batches_per_step(recipe, processes)), epochs=None)


def _batches_per_step(recipe: Recipe, processes: int) -> int:
    return recipe.gradient_accumulation * processes
