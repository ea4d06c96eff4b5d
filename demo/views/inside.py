"""The panel `Look inside`: what was found, how it was read, how long that took, and where it stands on a map."""

from collections.abc import Callable, Hashable
from html import escape
from pathlib import Path
from typing import TypeVar

import pandas as pd
import streamlit as st
from haystack.document_stores.errors import DocumentStoreError

from demo.core.collection import Collection
from demo.core.engine import Engine
from demo.core.heat import as_html, likeliest, pieces, strength
from demo.core.inside import PassageReading, found_rows, read_passages, stage_times
from demo.core.model_size import designs, process_megabytes, size_of
from demo.core.passage_map import REACH, NothingToMapError, PassageMap, Point, Survey, survey, with_question
from demo.core.results import Result
from demo.core.wording import counted, duration, literal, percent, title_of
from demo.views.inside_charts import CHOSEN, ID, designs_chart, map_chart, times_chart
from rom_haystack.folders import LibraryError
from rom_haystack.modeling import CheckpointError

Value = TypeVar("Value")

_STYLE = Path(__file__).with_name("inside.css")
_TABS = ("Passages", "Words", "Time and size", "Map")
_LEGEND = (0.01, 0.1, 0.5, 1.0)


@st.fragment
def show(result: Result, collection: Collection, engine: Engine) -> None:
    """Draw the panel; nothing in it is computed before it is opened.

    Args:
        result: The finished result of a question.
        collection: What was asked.
        engine: The models.
    """
    panel = st.expander("Look inside", icon=":material/frame_inspect:", key="inside.open", on_change="rerun")
    if not panel.open:
        return
    with panel:
        st.html(_STYLE)
        if not result.passages:
            st.info("Nothing was found, so there is nothing to look into. Ask in other words, or add documents.")
            return
        draw: tuple[Callable[[], None], ...] = (
            lambda: _show_passages(result, engine),
            lambda: _show_words(result, engine),
            lambda: _show_times_and_sizes(result),
            lambda: _show_map(result, collection, engine),
        )
        for tab, show_tab in zip(st.tabs(_TABS, key="inside.tab", on_change="rerun"), draw, strict=True):
            if tab.open:
                with tab:
                    _attempt(show_tab)


def _attempt(draw: Callable[[], None]) -> None:
    """Draw something from documents and models that may be gone or exchanged since the question was asked."""
    try:
        draw()
    except (LibraryError, CheckpointError, DocumentStoreError, NothingToMapError) as error:
        st.error(f"This can't be shown any more; ask again. {literal(str(error))}", icon=":material/error:")


def _show_passages(result: Result, engine: Engine) -> None:
    settings = result.settings
    searches = {
        "hybrid": "Keywords and meaning were searched each for itself, and the two lists fused.",
        "dense": "Passages were searched by meaning alone.",
        "keyword": "Passages were searched by keywords alone.",
    }
    st.caption(
        f"{counted(len(result.passages), 'passage')} found, {result.read} read. {searches[settings.retrieval]} "
        "Relevance is the reader's own estimate that a passage answers the question; it runs high."
    )
    rows = found_rows(result, _readings(result, engine))
    table = pd.DataFrame(
        {
            "Rank": [row.rank for row in rows],
            "Document": [row.title for row in rows],
            "Keyword": [row.keyword_rank for row in rows],
            "Dense": [row.dense_rank for row in rows],
            "Score": [row.score for row in rows],
            "Relevance": [None if row.relevance is None else 100 * row.relevance for row in rows],
            "Answers": [row.quotes for row in rows],
            "Read": ["yes" if row.was_read else "no" for row in rows],
            "Passage": [row.text for row in rows],
        }
    ).astype({"Keyword": "Int64", "Dense": "Int64"})
    absent = [name for name in ("Keyword", "Dense", "Relevance") if table[name].isna().all()]
    table = table.drop(columns=absent if result.read < len(rows) else [*absent, "Read"])
    st.dataframe(
        table,
        hide_index=True,
        placeholder="–",
        column_config={
            "Rank": st.column_config.NumberColumn(help="Place in the list that was read", width="small"),
            "Keyword": st.column_config.NumberColumn(help="Place in the keyword search (BM25)", width="small"),
            "Dense": st.column_config.NumberColumn(help="Place in the search by meaning", width="small"),
            "Score": st.column_config.NumberColumn(help="By which the list is ordered", format="%.3f"),
            "Relevance": st.column_config.ProgressColumn(min_value=0, max_value=100, format="%.1f%%"),
            "Answers": st.column_config.NumberColumn(help="Answers that stand in it", width="small"),
            "Read": st.column_config.TextColumn(help="Fast reading may stop before all are read", width="small"),
        },
    )


