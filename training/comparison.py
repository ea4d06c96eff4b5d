"""The figures of several variants and seeds side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rom_haystack.metrics import Figure
from training.figures import Figures, differences, markdown_table
from training.samples import Sample, Samples, resampled

if TYPE_CHECKING:
    from training.grid import Grid


@dataclass(frozen=True)
class SeedsFigure(Figure):
    """A mean over questions and seeds.

    Its interval is the bootstrap's, of questions' means over the seeds; how much depends on the seed, the spread says.

    Attributes:
        spread: Standard deviation of the seeds' means (of a sample, n - 1).
    """

    spread: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.spread:.1f} ({self.low:.1f}–{self.high:.1f})"


@dataclass(frozen=True)
class Measured:
    """What an evaluation of one variant with one seed measured.

    Attributes:
        settings: How.
        systems: By system its figures; `rom` is the variant.
        scores: The variant's samples by metric.
    """

    settings: Mapping[str, Any]
    systems: Mapping[str, Figures]
    scores: Samples


@dataclass(frozen=True)
class Comparison:
    """A table with a column per variant.

    Attributes:
        systems: Figures by variant; then those of the systems that the first one was measured beside.
        differences: By variant, by how many points it is better than the reference.
        failures: By variant and seed, what failed.
        settings: How it was made.
    """

    systems: Mapping[str, Figures]
    differences: Mapping[str, Figures]
    failures: Mapping[str, Mapping[int, str]]
    settings: Mapping[str, Any]

    def report(self) -> dict[str, Any]:
        """Return it in the form of evaluation reports, for JSON. Variants without figures are in `failures` only."""
        return {
            "settings": dict(self.settings),
            "systems": {name: figures for name, figures in self.systems.items() if figures},
            "differences": dict(self.differences),
            "failures": {name: {str(seed): text for seed, text in of.items()} for name, of in self.failures.items()},
        }

    def markdown(self) -> str:
        """Return it as a text with tables."""
        settings = self.settings
        columns = {
            name if figures else f"{name} (failed)": figures
            for name, figures in self.systems.items()
            if figures or name in self.failures  # else it is yet to come
        }
        seeds = ", ".join(map(str, settings["seeds"]))
        of_seeds = " Means over seeds ± their standard deviation." if len(settings["seeds"]) > 1 else ""
        parts = [
            f"# {settings['grid']}",
            f"In percent, with 95% bootstrap intervals over {resampled(settings)}. `–`: not measured.",
            f"Seeds: {seeds}.{of_seeds}",
            markdown_table(columns),
        ]
        if settings["parameters"]:
            sizes = (f"{name} {count / 1e6:.1f} million" for name, count in settings["parameters"].items())
            parts.append(f"Parameters: {', '.join(sizes)}.")
        if self.differences:
            text = "with 95% intervals of the paired bootstrap; where one excludes 0, the two differ"
            parts += [f"## Points above {settings['reference']}, {text}", markdown_table(self.differences)]
        if self.failures:
            failed = ((name, seed, text) for name, of in self.failures.items() for seed, text in of.items())
            lines = [f"- {name}, seed {seed}: {' '.join(text.split())}" for name, seed, text in failed]
            parts += ["## Failed", "\n".join(lines)]
        return "\n\n".join(parts) + "\n"


def compared(
    grid: Grid, measured: Mapping[str, Mapping[int, Measured]], failures: Mapping[str, Mapping[int, str]]
) -> Comparison:
    """Lay out what was measured.

    Args:
        grid: What is compared.
        measured: By variant and seed; seeds that failed, or are yet to come, are not there.
        failures: By variant and seed, what failed.
    """
    seed = grid.options.seed
    systems = {name: over_seeds(list(of.values()), seed) for name, of in measured.items()}
    reference = measured.get(grid.reference, {})
    apart = {}
    for name, of in measured.items():
        common = [number for number in of if number in reference]
        if name != grid.reference and common:
            ours, theirs = (_means([some[number] for number in common]) for some in (of, reference))
            apart[name] = differences(ours, theirs, seed)
    beside = measured.get(grid.first, {}).get(grid.seeds[0])
    if beside is not None:
        systems |= _baselines(beside.systems)
    finished = [next(iter(of.values())) for of in measured.values() if of]
    shared_settings = finished[0].settings if finished else {}
    parameters = {name: next(iter(of.values())).settings["parameters"] for name, of in measured.items() if of}
    settings = {
        "grid": grid.name,
        "seeds": list(grid.seeds),
        "seeds finished": {name: list(of) for name, of in measured.items()},
        "reference": grid.reference,
        "parameters": parameters,
        **{key: value for key, value in shared_settings.items() if key in _SHARED_SETTINGS},
    }
    return Comparison(systems, apart, failures, settings)


#: Settings of evaluations that are the same for all variants.
_SHARED_SETTINGS = (
    "questions",
    "question count",
    "article count",
    "end-to-end question count",
    "passages",
    "passage count",
    "passages read end to end",
    "dtype",
    "seed",
)


def over_seeds(measured: Sequence[Measured], seed: int) -> Figures:
    """Summarise what one variant was measured to do with each of its seeds.

    Of metrics that are no means over questions, the intervals' ends are means over the seeds, too.
    """
    figures = [some.systems["rom"] for some in measured]
    if len(figures) < 2:
        return dict(figures[0]) if figures else {}
    means = _means(measured)
    summary: Figures = {}
    for name in figures[0]:
        values = np.array([(of[name].mean, of[name].low, of[name].high) for of in figures])
        whole = means[name].figure(seed) if name in means else Figure(*map(float, values.mean(axis=0).round(2)))
        spread = round(float(values[:, 0].std(ddof=1)), 2)
        summary[name] = SeedsFigure(whole.mean, whole.low, whole.high, spread)
    return summary


def _means(measured: Sequence[Measured]) -> Samples:
    return {name: Sample.mean([some.scores[name] for some in measured]) for name in measured[0].scores}


def _baselines(systems: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return what retrieval systems did; their end-to-end figures are those of the first variant's reader."""
    names = {"hybrid": "BM25 and the first variant", "bm25": "BM25"}
    return {
        names.get(system, system): {name: value for name, value in figures.items() if not name.startswith("end-to-end")}
        for system, figures in systems.items()
        if system != "rom"
    }
