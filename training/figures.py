"""Figures with their intervals: of statistics, of differences between systems, and as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from rom_haystack.metrics import Figure
from training.samples import Samples, Scores
from training.unanswerable import Judged

#: Figures by metric name.
Figures = dict[str, Figure]


def statistic_figure(
    statistic: Callable[[Judged], float | None], groups: Sequence[Judged], seed: int, resamples: int = 200
) -> Figure:
    """Summarise a statistic of questions, with a percentile bootstrap as in `rom_haystack.metrics.figure`.

    Args:
        statistic: From 0 to 1; None where the questions do not have it, as a resample may happen not to.
        groups: The questions. Articles are drawn with their questions of all groups; where articles are not known,
            each group's questions are drawn.
        seed: Seed of the bootstrap.
        resamples: Number of resamples.
    """
    whole = statistic(Judged.joined(groups))
    drawn = islice(_resampled(groups, np.random.default_rng(seed)), resamples)
    values = [value for value in map(statistic, drawn) if value is not None] or [np.nan]
    low, high = np.percentile(values, [2.5, 97.5])
    return Figure(*(round(100 * float(value), 2) for value in (np.nan if whole is None else whole, low, high)))


def _resampled(groups: Sequence[Judged], rng: np.random.Generator) -> Iterator[Judged]:
    whole = Judged.joined(groups)
    names = [] if whole.articles is None else np.unique(whole.articles).tolist()
    rows = [np.flatnonzero(whole.articles == name) for name in names]
    if len(rows) < 2:
        while True:
            yield Judged.joined([group.take(rng.integers(len(group), size=len(group))) for group in groups])
    while True:
        yield whole.take(np.concatenate([rows[number] for number in rng.integers(len(rows), size=len(rows))]))


def differences(system: Samples, reference: Samples, seed: int) -> Figures:
    """Say by how many points a system is better than another one, metric by metric.

    Both answered the same questions, so questions are drawn in pairs (paired bootstrap: Koehn, 2004, section 4), those
    about one article together where articles are known: what makes a question hard for both cancels out. Where the
    interval excludes 0, the systems differ at the 5% level.

    Args:
        system: Samples by metric.
        reference: The other one's; metrics that only one of them has, or of other questions, are left out.
        seed: Seed of the bootstrap.
    """
    pairs = {name: (sample, reference[name]) for name, sample in system.items() if name in reference}
    return {
        name: (ours - theirs).figure(seed)
        for name, (ours, theirs) in pairs.items()
        if len(ours.values) == len(theirs.values)
    }


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
