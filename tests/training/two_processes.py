"""Trains in every process of a group: a whole run, and one that stops and goes on. Called with recipe and data root."""

import sys
from pathlib import Path

from training.recipe import load_recipe
from training.trainer import train

if __name__ == "__main__":
    recipe, data, root = load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
    train(recipe, data, root / "whole")
    assert train(recipe, data, root / "parts", stop_after=2) is None
    assert train(recipe, data, root / "parts") == root / "parts" / "model"
