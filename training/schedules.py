"""Schedules decide which tasks each step trains; the model knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from training.errors import OptionError, require

#: For each step, the weight of each task that the step trains.
Plan = list[dict[str, float]]

#: Schedules that follow stages.
STAGED = ("sequential", "annealed")

#: Steps of a plan that is made to see how often it trains each task.
_PROBE = 10_000


@dataclass(frozen=True)
class Stage:
    """A part of a run, as `sequential` and `annealed` know it.

    Args:
        weights: By task that the stage trains, what its weight is multiplied with.
        share: Share of the run's steps, relative to the other stages.
    """

    weights: dict[str, float]
    share: float = 1.0

    def __post_init__(self) -> None:
        require(self, "share", self.share > 0, "above 0")
        require(self, "weights", bool(self.weights), "a weight for at least one task")
        for name, weight in self.weights.items():
            if not weight > 0:
                raise OptionError(f"weights.{name}", f"is {weight!r}; it must be above 0.")


@dataclass(frozen=True)
class Mixture:
    """What a recipe says of how tasks are mixed; each schedule takes what it needs.

    Args:
        weights: Weight of each task's loss.
        sampling_rates: How often tasks are drawn where a step trains one; those that are not named by their weight.
        stages: Parts of the run; none makes each task a stage, in the order of `weights`, all equally long.
    """

    weights: Mapping[str, float]
    sampling_rates: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[Stage] = ()

    @property
    def draws(self) -> dict[str, float]:
        """How likely a step that trains one task trains each."""
        rates = {**self.weights, **self.sampling_rates}
        return {name: rate / sum(rates.values()) for name, rate in rates.items()}

    @property
    def stage_shares(self) -> list[float]:
        """Share of the steps of each stage."""
        shares = [stage.share for stage in self._stages]
        return [share / sum(shares) for share in shares]

    @property
    def stage_weights(self) -> list[dict[str, float]]:
        """Weights of the tasks that each stage trains."""
        return [{name: factor * self.weights[name] for name, factor in stage.weights.items()} for stage in self._stages]

    @property
    def _stages(self) -> Sequence[Stage]:
        return self.stages or [Stage({name: 1.0}) for name in self.weights]


def joint(mixture: Mixture, steps: int, seed: int) -> Plan:  # noqa: ARG001 (one signature for all)
    """Train every task in every step and add the weighted losses."""
    return [dict(mixture.weights)] * steps


def alternating(mixture: Mixture, steps: int, seed: int) -> Plan:
    """Train one task per step, drawn by its sampling rate; without one by its weight, and then at full weight."""
    names = list(mixture.weights)
    draws = np.random.default_rng(seed).choice(len(names), size=steps, p=list(mixture.draws.values()))
    weights = {name: weight if name in mixture.sampling_rates else 1.0 for name, weight in mixture.weights.items()}
    return [{names[draw]: weights[names[draw]]} for draw in draws]


def sequential(mixture: Mixture, steps: int, seed: int) -> Plan:  # noqa: ARG001
    """Train stage after stage; within each, all its tasks in every step."""
    lengths = stage_lengths(mixture, steps)
    return [
        dict(weights) for weights, length in zip(mixture.stage_weights, lengths, strict=True) for _ in range(length)
    ]


def stage_lengths(mixture: Mixture, steps: int) -> list[int]:
    """Share steps among the stages; one with too small a share gets none."""
    ends = [round(steps * end) for end in accumulate(mixture.stage_shares)]
    return [end - start for start, end in pairwise([0, *ends])]


def annealed(mixture: Mixture, steps: int, seed: int) -> Plan:  # noqa: ARG001
    """Let the weights drift from each stage's to the next one's.

    In the middle of a stage its weights hold; between two middles they move along a line, and before the first and
    after the last they stay. A step trains all tasks whose weight is above 0.
    """
    shares = mixture.stage_shares
    middles = [steps * (end - share / 2) for end, share in zip(accumulate(shares), shares, strict=True)]
    curves = {
        name: np.interp(np.arange(steps) + 0.5, middles, [weights.get(name, 0.0) for weights in mixture.stage_weights])
        for name in mixture.weights
    }
    return [{name: float(curve[step]) for name, curve in curves.items() if curve[step] > 0} for step in range(steps)]


#: A schedule makes the plan of a number of steps out of mixture and seed.
SCHEDULES: dict[str, Callable[[Mixture, int, int], Plan]] = {
    "joint": joint,
    "alternating": alternating,
    "sequential": sequential,
    "annealed": annealed,
}


def shares(schedule: str, mixture: Mixture) -> dict[str, float]:
    """Return for each task the share of a schedule's steps that train it, on average."""
    if schedule == "alternating":
        return mixture.draws
    plan = SCHEDULES[schedule](mixture, _PROBE, 0)
    return {name: max(1, sum(name in step for step in plan)) / len(plan) for name in mixture.weights}
