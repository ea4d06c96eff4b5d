"""The page `Training`: learning curves, settings and reports of run folders."""

import html
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from demo.core.reach import only_this_machine
from demo.core.training_reports import Report, find_reports, resampled, side_by_side
from demo.core.training_runs import BESIDES, RunError, TrainingRun, differences, find_runs, read_run
from demo.core.wording import counted, duration, literal
from demo.views import links, training_charts
from demo.views.messages import say_error
from rom_haystack.folders import LibraryError, expanded

_STYLE = Path(__file__).with_name("training.css")
_COMMANDS = """pip install -e ".[training]"
python -m training train training/recipes/rom-minilm-l6.yaml --data DATA --output runs/rom-minilm-l6
python -m training evaluate runs/rom-minilm-l6/model --data DATA --report runs/rom-minilm-l6/report.json"""
_TICK = 10
_SMOOTHING = 0.8
_SHOWN_AT_FIRST, _MOST_SHOWN = 3, 6

# Widget keys.
_FOLDER, _RUNS, _METRICS = "training.folder", "training.runs", "training.metrics"
_SMOOTH, _REFRESH = "training.smooth", "training.refresh"
# Session state: the folder that a link names, until the user has it opened.
_LINKED = "training.linked"


def show() -> None:
    """Draw the page."""
    link = links.arrived()
    if link is not None:
        st.session_state[_FOLDER] = st.session_state[_LINKED] = link.get("run", "").strip()
    st.html(_STYLE)
    st.title("Training", anchor=False)
    st.caption(
        "Learning curves, settings and evaluations of models that were trained on this machine, or are just now."
    )
    if not only_this_machine(st.get_option("server.address")):
        st.info(
            "This page reads folders of the machine that the demo runs on. It does so only where no other machine can "
            "reach the demo, and this one can be reached. Start it with --server.address localhost to see your runs.",
            icon=":material/lock:",
        )
        return
    named = st.text_input(
        "Folder of a run, or of several",
        key=_FOLDER,
        placeholder="runs/rom-minilm-l6",
        help="On this machine; it is only read.",
        persist_state="session",
    ).strip()
    links.write({"run": named})
    if not named:
        _invite()
        return
    if named == st.session_state.get(_LINKED):
        _offer()
        return
    try:
        folder = expanded(named)
        found = find_runs(folder)
        chosen = _choose_runs(found)
        runs = [read_run(path) for path in chosen]
    except (LibraryError, RunError) as error:
        say_error(error)
        _invite()
        return
    if runs:
        _show_runs(folder, runs)


def _offer() -> None:
    """Offer to open the folder that a link names; whoever wrote the link has no say in what is read here."""
    st.info("A link names this folder. It is opened only if you say so.", icon=":material/link:")
    st.button("Open this folder", type="primary", on_click=lambda: st.session_state.pop(_LINKED, None))


def _invite() -> None:
    """Say where run folders come from."""
    st.header("How to make one", anchor=False)
    st.markdown(
        "From a checkout of the sources; `DATA` is a folder with SQuAD’s questions, and the answers that you judged on "
        "the page Ask can be trained on, too. While a run is going on, this page follows it."
    )
    st.code(_COMMANDS, language=None, wrap_lines=True)  # the colours of languages are too pale


def _choose_runs(found: Sequence[Path]) -> list[Path]:
    if len(found) == 1:
        return list(found)
    names = {path.name: path for path in found}
    chosen = st.multiselect(
        "Runs",
        list(names),
        default=list(names)[:_SHOWN_AT_FIRST],
        max_selections=_MOST_SHOWN,
        key=f"{_RUNS}.{found[0].parent}",
    )
    return [names[name] for name in chosen]


def _show_runs(folder: Path, runs: list[TrainingRun]) -> None:
    going_on = any(not run.finished for run in runs)
    follow = going_on and st.toggle(f"Look again every {_TICK} seconds", value=True, key=_REFRESH)
    paths = [run.folder for run in runs]
    metrics = _choose_metrics(runs)

    @st.fragment(run_every=_TICK if follow else None)
    def draw() -> None:
        try:
            now = [read_run(path) for path in paths]
        except RunError as error:
            say_error(error)
            return
        st.html(_states(now))
        _show_curves(now, metrics)
        _show_reports(folder, now)
        _show_settings(now)

    draw()


