"""Documents of one's own: added, asked, kept, deleted, and seen by nobody else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fpdf import FPDF
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

HOSTILE_NAME = "<img src=x onerror=alert(1)> $x^2$ **b** :red[x].txt"
HOSTILE_TEXT = """The harbour of Port Ebony has a lighthouse. <script>alert(2)</script> <img src=x onerror=alert(3)>

The lighthouse of Port Ebony was lit for the first time by Ada Quill in 1907.
"""
BELL = "The harbour bell of Port Ebony weighs 412 kilograms."


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """A file with an odd name and markup in it, a PDF file with two pages, an HTML page, and a broken file."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / HOSTILE_NAME).write_text(HOSTILE_TEXT, encoding="utf-8")
    pdf = FPDF()
    pdf.set_font("Helvetica", size=12)
    for text in ("Port Ebony is a small harbour in the north.", BELL):
        pdf.add_page()
        pdf.multi_cell(0, 8, text)
    pdf.output(str(folder / "bell.pdf"))
    page = "<html><title>Ferry</title><body><p>The ferry to Port Ebony leaves at noon.</p><script>alert(4)</script>"
    (folder / "ferry.html").write_text(page, encoding="utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of the kind")
    return sorted(folder.iterdir())


def literally(text: str) -> re.Pattern[str]:
    """A text as it is; a joiner, which is not seen, may stand after a colon."""
    return re.compile(re.escape(text).replace(":", ":\u2060?"))


def add_files(page: Page, files: list[Path]) -> None:
    """Add files on the page Documents, and wait for the outcome."""
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(files)
    page.get_by_role("button", name=re.compile(r"^Add \d+ files?$")).click()
    expect(page.get_by_text(re.compile(r"^\d+ documents? added$"))).to_be_visible()


def add_text(page: Page, title: str, text: str) -> None:
    page.get_by_role("tab", name="Text").click()
    page.get_by_label("Title").fill(title)
    page.get_by_label("Text", exact=True).last.fill(text)
    page.get_by_role("button", name="Add text").click()
    expect(page.get_by_text("1 document added")).to_be_visible()


def create(page: Page, name: str) -> None:
    page.get_by_role("button", name="New collection").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=f"In “{name}”")).to_be_visible()


def ask(page: Page, question: str, answer: str) -> None:
    """Ask on the page Ask, wherever one is, and wait for the answer."""
    page.get_by_role("link", name="Ask", exact=True).click()
    page.get_by_label("Question").fill(question)
    page.get_by_label("Question").press("Enter")
    expect(page.get_by_role("heading", name=answer, level=2)).to_be_visible()
    expect(page.get_by_text(re.compile(r"passages? read in \d"))).to_be_visible()


def rows(page: Page):
    """The rows of the table of documents, as screen readers are given them."""
    return page.locator("[role=grid] tbody [role=row]")


def test_files_are_added_and_the_broken_one_is_named(demo, visit, files, look):
    page = visit(f"{demo.url}/documents")
    expect(page.get_by_text("Up to 200 files at a time")).to_be_visible()
    add_files(page, files)
    expect(page.get_by_text("3 documents added")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text=literally(HOSTILE_NAME))).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="bell.pdf")).to_contain_text("2 pages")
    expect(page.get_by_text("1 file could not be added")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="broken.pdf")).to_contain_text("is no readable PDF file")
    expect(rows(page)).to_have_count(3)
    look(page).settle("Keep these documents")
    look(page).keep("documents-added")
    assert look(page).violations() == []
    look(page).on_a_phone()
    look(page).settle("Keep these documents")
    look(page).keep("documents-added-phone")
    assert look(page).sideways() == []


def test_what_was_added_is_asked(demo, visit, files):
    page = visit(f"{demo.url}/documents")
    add_files(page, files)
    ask(page, "How much does the harbour bell weigh?", "412 kilograms")
    best = page.locator(".rom-best")
    expect(best).to_contain_text("bell.pdf")
    expect(best).to_contain_text("page 2")
    page.locator(".st-key-best-actions").get_by_role("button", name="Open document").click()
    reader = page.get_by_role("dialog")
    expect(reader.locator("mark.shown")).to_have_text("412 kilograms")
    expect(reader.get_by_text("Page 2", exact=True)).to_be_visible()


