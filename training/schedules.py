"""Schedules decide which tasks each step trains; the model knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

#: For each step, the weight of each task that the step trains.
Plan = list[dict[str, float]]


def joint(weights: Mapping[str, float], steps: int, seed: int) -> Plan:  # noqa: ARG001 (one signature for all)
    """Train every task in every step and add the weighted losses."""
    return [dict(weights)] * steps


def alternating(weights: Mapping[str, float], steps: int, seed: int) -> Plan:
    """Train one task per step, drawn with probability proportional to its weight."""
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    draws = np.random.default_rng(seed).choice(len(names), size=steps, p=shares / shares.sum())
    return [{names[draw]: 1.0} for draw in draws]


def shares(schedule: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Return for each task the share of a schedule's steps that train it, on average."""
    whole = sum(weights.values())
    return {name: weight / whole if schedule == "alternating" else 1.0 for name, weight in weights.items()}


SCHEDULES: dict[str, Callable[[Mapping[str, float], int, int], Plan]] = {"joint": joint, "alternating": alternating}
