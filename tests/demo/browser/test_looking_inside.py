"""The panel below the answers: what was found, the words, times and sizes, and the map."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

LINK = "/?q=Which+Apollo+11+astronaut+stayed+in+orbit%3F"


@pytest.fixture
def panel(demo, visit):
    """Open the panel on one of its tabs, as `panel("Words", theme="dark")`; give the page and the tab's content."""

    def opened(name: str, **options) -> tuple[Page, object]:
        page = visit(demo.url + LINK, **options)
        page.get_by_text("Look inside").click()
        page.get_by_role("tab", name=name).click()
        return page, page.get_by_role("tabpanel", name=name)

    return opened


def test_what_was_found(panel):
    _, tab = panel("Passages")
    expect(tab).to_contain_text("10 passages found, 10 read")
    table = tab.locator("[role=grid]")  # drawn on a canvas; this is what screen readers are given
    expect(table.locator("[role=columnheader]")).to_contain_text(["Rank", "Document", "Keyword", "Dense", "Relevance"])
    expect(table.locator("[role=row]").nth(1)).to_contain_text("The Moon")


def test_where_the_answer_begins_and_ends(panel):
    _, tab = panel("Words")
    expect(tab).to_contain_text(re.compile(r"begins with “Michael” \(\d\d%\) and ends with “Collins” \(\d\d%\)"))


def test_how_long_it_took_and_how_large_it_is(panel):
    _, tab = panel("Time and size")
    expect(tab).to_contain_text("22.6 million parameters")
    charts = tab.locator("svg.marks")
    expect(charts.nth(0)).to_contain_text(re.compile(r"\d ms"))
    expect(charts.nth(1)).to_contain_text("67.7 million")


def test_a_point_on_the_map_is_a_passage(panel):
    _, tab = panel("Map")
    points = tab.locator("svg.marks [aria-roledescription=point]")
    expect(points.first).to_be_visible()
    assert points.count() > 250
    tab.locator("svg.marks [aria-roledescription=point][aria-label*='with an answer']").last.click(force=True)
    expect(tab.locator(".rom-passage")).to_contain_text(re.compile(r"\w+"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["Passages", "Words", "Time and size", "Map"])
def test_everybody_can_use_it(panel, look, name, theme):
    page, tab = panel(name, theme=theme)
    expect(tab.locator("p, svg.marks").first).to_be_visible()
    look(page).settle("Further answers")
    look(page).keep(f"inside-{name.split()[0].lower()}-{theme}")
    assert look(page).violations() == []
    look(page).on_a_phone()
    look(page).settle("Further answers")
    assert look(page).sideways() == []
