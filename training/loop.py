"""Hugging Face's trainer, taught to train on a plan of task batches."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer

from training.callbacks import EarlyStopping
from training.checkpoints import checkpoint_at, partial_checkpoints, publish
from training.development import Development
from training.distributed import average_gradients
from training.errors import RunError
from training.failures import all_finite, failed_step, finite_gradients, what_failed
from training.files import delete_folder
from training.layers import layer_factors, split_rates
from training.tasks import Task
from training.towers import query_tower


class ROMTrainer(Trainer):
    """Hugging Face's trainer over a plan of task batches, in the plan's order.

    Several processes average their gradients once per optimizer step, after all backward passes, so that a task may
    run the model as often as it likes and batches of different tasks may share a step.

    Args:
        tasks: The tasks by name.
        development: What measures the model while it is trained; None measures nothing.
        stopping: What chooses the best model; its checkpoint is kept. None keeps the latest ones only.
        layer_decay: As in the recipe.
    """

    def __init__(
        self,
        *args: Any,
        tasks: Mapping[str, Task[Any]],
        development: Development | None = None,
        stopping: EarlyStopping | None = None,
        layer_decay: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.layer_decay = layer_decay
        self.tasks = tasks
        self.development = development
        self.stopping = stopping
        self.model_accepts_loss_kwargs = False
        self._metrics = Means()
        self._items: list[int] = []
        self._losses: list[tuple[str, Tensor]] = []
        self._staging: Path | None = None
        for beside in (query_tower(self.model), *(task.teacher for task in tasks.values())):
            if beside is not None and beside is not self.model:  # the loop prepares that one itself
                self.accelerator.prepare_model(beside, evaluation_mode=True)  # the recipe's precision, no more

    def compute_loss(
        self,
        model: nn.Module,  # noqa: ARG002 (around it may be what averages gradients in every backward pass)
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 (the base class passes it)
    ) -> Any:
        """Add up the weighted losses of the step's tasks, without a look at them: a look waits for the device."""
        self._items.append(inputs["item"])
        total: Tensor | None = None
        for name, features in inputs["features"].items():
            loss, metrics = self.tasks[name].loss(self.model, features)
            self._losses.append((name, loss.detach()))
            weighted = inputs["weights"][name] * loss
            total = weighted if total is None else total + weighted
            for metric, value in metrics.items():
                self._metrics.add(f"{name}/{metric}", value)
        if total is None:
            raise RunError(f"Batch {inputs['item']} of the plan trains no task.")
        self._metrics.add("loss", total)
        return (total, {}) if return_outputs else total

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Give lower layers lower learning rates, if wanted."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if self.layer_decay < 1:
            split_rates(optimizer, layer_factors(self.model, self.layer_decay))
        return optimizer

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Train a batch; with the last one of a step, share the gradients, and check them with the losses."""
        loss: Tensor = super().training_step(model, *args, **kwargs)
        if self.accelerator.sync_gradients:
            finite = all_finite([value for _, value in self._losses])
            if self.args.world_size > 1:
                finite = average_gradients(list(self.model.parameters()), finite)
            if not bool(finite & finite_gradients(self.model)):
                raise self._failed(everywhere=bool(finite))
            self._items.clear()
            self._losses.clear()
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log the means, over steps and processes, of loss and tasks' metrics since the last time, too."""
        if "loss" in logs:
            logs = {**logs, **self._metrics.take()}
        logs.pop("train_loss", None)  # of the steps since the last start only
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the model on the development data, in one process for all."""
        measured: list[Any] = [None]
        if self.development is not None and self.is_world_process_zero():
            measured = [self.development.measure(self.model, self.processing_class)]
        broadcast_object_list(measured)
        metrics: dict[str, float] = measured[0] or {}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)  # its control is ours
        return metrics

    def restore_means(self, checkpoint: Path) -> None:
        """Take up the metrics that had not been logged yet when a checkpoint was written."""
        path = checkpoint / self._means_file()
        if path.is_file():
            self._metrics = Means(json.loads(path.read_text(encoding="utf-8")))

    def _failed(self, *, everywhere: bool) -> RunError:
        step, process = self.state.global_step + 1, self.args.process_index
        what = what_failed([(name, loss.item()) for name, loss in self._losses], everywhere=everywhere)
        return failed_step(what, Path(self.args.output_dir), step, process, self.train_dataset, self._items)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint under another name, and give it its own when every process is done."""
        output, step = Path(self.args.output_dir), self.state.global_step
        if self.is_world_process_zero():
            delete_folder(partial_checkpoints(output))
        self.accelerator.wait_for_everyone()
        self._staging = partial_checkpoints(output)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        means = json.dumps(self._metrics.sums())
        (checkpoint_at(partial_checkpoints(output), step) / self._means_file()).write_text(means, encoding="utf-8")
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            publish(output, step, self.stopping.best_step(self.state.log_history) if self.stopping else None)
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the run's batches. Workers are forked: they share the data, and never touch the device."""
        loader: DataLoader[Any] = super().get_train_dataloader()
        if loader.num_workers:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
            loader.multiprocessing_context = "fork"
        return loader

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def _means_file(self) -> str:
        return f"metrics-{self.args.process_index}.json"


class Means:
    """Means of named numbers, over the processes of a run. Numbers on a device stay there until they are asked for.

    Args:
        sums: By name, the sum so far and how many numbers it is of.
    """

    def __init__(self, sums: Mapping[str, Sequence[float]] | None = None) -> None:
        self._sums: dict[str, tuple[float | Tensor, float]] = {}
        for name, (total, count) in (sums or {}).items():
            self._sums[name] = (total, count)

    def add(self, name: str, value: float | Tensor) -> None:
        """Count a number in."""
        total, count = self._sums.get(name, (0.0, 0))
        number = value.detach().double() if isinstance(value, Tensor) else value
        self._sums[name] = (total + number, count + 1)

    def sums(self) -> dict[str, tuple[float, float]]:
        """Return by name the sum so far and how many numbers it is of, all moved from the device at once."""
        waiting = {name: total for name, (total, _) in self._sums.items() if isinstance(total, Tensor)}
        moved = dict(zip(waiting, torch.stack(list(waiting.values())).tolist(), strict=True)) if waiting else {}
        return {name: (moved.get(name, total), count) for name, (total, count) in self._sums.items()}

    def take(self) -> dict[str, float]:
        """Return the means by name, of what all processes counted, and begin anew. All processes must call it."""
        merged: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        for sums in gather_object([self.sums()]):
            for name, (total, count) in sums.items():
                merged[name][0] += total
                merged[name][1] += count
        self._sums.clear()
        return {name: round(total / count, 6) for name, (total, count) in merged.items()}
