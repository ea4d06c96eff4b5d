"""The page `Documents`."""

# ruff: noqa: PLC0415 (AppTest runs the source of a function by itself)
from __future__ import annotations

import time

import pytest
from streamlit.testing.v1 import AppTest

from demo.core.collection import Collection
from demo.core.shelf import Shelf, Upload
from demo.views import sources

pytestmark = pytest.mark.integration

ODD = "<img src=x onerror=alert(1)> $a$ :red[x] *b*.md"
HERON = (ODD, b"# Heron\n\nThe heron waits beside the river.", "text/markdown")
OWL = ("owl.txt", b"The owl hunts at night.", "text/plain")
BROKEN = ("broken.pdf", b"%PDF-1.4 broken", "application/pdf")
DEADLINE = 120


def page() -> None:
    from demo.views import documents, frame

    frame.set_up()
    documents.show()


@pytest.fixture
def open_page(home):
    def visit(**link: str) -> AppTest:
        app = AppTest.from_function(page, default_timeout=DEADLINE)
        app.query_params.update(link)
        app.run()
        assert not app.exception
        return app

    return visit


@pytest.fixture
def local(monkeypatch):
    """A server that only this machine can reach."""
    monkeypatch.setattr(sources, "only_this_machine", lambda _: True)


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label.startswith(label)).click().run()
    assert not app.exception


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def fill(app: AppTest, label: str, text: str) -> None:
    next(field for field in [*app.text_input, *app.text_area] if field.label == label).set_value(text)


def add(app: AppTest, *files: tuple[str, bytes, str]) -> None:
    app.file_uploader[0].set_value(list(files)).run()
    press(app, "Add ")
    finish(app)


def finish(app: AppTest) -> None:
    """Draw the page anew until no work goes on."""
    deadline = time.monotonic() + DEADLINE
    while "Cancel" in labels(app):
        assert time.monotonic() < deadline
        app.session_state["work on documents"].job.wait(DEADLINE)
        app.run()
    assert not app.exception


def table(app: AppTest) -> list[str]:
    return list(app.dataframe[0].value["Document"]) if app.dataframe else []


def said(app: AppTest) -> str:
    return "\n".join(one.value for kind in (app.success, app.warning, app.error, app.info) for one in kind)


def escaped(name: str) -> str:
    from demo.core.wording import literal

    return literal(name)


def test_the_sample_can_be_seen_but_not_changed(open_page):
    app = open_page()
    assert app.title[0].value == "Documents"
    assert len(table(app)) == 52
    assert "52 documents, 260 passages" in [caption.value for caption in app.caption]
    assert not {"Delete documents …", "Delete collection …", "Keep"} & set(labels(app))
    assert any("200 files" in caption.value and "50 MB each" in caption.value for caption in app.caption)


def test_files_are_added_and_failures_named(open_page, home):
    app = open_page()
    add(app, HERON, OWL, BROKEN, ("table.csv", b"a,b", "text/csv"))
    assert table(app) == [ODD, "owl.txt"]
    assert "**2 documents added**" in app.success[0].value
    assert escaped(ODD) in app.success[0].value
    assert "**2 files could not be added**" in app.warning[0].value
    for name in ("broken.pdf", "table.csv"):
        assert f"**{escaped(name)}** is " in app.warning[0].value
    assert app.selectbox[0].value.startswith("unsaved-")
    (link,) = app.get("page_link")
    assert (link.label, link.query_string) == ("Ask these documents", f"collection={app.selectbox[0].value}")
    assert len(Shelf(home).collections()) == 1
    assert table(open_page()) == sorted(path.name for path in Shelf(home).get("sample").folder.iterdir())


def test_two_sessions_see_only_their_own_uploads(open_page):
    first, second = open_page(), open_page()
    add(first, OWL)
    add(second, HERON)
    first.run()
    assert (table(first), table(second)) == (["owl.txt"], [ODD])
    stranger = open_page(collection=first.selectbox[0].value)
    assert len(table(stranger)) == 52
    assert "link is about documents that are not here" in said(stranger)


def test_nothing_was_chosen(open_page):
    app = open_page()
    press(app, "Add files")
    assert "Choose files first" in said(app)


def test_a_text_is_pasted(open_page):
    app = open_page()
    fill(app, "Text", "The owl hunts at night.")
    press(app, "Add text")
    finish(app)
    assert table(app) == ["The owl hunts at night.txt"]
    press(app, "Add text")
    assert "no text" in said(app)


