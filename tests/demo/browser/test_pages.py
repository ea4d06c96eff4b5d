"""What holds on every page: for everybody, in both themes, on a wide screen and on a phone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

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
PHONE = {"width": 390, "height": 844}


def settled(page: Page, heading: str) -> None:
    """Wait until a heading is there, and nothing more happens."""
    expect(page.get_by_role("heading", name=heading).first).to_be_visible()
    expect(page.locator(".stApp")).to_have_attribute("data-test-script-state", "notRunning")
    expect(page.locator("[data-stale=true], [data-testid=stSkeleton]")).to_have_count(0)


def violations(page: Page) -> list[str]:
    """What keeps people from using the page, as far as a program can tell."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def sideways(page: Page) -> list[str]:
    """What is broader than the window, so that the page must be scrolled sideways to see it."""
    return page.evaluate(
        """() => {
            const scrolls = [document.scrollingElement, ...document.querySelectorAll(".stMain, .stAppViewContainer")]
                .some(element => element.scrollWidth > element.clientWidth)
            const out = [...document.querySelectorAll("body *")]
                .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
            return scrolls ? out.map(element => element.outerHTML.slice(0, 120)).concat("the page") : []
        }"""
    )


def levels(page: Page) -> list[int]:
    """The levels of the headings that are seen, from top to bottom."""
    headings = page.get_by_role("heading").filter(visible=True)
    return headings.evaluate_all("headings => headings.map(h => Number(h.ariaLevel || h.tagName[1]))")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", PLACES)
def test_everybody_can_use_it(demo, visit, keep_screenshot, place, theme):
    address, heading = PLACES[place]
    page = visit(demo.url + address, theme=theme)
    settled(page, heading)
    keep_screenshot(page, f"{place}-{theme}")
    assert violations(page) == []
    found = levels(page)
    assert found[0] == 1
    assert found.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(found)), found
    page.set_viewport_size(PHONE)
    settled(page, heading)
    keep_screenshot(page, f"{place}-{theme}-phone")
    assert sideways(page) == []
    assert violations(page) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_the_reader(demo, visit, keep_screenshot, theme):
    page = visit(demo.url + PLACES["answer"][0], theme=theme)
    settled(page, "Further answers")
    page.get_by_role("button", name="Open document").first.click()
    expect(page.get_by_role("document").locator("mark.shown")).to_be_in_viewport()
    keep_screenshot(page, f"reader-{theme}")
    assert violations(page) == []
    page.set_viewport_size(PHONE)
    expect(page.get_by_role("document").locator("mark.shown")).to_be_visible()
    keep_screenshot(page, f"reader-{theme}-phone")
    assert sideways(page) == []
    assert violations(page) == []


def test_the_page_is_the_theme_of_the_system(demo, visit):
    def brightness(theme):
        page = visit(f"{demo.url}/training", theme=theme)
        settled(page, "Training")
        colour = page.locator(".stApp").evaluate("app => getComputedStyle(app).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3

    assert brightness("dark") < 60
    assert brightness("light") > 200


def test_nothing_jumps_while_an_answer_comes(demo, visit):
    """The sum of the shifts that the browser sees, without those right after a key or a click."""
    page = visit(demo.url)
    settled(page, "For example")
    page.evaluate(
        """() => {
            window.shifts = []
            new PerformanceObserver(list => window.shifts.push(...list.getEntries().map(one => one.value)))
                .observe({type: "layout-shift"})
        }"""
    )
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_label("Question").press("Enter")
    settled(page, "Further answers")
    assert page.evaluate("() => window.shifts.reduce((sum, one) => sum + one, 0)") < 0.1


def test_the_checks_see_what_is_wrong(demo, visit):
    """Or nothing could be learnt from what they do not see."""
    page = visit(f"{demo.url}/training")
    settled(page, "Training")
    page.locator("h1").evaluate(
        """h1 => {
            h1.insertAdjacentHTML("afterend", "<input><p style='color: #ccc; background: #fff'>Pale</p>")
            h1.insertAdjacentHTML("afterend", "<div style='width: 2000px'>Wide</div>")
        }"""
    )
    assert {line.partition(":")[0] for line in violations(page)} == {"color-contrast", "label"}
    assert any("Wide" in line for line in sideways(page))


def test_the_menu_leads_to_every_page(demo, visit):
    page = visit(demo.url)
    for name in ("Documents", "Compare", "Evaluate", "Training", "Ask"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
