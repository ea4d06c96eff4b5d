"""The panel `Look inside`."""

# ruff: noqa: PLC0415 (AppTest runs the source of a function by itself)
from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

pytestmark = pytest.mark.integration

QUESTION = "Which Apollo 11 astronaut stayed in orbit?"


def page(question: str, **settings: str) -> None:
    import streamlit as st

    from demo.core.asking import Asker
    from demo.core.results import Settings
    from demo.views import frame, inside

    frame.set_up()
    asked = Asker(frame.collection(), frame.engine()).answer(question, Settings(**settings))
    st.session_state["result"] = asked
    inside.show(asked, frame.collection(), frame.engine())


@pytest.fixture
def panel(home):
    def draw(tab: str | None = None, **settings: str) -> AppTest:
        app = AppTest.from_function(page, default_timeout=120, kwargs={"question": QUESTION, **settings})
        if tab is not None:
            app.session_state["inside.open"] = True
            app.session_state["inside.tab"] = tab
        app.run()
        assert not app.exception
        return app

    return draw


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def test_nothing_is_computed_before_it_is_opened(panel, monkeypatch):
    for name in ("read_passages", "survey", "size_of"):
        monkeypatch.setattr(f"demo.views.inside.{name}", lambda *given: pytest.fail("computed too early"))
    app = panel()
    assert app.expander[0].label == "Look inside"
    assert not app.tabs
    assert not app.dataframe


def test_a_closed_tab_computes_nothing(panel, monkeypatch):
    monkeypatch.setattr("demo.views.inside.survey", lambda *given: pytest.fail("computed too early"))
    panel("Passages")


def test_passages_with_all_their_ranks(panel):
    app = panel("Passages")
    table = app.dataframe[0].value
    result = app.session_state["result"]
    assert list(table["Rank"]) == list(range(1, 11))
    assert list(table.columns) == ["Rank", "Document", "Keyword", "Dense", "Score", "Relevance", "Answers", "Passage"]
    assert table["Document"][0] == "The Moon"
    assert table["Keyword"][0] == result.passages[0].keyword_rank
    assert table["Relevance"][0] > 90
    assert table["Answers"].sum() == len(result.quotes)
    assert "10 passages found, 10 read" in app.caption[0].value


def test_passages_of_one_search_alone_and_a_reading_that_stopped(panel):
    app = panel("Passages", retrieval="dense", reading="fast")
    table = app.dataframe[0].value
    assert "Keyword" not in table
    assert list(table["Dense"]) == list(range(1, 11))
    assert list(table["Read"]) == [
        "yes" if rank <= app.session_state["result"].read else "no" for rank in table["Rank"]
    ]
    assert app.session_state["result"].read < 10


def test_words_of_the_best_answers_passage(panel):
    app = panel("Words")
    shown = html(app)
    assert '>Michael</span> <span class="rom-token rom-end"' in shown
    assert ">Collins</span> remained in lunar orbit" in shown
    assert "begins with “Michael”" in app.text[0].value
    assert "ends with “Collins”" in app.text[0].value


def test_words_of_another_passage(panel):
    app = panel("Words")
    before = html(app)
    app.selectbox[0].set_value(4).run()
    assert not app.exception
    text = app.session_state["result"].passages[4].document.content
    assert html(app) != before
    assert text.split()[0] in html(app)


def test_times_and_sizes_in_words(panel):
    app = panel("Time and size")
    assert [heading.value for heading in app.subheader] == ["Time", "Size"]
    captions = " ".join(caption.value for caption in app.caption)
    assert "22.6 million parameters" in captions
    assert "This process takes" in captions
    charts = app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart")
    assert len(charts) == 2
    assert "DPR: three of BERT-base" in charts[1].proto.spec


def test_the_map_and_a_passage_on_it(panel):
    app = panel("Map")
    captions = " ".join(caption.value for caption in app.caption)
    assert "passages, on the plane" in captions
    assert "% of the variance" in captions
    result = app.session_state["result"]
    assert len(app.selectbox[0].options) == len(result.passages)
    app.selectbox[0].set_value(result.passages[2].document.id).run()
    assert not app.exception
    assert result.passages[2].document.content.split("\n")[0] in html(app)


def test_the_map_is_surveyed_once(panel, monkeypatch):
    app = panel("Map")
    monkeypatch.setattr("demo.views.inside.survey", lambda *given: pytest.fail("surveyed again"))
    app.segmented_control[0].set_value("Documents").run()
    assert not app.exception


def test_documents_that_are_gone_since(home):
    def gone() -> None:
        import shutil

        from demo.core.asking import Asker
        from demo.views import frame, inside

        asked = Asker(frame.collection(), frame.engine()).answer("Who?")
        frame.collection().close()
        shutil.rmtree(frame.collection().home / "indexes")
        inside.show(asked, frame.collection(), frame.engine())

    app = AppTest.from_function(gone, default_timeout=120)
    app.session_state["inside.open"] = True
    app.session_state["inside.tab"] = "Map"
    app.run()
    assert not app.exception
    assert "can't be shown any more; ask again" in app.error[0].value


def hostile(folder: str) -> None:
    from pathlib import Path

    from demo.core.asking import Asker
    from demo.core.collection import Collection
    from demo.views import frame, inside

    documents = Path(folder) / "documents"
    collection = Collection("hostile", "Hostile", "linked", documents, Path(folder) / "home")
    collection.reindex()
    inside.show(Asker(collection, frame.engine()).answer("Who waited?"), collection, frame.engine())


@pytest.mark.parametrize("tab", ["Passages", "Words", "Map"])
def test_text_of_documents_is_never_markup(home, tmp_path, tab):
    markup = "<img src=x onerror=alert(1)>"
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / f"{markup}.txt").write_text(f"{markup} waited <script>alert(2)</script> for **Godot**.")
    app = AppTest.from_function(hostile, default_timeout=120, kwargs={"folder": str(tmp_path)})
    app.session_state["inside.open"] = True
    app.session_state["inside.tab"] = tab
    app.run()
    assert not app.exception
    if tab == "Map":
        app.selectbox[0].set_value(app.session_state["inside.drawn"][1].points[0].id).run()
    shown = html(app) + "".join(element.value for element in [*app.markdown, *app.caption])
    assert "<img" not in shown
    assert "<script" not in shown
    if tab != "Passages":
        assert "&lt;" in shown


def test_nothing_was_found(home):
    def empty() -> None:
        from dataclasses import replace

        from demo.core.asking import Asker
        from demo.views import frame, inside

        asked = Asker(frame.collection(), frame.engine()).answer("Who?")
        inside.show(replace(asked, passages=(), quotes=()), frame.collection(), frame.engine())

    app = AppTest.from_function(empty, default_timeout=120)
    app.session_state["inside.open"] = True
    app.run()
    assert not app.exception
    assert "Nothing was found" in app.info[0].value
