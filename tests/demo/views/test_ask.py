"""The page `Ask` on the sample, with the bundled model."""

from __future__ import annotations

import html
import json
import re
import shutil

import pytest
from streamlit.testing.v1 import AppTest

from demo.core.asking import Asker
from demo.core.shelf import Shelf
from demo.views import frame

pytestmark = pytest.mark.integration

QUESTION = "Which Apollo 11 astronaut stayed in orbit?"
SENTENCE = "Michael Collins remained in lunar orbit aboard the command module Columbia during that Apollo 11 mission."
UNANSWERABLE = "What does a litre of milk cost?"
HOSTILE = "<img src=x onerror=alert(1)> $\\alpha$ :red[x]"


def html_of(app: AppTest) -> list[str]:
    bodies = [element.proto.body for element in app.get("html")]
    return [body for body in bodies if not body.startswith("<style>")]


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


def link_of(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in app.query_params.items()}


def ask(app: AppTest, question: str) -> None:
    app.text_input(key="question").set_value(question)
    app.button(key="FormSubmitter:ask-Ask").click().run()
    assert not app.exception


def test_the_best_answer_stands_in_its_sentence_with_its_place_and_its_likelihood(open_app):
    app = open_app()
    ask(app, QUESTION)
    best, *further = html_of(app)
    assert re.search(r"<h2[^>]*>Michael Collins</h2>", best)
    assert f"<mark>Michael Collins</mark>{SENTENCE.removeprefix('Michael Collins')}" in best
    assert re.search(
        r"The Moon Human exploration, the-moon\.md\d\d% (very )?likely: about [789] of 10 such answers are right$",
        text_of(best),
    )
    assert [header.value for header in app.header] == ["Further answers"]
    assert "Also in The Moon the-moon.md" in map(text_of, further)
    [summary] = [caption.value for caption in app.caption]
    assert re.fullmatch(r"10 passages read in \d+(\.\d)? m?s · torch.*", summary)
    assert link_of(app) == {"q": QUESTION}


def test_a_link_is_asked_at_once_as_it_says(open_app):
    app = open_app(q=QUESTION, retrieval="dense", passages="3", reading="fast")
    assert "Michael Collins" in html_of(app)[0]
    assert re.match(r"(\d of )?3 passages read", app.caption[0].value)
    assert app.text_input(key="question").value == QUESTION
    assert app.session_state["retrieval"] == "dense"
    assert app.session_state["reading"] == "fast"
    assert link_of(app) == {
        "q": QUESTION,
        "retrieval": "dense",
        "passages": "3",
        "reading": "fast",
    }


@pytest.mark.parametrize("link", [{"retrieval": "magic"}, {"passages": "many"}, {"passages": "-1"}, {"reading": ""}])
def test_what_a_link_says_wrongly_is_as_by_default(open_app, link):
    app = open_app(q=QUESTION, **link)
    assert "Michael Collins" in html_of(app)[0]
    assert link_of(app) == {"q": QUESTION}


def test_more_passages_than_there_may_be_are_as_many_as_there_may_be(open_app):
    app = open_app(passages="999")
    assert app.slider(key="passages").value == app.slider(key="passages").max


def test_an_unknown_collection_is_named_and_the_sample_is_asked(open_app):
    app = open_app(q=QUESTION, collection="*gone*")
    [warning] = app.warning
    assert "“\\*gone\\*”" in warning.value
    assert "Chosen instead: “Sample articles”" in warning.value
    assert "Michael Collins" in html_of(app)[0]
    ask(app, UNANSWERABLE)
    assert link_of(app) == {"q": UNANSWERABLE}


def test_without_an_answer_the_page_says_so_and_shows_what_came_nearest(open_app):
    app = open_app(q=UNANSWERABLE)
    shown = html_of(app)
    assert text_of(shown[0]).startswith("No answer found in these documents.")
    assert "<mark>" not in shown[0]
    assert [header.value for header in app.header] == ["Nearest passages"]
    doubtful = app.expander[0]
    assert re.fullmatch(r"\d doubtful quotes?", doubtful.label)
    assert any("<mark>" in element.proto.body for element in doubtful.get("html"))


