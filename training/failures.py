"""What remains of a step whose loss or gradient is no finite number: its batches, to be looked into, and advice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from training.batches import StepDataset
from training.errors import RunError
from training.files import replace_folder


def failed_step(
    what: str, output: Path, step: int, process: int, batches: StepDataset, items: Sequence[int]
) -> RunError:
    """Save the batches of a step that failed, and return the error to raise.

    `items.json` lists by item of the plan and by task the batch's number, its weight and the ids of what is in it;
    `features.pt` has their features in the same order (`torch.load(…, weights_only=True)`).

    Args:
        what: What failed, as the message says it.
        output: Run folder.
        step: The step, counted from 1.
        process: Number of this process.
        batches: The run's batches.
        items: Items of them that this process gave to the step.
    """
    suffix = f"-process-{process}" if process else ""
    folder = output / f"failed-step-{step}{suffix}"
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(exist_ok=True)
    torch.save([batches[item]["features"] for item in items], partial / "features.pt")
    described = [
        {
            "item": item,
            "tasks": {
                name: {"batch": number, "weight": batches.plan[item][name], "ids": batches.tasks[name].ids(number)}
                for name, number in batches.numbers(item).items()
            },
        }
        for item in items
    ]
    (partial / "items.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    replace_folder(partial, folder)
    return RunError(
        f"In step {step} {what}, so training stopped. The step's batches (ids and features) are in {folder}. Try a "
        "lower 'learning_rate', more 'warmup_steps', a lower 'max_grad_norm' or 'bf16: false', in another --output; "
        "where the same batch fails in every run, look at its texts."
    )


def all_finite(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tell whether numbers are finite, as a boolean on their device, which nothing waits for yet."""
    return torch.isfinite(torch.stack([value.float() for value in values])).all()


def finite_gradients(model: nn.Module) -> torch.Tensor:
    """Tell whether every gradient of a model is finite, as a boolean on its device."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.isfinite(torch.nn.utils.get_total_norm(gradients)).all()


def what_failed(losses: Iterable[tuple[str, float]], *, everywhere: bool) -> str:
    """Say what of a step is no finite number.

    Args:
        losses: This process's losses, each with its task.
        everywhere: Whether the losses of all processes are finite.
    """
    wrong = [f"{name}: {loss:.4g}" for name, loss in losses if not math.isfinite(loss)]
    if wrong:
        return f"the loss is not finite ({', '.join(wrong)})"
    return "a gradient is not finite" if everywhere else "another process's loss is not finite"
