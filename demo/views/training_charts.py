"""Learning curves, drawn."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from demo.core.training_runs import TrainingRun, smoothed, thinned

_HEIGHT = 210
_MOST_POINTS = 500


def curve_chart(runs: Sequence[TrainingRun], metric: str, smoothing: float) -> alt.LayerChart:
    """Draw a metric over the steps, a line per run; where it is smoothed, the values themselves stand faintly behind.

    Args:
        runs: Runs of which at least one has the metric.
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
    names = [run.name for run in runs]
    legend = alt.Legend(title=None, orient="bottom", columns=1, labelLimit=280) if len(names) > 1 else None
    base = alt.Chart(rows, description=curve_text(runs, metric)).encode(
        x=alt.X("step:Q", title="Step", axis=alt.Axis(grid=False, tickCount=5)),
        color=alt.Color("run:N", scale=alt.Scale(domain=names), legend=legend),
        tooltip=[
            alt.Tooltip("run:N", title="Run"),
            alt.Tooltip("step:Q", title="Step", format=","),
            alt.Tooltip("value:Q", title=metric, format=".4g"),
        ],
    )
    scale = alt.Scale(zero=False)
    few = len(rows) <= 40 * len(names)
    smooth = base.mark_line(strokeWidth=2.2, point=few).encode(y=alt.Y("smooth:Q", title=None, scale=scale))
    faint = base.mark_line(strokeWidth=1, opacity=0.3).encode(y=alt.Y("value:Q", title=None, scale=scale))
    chart: alt.LayerChart = (faint + smooth).properties(height=_HEIGHT)
    return chart


def curve_text(runs: Sequence[TrainingRun], metric: str) -> str:
    """Say in words where a metric begins and ends."""
    parts = []
    for run in runs:
        if points := run.curves.get(metric):
            (first, began), (last, ended) = points[0], points[-1]
            parts.append(f"{run.name}: {began:.4g} at step {first}, {ended:.4g} at step {last}")
    return f"{metric} over the steps. " + "; ".join(parts) + "."


def _points(run: TrainingRun, metric: str, smoothing: float) -> list[tuple[tuple[int, float], float]]:
    points = run.curves.get(metric, ())
    smooth = dict(smoothed(points, smoothing))
    return [((step, value), smooth[step]) for step, value in thinned(points, _MOST_POINTS)]
