"""Questions about the sample articles: the answer, its quote, the document around it, the link to it all."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, expect

from demo.core.examples import sample_questions

pytestmark = [pytest.mark.browser, pytest.mark.integration]

QUESTION = "Which Apollo 11 astronaut stayed in orbit?"
LINK = "/?q=Which+Apollo+11+astronaut+stayed+in+orbit%3F"
OTHER_LINK = "/?q=Which+planet+is+the+largest+in+the+Solar+System%3F"
UNANSWERABLE_LINK = "/?q=What+does+a+litre+of+milk+cost%3F"
HOSTILE = "<img src=x onerror=alert(1)> $\\alpha$ :red[x] **orbit**"


def ask(page: Page, question: str) -> None:
    page.get_by_label("Question").fill(question)
    page.get_by_label("Question").press("Enter")


def best(page: Page, text: str):
    """The best answer, once it is there and nothing more is read."""
    expect(page.get_by_role("heading", name=text, level=2)).to_be_visible()
    expect(page.get_by_text(re.compile(r"passages read in \d"))).to_be_visible()
    return page.locator(".rom-best")


def test_an_answer_comes_with_its_quote_in_its_sentence(demo, visit):
    page = visit(demo.url)
    ask(page, QUESTION)
    answer = best(page, "Michael Collins")
    expect(answer.locator("mark")).to_have_text("Michael Collins")
    expect(answer).to_contain_text(
        "Michael Collins remained in lunar orbit aboard the command module Columbia during that Apollo 11 mission."
    )
    expect(answer).to_contain_text("the-moon.md")
    expect(answer).to_contain_text(re.compile(r"\d\d%\s*(very likely|likely|unsure)"))
    expect(page.get_by_role("heading", name="Further answers")).to_be_visible()
    expect(page).to_have_url(demo.url + LINK)


def test_a_link_asks_and_the_back_button_asks_again(demo, visit):
    page = visit(demo.url + LINK)
    best(page, "Michael Collins")
    expect(page.get_by_label("Question")).to_have_value(QUESTION)
    ask(page, "Which planet is the largest in the Solar System?")
    best(page, "Jupiter")
    expect(page).to_have_url(demo.url + OTHER_LINK)
    page.go_back()
    best(page, "Michael Collins")
    expect(page.get_by_label("Question")).to_have_value(QUESTION)
    page.go_forward()
    best(page, "Jupiter")


def test_the_document_opens_at_the_quote(demo, visit):
    page = visit(demo.url + LINK)
    best(page, "Michael Collins")
    page.locator(".st-key-best-actions").get_by_role("button", name="Open document").click()
    reader = page.get_by_role("dialog", name="The Moon")
    text = reader.get_by_role("document", name="Text of The Moon")
    expect(text).to_contain_text("The Moon orbits the Earth")
    expect(text).to_contain_text("The Moon is the main cause of ocean tides")
    shown = text.locator("mark.shown")
    expect(shown).to_have_text("Michael Collins")
    expect(shown).to_be_in_viewport()
    assert text.evaluate("text => text.scrollTop") > 0
    reader.get_by_role("button", name="Next quote").click()
    expect(reader.get_by_role("status")).to_have_text(re.compile(r"^Quote 2 of \d$"))
    expect(shown).not_to_have_text("Michael Collins")
    expect(shown).to_be_in_viewport()


def test_the_keyboard_is_enough(demo, visit):
    page = visit(demo.url)
    question = page.get_by_label("Question")
    expect(question).to_be_visible()
    expect(page.get_by_role("heading", name="For example")).to_be_visible()
    tab_to(page, question)
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    best(page, "Michael Collins")
    opener = page.locator(".st-key-best-actions").get_by_role("button", name="Open document")
    tab_to(page, opener)
    page.keyboard.press("Enter")
    reader = page.get_by_role("dialog", name="The Moon")
    expect(reader.get_by_role("document")).to_be_focused()
    page.keyboard.press("Escape")
    expect(reader).to_be_hidden()


def tab_to(page: Page, wanted) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("40 times Tab do not lead there")


def test_an_example_is_asked_by_a_click(demo, visit):
    page = visit(demo.url)
    question = sample_questions()[0]  # by name, as buttons come one after the other, and not from the first on
    page.locator(".st-key-examples").get_by_role("button", name=question).click()
    expect(page.locator(".rom-best mark")).to_be_visible()
    expect(page.get_by_label("Question")).to_have_value(question)


def test_where_there_is_no_answer_the_nearest_passages_are_named(demo, visit):
    page = visit(demo.url + UNANSWERABLE_LINK)
    best(page, "No answer found")
    expect(page.locator(".rom-best mark")).to_have_count(0)
    expect(page.get_by_role("heading", name="Nearest passages")).to_be_visible()
    page.get_by_role("button", name="Open document").first.click()
    expect(page.get_by_role("dialog").locator("mark.shown").first).to_be_in_viewport()


def test_markup_in_a_question_is_shown_as_it_is(demo, visit):
    page = visit(demo.url)
    ask(page, HOSTILE)
    expect(page.get_by_text(re.compile(r"passages read in \d"))).to_be_visible()
    expect(page.get_by_label("Question")).to_have_value(HOSTILE)
    expect(page.locator("img[src=x], .katex")).to_have_count(0)


def test_settings_stand_in_the_link(demo, visit):
    page = visit(demo.url + LINK)
    best(page, "Michael Collins")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("radio", name="Meaning", exact=True).click()
    expect(page).to_have_url(re.compile("retrieval=dense"))
    best(page, "Michael Collins")
    other = visit(page.url)
    best(other, "Michael Collins")
    other.get_by_role("button", name="Settings").click()
    expect(other.get_by_role("radio", name="Meaning", exact=True)).to_be_checked()


def test_a_thumb_is_kept_for_training(own_demo, visit):
    page = visit(own_demo.url + LINK)
    best(page, "Michael Collins")
    page.locator(".st-key-best-actions").get_by_role("radio", name="Thumbs up").click()
    expect(page.get_by_text("Thank you. Saved in")).to_be_visible()
    [article] = json.loads((own_demo.home / "feedback.json").read_text())["data"]
    [paragraph] = article["paragraphs"]
    [row] = paragraph["qas"]
    [answer] = row["answers"]
    start = answer["answer_start"]
    assert (row["question"], answer["text"]) == (QUESTION, "Michael Collins")
    assert paragraph["context"][start : start + len("Michael Collins")] == "Michael Collins"
