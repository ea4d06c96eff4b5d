"""Trains in every process of a group: whole runs, of the last recipe one that stops and goes on, and one that fails.

Called with data root, the folder of recipes and runs, and the names of the recipes.
"""

import os
import sys
from pathlib import Path

from training.errors import RunError
from training.recipe import load_recipe
from training.tasks.reading import ReadingTask
from training.trainer import train

if __name__ == "__main__":
    data, root = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:]:
        recipe = load_recipe(root / f"{name}.yaml")
        train(recipe, data, root / f"{name}-whole")
    assert train(recipe, data, root / f"{name}-parts", stop_after=2) is None
    assert train(recipe, data, root / f"{name}-parts") == root / f"{name}-parts" / "model"
    loss, rank = ReadingTask.loss, os.environ["RANK"]
    if rank == "1":  # there alone it is no number
        ReadingTask.loss = lambda *arguments: (loss(*arguments)[0] * float("nan"), {})
    try:
        train(load_recipe(root / f"{sys.argv[3]}.yaml"), data, root / "failed")
    except RunError as error:
        (root / f"failed-{rank}.txt").write_text(str(error))