def _show_words(result: Result, engine: Engine) -> None:
    readings = _readings(result, engine)
    quoted = [quote.passage.document.id for quote in result.quotes or result.doubtful]
    ids = [found.document.id for found in result.passages]
    chosen = st.selectbox(
        "Passage",
        range(len(ids)),
        index=ids.index(quoted[0]) if quoted else 0,
        format_func=lambda place: f"{place + 1}. {title_of(result.passages[place].document)}",
        key=f"inside.words {_asked(result)}",
    )
    st.html(_legend())
    document, reading = result.passages[chosen].document, readings[chosen]
    cut = pieces(document.content or "", reading.tokens)
    with st.container(border=True):
        st.html(as_html(cut))
    begin, end = likeliest(cut, "begin"), likeliest(cut, "end")
    if begin is None or end is None:
        st.text("No answer can stand in this passage.")
        return
    null = f" No answer here: {percent((reading.tokens.null_start + reading.tokens.null_end) / 2)}."
    st.text(
        f"The answer most likely begins with “{begin.text}” ({percent(begin.begins)}) and ends with “{end.text}” "
        f"({percent(end.ends)}).{null}"
    )
    st.caption(
        f"Computed once more on {literal(reading.engine)}. An answer is scored by both its ends against “no answer "
        "here”, and by the passage's relevance."
    )


def _legend() -> str:
    def samples(side: str) -> str:
        other = "ends" if side == "begins" else "begins"
        return "".join(
            f'<span class="rom-token" style="--{side}:{strength(p):.3f};--{other}:0">{p:.0%}</span>' for p in _LEGEND
        )

    return (
        f'<div class="rom-legend"><span>Fill: the answer begins here {samples("begins")}</span>'
        f"<span>Bar below: it ends here {samples('ends')}</span><span>[ ] the likeliest of each</span></div>"
    )


def _show_times_and_sizes(result: Result) -> None:
    _show_times(result)
    _show_sizes(result)


def _show_times(result: Result) -> None:
    st.subheader("Time", anchor=False)
    times = stage_times(result)
    total = sum(time.milliseconds for time in times) / 1000
    st.caption(
        f"{duration(total)} on this machine, on {literal(result.engine)}: {counted(result.read, 'passage')} read of "
        f"{len(result.passages)}. The browser's own time is not counted."
    )
    st.altair_chart(times_chart(times), width="stretch")


def _show_sizes(result: Result) -> None:
    st.subheader("Size", anchor=False)
    models = dict.fromkeys((result.settings.model, result.settings.reader))
    sizes = [size for size in map(size_of, models) if size is not None]
    if len(sizes) < len(models):
        st.caption("The checkpoint is an exported graph without weights, so its parameters can't be counted.")
        return
    compared = designs(sizes, result.engine)
    kept = "One encoder finds and reads" if len(sizes) == 1 else "One checkpoint finds passages, another one reads"
    st.caption(
        f"{kept}: {sum(size.encoder for size in sizes) / 1e6:.1f} million parameters, and "
        f"{sum(size.heads for size in sizes):,} in its heads. DPR's design keeps three encoders: for questions, for "
        "passages, and for reading."
    )
    st.altair_chart(designs_chart(compared), width="stretch")
    st.caption(
        f"Counted from the checkpoint's weights; megabytes are the weights alone, as {literal(result.engine)} computes "
        f"with them. This process takes {process_megabytes():,.0f} MB in all: Python, libraries, pages and indexes are "
        "in that, too. The two other designs are counted, not run; the three separate encoders are of this one's size."
    )


