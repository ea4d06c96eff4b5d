"""What holds on every page: for everybody, in both themes, on a wide screen and on a phone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.sync_api import expect

from demo.core.examples import UNANSWERABLE

pytestmark = [pytest.mark.browser, pytest.mark.integration]

QUESTION = "Which Apollo 11 astronaut stayed in orbit?"
#: What is looked at: where it is, and a heading that shows that it is there.
PLACES = {
    "start": ("/", "For example"),
    "answer": (f"/?q={QUESTION}", "Further answers"),
    "no-answer": (f"/?q={UNANSWERABLE}", "Nearest passages"),
    "documents": ("/documents", "Documents"),
    "compare": ("/compare", "Compare"),
    "comparison": (f"/compare?q={QUESTION}", "Compare"),
    "evaluate": ("/evaluate", "Evaluate"),
    "training": ("/training", "Training"),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_everybody_can_use_it(demo, visit, look, place, theme):
    address, heading = PLACES[place]
    page = visit(demo.url + address, theme=theme)
    seen = look(page)
    seen.settle(heading)
    seen.keep(f"{place}-{theme}")
    assert seen.violations() == []
    levels = seen.levels()
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels)), levels
    seen.on_a_phone()
    seen.settle(heading)
    seen.keep(f"{place}-{theme}-phone")
    assert seen.sideways() == []
    assert seen.violations() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["screen", "phone"])
def test_everybody_can_use_the_reader(demo, visit, look, phone, theme):
    page = visit(demo.url + PLACES["answer"][0], theme=theme, phone=phone)
    seen = look(page)
    seen.settle("Further answers")
    page.locator(".st-key-best-actions").get_by_role("button", name="Open document").click()
    expect(page.get_by_role("document").locator("mark.shown")).to_be_in_viewport()
    seen.keep(f"reader-{theme}{'-phone' if phone else ''}")
    assert seen.violations() == []
    assert seen.sideways() == []


def test_the_page_is_in_the_theme_of_the_system(demo, visit, look):
    def brightness(theme):
        page = visit(f"{demo.url}/training", theme=theme)
        look(page).settle("Training")
        colour = page.locator(".stApp").evaluate("app => getComputedStyle(app).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3

    assert brightness("dark") < 60
    assert brightness("light") > 200


def test_nothing_jumps_while_an_answer_comes(demo, visit, look):
    """The sum of the shifts that the browser sees, without those right after a key or a click."""
    page = visit(demo.url)
    look(page).settle("For example")
    page.evaluate(
        """() => {
            window.shifts = []
            new PerformanceObserver(list => window.shifts.push(...list.getEntries().map(one => one.value)))
                .observe({type: "layout-shift"})
        }"""
    )
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_label("Question").press("Enter")
    look(page).settle("Further answers")
    assert page.evaluate("() => window.shifts.reduce((sum, one) => sum + one, 0)") < 0.1


def test_looking_finds_what_is_wrong(demo, visit, look):
    """Or nothing could be learnt from what it does not find."""
    page = visit(f"{demo.url}/training")
    seen = look(page)
    seen.settle("Training")
    page.locator("h1").evaluate(
        """h1 => {
            h1.insertAdjacentHTML("afterend", "<input><p style='color: #ccc; background: #fff'>Pale</p>")
            h1.insertAdjacentHTML("afterend", "<div style='width: 2000px'>Wide</div>")
        }"""
    )
    assert {line.partition(":")[0] for line in seen.violations()} == {"color-contrast", "label"}
    assert any("Wide" in line for line in seen.sideways())


def test_the_menu_leads_to_every_page(demo, visit):
    page = visit(demo.url)
    for name in ("Documents", "Compare", "Evaluate", "Training", "Ask"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
