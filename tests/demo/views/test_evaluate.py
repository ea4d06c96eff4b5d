"""The page `Evaluate`."""

# ruff: noqa: PLC0415 (AppTest runs the source of a function by itself)
from __future__ import annotations

import json
import time
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from demo.core.evaluating import Outcome, Run
from demo.core.results import Settings
from rom_haystack.questions import Question

pytestmark = pytest.mark.integration

ODD = "<img src=x onerror=alert(1)> $a$ :red[x]"
TABLE = f"""question,answer
Which Apollo 11 astronaut stayed in orbit?,Michael Collins
Who wrote Winnie-the-Pooh?,
"{ODD}",=1+1
"""
SQUAD = {
    "data": [
        {
            "title": "Moon",
            "paragraphs": [
                {
                    "context": "Apollo 11 landed in 1969. Collins stayed in orbit.",
                    "qas": [{"question": "Who stayed in orbit?", "answers": [{"text": "Collins", "answer_start": 26}]}],
                }
            ],
        }
    ]
}


def page() -> None:
    from demo.views import evaluate, frame

    frame.set_up()
    evaluate.show()


@pytest.fixture
def open_page(visit_page):
    return partial(visit_page, page)


def upload(app: AppTest, name: str, text: str) -> None:
    app.file_uploader[0].set_value((name, text.encode(), "text/plain"))
    app.run()
    assert not app.exception


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label.startswith(label)).click().run()
    assert not app.exception


def finish(app: AppTest) -> None:
    """Wait for the evaluation, and draw the page as the browser would then."""
    assert app.session_state["evaluate.job"].wait(120)
    app.run()
    assert not app.exception


def bodies(app: AppTest, mark: str) -> list[str]:
    return [element.proto.body for element in app.get("html") if f"class='{mark}'" in element.proto.body]


def headings(app: AppTest) -> list[str]:
    return [heading.value for heading in app.header]


def test_begins_with_limits_and_an_example(open_page):
    app = open_page()
    assert app.title[0].value == "Evaluate"
    assert any("20 MB" in caption.value and "5,000 questions" in caption.value for caption in app.caption)
    assert app.button[0].label == "Try the 52 questions on the sample articles"
    assert "question,answer" in app.code[0].value


def test_a_table_is_evaluated_on_the_documents(open_page):
    app = open_page()
    upload(app, "mine :red[x].csv", TABLE)
    assert "**3 questions**, 1 of them without an answer, from mine" in app.markdown[0].value
    assert ":red[x]" not in app.markdown[0].value
    press(app, "Ask 3 questions")
    finish(app)
    assert headings(app) == ["Questions", "Results", "Answers that are not right", "Take the results with you"]
    (figures,) = bodies(app, "rom-metrics")
    for name in ("Exact match", "F1", "Answer recall@1", "Answer recall@20", "No answer, rightly"):
        assert name in figures
    assert "66.7%" in figures  # two of three are right
    assert next(chart.proto.alt for chart in app.get("vega_lite_chart")).startswith("Questions for which one")
    (mistake,) = bodies(app, "rom-mistake")
    assert "&lt;img src=x onerror=alert(1)&gt; $a$ :red[x]" in mistake
    assert "<img" not in mistake
    (link,) = app.get("page_link")
    assert link.proto.query_string.startswith("q=%3Cimg+src")
    assert [button.proto.label for button in app.get("download_button")] == [
        "CSV, a row per question",
        "JSON, with settings and figures",
    ]


def test_a_squad_file_is_read_on_its_own_paragraphs(open_page):
    app = open_page()
    upload(app, "dev.json", json.dumps(SQUAD))
    assert app.segmented_control[-1].value == "paragraphs"
    press(app, "Ask 1 question")
    finish(app)
    assert any("each on its own paragraph" in caption.value for caption in app.caption)
    (figures,) = bodies(app, "rom-metrics")
    assert "recall" not in figures
    assert app.success[0].value == "All answers are right, to the word."
    assert not app.get("page_link")


def test_many_questions_can_be_fewer_and_cancelled(open_page):
    app = open_page()
    upload(app, "many.csv", "question,answer\n" + "Who stayed in orbit?,Collins\n" * 6000)
    assert app.number_input[0].value == 500
    app.number_input[0].set_value(5000).run()
    press(app, "Ask 5,000 questions")
    job = app.session_state["evaluate.job"]
    deadline = time.monotonic() + 60
    while not job.progress.done and time.monotonic() < deadline:
        app.run()
    assert next(button for button in app.button if button.label.startswith("Ask")).disabled
    press(app, "Cancel")
    finish(app)
    assert job.state == "cancelled"
    assert app.info[-1].value == "The evaluation was cancelled."


def test_mistakes_are_turned_over_by_kind_and_asked_as_they_were(open_page, monkeypatch):
    place = {"title": "T", "file_path": "t.md", "page": 7, "sentence": "It is so.", "span": (6, 8)}
    wrong = [Outcome(Question(f"Q{n}?", "", ("x",), ()), "so", n / 100, True, 0.0, 0.0, 1, **place) for n in range(12)]
    partly = Outcome(Question("Partly?", "", ("so it",), ()), "so", 0.5, True, 0.0, 0.5, 1, **place)
    settings = Settings(retrieval="dense", passages=3)
    run = Run("q.csv", 13, "documents", "birds", "Birds", settings, "torch", 1.0, (*wrong, partly))
    monkeypatch.setattr("demo.core.evaluating.run", lambda *_: run)
    app = open_page()
    press(app, "Try the 52")
    press(app, "Ask 52")
    finish(app)
    shown = " ".join(bodies(app, "rom-mistake"))
    assert [f"Q{n}?" in shown for n in (11, 7, 6)] == [True, True, False]  # the surest first
    assert "page 7" in shown
    assert app.get("page_link")[0].proto.query_string == "q=Q11%3F&retrieval=dense&passages=3&collection=birds"
    app.session_state["evaluate.page.Wrong words.3"] = 3
    app.run()
    assert len(bodies(app, "rom-mistake")) == 2
    kind = next(box for box in app.selectbox if box.label == "Kind of mistake")
    assert kind.options == ["Wrong words (12)", "Partly right (1)"]
    kind.set_value("Partly right").run()
    assert "Partly?" in bodies(app, "rom-mistake")[0]
    assert not app.exception


def test_mistakes_in_a_file_are_named(open_page):
    app = open_page()
    upload(app, "odd.csv", "question,reply\nWho?,me\n")
    assert "odd\\.csv\\, line 1" in app.error[0].value
    assert not any(button.label.startswith("Ask") for button in app.button)
    upload(app, "good.csv", TABLE)
    assert not app.error
    assert any(button.label == "Ask 3 questions" for button in app.button)


def test_what_fails_is_said(open_page, monkeypatch):
    app = open_page()
    press(app, "Try the 52")

    def fail(*_):
        raise ValueError("The index is *gone*.")

    monkeypatch.setattr("demo.core.evaluating.run", fail)
    press(app, "Ask 52 questions")
    finish(app)
    assert "The index is \\*gone\\*\\." in app.error[0].value


def test_a_link_brings_documents_and_settings(open_page):
    app = open_page(collection="nothing-here", passages="3")
    press(app, "Try the 52")
    assert "nothing" in app.warning[0].value
    assert app.slider[0].value == 3
    assert app.query_params["passages"] == "3"