def test_markup_in_documents_and_names_is_shown_as_it_is(demo, visit, files):
    page = visit(f"{demo.url}/documents")
    add_files(page, files)
    ask(page, "Who was the first to light the lighthouse of Port Ebony?", "Ada Quill")
    expect(page.locator(".rom-best")).to_contain_text(HOSTILE_NAME)
    page.locator(".st-key-best-actions").get_by_role("button", name="Open document").click()
    reader = page.get_by_role("dialog")
    expect(reader.get_by_role("heading")).to_contain_text(literally(HOSTILE_NAME.removesuffix(".txt")))
    expect(reader.get_by_role("document")).to_contain_text("<script>alert(2)</script> <img src=x onerror=alert(3)>")
    expect(page.locator("img[src=x], .katex")).to_have_count(0)


def test_unsaved_documents_are_seen_by_their_session_alone(demo, visit, files):
    mine = visit(f"{demo.url}/documents")
    add_files(mine, files[:1])
    expect(mine.get_by_label("Documents")).to_have_value("Unsaved documents")
    link = mine.url
    assert "collection=" in link
    theirs = visit(f"{demo.url}/documents")
    theirs.get_by_label("Documents").click()
    expect(theirs.get_by_role("option", name="Sample articles")).to_be_visible()
    expect(theirs.get_by_role("option", name="Unsaved documents")).to_have_count(0)
    theirs.goto(link)
    expect(theirs.get_by_role("alert")).to_contain_text("that are not here")
    expect(theirs.get_by_label("Documents")).to_have_value("Sample articles")
    expect(theirs.get_by_text(files[0].name)).to_have_count(0)


def test_collections_outlive_a_restart(own_demo, visit):
    page = visit(f"{own_demo.url}/documents")
    create(page, "Harbours <b> & $x$")
    add_text(page, "The bell", BELL)
    ask(page, "How much does the harbour bell weigh?", "412 kilograms")
    link = page.url
    page.close()
    own_demo.stop()
    own_demo.start()
    page = visit(link)
    expect(page.get_by_role("heading", name="412 kilograms", level=2)).to_be_visible()
    expect(page.get_by_label("Documents")).to_have_value("Harbours <b> & $x$")


def test_unsaved_documents_can_be_kept_and_deleted(demo, visit, files):
    page = visit(f"{demo.url}/documents")
    add_files(page, files[:1])
    page.get_by_label("Name of the new collection").fill("Kept")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_role("heading", name="In “Kept”")).to_be_visible()
    theirs = visit(page.url)
    expect(theirs.get_by_role("heading", name="In “Kept”")).to_be_visible()
    expect(rows(theirs)).to_have_count(1)
    page.locator(".stDataFrame .dvn-scroller").click(position={"x": 14, "y": 52})
    page.get_by_role("button", name="Delete 1 document").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Nothing yet. Add documents above")).to_be_visible()
    page.get_by_role("button", name="Delete collection").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_label("Documents")).to_have_value("Sample articles")
    theirs.reload()
    expect(theirs.get_by_role("alert")).to_contain_text("that are not here")


def test_a_folder_is_followed(demo, visit, tmp_path):
    folder = tmp_path / "harbours"
    folder.mkdir()
    (folder / "bell.txt").write_text(BELL)
    page = visit(f"{demo.url}/documents")
    page.get_by_role("tab", name="Folder").click()
    page.get_by_label("Folder on this machine").fill(str(folder))
    page.get_by_role("button", name="Add folder").click()
    expect(page.get_by_text("Up to date: 1 new")).to_be_visible()
    (folder / "ferry.txt").write_text("The ferry to Port Ebony leaves at noon.")
    page.get_by_role("button", name="Look for changes").click()
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_text("Up to date: 1 new")).to_be_visible()
    ask(page, "When does the ferry to Port Ebony leave?", "noon")


def test_adding_can_be_cancelled(demo, visit, tmp_path):
    for number in range(30):
        (tmp_path / f"{number}.txt").write_text(f"Harbour {number} has a lighthouse and a bell. " * 3000)
    page = visit(f"{demo.url}/documents")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(sorted(tmp_path.glob("*.txt")))
    page.get_by_role("button", name="Add 30 files").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled. What was read by then stays.")).to_be_visible()
    expect(page.get_by_role("heading", name="Add documents")).to_be_visible()
