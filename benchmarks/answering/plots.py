"""Plot how time grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import figure_at
from benchmarks.panels import Line, Panel, draw

#: Name in the results to the name for people, color and marker, in the order of the legend.
_SYSTEMS = {
    "rom": ("ROM", "#0b6e4f", "o"),
    "rom_torch": ("ROM in torch", "#7fb069", "v"),
    "rom_uncoalesced": ("ROM, users apart", "#3d6b99", "D"),
    "stock_faiss": ("stock components", "#c8553d", "s"),
}

#: One panel each: its title, what the x axis counts, the part of the results, and the figure in it. The first has every
#: system, as a legend is made of it.
_PANELS = (
    ("one of several users, median, ms", "users at once", "users", "p50_ms"),
    ("one of several users, 95th percentile, ms", "users at once", "users", "p95_ms"),
    ("questions per second", "users at once", "users", "questions_per_s"),
    ("one question, median, ms", "passages read", "passages", "p50_ms"),
    ("reading 10 passages, median, ms", "words per passage", "words", "p50_ms"),
    ("one question, 10 passages, median, ms", "cores", "cores", "p50_ms"),
)


def plot_growth(results: Mapping[str, Any], output: Path) -> None:
    """Draw a panel per thing that grows, with a line per system.

    Args:
        results: Results of the benchmark; only `growth` is drawn.
        output: File to write; its suffix says which format (png, svg, pdf).

    Raises:
        ValueError: There is nothing to draw, or the format is unknown.
    """
    if not results.get("growth"):
        raise ValueError("The results hold no growth, so there is nothing to plot; measure it by `run --parts growth`.")
    draw([_panel(results, *described) for described in _PANELS], output)


def curve(results: Mapping[str, Any], part: str, system: str, figure: str) -> dict[int, float]:
    """Collect a figure of a system by what grows, rising."""
    points = sorted(int(point) for point in results["growth"].get(part, {}).get(system, {}))
    values = {point: figure_at(results, f"growth.{part}.{system}.{point}.{figure}") for point in points}
    return {point: value for point, value in values.items() if value is not None}


def _panel(results: Mapping[str, Any], title: str, x_label: str, part: str, figure: str) -> Panel:
    lines = [Line(*looks, curve(results, part, system, figure)) for system, looks in _SYSTEMS.items()]
    ticks = sorted({point for line in lines for point in line.points})
    return Panel(title, x_label, lines, ticks=ticks)
