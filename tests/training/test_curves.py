"""Learning curves and progress."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState
from typer.testing import CliRunner

from training.__main__ import app
from training.curves import html_page, series_of, write_curves
from training.progress import Progress

ENTRIES = [
    {"loss": 3.0, "epoch": 0.1, "reading/span_loss": 2.0, "step": 20},
    {"development/F1": 0.5, "epoch": 0.1, "step": 20},
    {"loss": float("nan"), "reading/span_loss": 1.5, "step": 40},
    {"loss": 1.25, "step": 1060},
    {"train_runtime": 9.0, "total_flos": 0.0, "step": 1060},
]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "my run & <more>"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES), encoding="utf-8")
    return folder


def test_series_by_metric():
    assert series_of(ENTRIES) == {
        "loss": ([20, 1060], [3.0, 1.25]),
        "reading/span_loss": ([20, 40], [2.0, 1.5]),
        "development/F1": ([20], [0.5]),
    }


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.titles = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "circle", "line", "polyline"):
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        if tag not in ("circle", "line", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "title":
            self.titles.append(data)


def test_files(run):
    files = write_curves(run)
    page = (run / "curves.html").read_text(encoding="utf-8")
    assert "my run &amp; &lt;more&gt;" in page
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []
    assert not re.search(r"https?:|url\(|@import|<script", page)
    assert parser.titles[1:] == [
        "step 20: 3",
        "step 1,060: 1.25",
        "step 20: 2",
        "step 40: 1.5",
        "step 20: 0.5",
    ]
    if importlib.util.find_spec("matplotlib"):
        assert files == [run / "curves.html", run / "curves.png"]
        assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_curves_fall_where_values_fall():
    page = html_page("run", {"loss": ([0, 50, 100], [2.0, 1.0, 0.0])})
    points = re.search(r'points="([^"]+)"', page)[1].split()
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, point.split(","))) for point in points)
    assert x1 - x0 == x2 - x1 > 0
    assert y1 - y0 == y2 - y1 > 0  # downwards on the page


def test_without_matplotlib_the_page_remains(run, monkeypatch, caplog):
    monkeypatch.setattr("training.curves.importlib.util.find_spec", lambda name: None)
    assert write_curves(run) == [run / "curves.html"]
    assert not (run / "curves.png").exists()
    assert "no curves.png" in caplog.text


def test_command(run, tmp_path):
    result = CliRunner().invoke(app, ["curves", str(run)])
    assert result.exit_code == 0, result.output
    assert f"Curves written to {run / 'curves.html'}" in result.output
    result = CliRunner().invoke(app, ["curves", str(tmp_path)])
    assert result.exit_code == 2
    assert "the folder of a run?" in " ".join(result.output.split())


def test_of_a_run_that_has_logged_nothing(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    write_curves(tmp_path)
    assert "Nothing was logged yet." in (tmp_path / "curves.html").read_text(encoding="utf-8")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, first=0):
    """Show two of four steps and a log entry."""
    progress, control = Progress(stream), TrainerControl()
    state = TrainerState(global_step=first, max_steps=4)
    progress.on_train_begin(SimpleNamespace(), state, control)
    for _ in range(2):
        state.global_step += 1
        progress.on_step_end(SimpleNamespace(), state, control)
    state.log_history.append({"loss": 1.23456, "epoch": 0.5, "reading/span_loss": 2.0, "step": state.global_step})
    progress.on_log(SimpleNamespace(), state, control)
    progress.on_train_end(SimpleNamespace(), state, control)
    return stream.getvalue()


def test_progress_in_a_log_is_lines():
    assert re.fullmatch(r" 50%\| 2/4 \[.*\] loss 1\.235, reading/span_loss 2\n", shown(io.StringIO()))
    assert shown(io.StringIO(), first=1).startswith(" 75%| 3/4 [")


def test_progress_in_a_terminal_is_a_bar():
    said = shown(Terminal(), first=1)
    assert "step 3: loss 1.235, reading/span_loss 2" in said
    assert "3/4" in said
    assert "\r" in said


def test_other_processes_are_quiet():
    stream = io.StringIO()
    progress, state = Progress(stream), TrainerState(max_steps=4, is_world_process_zero=False)
    state.log_history.append({"loss": 1.0, "step": 0})
    progress.on_train_begin(SimpleNamespace(), state, TrainerControl())
    progress.on_log(SimpleNamespace(), state, TrainerControl())
    assert stream.getvalue() == ""