def test_unsaved_documents_are_kept(open_page, home):
    app = open_page()
    add(app, OWL, HERON)
    press(app, "Keep")
    assert "needs a name" in said(app)
    fill(app, "Name of the new collection", ODD)
    press(app, "Keep")
    assert (app.header[1].value, table(app)) == (f"In “{escaped(ODD)}”", [ODD, "owl.txt"])
    kept = Shelf(home).collections()[1]
    assert (kept.name, app.query_params["collection"]) == (ODD, kept.id)
    assert table(open_page(collection=kept.id)) == [ODD, "owl.txt"]  # as after a restart


def test_a_collection_is_made_filled_and_deleted(open_page, home):
    app = open_page()
    fill(app, "Name", "Birds")
    press(app, "Create")
    assert table(app) == []
    assert any("Nothing yet" in caption.value for caption in app.caption)
    add(app, OWL, HERON)
    assert table(app) == [ODD, "owl.txt"]
    press(app, "Re-index")
    finish(app)
    assert "nothing had changed" in said(app)
    press(app, "Delete collection")
    assert any("with its 2 documents" in text.value for text in app.markdown)
    press(app, "Cancel")
    assert len(Shelf(home).collections()) == 2
    press(app, "Delete collection")
    next(button for button in app.button if button.label == "Delete").click().run()
    assert len(Shelf(home).collections()) == 1
    assert len(table(app)) == 52


def test_a_name_is_taken(open_page):
    app = open_page()
    for _ in range(2):
        fill(app, "Name", "Birds")
        press(app, "Create")
    assert "There is a collection called" in said(app)


def test_a_second_upload_of_a_name_replaces_the_first(open_page):
    app = open_page()
    add(app, OWL)
    add(app, ("owl.txt", b"The owl sleeps.", "text/plain"))
    assert "**1 document replaced**" in said(app)


def test_folders_are_offered_only_where_nobody_else_can_reach_them(open_page, monkeypatch):
    assert [tab.label for tab in open_page().tabs] == ["Files", "Text"]
    monkeypatch.setattr("streamlit.get_option", lambda _: "localhost")
    assert [tab.label for tab in open_page().tabs] == ["Files", "Text", "Folder"]


def test_a_folder_is_linked(open_page, home, tmp_path, local):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "owl.txt").write_bytes(OWL[1])
    (folder / "broken.pdf").write_bytes(BROKEN[1])
    app = open_page()
    fill(app, "Folder on this machine", str(tmp_path / "none"))
    press(app, "Add folder")
    assert "There is no folder" in said(app)
    fill(app, "Folder on this machine", str(folder))
    press(app, "Add folder")
    finish(app)
    assert "1 new" in app.success[0].value
    assert escaped("broken.pdf") in app.warning[0].value
    assert table(app) == ["broken.pdf", "owl.txt"]
    assert app.dataframe[0].value["Problem"][0].startswith("is no readable PDF file")
    (folder / "heron.md").write_bytes(HERON[1])
    press(app, "Look for changes")
    finish(app)
    assert table(app) == ["broken.pdf", "heron.md", "owl.txt"]
    assert not {"Delete documents …", "Keep"} & set(labels(app))


def test_documents_are_deleted_after_a_question(open_page, home):
    made = Shelf(home).create("Birds")
    made.add([Upload("a.txt", b"First."), Upload("b.txt", b"Second."), Upload("c.txt", b"Third.")])
    made.close()
    app = open_page(collection=made.id)
    delete = next(button for button in app.button if button.label == "Delete documents …")
    assert delete.disabled
    app.session_state[f"documents {made.id} {made.version}"] = {
        "selection": {"rows": [0, 2], "columns": [], "cells": []}
    }
    app.run()
    press(app, "Delete 2 documents")
    assert "a.txt\nc.txt" in [text.value for text in app.text]
    next(button for button in app.button if button.label == "Delete").click().run()
    assert table(app) == ["b.txt"]


def test_work_can_be_cancelled(open_page, monkeypatch):
    add_documents = Collection.add

    def endless(self, uploads, report):
        while True:
            report(0, 1, "owl.txt")

    monkeypatch.setattr(Collection, "add", endless)
    app = open_page()
    app.file_uploader[0].set_value([OWL]).run()
    press(app, "Add 1 file")
    press(app, "Cancel")
    finish(app)
    assert "Cancelled" in said(app)
    monkeypatch.setattr(Collection, "add", add_documents)
    add(app, OWL)
    assert table(app) == ["owl.txt"]


def test_an_unexpected_error_is_said(open_page, monkeypatch):
    def fail(self, uploads, report):
        raise RuntimeError("no *reason*")

    monkeypatch.setattr(Collection, "add", fail)
    app = open_page()
    add(app, OWL)
    assert escaped("no *reason*") in app.error[0].value
