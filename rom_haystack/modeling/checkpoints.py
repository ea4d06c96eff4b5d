"""Load ROM checkpoints, and write them as they are published."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.model import ROMModel
from rom_haystack.modeling.places import DEFAULT_CHECKPOINT, has_weights, resolve_checkpoint


def load_checkpoint(
    model: str | Path = DEFAULT_CHECKPOINT,
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    model_kwargs: dict[str, Any] | None = None,
    tokenizer_kwargs: dict[str, Any] | None = None,
) -> tuple[ROMModel, PreTrainedTokenizerBase]:
    """Load a model, ready for inference, with its tokenizer.

    Args:
        model: As in `resolve_checkpoint`.
        revision: As in `resolve_checkpoint`.
        token: As in `resolve_checkpoint`.
        local_files_only: As in `resolve_checkpoint`.
        dtype: Type of the weights in memory.
        device: A torch device (`cpu`, `cuda:0`, `mps`).
        model_kwargs: Passed to `ROMModel.from_pretrained`.
        tokenizer_kwargs: Passed to `AutoTokenizer.from_pretrained`.

    Raises:
        CheckpointError: The checkpoint can't be found, holds an exported graph only, is damaged or incomplete, or its
            weights are not finite.
    """
    folder = resolve_checkpoint(model, revision=revision, token=token, local_files_only=local_files_only)
    if not has_weights(folder):
        raise CheckpointError(
            f"{folder} holds an exported graph only, and no weights (*.safetensors) that torch could load. Choose the "
            'engine that it was exported for: backend="openvino" or backend="onnx".'
        )
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, **(model_kwargs or {})}
    try:
        # mismatched sizes are ignored here to be named below
        loaded, report = ROMModel.from_pretrained(folder, dtype=dtype, local_files_only=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **(tokenizer_kwargs or {}))
    except CheckpointError:
        raise
    except Exception as error:  # transformers and safetensors raise many kinds, all meaning "damaged"
        raise CheckpointError(f"The checkpoint in {folder} can't be loaded; is a file damaged? ({error})") from error
    for problem in ("missing_keys", "mismatched_keys"):
        if report[problem]:
            raise CheckpointError(f"The weights in {folder} do not fit its config.json: {problem} {report[problem]}.")
    for name, parameter in loaded.named_parameters():
        if not torch.isfinite(parameter).all():
            raise CheckpointError(f"The weights in {folder} hold NaN or infinite values, first in '{name}'.")
    return loaded.to(device).eval(), tokenizer


def save_release(model: ROMModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model in half precision with its tokenizer: the form in which checkpoints are published."""
    save_checkpoint(copy.deepcopy(model).to(torch.float16), tokenizer, folder)


def save_checkpoint(model: ROMModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model as it is, and its tokenizer without what its last batch was cut and padded to."""
    model.save_pretrained(folder)
    plain = copy.deepcopy(tokenizer)
    if plain.is_fast:
        plain.backend_tokenizer.no_truncation()
        plain.backend_tokenizer.no_padding()
    plain.save_pretrained(folder)