def _choose_metrics(runs: Sequence[TrainingRun]) -> list[str]:
    names = list(dict.fromkeys(name for run in runs for name in run.curves))
    if not names:
        return []
    usual = [name for name in names if name not in BESIDES]
    return st.multiselect("Curves", names, default=usual, key=f"{_METRICS}.{' '.join(names)}")


def _states(runs: Sequence[TrainingRun]) -> str:
    """Write how far runs are as HTML; where there are several, with the lines that they have in the charts."""
    items = []
    for number, run in enumerate(runs):
        line = training_charts.line_sample(number) if len(runs) > 1 else ""
        items.append(f"<li>{line}<b>{html.escape(run.name)}</b> · {html.escape(_state(run))}</li>")
    return f"<ul class='rom-states'>{''.join(items)}</ul>"


def _state(run: TrainingRun) -> str:
    if run.finished:
        took = f" in {duration(run.seconds)}" if run.seconds is not None else ""
        return f"finished after {counted(run.step, 'step')}{took}"
    if not run.step:
        return "has just begun; there is something to see at its first checkpoint"
    of = f" of {run.steps:,}" if run.steps else ""
    return f"step {run.step:,}{of}, as of its last checkpoint"


def _show_curves(runs: list[TrainingRun], metrics: Sequence[str]) -> None:
    drawn = [metric for metric in metrics if any(run.curves.get(metric) for run in runs)]
    if not drawn:
        return
    st.header("Learning curves", anchor=False)
    smooth = st.toggle("Smooth", value=True, key=_SMOOTH)
    for first in range(0, len(drawn), 2):
        for column, metric in zip(st.columns(2), drawn[first : first + 2], strict=False):
            with column:
                st.subheader(literal(metric), anchor=False)
                shown = [run for run in runs if run.curves.get(metric)]
                among = [run.name for run in runs]
                chart = training_charts.curve_chart(shown, among, metric, _SMOOTHING if smooth else 0)
                st.altair_chart(chart, alt=training_charts.curve_text(shown, metric))


def _show_reports(folder: Path, runs: Sequence[TrainingRun]) -> None:
    """Draw all reports of the runs and of the folder that they are in, in one table."""
    reports = [
        Report(_name_among(runs, run, report), report.systems, report.settings)
        for run in runs
        for report in run.reports
    ]
    if folder not in [run.folder for run in runs]:
        reports += find_reports(folder, inner=False)
    st.header("Evaluations", anchor=False)
    if not reports:
        st.caption("There are no reports in this folder yet. The evaluation writes one with --report.")
        return
    table = side_by_side(reports)
    st.html(
        _table(
            ["Figure", *table.systems],
            [[metric, *("–" if f is None else str(f) for f in figures)] for metric, figures in table.rows.items()],
            "Evaluations",
        )
    )
    st.caption(f"In percent, with 95% intervals by a bootstrap over {resampled(reports)}.")


def _name_among(runs: Sequence[TrainingRun], run: TrainingRun, report: Report) -> str:
    if len(runs) == 1:
        return report.name
    return run.name if len(run.reports) == 1 else f"{run.name} {report.name}"


def _show_settings(runs: Sequence[TrainingRun]) -> None:
    st.header("Settings", anchor=False)
    if len(runs) == 1:
        rows = [[key, value] for key, value in runs[0].settings.items()]
        with st.expander(counted(len(rows), "setting"), icon=":material/tune:"):
            st.html(_table(["Setting", "Value"], rows, "Settings"))
        return
    rows = [[key, *values] for key, values in differences(runs).items()]
    if not rows:
        st.caption("These runs have the same settings.")
        return
    st.html(_table(["Setting", *(run.name for run in runs)], rows, "Settings"))
    st.caption("The settings in which the runs differ.")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> str:
    """Write a table as HTML; where it is wider than the page, it scrolls by itself, by keyboard, too."""
    first, *others = head
    heads = "".join(f"<th scope='col'>{html.escape(cell)}</th>" for cell in (first, *others))
    body = "".join(
        f"<tr><th scope='row'>{html.escape(key)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for key, *cells in rows
    )
    return (
        f"<div class='rom-scroll' role='region' tabindex='0' aria-label='{html.escape(name)}'>"
        f"<table class='rom-runs'><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
