"""`rom ask`: its JSON, what people are shown, and what it answers while another process indexes."""

import json
from functools import wraps

import pytest
from filelock import FileLock
from haystack import Document, ExtractedAnswer
from rich.text import Text

from rom_haystack import ROMExtractiveQA, cli
from rom_haystack.cli import MISTAKE, NO_ANSWER


@pytest.fixture
def answers(monkeypatch):
    """Set what the pipeline returns."""

    def answers(*found, documents=()):
        @wraps(ROMExtractiveQA.run)  # Haystack compares the signatures of run and run_async
        def run(*_, **__):
            return {"answers": list(found), "documents": list(documents)}

        monkeypatch.setattr(ROMExtractiveQA, "run", run)

    return answers


def make_answer(content, data, start, **meta):
    """Make an answer whose sentence is the whole content."""
    page = {"answer_page_number": meta["page_number"]} if "page_number" in meta else {}
    span = ExtractedAnswer.Span(start, start + len(data))
    return ExtractedAnswer(
        query="?",
        score=0.8567,
        data=data,
        document=Document(content=content, meta=meta),
        context=content,
        document_offset=span,
        context_offset=span,
        meta=page,
    )


def test_ask_json_obeys_schema_and_offset_law(rom, docs):
    result = rom("ask", "Where does the heron wait?", "--docs", docs, "--json", "--top-k", 3, "--passages", 2)
    report = json.loads(result.stdout)
    assert set(report) == {"question", "answered", "answers", "passages", "model", "index"}
    assert result.exit_code == (0 if report["answered"] else NO_ANSWER)
    assert len(report["passages"]) == 2
    assert set(report["passages"][0]) == {"id", "title", "file_path", "page", "score"}
    assert report["index"]["added"] == ["birds.md", "guide.pdf"]
    assert report["index"]["skipped"] == []
    assert report["answered"] is bool(report["answers"])
    for answer in report["answers"]:
        assert answer["document"]["content"][answer["start"] : answer["end"]] == answer["answer"]
        assert answer["sentence"][answer["sentence_start"] : answer["sentence_end"]] == answer["answer"]


def test_every_answer_obeys_the_offset_law(rom, docs, monkeypatch):
    """The tiny model's order is random, so let every candidate through."""
    run = ROMExtractiveQA.run

    @wraps(run)
    def quotes_only(self, **kwargs):
        result = run(self, **kwargs)
        return {**result, "answers": [answer for answer in result["answers"] if answer.data is not None]}

    monkeypatch.setattr(ROMExtractiveQA, "run", quotes_only)
    result = rom("ask", "What hunts at night?", "--docs", docs, "--json", "--top-k", 30)
    found = json.loads(result.stdout)["answers"]
    assert result.exit_code == 0
    assert len(found) > 5
    pages = {"The heron": 1, "The owl h": 2}
    for answer in found:
        document = answer["document"]
        assert document["content"][answer["start"] : answer["end"]] == answer["answer"]
        assert answer["sentence"][answer["sentence_start"] : answer["sentence_end"]] == answer["answer"]
        if document["file_path"] == "guide.pdf":
            assert pages[answer["sentence"][:9]] == document["page"]
        else:
            assert document["page"] is None


def test_answers_are_shown_with_place_and_score(rom, docs, answers):
    answers(
        make_answer("Owls [b]hunt[/b].", "hunt", 8, title="On [i]owls", file_path="a.pdf", page_number=7),
        ExtractedAnswer(query="?", score=0.1),
        make_answer("No page.", "page", 3, title="T", file_path="b.txt"),
    )
    result = rom("ask", "What do owls do?", "--docs", docs)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1. hunt  86%",
        "   Owls [b]hunt[/b].",
        "   On [i]owls, a.pdf, page 7",
        "",
        "2. page  86%",
        "   No page.",
        "   T, b.txt",
    ]


def test_the_answer_is_highlighted_by_offset(monkeypatch):
    printed = []
    monkeypatch.setattr("rich.console.Console.print", lambda _self, text="", **_: printed.append(text))
    cli.documents._show_answers([make_answer("to be or not to be", "to be", 13, title="T")])
    sentence = next(text for text in printed if isinstance(text, Text) and "not" in text.plain)
    highlighted = [sentence.plain[span.start : span.end] for span in sentence.spans]
    assert highlighted == ["to be"]
    assert sentence.spans[0].start == 3 + 13  # the second "to be", behind the indent


def test_documents_cannot_command_the_terminal(rom, docs, answers):
    answers(make_answer("\x1b[2Jevil\x07 \u202etext\nnext", "evil\x07 \u202etext", 4, title="\x1b]0;x\x07"))
    result = rom("ask", "?", "--docs", docs)
    assert not set("\x1b\x07\u202e") & set(result.stdout)
    assert "evil\ufffd text next" in result.stdout


def test_no_answer_names_the_nearest_passages(rom, docs, answers):
    near = [Document(content=text, meta={"title": "Near", "file_path": "n.txt"}) for text in "ab"]
    answers(ExtractedAnswer(query="?", score=0.9), make_answer("text", "text", 0), documents=near)
    result = rom("ask", "?", "--docs", docs)
    assert result.exit_code == NO_ANSWER
    assert result.stdout.splitlines() == ["No answer found in these documents.", "Nearest passages:", "   Near, n.txt"]
    report = json.loads(rom("ask", "?", "--docs", docs, "--json").stdout)
    assert (report["answered"], report["answers"]) == (False, [])
    assert len(report["passages"]) == 2


def test_questions_are_answered_while_another_process_indexes(rom, docs, home):
    assert rom("index", docs).exit_code == 0
    (index,) = home.iterdir()
    (docs / "new.txt").write_text("This is not indexed yet.")
    with FileLock(index / "lock"):
        asked = rom("ask", "What hunts at night?", "--docs", docs, "--json")
        indexed = rom("index", docs)
    report = json.loads(asked.stdout)
    assert asked.exit_code in {0, NO_ANSWER}
    assert len(report["passages"]) == report["index"]["passages"] == 2
    assert report["index"]["stale"].startswith("Another process is updating the index")
    assert "Until then, answers come from what the index holds." in asked.stderr
    assert (indexed.exit_code, "Another process" in indexed.stderr) == (MISTAKE, True)
