"""What visits the demo for its benchmark: what it takes for an answer and for an error, and a real visit."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pypdf
import pytest
from haystack import Document
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.Element_pb2 import Element
from typer.testing import CliRunner
from websockets.asyncio.server import serve
from websockets.typing import Subprotocol

from benchmarks import demo
from benchmarks.errors import JobError
from benchmarks.expectations import read_expectations
from benchmarks.visiting import parts
from benchmarks.visiting.pdf import write_pdf
from benchmarks.visiting.server import HOST, Server, running
from benchmarks.visiting.visitor import Page, look_at, visiting
from demo.core.asking import Asker
from demo.core.results import FoundPassage, Quote, Result
from demo.core.shelf import Shelf
from demo.views import cards


def quote(text: str) -> Quote:
    sentence = f"It is {text}."
    passage = FoundPassage(Document(content=sentence), 1.0, 1, 1)
    return Quote(text, 0.8, 6, 6 + len(text), sentence, 6, 6 + len(text), None, passage)


class TestLooking:
    def test_the_best_answer_is_timed(self):
        page = Page()
        look_at(Element(), page, 0.0)
        unsure, best = quote("Doubtful"), quote("sols & more")
        for body in (
            cards.reading_card(),
            cards.further_card(unsure),
            cards.best_card(best),
        ):
            assert page.quote_s is None
            element = Element()
            element.html.body = body
            look_at(element, page, 0.0)
        first = page.quote_s
        assert first is not None
        look_at(element, page, 0.0)
        assert page.quote_s == first
        assert page.shows("sols & more.")
        assert not page.shows("mark")

    def test_errors_are_those_of_script_and_page(self):
        page = Page()
        for format_ in (Alert.WARNING, Alert.ERROR):
            element = Element()
            element.alert.body, element.alert.format = f"alert {format_}", format_
            look_at(element, page, 0.0)
        element = Element()
        element.exception.type, element.exception.message = "KeyError", "q"
        look_at(element, page, 0.0)
        assert page.errors == [f"alert {Alert.ERROR}", "KeyError: q"]


@pytest.mark.parametrize(
    ("code", "said"), [(1000, "hung up before the page was drawn"), (1011, "connection was lost before the page")]
)
def test_a_page_that_breaks_off_is_none(tmp_path, code, said):
    async def hang_up(connection):
        await connection.recv()
        await connection.close(code)

    async def visit():
        async with serve(hang_up, HOST, 0, subprotocols=[Subprotocol("streamlit")]) as listening:
            port = listening.sockets[0].getsockname()[1]
            server = Server(port, 0.0, subprocess.Popen(["true"]), tmp_path / "log")
            async with visiting(server) as visitor:
                await visitor.open()

    with pytest.raises(JobError, match=said):
        asyncio.run(visit())


def test_pdf_has_the_pages_and_words_that_were_asked_for(tmp_path):
    write_pdf(tmp_path / "file.pdf", 3, 450)
    pages = pypdf.PdfReader(tmp_path / "file.pdf").pages
    assert [len(page.extract_text().split()) for page in pages] == [450] * 3


def test_a_home_that_is_lived_in_is_refused(tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(demo.app, ["run", "--output", str(tmp_path / "out.json"), "--work", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty" in result.output


def test_a_server_that_has_ended_lets_no_one_in(tmp_path):
    async def visit(server):
        async with visiting(server):
            pass

    with running(tmp_path) as server:
        server.process.kill()
        server.process.wait()
        with pytest.raises(JobError, match="The demo ended with -9: it said nothing"):
            asyncio.run(visit(server))


def test_expectations_are_of_figures_that_there_are():
    latency = dict.fromkeys(("p50_ms", "p95_ms"), 0.0)
    results = {
        "start": {"ready_s": 9.0, "first_question_s": 0.1, "while_measuring": latency},
        "answers": {"first": latency, "whole": latency, "right": 1.0},
        "users": {"users": 16, "errors": 0, "whole": latency, "right": 1.0},
        "indexing": {"pages": 100, "seconds": 9.0},
    }
    for expected in read_expectations(demo.EXPECTATIONS):
        assert expected.verdict(results) == "met"


def _turned(result: Result) -> Result:
    return replace(result, quotes=result.quotes[::-1])


@pytest.mark.integration
class TestFigures:
    @pytest.fixture(scope="class")
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A demo's home with the sample indexed."""
        home = tmp_path_factory.mktemp("home")
        sample = Shelf(home / "demo").get("sample")
        sample.reindex()
        sample.close()
        return home

    def test_of_users_of_a_real_server(self, home, monkeypatch):
        monkeypatch.setenv("ROM_HOME", str(home / "rom"))
        figures = parts.user_figures(home, users=2, each=2)
        assert (figures["questions"], figures["errors"]) == (4, 0)
        assert figures["right"] == 1
        assert 0 < figures["quote"]["p50_ms"] <= figures["whole"]["max_ms"]

    def test_of_answers(self, home):
        figures = parts.answer_figures(home / "demo", rounds=1)
        assert figures["engine"] == "torch-float32"
        assert figures["right"] > 0.9
        assert 0 < figures["first"]["p50_ms"] < figures["whole"]["p50_ms"]

    def test_an_answer_is_right_if_the_best_one_is(self, home, monkeypatch):
        """The right one in the second place does not count."""
        answers = Asker.ask
        monkeypatch.setattr(Asker, "ask", lambda *given: map(_turned, answers(*given)))
        assert parts.answer_figures(home / "demo", rounds=1)["right"] < 0.5

    def test_of_indexing(self):
        figures = parts.indexing_figures(pages=2, words=300)
        assert (figures["pages"], figures["words_per_page"]) == (2, 300)
        assert figures["passages"] >= 5
        assert figures["seconds"] > 0
