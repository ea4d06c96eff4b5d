"""Learning curves, drawn."""

import html
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from demo.core.training_runs import TrainingRun, smoothed, thinned

_HEIGHT = 210
_MOST_POINTS = 500
#: How runs are told apart: middle tones, which stand out from a light and from a dark ground, and dashes.
_COLOURS = ("#c8641c", "#3d8bb0", "#6f9340", "#b0628c", "#7a7ab0", "#a08a2c")
_DASHES: tuple[tuple[list[int], str], ...] = (([1, 0], "solid"), ([8, 4], "dashed"), ([2, 3], "dotted"))


def curve_chart(runs: Sequence[TrainingRun], among: Sequence[str], metric: str, smoothing: float) -> alt.LayerChart:
    """Draw a metric over the steps, a line per run; where it is smoothed, the values themselves stand faintly behind.

    Args:
        runs: Runs that have the metric, at least one.
        among: Names of all runs on the page, which settle how each is drawn.
        metric: Its name.
        smoothing: As in `smoothed`.
    """
    rows = pd.DataFrame(
        [
            {"run": run.name, "step": step, "value": value, "smooth": smooth}
            for run in runs
            for (step, value), smooth in _points(run, metric, smoothing)
        ]
    )
    few = len(rows) <= 30 * len(runs)
    scale = alt.Scale(zero=False)
    base = alt.Chart(rows, description=curve_text(runs, metric)).encode(
        x=alt.X("step:Q", title="Step", axis=alt.Axis(grid=False, tickCount=5)),
        tooltip=[
            alt.Tooltip("run:N", title="Run"),
            alt.Tooltip("step:Q", title="Step", format=","),
            alt.Tooltip("value:Q", title=metric, format=".4g"),
        ],
        **_looks(among),
    )
    faint = base.mark_line(strokeWidth=1, opacity=0.35).encode(y=alt.Y("value:Q", title=None, scale=scale))
    smooth = base.mark_line(strokeWidth=2.2, point=few).encode(y=alt.Y("smooth:Q", title=None, scale=scale))
    chart: alt.LayerChart = (faint + smooth).properties(height=_HEIGHT)
    return chart


def curve_text(runs: Sequence[TrainingRun], metric: str) -> str:
    """Say in words where a metric begins and ends."""
    parts = []
    for run in runs:
        (first, began), (last, ended) = run.curves[metric][0], run.curves[metric][-1]
        parts.append(f"{run.name}: {began:.4g} at step {first}, {ended:.4g} at step {last}")
    return f"{metric} over the steps. " + "; ".join(parts) + "."


def line_sample(number: int) -> str:
    """Write, as HTML, a piece of the line of the run with this number on the page, for a list of the runs."""
    _, style = _DASHES[number % len(_DASHES)]
    return f"<span class='rom-line-of' style='border-top: 3px {html.escape(style)} {_COLOURS[number]}'></span>"


def _looks(among: Sequence[str]) -> dict[str, Any]:
    """Tell runs apart where there are several; a single one has the page's own colour."""
    if len(among) == 1:
        return {}
    dashes = [_DASHES[number % len(_DASHES)][0] for number in range(len(among))]
    colours = alt.Scale(domain=list(among), range=list(_COLOURS[: len(among)]))
    return {
        "color": alt.Color("run:N", scale=colours, legend=None),
        "strokeDash": alt.StrokeDash("run:N", scale=alt.Scale(domain=list(among), range=dashes), legend=None),
    }


def _points(run: TrainingRun, metric: str, smoothing: float) -> list[tuple[tuple[int, float], float]]:
    points = run.curves[metric]
    smooth = dict(smoothed(points, smoothing))
    return [((step, value), smooth[step]) for step, value in thinned(points, _MOST_POINTS)]
