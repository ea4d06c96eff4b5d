"""Figures of several panels with lines in them, drawn alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator


@dataclass(frozen=True)
class Line:
    """One line: its name in the legend, its looks, and its values by their place on the x axis, rising."""

    name: str
    color: str
    marker: str
    points: Mapping[int, float]


@dataclass(frozen=True)
class Panel:
    """One panel; every panel of a figure has the same lines, though some may be without points.

    Args:
        title: What it shows, with its unit.
        x_label: What the x axis, which is logarithmic, counts.
        lines: Its lines.
        from_zero: Whether the y axis begins at zero, rather than being logarithmic.
        ticks: Values to name on the x axis; None for powers of ten.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    from_zero: bool = False
    ticks: Sequence[int] | None = None


def draw(panels: Sequence[Panel], output: Path, *, columns: int = 3) -> None:
    """Draw panels, row by row, with one legend.

    Args:
        panels: As many as fill whole rows.
        output: File to write; its suffix says which format (png, svg, pdf).
        columns: Panels per row.

    Raises:
        ValueError: The format is unknown.
    """
    rows = len(panels) // columns
    figure = Figure(figsize=(11, 3.2 * rows), layout="constrained")
    for axes, panel in zip(figure.subplots(rows, columns).flat, panels, strict=True):
        for line in panel.lines:
            values = list(line.points.values())
            axes.plot(list(line.points), values, color=line.color, marker=line.marker, label=line.name)
        _lay_out(axes, panel)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(output, dpi=150, metadata={"Date": None} if output.suffix == ".svg" else None)


def _lay_out(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=10)
    axes.set_xscale("log")
    axes.set_xlabel(panel.x_label, fontsize=9)
    if panel.ticks is not None:
        axes.set_xticks(panel.ticks, [f"{tick:,}" for tick in panel.ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True, alpha=0.3)
    axes.margins(y=0.15)
    if panel.from_zero:
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.spines[["top", "right"]].set_visible(False)
