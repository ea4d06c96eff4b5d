"""Which collection a session has chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from demo.core.shelf import Shelf


def page() -> None:
    """A page that shows the choice, and takes up one by its buttons."""
    import streamlit as st  # noqa: PLC0415 (the page's source is run by itself)

    from demo.views import frame  # noqa: PLC0415

    frame.set_up()
    st.text(frame.choose_collection().name)
    if st.button("Upload"):
        (frame.drafts().folder / "note.txt").write_text("Mine.")
        frame.choose(frame.drafts())
        st.rerun()


@pytest.fixture
def session(home: Path):
    def start(**link: str) -> AppTest:
        app = AppTest.from_function(page, default_timeout=60)
        app.query_params.update(link)
        app.run()
        assert not app.exception
        return app

    return start


def chosen(app: AppTest) -> str:
    assert not app.exception
    [text] = app.text
    return text.value


def test_the_sample_is_chosen_before_any_choice(session, home):
    Shelf(home).create("Aardvarks")
    app = session()
    assert chosen(app) == "Sample articles"
    assert app.selectbox[0].label == "Documents"
    assert app.selectbox[0].options == ["Sample articles", "Aardvarks"]


def test_a_choice_stays_and_one_in_a_link_goes_first(session, home):
    one, two = Shelf(home).create("One"), Shelf(home).create("Two")
    app = session(collection=one.id)
    assert chosen(app) == "One"
    app.selectbox[0].select(two.id).run()
    assert chosen(app) == "Two"
    app.run()
    assert chosen(app) == "Two"
    assert not app.warning


def test_a_chosen_collection_that_is_deleted_makes_way_for_the_sample(session, home):
    one = Shelf(home).create("One")
    app = session(collection=one.id)
    Shelf(home).delete(one.id)
    app.run()
    assert chosen(app) == "Sample articles"
    assert app.selectbox[0].options == ["Sample articles"]


def test_unsaved_documents_are_a_choice_of_their_own_session_only(session, home):
    mine, other = session(), session()
    mine.button[0].click().run()
    assert chosen(mine) == "Unsaved documents"
    assert mine.selectbox[0].options == ["Sample articles", "Unsaved documents"]
    other.run()
    assert other.selectbox[0].options == ["Sample articles"]
    guest = session(collection=mine.selectbox[0].value)
    assert chosen(guest) == "Sample articles"
    assert "another browser session’s unsaved ones" in guest.warning[0].value


def test_collections_that_a_link_can_not_name_are_no_way_out_of_the_shelf(session, home):
    for identifier in ("../sample", "/etc", "", "sample/../..", "%2e%2e", "a" * 5000):
        app = session(collection=identifier)
        assert chosen(app) == "Sample articles"
        assert len(app.warning) == bool(identifier)


def test_names_in_the_selector_tell_collections_apart(session, home):
    shelf = Shelf(home)
    first = shelf.create("Same")
    record = home / "collections" / first.id / "collection.json"
    second = shelf.create("Other")
    (home / "collections" / second.id / "collection.json").write_text(record.read_text())
    app = session(collection=second.id)
    assert set(app.selectbox[0].options) == {"Sample articles", f"Same ({first.id})", f"Same ({second.id})"}
    assert app.selectbox[0].value == second.id
