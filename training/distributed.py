"""What several processes of a run share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn


def average_gradients(parameters: Sequence[nn.Parameter], fine: Tensor) -> Tensor:
    """Replace every gradient by its mean over all processes, and share whether all processes are fine.

    A parameter without a gradient in some processes counts there as if its gradient were 0; without one in all, it
    keeps none, so that the optimizer leaves it alone.

    Args:
        parameters: The same ones, in the same order, in every process; at least one is trained.
        fine: Whether this process is, as a boolean on their device.

    Returns:
        Whether every process is, likewise.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in trained], device=fine.device)
    counts = torch.cat([used, ~fine[None]]).int()
    distributed.all_reduce(counts)
    shared = [parameter for parameter, count in zip(trained, counts[:-1].tolist(), strict=True) if count]
    for parameter in shared:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in shared if parameter.grad is not None]
    for kind in {gradient.dtype for gradient in gradients}:
        of_kind = [gradient for gradient in gradients if gradient.dtype == kind]
        flat = torch.cat([gradient.flatten() for gradient in of_kind])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        parts = flat.split([gradient.numel() for gradient in of_kind])
        for gradient, part in zip(of_kind, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
    return counts[-1] == 0
