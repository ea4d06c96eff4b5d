"""Where a run starts: a plain encoder with fresh heads, or a ROM checkpoint that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import cached_file

import training.attention  # noqa: F401 (registers `lean`)
from rom_haystack.modeling import (
    CheckpointError,
    ROMConfig,
    ROMModel,
    bundled_checkpoints,
    load_checkpoint,
    resolve_checkpoint,
)
from rom_haystack.modeling.config import DEFAULT_HEADS
from rom_haystack.modeling.conversion.sources import recognise
from rom_haystack.modeling.places import MODEL_TYPE
from training.errors import RecipeError
from training.recipe import Recipe
from training.tasks import TASKS
from training.towers import add_query_tower

#: Kinds of models that are no plain encoders, as messages call them.
_NEED_CONVERSION = {"dpr": "a DPR model", "reader": "a question answering model"}


def load_start(recipe: Recipe) -> tuple[ROMModel, PreTrainedTokenizerBase]:
    """Load what a recipe starts from: model and tokenizer.

    Raises:
        RecipeError: The encoder can't be loaded, or is a model of another kind.
        CheckpointError: The recipe names a head or head option that does not exist, or the checkpoint is damaged.
    """
    try:
        model = start_model(recipe)
        return model, AutoTokenizer.from_pretrained(rom_checkpoint(recipe.encoder) or recipe.encoder)
    except (CheckpointError, RecipeError):
        raise
    except (OSError, ValueError) as error:  # what transformers raises for missing and unknown encoders
        raise RecipeError(f"Recipe key 'encoder' is '{recipe.encoder}', which can't be loaded: {error}") from error


def rom_checkpoint(encoder: str) -> Path | None:
    """Return the folder of a ROM checkpoint that a recipe's encoder names; None where it names a plain encoder."""
    if encoder in bundled_checkpoints():
        return bundled_checkpoints()[encoder]
    try:
        config = json.loads((Path(encoder).expanduser() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return None
    is_rom = isinstance(config, dict) and config.get("model_type") == MODEL_TYPE
    return resolve_checkpoint(encoder) if is_rom else None


def check_kind(encoder: str) -> None:
    """Refuse an encoder that comes with a head of another kind: the head would be lost, or in the way.

    A sentence-transformers model is an encoder as good as any.

    Raises:
        RecipeError: It is a DPR or question answering model; the message names the remedy.
        OSError: Nothing of that name can be found.
    """
    config = cached_file(encoder, "config.json")
    kind = recognise(Path(config).parent) if config else None
    if kind in _NEED_CONVERSION:
        raise RecipeError(
            f"Recipe key 'encoder' is '{encoder}', {_NEED_CONVERSION[kind]}, which training can't start from as it is. "
            f"Convert it by `rom convert {encoder} --output FOLDER`, and name that folder: its head goes on, too."
        )


def start_model(recipe: Recipe) -> ROMModel:
    """Load the recipe's encoder with fresh heads, or its ROM checkpoint; set dropout, freeze what stays, add a tower.

    Raises:
        RecipeError: The encoder is a model of another kind.
    """
    checkpoint = rom_checkpoint(recipe.encoder)
    if checkpoint is not None:
        model = continued_model(recipe, checkpoint)
    else:
        check_kind(recipe.encoder)
        model = ROMModel.from_encoder(
            recipe.encoder,
            recipe.heads or {**DEFAULT_HEADS, **heads_of(recipe)},
            seed=recipe.seed,
            attn_implementation=recipe.attention,
        )
    set_dropout(model, recipe.dropout)
    if recipe.freeze_embeddings:
        embeddings = getattr(model.encoder, "embeddings", model.get_input_embeddings())
        embeddings.requires_grad_(requires_grad=False)
    if recipe.two_towers:
        add_query_tower(model)
    return model


def continued_model(recipe: Recipe, checkpoint: Path) -> ROMModel:
    """Load a ROM checkpoint to be trained on; heads that it lacks, or has with other options, start fresh."""
    model, _ = load_checkpoint(checkpoint, model_kwargs={"attn_implementation": recipe.attention})
    retrieval = model.config.heads.get("retrieval", {})
    if retrieval.get("similarity") == "unscaled_cosine":  # the loss takes inner products, so lengths end here
        retrieval["similarity"] = model.retrieval_head.similarity = "cosine"
    heads = recipe.heads or {**heads_of(recipe), **model.config.heads}
    if heads == model.config.heads:
        return model
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        started = ROMModel(ROMConfig(encoder=model.config.encoder, heads=heads))
    started.encoder = model.encoder
    for name, options in heads.items():
        if model.config.heads.get(name) == options:
            started.heads[name] = model.heads[name]
    return started


def heads_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the heads that a recipe's tasks train, with the options of a fresh model."""
    names = [TASKS[task].head for task in recipe.tasks]
    usual = {name: options for name, options in DEFAULT_HEADS.items() if name in names}
    return {**usual, **{name: {} for name in names if name not in usual}}


def set_dropout(model: ROMModel, probability: float) -> None:
    """Set every dropout in the model, those inside fused attention included."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        for attribute in ("dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, probability)
