"""The page `Training`."""

# ruff: noqa: PLC0415 (AppTest runs the source of a function by itself)
from __future__ import annotations

import json
import shutil

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button


def page() -> None:
    from demo.views import links, training

    links.follow()
    training.show()


@pytest.fixture
def open_page(monkeypatch):
    import streamlit as st

    options = {"server.address": "localhost"}
    known = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: options.get(name) or known(name))

    def visit(address: str = "localhost", *, open_it: bool = True, **link: str) -> AppTest:
        options["server.address"] = address
        app = AppTest.from_function(page, default_timeout=60)
        app.query_params.update(link)
        app.run()
        assert not app.exception
        if open_it and (offered := buttons(app)):
            offered[0].click().run()
            assert not app.exception
        return app

    return visit


def buttons(app: AppTest) -> list[Button]:
    return [button for button in app.button if button.label == "Open this folder"]


def headings(app: AppTest) -> list[str]:
    return [heading.value for heading in app.header]


def tables(app: AppTest) -> list[str]:
    return [element.proto.body for element in app.get("html") if "<table" in element.proto.body]


def states(app: AppTest) -> list[str]:
    return [element.proto.body for element in app.get("html") if "<li>" in element.proto.body]


def charts(app: AppTest) -> list[str]:
    return [chart.proto.alt for chart in app.get("vega_lite_chart")]


def write_report(path, mean):
    figure = {"mean": mean, "low": mean - 1, "high": mean + 1}
    path.write_text(
        json.dumps(
            {
                "settings": {"article count": 24},
                "systems": {"rom": {"reading F1": figure}, "<b>bm25": {"MRR": figure}},
            }
        )
    )


def test_begins_with_the_command_that_makes_a_run(open_page):
    app = open_page()
    assert headings(app) == ["How to make one"]
    assert "python -m training train" in app.code[0].value
    assert not app.error


def test_folders_are_read_only_where_no_other_machine_can_ask(open_page, finished):
    app = open_page(address="0.0.0.0", run=str(finished))
    assert not app.text_input
    assert not charts(app)
    assert "reads folders of the machine" in app.info[0].value


def test_a_link_opens_no_folder_by_itself(open_page, finished):
    app = open_page(run=str(finished), open_it=False)
    assert app.text_input[0].value == str(finished)
    assert "opened only if you say so" in app.info[0].value
    assert not charts(app)
    assert not headings(app)
    app.run()
    assert not charts(app)
    buttons(app)[0].click().run()
    assert charts(app)
    assert app.query_params["run"] == str(finished)
    assert not buttons(app)


def test_another_folder_than_the_links_is_opened_at_once(open_page, finished, tmp_path):
    app = open_page(run=str(tmp_path), open_it=False)
    app.text_input[0].set_value(str(finished)).run()
    assert charts(app)


def test_the_home_of_an_unknown_user(open_page):
    app = open_page()
    app.text_input[0].set_value("~no-such-user/runs").run()
    assert not app.exception
    assert "user who isn't known here" in app.error[0].value.replace("\\", "")
    assert headings(app) == ["How to make one"]


def test_a_folder_that_goes_while_it_is_shown(open_page, finished, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    app = open_page(run=str(tmp_path / "runs"))
    assert charts(app)
    shutil.rmtree(tmp_path / "runs")
    app.run()
    assert not app.exception
    assert "There is no folder" in app.error[0].value


def test_a_finished_run_has_curves_and_settings(open_page, finished):
    app = open_page()
    app.text_input[0].set_value(str(finished)).run()
    assert not app.exception
    assert app.query_params["run"] == str(finished)
    assert headings(app) == ["Learning curves", "Evaluations", "Settings"]
    (state,) = states(app)
    assert "<b>finished</b> · finished after 40 steps" in state
    assert {heading.value for heading in app.subheader} >= {"loss", "reading\\/span\\_loss", "retrieval\\/recall\\@1"}
    assert charts(app)[0].startswith("loss over the steps. finished: ")
    assert "learning_rate over" not in " ".join(charts(app))
    assert "<th scope='row'>tasks.reading.batch_size</th><td>2</td>" in tables(app)[0]
    app.multiselect[0].set_value(["learning_rate"]).run()
    assert [chart.partition(" ")[0] for chart in charts(app)] == ["learning_rate"]


def test_smoothing_can_be_switched_off(open_page, finished):
    app = open_page(run=str(finished))
    before = app.get("vega_lite_chart")[0].proto
    smooth = next(toggle for toggle in app.toggle if toggle.label == "Smooth")
    smooth.set_value(False).run()
    after = app.get("vega_lite_chart")[0].proto
    assert before.datasets[0].data.data != after.datasets[0].data.data


def test_a_run_that_is_going_on_is_followed(open_page, interrupted):
    app = open_page(run=str(interrupted))
    assert "step 25 of 40, as of its last checkpoint" in states(app)[0]
    assert next(toggle for toggle in app.toggle if toggle.label.startswith("Look again")).value is True


def test_several_runs_stand_side_by_side(open_page, finished, interrupted, tmp_path):
    for run in (finished, interrupted):
        shutil.copytree(run, tmp_path / run.name)
    write_report(tmp_path / "finished" / "report.json", 60.0)
    write_report(tmp_path / "all.json", 70.0)
    app = open_page(run=str(tmp_path))
    assert set(app.multiselect[0].value) == {"finished", "interrupted"}
    assert "finished: " in charts(app)[0]
    assert "interrupted: " in charts(app)[0]
    assert states(app)[0].count("border-top") == 2  # each with its line
    reports, settings = tables(app)
    assert "<th scope='col'>finished: rom</th>" in reports
    assert "60.0 (59.0–61.0)" in reports
    assert "70.0 (69.0–71.0)" in reports
    assert "&lt;b&gt;bm25" in reports
    assert any("bootstrap over articles (24; " in caption.value for caption in app.caption)
    assert "<b>" not in reports
    assert "<th scope='row'>learning_rate</th>" in settings
    app.multiselect[0].set_value(["finished"]).run()
    assert not app.exception
    assert "interrupted: " not in charts(app)[0]


@pytest.mark.parametrize("name", ["none", "a[b](c) $x$"])
def test_a_folder_without_runs_is_named_as_it_is_written(open_page, tmp_path, name):
    app = open_page(run=str(tmp_path / name))
    assert "There is no folder" in app.error[0].value
    assert "[b](c)" not in app.error[0].value
    assert headings(app) == ["How to make one"]


def test_a_damaged_log_is_named(open_page, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("nothing\n{}\n")
    app = open_page(run=str(tmp_path / "run"))
    assert "metrics\\.jsonl\\, line 1" in app.error[0].value
