"""Teachers: readers that tasks learn from, asked without gradients, and the loss against what they say."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.modeling import load_checkpoint
from training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel


def load_reader(teacher: str, key: str, device: torch.device) -> tuple[ROMModel, PreTrainedTokenizerBase]:
    """Load a teacher that reads.

    Args:
        teacher: Bundled name, folder or hub id of a ROM checkpoint, or of a question answering model, which is
            converted first, once, into the user's cache.
        key: Recipe key that names it.
        device: Where it goes.

    Raises:
        RecipeError: It can't be loaded, does not read, or its tokenizer can't tell where tokens stand.
    """
    try:
        model, tokenizer = load_checkpoint(find_checkpoint(teacher), device=str(device))
    except (ValueError, OSError) as error:
        raise RecipeError(f"Recipe key '{key}' is '{teacher}', which can't be loaded: {error}") from error
    if "reading" not in model.config.heads:
        raise RecipeError(
            f"Recipe key '{key}' is '{teacher}', which does not read; name a ROM checkpoint with a 'reading' head, or "
            "a question answering model."
        )
    if not tokenizer.is_fast:
        raise RecipeError(
            f"Recipe key '{key}' is '{teacher}', whose tokenizer has no fast version; name another model."
        )
    return model.requires_grad_(requires_grad=False), tokenizer


@contextmanager
def asked(model: ROMModel) -> Iterator[ROMModel]:
    """Ask a model without gradients and dropout; it may be the one that is being trained."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(was_training)


def divergence(target: Tensor, logits: Tensor, allowed: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of a student's choices from a teacher's.

    Args:
        target: `[rows, choices]`, the teacher's probabilities; 0 where not allowed.
        logits: `[rows, choices]`, the student's.
        allowed: `[rows, choices]`, what can be chosen; one at least in every row.

    Returns:
        A scalar, the mean of KL(teacher, student) over rows.
    """
    student = logits.float().masked_fill(~allowed, -torch.inf).log_softmax(-1).masked_fill(~allowed, 0.0)
    losses: Tensor = (torch.special.xlogy(target, target) - target * student).sum(-1)
    return losses.mean()
