"""Trains in every process of a group, whole runs and, of the last recipe, one that stops and goes on.

Called with data root, the folder of recipes and runs, and the names of the recipes.
"""

import sys
from pathlib import Path

from training.recipe import load_recipe
from training.trainer import train

if __name__ == "__main__":
    data, root = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:]:
        recipe = load_recipe(root / f"{name}.yaml")
        train(recipe, data, root / f"{name}-whole")
    assert train(recipe, data, root / f"{name}-parts", stop_after=2) is None
    assert train(recipe, data, root / f"{name}-parts") == root / f"{name}-parts" / "model"
