"""The page `Compare`."""

# ruff: noqa: PLC0415 (AppTest runs the source of a function by itself)
from __future__ import annotations

import shutil
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from demo.core.checkpoints import UNTUNED_BASE

pytestmark = pytest.mark.integration

QUESTION = "Which Apollo 11 astronaut stayed in orbit?"
PRESETS = {"reading": "Exact against fast reading", "search": "Hybrid against dense search", "base": "ROM against its"}


def page() -> None:
    from demo.views import compare, frame

    frame.set_up()
    compare.show()


@pytest.fixture
def open_page(visit_page):
    return partial(visit_page, page)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    """No other machine can reach the demo."""
    monkeypatch.setattr("demo.views.compare.only_this_machine", lambda address: True)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A machine to which nothing was fetched from the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label.startswith(label)).click().run()
    assert not app.exception


def ask(app: AppTest, question: str = QUESTION) -> None:
    app.text_input[0].set_value(question)
    press(app, "Compare")


def html(app: AppTest) -> list[str]:
    bodies = [element.proto.body for element in app.get("html")]
    return [body for body in bodies if 'class="rom-side"' in body or 'class="rom-compared' in body]


def test_begins_with_two_sides_and_no_answer(open_page):
    app = open_page()
    assert app.title[0].value == "Compare two ways of answering"
    assert not html(app)
    assert "left" not in app.query_params
    assert len({box.label for box in app.selectbox}) == len(app.selectbox) == 9


def test_both_sides_answer_one_question(open_page):
    app = open_page()
    ask(app)
    left, right = html(app)
    assert "Michael Collins" in left
    assert left.replace("in B, too", "in A, too") == right
    assert "rom-only" not in left
    assert [heading.value for heading in app.header][-1] == (
        "Both sides give the same best answer, from the same place."
    )
    assert "10 of 10 passages were found by both" in " ".join(caption.value for caption in app.caption)


def test_what_differs_is_marked_in_words(open_page):
    app = open_page(q="When was radium found?", left="keyword,5,off", right="dense,5,off")
    bodies = [element.proto.body for element in app.get("html")]
    assert any("only here: B did not find it" in body for body in bodies)
    assert any("only here: A did not find it" in body for body in bodies)


@pytest.mark.parametrize("preset", ["reading", "search"])
def test_presets_answer_at_once(open_page, preset):
    app = open_page()
    press(app, PRESETS[preset])
    assert app.text_input[0].value
    assert len(html(app)) == 2
    link = app.query_params
    assert link["right"] == ("hybrid,10,fast" if preset == "reading" else "dense,10,off")


def test_the_base_that_is_not_here(open_page, empty_cache):
    app = open_page()
    press(app, PRESETS["base"])
    assert "not on this machine" in app.warning[0].value
    assert "hf download" in app.warning[0].value
    assert not html(app)


def test_a_folder_finds_and_the_bundled_checkpoint_reads(open_page, sentence_transformer):
    app = open_page(q=QUESTION, right=f"dense,10,off,{sentence_transformer}")
    press(app, "Compare")
    assert len(html(app)) == 2
    captions = " ".join(caption.value for caption in app.caption)
    assert "It only finds passages" in captions
    assert str(sentence_transformer) in " ".join(text.value for text in app.text)


def test_a_link_asks(open_page):
    app = open_page(q=QUESTION, left="keyword,5,off", right="dense,20,fast")
    assert len(html(app)) == 2
    values = {box.label: box.value for box in app.selectbox}
    assert values["Find passages by (A)"] == "keyword"
    assert (values["Passages (B)"], values["Reading (B)"]) == (20, "fast")
    assert app.query_params["left"] == "keyword,5,off"


def test_what_was_compared_stays_when_its_checkpoint_goes(open_page, sentence_transformer, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(sentence_transformer, folder)
    app = open_page(q=QUESTION, right=f"dense,10,off,{folder}")
    press(app, "Compare")
    shutil.rmtree(folder)
    app.run()
    assert not app.exception
    assert len(html(app)) == 2
    assert "It only finds passages" in " ".join(caption.value for caption in app.caption)


def test_a_link_opens_no_folder_that_looks_like_a_name(open_page, sentence_transformer, tmp_path, monkeypatch):
    shutil.copytree(sentence_transformer, tmp_path / "models" / "other")
    monkeypatch.chdir(tmp_path)
    app = open_page(q=QUESTION, right="dense,10,off,models/other")
    assert not html(app)
    assert "names a folder" in app.warning[0].value


def test_a_link_opens_no_folder_by_itself(open_page, tmp_path):
    app = open_page(q=QUESTION, right=f"dense,10,off,{tmp_path}")
    assert not html(app)
    assert "names a folder" in app.warning[0].value
    press(app, "Compare")
    assert "can't be used" in app.warning[0].value.replace("\\", "")


def test_who_comes_from_elsewhere_names_no_folder(open_page, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("demo.views.compare.only_this_machine", lambda address: False)
    app = open_page(q=QUESTION, right=f"dense,10,off,{tiny_checkpoint}")
    press(app, "Compare")
    assert "Choose one of the list" in app.warning[0].value
    assert not html(app)


def test_a_link_that_says_nothing_sensible(open_page):
    app = open_page(q=QUESTION, left="sparse,10,off")
    assert "possible are hybrid, dense, keyword" in app.warning[0].value.replace("\\", "")
    assert not html(app)
    press(app, "Compare")
    assert len(html(app)) == 2
    assert not app.warning


@pytest.mark.parametrize("by_link", [True, False])
def test_a_question_that_is_too_long(open_page, by_link):
    question = "Who? " * 200
    app = open_page(q=question) if by_link else open_page()
    if not by_link:
        ask(app, question)
    assert "The question has 999 characters; the limit is 500." in app.error[0].value.replace("\\", "")
    assert not html(app)
    ask(app)
    assert not app.error
    assert len(html(app)) == 2


def test_a_link_without_a_question(open_page):
    app = open_page(left="dense,10,off", right="dense,5,off")
    assert not html(app)
    assert next(box for box in app.selectbox if box.label == "Find passages by (A)").value == "dense"


def test_fast_reading_by_a_checkpoint_that_was_not_measured(open_page, tiny_checkpoint):
    app = open_page(q=QUESTION, right=f"dense,10,fast,{tiny_checkpoint}")
    press(app, "Compare")
    assert "fast" in app.error[0].value
    assert not html(app)


def test_names_of_checkpoints_are_shown_as_they_are(open_page):
    app = open_page(q=QUESTION, left="dense,10,off,<b>:red[x]</b>")
    press(app, "Compare")
    assert r"\<b\>" in app.warning[0].value
    assert "red[" not in app.warning[0].value


def test_the_same_is_not_asked_again(open_page, monkeypatch):
    app = open_page(q=QUESTION)
    monkeypatch.setattr("demo.views.compare.compare", lambda *given: pytest.fail("asked again"))
    app.run()
    assert not app.exception
    assert len(html(app)) == 2


def test_the_base_is_offered(open_page):
    app = open_page()
    assert UNTUNED_BASE in next(box for box in app.selectbox if box.label == "Checkpoint (A)").options
