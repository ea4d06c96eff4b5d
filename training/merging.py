"""Merging: a trained encoder drawn back towards the one that it was trained from."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer

from rom_haystack.modeling import CheckpointError, ROMModel, load_checkpoint, save_checkpoint
from training.errors import DataError
from training.files import replace_folder
from training.starting import rom_checkpoint


def merge(model: Path, base: str, share: float, output: Path) -> None:
    """Interpolate between a trained model's encoder and its base's, weight by weight; the heads stay as trained.

    Along that line models often keep what training gave and regain what it cost elsewhere (WiSE-FT: Wortsman et al.,
    2022, section 3; for embedding models: Xiao et al., 2023, LM-Cocktail). Nothing is trained, so try several shares
    on development data. What was measured of the trained model's answers (`calibration.json`) does not go along.

    Args:
        model: The trained model, a ROM checkpoint. It stays as it is.
        base: Folder or hub id of the encoder that it was trained from; a ROM checkpoint's is taken, too.
        share: Share of the base in the merged weights, from 0 (the model as it is) to 1 (the base's encoder).
        output: Folder to write.

    Raises:
        CheckpointError: One of the two can't be loaded, or they differ in architecture or vocabulary.
        DataError: `output` exists, or can't be written.
    """
    if output.exists():
        raise DataError(f"{output} exists already; choose another --output, or delete it.")
    merged, tokenizer = load_checkpoint(model)
    source = str(rom_checkpoint(base) or base)
    try:
        other = ROMModel.from_encoder(source, {"retrieval": {}})
        vocabulary = AutoTokenizer.from_pretrained(source).get_vocab()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The base '{base}' can't be loaded: {error}") from error
    if vocabulary != tokenizer.get_vocab():
        raise CheckpointError(f"The base '{base}' has another vocabulary than {model}; name what it was trained from.")
    interpolate(merged, other, share)
    partial = output.with_name(f"{output.name}.partial")
    try:
        save_checkpoint(merged, tokenizer, partial)
        replace_folder(partial, output)
    except OSError as error:
        raise DataError(f"{output} can't be written ({error}).") from error


@torch.no_grad()
def interpolate(model: ROMModel, base: ROMModel, share: float) -> None:
    """Move a model's encoder towards another one, in place.

    Args:
        model: The model.
        base: A model with an encoder of the same architecture; its heads do not matter.
        share: How far, from 0 (not at all) to 1 (all the way).

    Raises:
        CheckpointError: The encoders' weights have other names or shapes.
    """
    weights, others = dict(model.encoder.named_parameters()), dict(base.encoder.named_parameters())
    for name in sorted({*weights, *others}):
        shapes = [tuple(w[name].shape) if name in w else "missing" for w in (weights, others)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"The encoders can't be merged: weight '{name}' is {shapes[0]} in the model and {shapes[1]} in the "
                "base. Name the encoder that the model was trained from."
            )
    for name, weight in weights.items():
        weight.lerp_(others[name].to(weight), share)