def _show_map(result: Result, collection: Collection, engine: Engine) -> None:
    by_document = st.segmented_control(
        "Colours", ("Found passages", "Documents"), default="Found passages", key="inside.colours"
    )
    with st.spinner("Drawing the map …", show_time=False):
        surveyed = _survey(collection, result.settings.model)
        drawn = _drawn(surveyed, result, collection, engine)
    select = f"inside.place {_asked(result)}"
    chart = f"inside.map {_asked(result)}"

    def choose() -> None:
        clicked = st.session_state[chart]["selection"].get(CHOSEN)
        st.session_state[select] = (clicked[0][ID] if clicked else None) or None

    st.altair_chart(
        map_chart(drawn, by_document=by_document == "Documents"),
        width="stretch",
        key=chart,
        on_select=choose,
        selection_mode=CHOSEN,
    )
    st.caption(_about(surveyed))
    _show_place(drawn, select)


def _about(surveyed: Survey) -> str:
    shown = len(surveyed.points)
    sampled = f"A sample of {shown:,} of" if shown < surveyed.total else "All"
    first = f" (drawn from the first {REACH:,})" if surveyed.total > REACH else ""
    return (
        f"{sampled} {counted(surveyed.total, 'passage')}{first}, on the plane through their embeddings in which "
        f"they differ most (principal components). It holds {surveyed.plane.variance:.0%} of the variance, so what is "
        "near here need not be near in all directions."
    )


def _show_place(drawn: PassageMap, select: str) -> None:
    """Let a passage be chosen, on the map or in the list, and show it."""
    points = {point.id: point for point in drawn.points}
    found = [point.id for point in sorted(drawn.points, key=lambda point: point.rank or 0) if point.rank is not None]
    clicked = st.session_state.get(select)
    options = found if clicked is None or clicked in found else [clicked, *found]
    chosen = st.selectbox(
        "Passage on the map",
        options,
        index=None,
        format_func=lambda id_: _name(points[id_]),
        key=select,
        placeholder="Click a point, or choose a passage that was found",
    )
    if chosen is None:
        return
    with st.container(border=True):
        st.html(f'<p class="rom-passage">{escape(points[chosen].text)}</p>')
        st.text(points[chosen].file)


def _name(point: Point) -> str:
    return point.title if point.rank is None else f"{point.rank}. {point.title}"


def _readings(result: Result, engine: Engine) -> list[PassageReading]:
    return _kept("inside.readings", (_asked(result), engine.name), lambda: read_passages(result))


def _survey(collection: Collection, model: str) -> Survey:
    key = (collection.id, collection.version, model)
    return _kept("inside.survey", key, lambda: survey(collection.library(model).store))


def _drawn(surveyed: Survey, result: Result, collection: Collection, engine: Engine) -> PassageMap:
    store = collection.library(result.settings.model).store
    key = (_asked(result), collection.version)
    return _kept("inside.drawn", key, lambda: with_question(surveyed, store, result, engine))


def _asked(result: Result) -> int:
    """Tell results apart."""
    return hash((result.question, result.settings, tuple(found.document.id for found in result.passages)))


def _kept(name: str, key: Hashable, compute: Callable[[], Value]) -> Value:
    """Compute something once per key; this session keeps the last."""
    kept = st.session_state.get(name)
    if kept is None or kept[0] != key:
        kept = st.session_state[name] = (key, compute())
    value: Value = kept[1]
    return value
