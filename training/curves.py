"""Learning curves of a run, from its metrics: a PNG, and a page that needs nothing beside itself."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from training.runs import read_metrics

logger = logging.getLogger(__name__)

#: By metric, its steps and values.
Series = dict[str, tuple[list[int], list[float]]]

#: What a log entry holds besides metrics.
_NO_METRICS = ("step", "epoch", "total_flos")

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360, 200, 60, 12, 12, 26

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1a1a1a; --soft: #6b6b6b; --line: #8883; --accent: #1f5fbf; --back: #fff; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #ececec; --soft: #a0a0a0; --accent: #7fb0ff; --back: #141414; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
  max-width: 1180px; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: .95rem; font-weight: 600; margin: 0; }}
p {{ color: var(--soft); margin: 0; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 2rem 1.5rem;
  margin-top: 1.5rem; }}
svg {{ width: 100%; height: auto; }}
svg text {{ font-size: 11px; fill: var(--soft); }}
.grid {{ stroke: var(--line); }}
.curve {{ fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; }}
.point {{ fill: var(--accent); opacity: 0; }} .point:hover, .alone {{ opacity: 1; }}
</style>
<h1>{title}</h1>
<p>{subtitle}</p>
<main>
{charts}
</main>
</html>
"""


def write_curves(run: Path) -> list[Path]:
    """Draw what a run has logged so far into its folder.

    Returns:
        The files written: `curves.html`, and `curves.png` where matplotlib is installed.

    Raises:
        RecipeError: It is no run folder.
    """
    series = series_of(read_metrics(run))
    page = run / "curves.html"
    page.write_text(html_page(run.resolve().name, series), encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is None:
        logger.warning("matplotlib is not installed, so there is no curves.png; curves.html has the same curves.")
        return [page]
    picture = run / "curves.png"
    _draw(picture, run.resolve().name, series)
    return [page, picture]


def series_of(entries: Sequence[Mapping[str, Any]]) -> Series:
    """Sort log entries by metric, what came from whole runs (`train_…`) aside."""
    series: Series = defaultdict(lambda: ([], []))
    for entry in entries:
        for name, value in entry.items():
            number = isinstance(value, int | float) and math.isfinite(value)
            if number and name not in _NO_METRICS and not name.startswith("train_"):
                series[name][0].append(int(entry["step"]))
                series[name][1].append(float(value))
    return dict(series)


def html_page(title: str, series: Series) -> str:
    """Write a page with a chart per metric; values show where the pointer is."""
    last = max((steps[-1] for steps, _ in series.values()), default=0)
    subtitle = f"{last:,} steps" if series else "Nothing was logged yet."
    charts = "\n".join(_chart(name, steps, values) for name, (steps, values) in series.items())
    return _PAGE.format(title=escape(title), subtitle=subtitle, charts=charts)


def _chart(name: str, steps: Sequence[int], values: Sequence[float]) -> str:
    low, high = _range(values)
    first, last = (steps[0], steps[-1]) if steps[0] < steps[-1] else (steps[0] - 1, steps[0] + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (step - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    parts = []
    for tick in (low, (low + high) / 2, high):
        _, y = place(first, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:.3g}</text>')
    for step, anchor in ((steps[0], "start"), (steps[-1], "end")):
        x, _ = place(step, low)
        parts.append(f'<text x="{x}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{step:,}</text>')
        if steps[0] == steps[-1]:
            break
    points = [place(step, value) for step, value in zip(steps, values, strict=True)]
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x},{y}" for x, y in points)}"/>')
    kind = "point" if len(points) > 1 else "point alone"
    for (x, y), step, value in zip(points, steps, values, strict=True):
        parts.append(
            f'<circle class="{kind}" cx="{x}" cy="{y}" r="4"><title>step {step:,}: {value:.4g}</title></circle>'
        )
    label = f"{name} from {values[0]:.4g} at step {steps[0]:,} to {values[-1]:.4g} at step {steps[-1]:,}"
    picture = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return f"<section><h2>{escape(name)}</h2><p>{values[-1]:.4g}</p>{picture}</section>"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: those of the values, set apart where they are one."""
    low, high = min(values), max(values)
    margin = 0.0 if low < high else abs(low) * 0.1 or 1.0
    return low - margin, high + margin


def _draw(path: Path, title: str, series: Series) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 (an extra, and slow to import)
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    columns = min(3, max(1, len(series)))
    rows = max(1, -(-len(series) // columns))
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    for place, (name, (steps, values)) in enumerate(series.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.plot(steps, values, color="#1f5fbf", marker="." if len(steps) == 1 else "")
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    partial = path.with_name(f"{path.name}.partial")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)
