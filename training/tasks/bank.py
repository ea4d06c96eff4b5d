"""Banks: the vectors that a run's untrained model gives to texts, computed once and kept in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.errors import DataError
from training.tasks.contrast import embed

if TYPE_CHECKING:
    from pathlib import Path

    from rom_haystack.modeling import ROMModel

_BATCH_SIZE = 64


def load_bank(
    path: Path, model: ROMModel, lengths: np.ndarray, tokens_of: Callable[[Sequence[int]], dict[str, Tensor]]
) -> Tensor:
    """Load a bank, made first unless a run in this folder already has.

    Args:
        path: The bank's file.
        model: The model, untrained; its `retrieval` head is asked, without dropout and in bfloat16.
        lengths: `[texts]`, in any unit; texts of similar length are encoded together.
        tokens_of: From row numbers to inputs of the model.

    Returns:
        `[texts, dim]` on the model's device.

    Raises:
        DataError: The file holds a bank of another shape.
    """
    if not path.is_file():
        partial = path.with_suffix(".partial")
        save_file({"embeddings": _encode(model, lengths, tokens_of)}, partial)
        partial.rename(path)  # an interrupted run leaves no half bank
    bank = load_file(path)["embeddings"].to(model.device)
    expected = (len(lengths), model.retrieval_head.dim)
    if bank.shape != expected:
        raise DataError(
            f"{path} holds a bank of shape {tuple(bank.shape)}; this recipe and data need {expected}. It belongs to "
            "another run: choose another --output, or delete the file."
        )
    return bank


@torch.no_grad()
def _encode(model: ROMModel, lengths: np.ndarray, tokens_of: Callable[[Sequence[int]], dict[str, Tensor]]) -> Tensor:
    was_training = model.training
    model.eval()
    bank = torch.empty(len(lengths), model.retrieval_head.dim)
    order = np.argsort(lengths, kind="stable")
    with torch.autocast(model.device.type, torch.bfloat16):
        for start in range(0, len(order), _BATCH_SIZE):
            rows = order[start : start + _BATCH_SIZE].tolist()
            inputs = {name: tensor.to(model.device) for name, tensor in tokens_of(rows).items()}
            bank[rows] = embed(model, inputs).cpu()
    model.train(was_training)
    return bank
