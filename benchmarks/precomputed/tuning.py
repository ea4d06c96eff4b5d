"""Tune a checkpoint to a split, keeping retrieval by the same tasks that trained it."""

from __future__ import annotations

from pathlib import Path

from transformers import set_seed

from benchmarks.precomputed.split import Split, SplitModel
from rom_haystack.modeling import load_checkpoint
from training.recipe import Recipe
from training.starting import set_dropout
from training.trainer import train_model


def tune(checkpoint: str, split: Split, recipe: Recipe, data: Path, output: Path) -> Path:
    """Train a checkpoint on, reading by a split; an interrupted run in `output` is continued.

    Reading sees `split`; retrieval is contrasted with, and anchored to, the passages as the checkpoint embeds them.

    Args:
        checkpoint: Folder or name of the checkpoint to start from; the recipe's own encoder is not used.
        split: How to read.
        recipe: Data, tasks and settings.
        data: Root folder of the data.
        output: Run folder.

    Returns:
        Folder of the tuned model, a ROM checkpoint like any other.

    Raises:
        CheckpointError: The checkpoint can't be loaded.
        DataError: The data can't be used.
        RecipeError: The run folder belongs to another recipe or data.
    """
    set_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    loaded, tokenizer = load_checkpoint(checkpoint)
    if recipe.attention is not None:
        loaded.encoder.set_attn_implementation(recipe.attention)
    loaded.encoder.embeddings.requires_grad_(not recipe.freeze_embeddings)
    model = SplitModel(loaded, tokenizer, split)
    set_dropout(model, recipe.dropout)
    train_model(model, tokenizer, recipe, data, output)
    return output / "model"
