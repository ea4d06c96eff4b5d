"""One question, answered in two ways."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]


def test_a_preset_compares_two_ways(demo, visit):
    page = visit(f"{demo.url}/compare")
    page.get_by_role("button", name="Hybrid against dense search").click()
    verdict = page.get_by_role("heading", name=re.compile("best answer|finds an answer"))
    expect(verdict).to_be_visible()
    expect(page.locator("ol.rom-side, .rom-compared.rom-only").first).to_be_visible()
    expect(page.locator("ol.rom-side mark").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=.*left=.*right="))
    said = verdict.inner_text()
    other = visit(page.url)
    expect(other.get_by_role("heading", name=said)).to_be_visible()


def test_sides_are_set_one_by_one(demo, visit):
    page = visit(f"{demo.url}/compare")
    page.get_by_label("Question").fill("Which Apollo 11 astronaut stayed in orbit?")
    page.get_by_label("Find passages by (B)").click()
    page.get_by_role("option", name="Keywords", exact=True).click()
    page.get_by_role("button", name="Compare", exact=True).click()
    verdict = "Both sides give the same best answer, from the same place."
    expect(page.get_by_role("heading", name=verdict)).to_be_visible()
    expect(page.locator("ol.rom-side")).to_have_count(2)
    for side in page.locator("ol.rom-side").all():
        expect(side.locator("li").first).to_contain_text("Michael Collins")


def test_a_checkpoint_that_is_not_here_is_named(demo, visit):
    page = visit(f"{demo.url}/compare?q=Who%3F&right=no-such-checkpoint")
    expect(page.get_by_role("alert")).to_be_visible()
