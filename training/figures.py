"""Figures with their intervals: of statistics, of differences between systems, and as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rom_haystack.metrics import Figure, figure
from training.unanswerable import Judged

#: Metric values of single questions, from 0 to 1, by metric name.
Scores = dict[str, NDArray[np.float64]]
#: Figures by metric name.
Figures = dict[str, Figure]


def statistic_figure(
    statistic: Callable[[Judged], float | None], groups: Sequence[Judged], seed: int, resamples: int = 200
) -> Figure:
    """Summarise a statistic of questions, with a percentile bootstrap over each group's questions.

    Args:
        statistic: From 0 to 1; None where the questions do not have it, as a resample may happen not to.
        groups: The questions.
        seed: Seed of the bootstrap.
        resamples: Number of resamples.
    """
    rng = np.random.default_rng(seed)
    whole = statistic(Judged.joined(groups))
    drawn = (
        statistic(Judged.joined([group.take(rng.integers(len(group), size=len(group))) for group in groups]))
        for _ in range(resamples)
    )
    values = [value for value in drawn if value is not None] or [np.nan]
    low, high = np.percentile(values, [2.5, 97.5])
    return Figure(*(round(100 * float(value), 2) for value in (np.nan if whole is None else whole, low, high)))


def differences(system: Scores, reference: Scores, seed: int) -> Figures:
    """Say by how many points a system is better than another one, metric by metric.

    Both answered the same questions, so questions are drawn in pairs (paired bootstrap: Koehn, 2004, section 4): what
    makes a question hard for both cancels out. Where the interval excludes 0, the systems differ at the 5% level.

    Args:
        system: Values of questions by metric.
        reference: The other one's; metrics that only one of them has, or of other questions, are left out.
        seed: Seed of the bootstrap.
    """
    common = [name for name, values in system.items() if name in reference and len(values) == len(reference[name])]
    return {name: figure(system[name] - reference[name], seed) for name in common}


def markdown_table(systems: Mapping[str, Mapping[str, Figure]]) -> str:
    """Lay out the figures with a row per metric and a column per system."""
    metrics = list(dict.fromkeys(metric for figures in systems.values() for metric in figures))
    lines = [f"| | {' | '.join(systems)} |", f"|---|{'---|' * len(systems)}"]
    for metric in metrics:
        cells = (str(figures[metric]) if metric in figures else "–" for figures in systems.values())
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prefixed(prefix: str, scores: Scores) -> Scores:
    """Put a prefix before every metric's name."""
    return {prefix + metric: values for metric, values in scores.items()}


def suffixed(scores: Scores, suffix: str) -> Scores:
    """Put a suffix behind every metric's name."""
    return {metric + suffix: values for metric, values in scores.items()}
