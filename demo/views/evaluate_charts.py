"""The charts of the page `Evaluate`."""

import altair as alt
import pandas as pd

from demo.core.evaluation_report import F1Band
from rom_haystack.metrics import Figure, ReliabilityBin

_HEIGHT = 240
# A middle tone, which can be told from a light and from a dark ground.
_GREY = "#8a857c"
_INK = "currentColor"


def recall_chart(recall: tuple[Figure, ...]) -> alt.LayerChart:
    """Draw how often one of the first passages holds an answer, with intervals."""
    rows = pd.DataFrame(
        [{"passages": k, "recall": f.mean, "low": f.low, "high": f.high} for k, f in enumerate(recall, start=1)]
    )
    x = alt.X("passages:Q", title="Passages", axis=alt.Axis(values=[1, 5, 10, 15, 20], grid=False))
    tooltip = [
        alt.Tooltip("passages:Q", title="Passages"),
        alt.Tooltip("recall:Q", title="With an answer (%)", format=".1f"),
        alt.Tooltip("low:Q", title="From", format=".1f"),
        alt.Tooltip("high:Q", title="To", format=".1f"),
    ]
    base = alt.Chart(rows, description=recall_text(recall)).encode(x=x, tooltip=tooltip)
    scale = alt.Scale(domain=[max(0, min(rows["low"]) - 5), 100])
    band = base.mark_area(opacity=0.22).encode(y=alt.Y("low:Q", title="Questions (%)", scale=scale), y2="high:Q")
    line = base.mark_line(point=alt.OverlayMarkDef(size=36, filled=True), strokeWidth=2.5).encode(
        y=alt.Y("recall:Q", scale=scale)
    )
    return _sized(band + line)


def recall_text(recall: tuple[Figure, ...]) -> str:
    """Say in words what the chart of recall shows."""
    some = ", ".join(f"{recall[k - 1].mean:.1f}% among {k}" for k in (1, 5, 10, 20) if k <= len(recall))
    return f"Questions for which one of the first passages holds an answer: {some}."


def reliability_chart(bins: tuple[ReliabilityBin, ...]) -> alt.LayerChart:
    """Draw how right answers are, by their score; on the diagonal, as often as the score says."""
    rows = pd.DataFrame([{"score": 100 * b.confidence, "right": 100 * b.accuracy, "answers": b.count} for b in bins])
    scale = alt.Scale(domain=[0, 100])
    diagonal = (
        alt.Chart(pd.DataFrame({"score": [0, 100], "right": [0, 100]}))
        .mark_line(strokeDash=[5, 5], color=_GREY)
        .encode(x=alt.X("score:Q", scale=scale), y=alt.Y("right:Q", scale=scale))
    )
    base = alt.Chart(rows, description=reliability_text(bins)).encode(
        x=alt.X("score:Q", title="Score (%)", scale=scale, axis=alt.Axis(grid=False)),
        y=alt.Y("right:Q", title="Right, by F1 (%)", scale=scale),
        tooltip=[
            alt.Tooltip("score:Q", title="Mean score (%)", format=".0f"),
            alt.Tooltip("right:Q", title="Mean F1 (%)", format=".0f"),
            alt.Tooltip("answers:Q", title="Answers"),
        ],
    )
    return _sized(diagonal + base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=70, opacity=1))


def reliability_text(bins: tuple[ReliabilityBin, ...]) -> str:
    """Say in words what the chart of reliability shows."""
    some = "; ".join(f"{100 * b.confidence:.0f}%: {100 * b.accuracy:.0f}%" for b in bins)
    return f"How right answers are (F1) by their score. {some}."


def f1_chart(bands: tuple[F1Band, ...]) -> alt.LayerChart:
    """Draw how many answers are how right."""
    rows = pd.DataFrame([{"F1": band.name, "answers": band.count} for band in bands])
    base = alt.Chart(rows, description=f1_text(bands)).encode(
        x=alt.X("F1:N", sort=None, title="F1 (%)", axis=alt.Axis(labelAngle=0, labelOverlap=False, ticks=False)),
        y=alt.Y("answers:Q", title=None, axis=None),
        tooltip=[alt.Tooltip("F1:N", title="F1 (%)"), alt.Tooltip("answers:Q", title="Questions")],
    )
    labels = base.mark_text(dy=-8, fontSize=12, color=_INK).encode(text=alt.Text("answers:Q", format=","))
    return _sized(base.mark_bar(cornerRadiusEnd=3) + labels)


def f1_text(bands: tuple[F1Band, ...]) -> str:
    """Say in words what the chart of F1 shows."""
    return "Questions by the F1 of their answers. " + "; ".join(f"{band.name}: {band.count}" for band in bands) + "."


def _sized(chart: alt.LayerChart) -> alt.LayerChart:
    sized: alt.LayerChart = chart.properties(height=_HEIGHT)
    return sized
