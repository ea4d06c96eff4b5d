"""Many questions whose answers are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.integration]

HOSTILE = "<img src=x onerror=alert(1)> :red[Which] $\\alpha$ planet is the largest?"
QUESTIONS = [
    ["question", "answer"],
    ["Which Apollo 11 astronaut stayed in orbit?", "Michael Collins"],
    ["What does a litre of milk cost?", ""],
    [HOSTILE, "Saturn"],
]


@pytest.fixture
def questions(tmp_path) -> Path:
    file = tmp_path / "<img src=x onerror=alert(2)> $x$.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(QUESTIONS)
    return file


def test_a_file_of_questions_is_asked(demo, visit, questions, look):
    page = visit(f"{demo.url}/evaluate")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(questions)
    page.get_by_role("button", name="Ask 3 questions").click()
    expect(page.get_by_role("heading", name="Results", exact=True)).to_be_visible()
    expect(page.locator("dl.rom-metrics > div").filter(has_text="Exact match")).to_contain_text("66.7%")
    expect(page.get_by_role("heading", name="Answers that are not right")).to_be_visible()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(page.get_by_text(questions.name).first).to_be_visible()
    expect(page.locator("img[src=x], .katex")).to_have_count(0)
    look(page).settle("Take the results with you")
    look(page).keep("evaluation")
    assert look(page).violations() == []
    with page.expect_download() as rows:
        page.get_by_role("button", name="CSV, a row per question").click()
    with Path(rows.value.path()).open(encoding="utf-8-sig", newline="") as opened:
        assert {row["question"] for row in csv.DictReader(opened)} == {question for question, _ in QUESTIONS[1:]}
    with page.expect_download() as whole:
        page.get_by_role("button", name="JSON, with settings").click()
    assert json.loads(Path(whole.value.path()).read_text(encoding="utf-8"))
    look(page).on_a_phone()
    look(page).settle("Take the results with you")
    look(page).keep("evaluation-phone")
    assert look(page).sideways() == []


def test_an_evaluation_can_be_cancelled(demo, visit):
    page = visit(f"{demo.url}/evaluate")
    page.get_by_role("button", name="questions on the sample articles").click()
    page.get_by_role("button", name="Ask 52 questions").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("The evaluation was cancelled.")).to_be_visible()
    expect(page.get_by_role("button", name="Ask 52 questions")).to_be_enabled()


def test_what_is_wrong_with_a_file_is_said(demo, visit, tmp_path):
    page = visit(f"{demo.url}/evaluate")
    (tmp_path / "odd.csv").write_text("one,two\n1,2\n")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(tmp_path / "odd.csv")
    expect(page.get_by_role("alert")).to_contain_text("odd.csv")
    expect(page.get_by_role("alert")).to_contain_text("question")
