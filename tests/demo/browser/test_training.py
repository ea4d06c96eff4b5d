"""The curves and reports of training runs."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_run_is_shown(demo, visit, look, finished, theme):
    page = visit(f"{demo.url}/training", theme=theme)
    folder = page.get_by_role("textbox", name="Folder of a run, or of several")
    folder.fill(str(finished))
    folder.press("Enter")
    expect(page.get_by_text("finished after")).to_be_visible()
    expect(page.locator("svg.marks, canvas.marks").first).to_be_visible()
    seen = look(page)
    seen.settle("Settings")
    seen.keep(f"training-run-{theme}")
    assert seen.violations() == []
    other = visit(page.url)
    expect(other.get_by_text("finished after")).to_be_visible()
    seen.on_a_phone()
    seen.settle("Settings")
    seen.keep(f"training-run-{theme}-phone")
    assert seen.sideways() == []


def test_what_is_wrong_with_a_folder_is_said(demo, visit, tmp_path):
    page = visit(f"{demo.url}/training?run={tmp_path}")
    expect(page.get_by_role("alert")).to_contain_text(str(tmp_path))