def test_an_example_is_asked_by_its_button_and_others_come_by_another(open_app):
    app = open_app()
    examples = [button.key for button in app.button if button.key and button.key.startswith("example ")]
    assert len(examples) == 6
    [others] = [button for button in app.button if button.label == "Other examples"]
    others.click().run()
    changed = [button.key for button in app.button if button.key and button.key.startswith("example ")]
    assert len(set(examples) & set(changed)) == 1
    app.button(key=changed[0]).click().run()
    assert not app.exception
    assert link_of(app) == {"q": changed[0].removeprefix("example ")}
    assert "<mark>" in html_of(app)[0]


def test_other_widgets_do_not_ask_again_and_settings_do(open_app, monkeypatch):
    asked = []
    ask_for_real = Asker.ask

    def counting(self, question, settings):
        asked.append(settings.retrieval)
        return ask_for_real(self, question, settings)

    monkeypatch.setattr(Asker, "ask", counting)
    app = open_app(q=QUESTION)
    app.feedback[0].set_value(1).run()
    assert asked == ["hybrid"]
    app.session_state["retrieval"] = "keyword"
    app.run()
    assert asked == ["hybrid", "keyword"]
    app.session_state["retrieval"] = "hybrid"
    app.run()
    assert asked == ["hybrid", "keyword"]


def test_the_document_opens_beside_the_page(open_app):
    app = open_app(q=QUESTION)
    opener = next(button for button in app.button if button.label == "Open document")
    opener.click().run()
    assert not app.exception
    [reader] = app.get("bidi_component")
    data = json.loads(reader.proto.json)
    text = "".join(piece.get("text", "") for piece in data["pieces"])
    assert text.startswith("The Moon")
    assert SENTENCE in text
    assert [piece["text"] for piece in data["pieces"] if piece.get("mark") == 0] == ["Michael Collins"]
    assert data["marks"] == 1 + len([piece for piece in data["pieces"] if piece.get("mark")])


def test_thumbs_and_corrections_are_kept_as_squad_questions(open_app, home):
    app = open_app(q=QUESTION)
    app.feedback[0].set_value(0).run()
    assert "Saved in" in app.caption[1].value
    correction = next(field for field in app.text_input if field.label.startswith("Right answer"))
    correction.set_value("neil armstrong").run()
    [article] = json.loads((home / "feedback.json").read_text())["data"]
    [paragraph] = article["paragraphs"]
    [row] = paragraph["qas"]
    assert (article["title"], row["question"]) == ("The Moon", QUESTION)
    assert [answer["text"] for answer in row["answers"]] == ["Neil Armstrong"]
    assert [answer["text"] for answer in row["plausible_answers"]] == ["Michael Collins"]


def test_words_that_do_not_stand_in_the_passage_are_refused(open_app, home):
    app = open_app(q=UNANSWERABLE)
    app.feedback[0].set_value(0).run()
    field = next(field for field in app.text_input if field.label.startswith("Right answer"))
    field.set_value("two *euros*").run()
    assert "'two *euros*' does not stand in this passage".replace("*", "\\*") in app.caption[1].value.replace(
        "\\'", "'"
    )
    assert not (home / "feedback.json").exists()


def test_names_and_texts_of_documents_are_shown_as_they_are(open_app, home, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / f"{HOSTILE}.txt").write_text(f"The best colour of all is {HOSTILE}, said Zoe Quill.")
    linked = Shelf(home).link(":red[odd] *name*", folder)
    app = open_app(q="Who spoke of the best colour?", collection=linked.id)
    assert link_of(app)["collection"] == linked.id
    shown = html_of(app)
    assert "<img" not in "".join(shown)
    assert HOSTILE in text_of("".join(shown))
    next(button for button in app.button if button.label == "Open document").click().run()
    assert not app.exception


