"""What happens between the steps of a run: evaluation, stopping, and metrics that are written as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.runs import append_metrics


class StopAfter(TrainerCallback):
    """Write a checkpoint after a number of steps and stop there, to be continued later."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(
        self, _arguments: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Check the number of steps."""
        if state.global_step == self.steps:
            control.should_save = control.should_training_stop = True


class FollowSchedule(TrainerCallback):
    """Start with the learning rates that the schedule has for the next step.

    A checkpoint holds those of the schedule that it was written under, which for its run's last step are 0. A run that
    goes on from there for more steps would take its first one for nothing.
    """

    def on_train_begin(
        self,
        _arguments: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        *,
        optimizer: Optimizer,
        lr_scheduler: LambdaLR,
        **_: Any,
    ) -> None:
        """Set the rates."""
        rates = zip(lr_scheduler.base_lrs, lr_scheduler.lr_lambdas, strict=True)
        for group, (peak, factor) in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = peak * factor(lr_scheduler.last_epoch)


class Evaluate(TrainerCallback):
    """Evaluate on development data after every so many steps and after the last one."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_step_end(
        self, _arguments: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for an evaluation where it is due."""
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = True


class LogLast(TrainerCallback):
    """Log before every evaluation and after the last step, too. Comes after whatever asks for evaluations."""

    def on_step_end(
        self, _arguments: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a log entry."""
        if control.should_evaluate or state.global_step >= state.max_steps:
            control.should_log = True


class EarlyStopping(TrainerCallback):
    """Keep a checkpoint of the best evaluation, and stop once none of the last ones was better.

    It remembers nothing: the history of the run, which is in every checkpoint, says it all.

    Args:
        metric: Name of the metric; the higher the better.
        patience: Evaluations in a row that may be no better than the best one before them.
    """

    def __init__(self, metric: str, patience: int) -> None:
        self.metric = metric
        self.patience = patience

    def on_evaluate(
        self, _arguments: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Judge the evaluation."""
        if self.best_step(state.log_history) == state.global_step:
            control.should_save = True
        if self.exhausted(state.log_history):
            control.should_training_stop = True

    def best_step(self, history: Sequence[dict[str, Any]]) -> int | None:
        """Return the step of the best evaluation, the first of equal ones; None before any."""
        best = max((entry for entry in history if self.metric in entry), key=self._value, default=None)
        return None if best is None else int(best["step"])

    def exhausted(self, history: Sequence[dict[str, Any]]) -> bool:
        """Tell whether the patience has been used up."""
        values = [self._value(entry) for entry in history if self.metric in entry]
        return bool(values) and len(values) - 1 - values.index(max(values)) >= self.patience

    def _value(self, entry: dict[str, Any]) -> float:
        return float(entry[self.metric])


class WriteMetrics(TrainerCallback):
    """Write every log entry to the run folder as it comes."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def on_log(self, _arguments: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Write the last entry."""
        if state.is_world_process_zero:
            append_metrics(self.output, state.log_history[-1])
