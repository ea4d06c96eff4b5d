"""Progress of a run: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

#: Figures that are of no interest while a run goes on.
_LEFT_OUT = ("epoch", "total_flos", "train_samples_per_second", "train_steps_per_second")


class Progress(TrainerCallback):
    """Show steps, time and metrics: on a terminal a bar below the metrics, else a line for every log entry.

    Args:
        stream: Where to; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._begun = 0.0
        self._first = 0

    def on_train_begin(
        self, _arguments: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Begin at the step where the run starts or continues."""
        self._begun, self._first = time.monotonic(), state.global_step
        if state.is_world_process_zero and self.stream.isatty():
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", file=self.stream, dynamic_ncols=True
            )

    def on_step_end(
        self, _arguments: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, _arguments: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Show the last log entry."""
        if not state.is_world_process_zero:
            return
        figures = described(state.log_history[-1])
        if self._bar is not None:
            self._bar.write(f"step {state.global_step}: {figures}", file=self.stream)
            return
        meter = tqdm.format_meter(
            state.global_step,
            state.max_steps,
            time.monotonic() - self._begun,
            initial=self._first,
            unit="step",
            ascii=True,
            bar_format="{percentage:3.0f}%| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]",
        )
        self.stream.write(f"{meter} {figures}\n")
        self.stream.flush()

    def on_train_end(
        self, _arguments: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def described(entry: Mapping[str, Any]) -> str:
    """Write a log entry in one line, the loss first."""
    shown = {name: value for name, value in entry.items() if name not in ("step", *_LEFT_OUT)}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items()
    )