def test_a_collection_without_documents_says_what_to_do(open_app, home):
    empty = Shelf(home).create("Nothing *yet*")
    app = open_app(collection=empty.id)
    [info] = app.info
    assert "There are no documents in “Nothing \\*yet\\*” yet" in info.value


def test_a_folder_that_is_gone_is_named_and_can_be_tried_again(open_app, home, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    (folder / "a.txt").write_text("Alpha is the first letter.")
    linked = Shelf(home).link("Letters", folder)
    shutil.move(folder, tmp_path / "elsewhere")
    app = open_app(collection=linked.id, q="Which letter is first?")
    assert "“Letters” could not be indexed" in app.error[0].value
    shutil.move(tmp_path / "elsewhere", folder)
    next(button for button in app.button if button.label == "Try again").click().run()
    assert not app.error
    assert "Alpha" in html_of(app)[0]


def test_another_address_is_followed_and_the_one_without_a_question_leads_to_the_start(open_app):
    app = open_app(q=QUESTION, retrieval="keyword")
    app.query_params.clear()
    app.query_params["q"] = UNANSWERABLE
    app.run()
    assert text_of(html_of(app)[0]).startswith("No answer found")
    assert app.session_state["retrieval"] == "hybrid"
    app.query_params.clear()
    app.run()
    assert [header.value for header in app.header] == ["For example"]
    assert app.text_input(key="question").value == ""


def test_a_question_that_is_too_long_is_refused_with_its_length(open_app):
    app = open_app()
    ask(app, "Why? " * 2000)
    assert [error.value for error in app.error] == ["The question has 9\\,999 characters\\; the limit is 500\\."]
    assert link_of(app) == {}
    ask(app, QUESTION)
    assert not app.error
    assert "Michael Collins" in html_of(app)[0]


def test_a_link_with_a_question_that_is_too_long_asks_no_part_of_it(open_app):
    app = open_app(q="x" * 501)
    assert "501 characters" in app.error[0].value
    assert app.text_input(key="question").value == "x" * 501


def test_a_thumb_that_is_taken_back_leaves_nothing(open_app, home):
    app = open_app(q=QUESTION)
    app.feedback[0].set_value(1).run()
    assert json.loads((home / "feedback.json").read_text())["data"]
    app.feedback[0].set_value(None).run()
    assert not app.exception
    assert json.loads((home / "feedback.json").read_text())["data"] == []
    assert len(app.caption) == 1


def test_where_others_can_come_they_learn_of_no_folder(open_app, home, monkeypatch):
    monkeypatch.setattr("demo.views.judging.only_this_machine", lambda address: False)
    app = open_app(q=QUESTION)
    app.feedback[0].set_value(1).run()
    assert app.caption[1].value.startswith("Thank you. Saved in feedback\\.json")
    (home / "feedback.json").write_text("damaged")
    app.feedback[0].set_value(0).run()
    assert app.caption[1].value.startswith("feedback\\.json is no SQuAD file any more")


def test_a_collection_that_is_deleted_while_it_is_asked_is_an_error_to_read(open_app, home, tmp_path, monkeypatch):
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "a.txt").write_text("Alpha is the first letter.")
    linked = Shelf(home).link("Letters", folder)
    ask_for_real = Asker.ask

    def as_it_is_deleted(self, question, settings):
        frame.shelf().delete(linked.id)
        return ask_for_real(self, question, settings)

    app = open_app(collection=linked.id)
    monkeypatch.setattr(Asker, "ask", as_it_is_deleted)
    ask(app, "Which letter is first?")
    [error] = app.error
    assert "letters" in error.value
    assert html_of(app) == []
    app.run()
    assert app.warning[0].value.startswith("The documents “Letters” are not here any more.")
