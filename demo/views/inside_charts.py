"""The charts of the panel `Look inside`."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from demo.core.inside import StageTime
from demo.core.model_size import Design
from demo.core.passage_map import PassageMap
from demo.core.wording import excerpt

#: What stands at a point of the map, and how each is drawn: by shape and size, not by colour alone.
QUESTION, QUOTED, FOUND, OTHER = "the question", "with an answer", "found", "other passages"
_ROLES = (OTHER, FOUND, QUOTED, QUESTION)
_SHAPES = ("circle", "triangle-up", "circle", "diamond")
_SIZES = (28, 110, 190, 260)
# Middle tones, which can be told from a light and from a dark ground.
_FILLS = ("#a5a099", "#3d8bb0", "#3d8bb0", "#c8641c")
_STROKES = ("#a5a099", "#3d8bb0", "#d08a12", "#c8641c")
_DOCUMENTS = ("#c8641c", "#3d8bb0", "#6f9340", "#b0628c", "#7a7ab0", "#a08a2c")

# The colour of the text around the chart, in either theme.
_INK = "currentColor"

#: Name of the selection in the map, and of the field that it selects by.
CHOSEN, ID = "chosen", "id"
_ELSEWHERE = "other documents"
_EXCERPT = 120


def times_chart(times: Sequence[StageTime]) -> alt.LayerChart:
    """Draw how long each step took, with the numbers."""
    rows = pd.DataFrame(
        {
            "step": [time.stage for time in times],
            "milliseconds": [time.milliseconds for time in times],
            "label": [f"{time.milliseconds:.1f} ms, {_share(time.share)}" for time in times],
        }
    )
    return _bars(rows, "step", "milliseconds", "Milliseconds")


def designs_chart(designs: Sequence[Design]) -> alt.LayerChart:
    """Draw how many parameters each design keeps in memory, with the numbers."""
    rows = pd.DataFrame(
        {
            "design": [design.name for design in designs],
            "millions": [design.parameters / 1e6 for design in designs],
            "label": [f"{design.parameters / 1e6:,.1f} million, {design.megabytes:,.0f} MB" for design in designs],
        }
    )
    return _bars(rows, "design", "millions", "Millions of parameters")


def map_chart(drawn: PassageMap, *, by_document: bool) -> alt.Chart:
    """Draw the map of the passages.

    Args:
        drawn: The map.
        by_document: Colour the passages by their documents, rather than by whether they were found.
    """
    rows = _map_rows(drawn)
    colours = (
        _by_document(rows) if by_document else {"fill": _role(alt.Fill, _FILLS), "stroke": _role(alt.Stroke, _STROKES)}
    )
    axis: dict[str, Any] = {"title": None, "axis": alt.Axis(labels=False, ticks=False, grid=False, domain=False)}
    chosen = alt.selection_point(name=CHOSEN, fields=[ID], toggle=False, empty=True)
    chart: alt.Chart = (
        alt.Chart(rows, description="Map of the passages and the question; the list below it says the same in words.")
        .mark_point(filled=True, strokeWidth=2.5)
        .encode(
            x=alt.X("x:Q", scale=alt.Scale(zero=False, padding=16), **axis),
            y=alt.Y("y:Q", scale=alt.Scale(zero=False, padding=16), **axis),
            shape=_role(alt.Shape, _SHAPES),
            size=_role(alt.Size, _SIZES),
            **colours,
            opacity=alt.condition(chosen, alt.value(1), alt.value(0.45)),
            order=alt.Order("layer:Q"),
            tooltip=[
                alt.Tooltip("role:N", title="Point"),
                alt.Tooltip("title:N", title="Title"),
                alt.Tooltip("text:N", title="Text"),
            ],
        )
        .add_params(chosen)
        .properties(height=540 if by_document else 420)  # the legend takes the difference
    )
    return chart


def _map_rows(drawn: PassageMap) -> pd.DataFrame:
    """Tabulate the points, the important ones last, so that they are drawn on top."""
    shown = Counter(point.title for point in drawn.points if point.rank is not None)
    coloured = {title for title, _ in shown.most_common(len(_DOCUMENTS))}
    rows = [
        {
            ID: point.id,
            "x": point.x,
            "y": point.y,
            "role": QUOTED if point.quoted else OTHER if point.rank is None else FOUND,
            "rank": point.rank or len(drawn.points),
            "title": point.title,
            "document": point.title if point.title in coloured else _ELSEWHERE,
            "text": excerpt(point.text, _EXCERPT),
        }
        for point in drawn.points
    ]
    question = {"x": drawn.x, "y": drawn.y, "role": QUESTION, "rank": len(drawn.points), "title": "", "text": ""}
    rows.append({**question, ID: "", "document": _ELSEWHERE})
    table = pd.DataFrame(rows)
    table["layer"] = table["role"].map(_ROLES.index)
    return table.sort_values("layer")


def _role(channel: Any, values: Sequence[str] | Sequence[int]) -> Any:
    """Encode what a point is; the channels share one legend."""
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=2,
        symbolOpacity=1,
        labelColor=_INK,
    )
    return channel("role:N", scale=alt.Scale(domain=list(_ROLES), range=list(values)), legend=legend)


def _by_document(rows: pd.DataFrame) -> dict[str, Any]:
    """Colour passages by their documents; those with an answer keep their ring, the question its own colour."""
    documents = list(dict.fromkeys(rows.sort_values("rank")["document"]))
    named = [title for title in documents if title != _ELSEWHERE]
    scale = alt.Scale(domain=[*named, _ELSEWHERE], range=[*_DOCUMENTS[: len(named)], _FILLS[0]])
    legend = alt.Legend(title=None, orient="top", columns=2, labelLimit=130, symbolType="square", labelColor=_INK)
    question = f"datum.role === '{QUESTION}'"
    ringed = f"datum.role === '{QUOTED}'"
    return {
        "fill": alt.condition(question, alt.value(_FILLS[3]), alt.Fill("document:N", scale=scale, legend=legend)),
        "stroke": alt.condition(ringed, alt.value(_STROKES[2]), alt.Stroke("document:N", scale=scale, legend=None)),
    }


def _share(share: float) -> str:
    return "under 1%" if share < 0.01 else f"{share:.0%}"


def _bars(rows: pd.DataFrame, name: str, value: str, title: str) -> alt.LayerChart:
    """Draw bars below their names, with a label after each; names and labels have all the width they need."""
    order = list(rows[name])
    base = alt.Chart(
        rows, description=f"{title}: " + "; ".join(f"{row[name]}: {row.label}" for _, row in rows.iterrows())
    )
    y = alt.Y(f"{name}:N", sort=order, title=None, axis=None, scale=alt.Scale(paddingInner=0.6, paddingOuter=0.4))
    x = alt.X(f"{value}:Q", axis=None, scale=alt.Scale(zero=True))
    bars = base.mark_bar(height=12, cornerRadius=3).encode(x=x, y=y)
    names = base.mark_text(align="left", baseline="bottom", dy=-9, fontSize=13, color=_INK).encode(
        x=alt.value(0), y=y, text="caption:N"
    )
    rows["caption"] = rows[name] + ":  " + rows["label"]
    chart: alt.LayerChart = (bars + names).properties(height=44 * len(rows))
    return chart
