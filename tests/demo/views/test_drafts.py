"""Unsaved documents of a browser session, as all pages see them."""

# ruff: noqa: PLC0415 (AppTest runs the source of a function by itself)
from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from streamlit.testing.v1 import AppTest


def page() -> None:
    import streamlit as st

    from demo.views import frame

    if st.button("Choose"):
        frame.choose(frame.drafts())
    st.text(frame.choose_collection().kind)
    st.caption(str(frame.drafts().home))


def draw(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    return app


def test_drafts_that_were_cleared_away_make_way_for_new_ones(home):
    app = draw(AppTest.from_function(page, default_timeout=60))
    app.button[0].click()
    assert draw(app).text[0].value == "session"
    first = app.caption[0].value
    shutil.rmtree(first)
    draw(app)
    assert app.text[0].value == "sample"
    assert app.caption[0].value != first
    assert Path(app.caption[0].value).is_dir()


def test_drafts_of_a_process_that_was_killed_go_at_the_first_visit(home, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    left = tmp_path / "temporary" / "rom-demo-left"
    (left / "documents").mkdir(parents=True)
    (left / "in-use").touch()
    os.utime(left / "in-use", (0, 0))

    def visit() -> None:
        from demo.views import frame

        frame.shelf()

    draw(AppTest.from_function(visit, default_timeout=60))
    assert not left.exists()
