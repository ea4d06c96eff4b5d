"""Mistakes in calls of `rom serve`, which end before anything is served. What is served: tests/integration."""

import asyncio
import json
import os
import re
import socket
import sys
from itertools import product

import httpx
import pytest
from typer.testing import CliRunner

from rom_haystack.cli import MISTAKE, NOTHING_INDEXED, app
from rom_haystack.serving.server import Servers
from rom_haystack.serving.service import QuestionService


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what the command sets is gone afterwards


@pytest.fixture
def serve(tmp_path, tiny_checkpoint):
    def serve(*arguments):
        ports = ("--port", "0", "--mcp-port", "0", "--model", tiny_checkpoint, "--docs", tmp_path)
        return CliRunner().invoke(app, ["serve", *map(str, (*ports, *arguments))])

    return serve


def assert_mistake(result, message, code=MISTAKE):
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(("package", "options"), [("hayhooks", ["--no-mcp"]), ("mcp", [])])
def test_a_package_that_is_not_installed(serve, monkeypatch, package, options):
    monkeypatch.setitem(sys.modules, package, None)
    assert_mistake(serve(*options), f'Serving needs {package}. Install: pip install "rom-haystack[serve]".')


@pytest.mark.parametrize("option", ["--port", "--mcp-port"])
def test_a_port_that_is_taken(serve, option):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert_mistake(serve(option, port), f"port {port}: Address already in use. Give another to {option}, 0 for any")


def test_a_host_that_is_none(serve):
    assert_mistake(serve("--host", "a..b"), "There is no host 'a..b'")


def test_a_name_that_is_none(serve):
    assert_mistake(serve("--allow-host", "https://docs.example"), "'https://docs.example' is no name of a server; give")


def test_a_folder_with_nothing_to_serve(serve):
    assert_mistake(serve(), "Nothing to index in", NOTHING_INDEXED)


def test_a_folder_that_is_none(serve, tmp_path):
    assert_mistake(serve("--docs", tmp_path / "none"), "There is no folder")


class TestReady:
    @pytest.fixture(autouse=True)
    def run(self, monkeypatch):
        """Instead of serving, only be ready."""
        monkeypatch.setattr(Servers, "run", lambda servers: servers._on_ready())

    @pytest.fixture(autouse=True)
    def document(self, tmp_path):
        (tmp_path / "owl.txt").write_text("The owl hunts at night.")

    def test_people_are_told_where_all_is(self, serve, tmp_path, tiny_checkpoint):
        result = serve()
        rows = {line[:15].strip(): line[15:] for line in result.stdout.splitlines()}
        assert (result.exit_code, result.stderr) == (0, "")
        assert (rows["Ready"], rows["Passages"]) == (str(tmp_path), "1")
        assert rows["Model"] == f"{tiny_checkpoint}, on torch-float32"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/qa/run", rows["REST"])
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1 \(OpenAI's base URL; the model is qa\)", rows["Chat"])
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/mcp/", rows["MCP"])
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/health", rows["Health"])

    def test_machines_are_told_in_one_document(self, serve, tmp_path):
        report = json.loads(serve("--json", "--no-mcp").stdout)
        assert (report["ready"], report["passages"], report["mcp_url"]) == (True, 1, None)
        assert report["index"]["added"] == ["owl.txt"]
        assert report["index"]["folder"] == str(tmp_path)

    def test_the_keyword_weight_reaches_the_search(self, serve, monkeypatch):
        weights = []
        warm_up = QuestionService.warm_up

        def noted(service):
            weights.append(service.qa.pipeline.get_component("retriever").weights)
            warm_up(service)

        monkeypatch.setattr(QuestionService, "warm_up", noted)
        assert serve().exit_code == serve("--keyword-weight", 0.25).exit_code == 0
        assert weights == [None, [0.25, 0.75]]
        assert serve("--keyword-weight", 1.5).exit_code == MISTAKE

    def test_a_short_limit_of_questions_hinders_nothing(self, serve):
        assert serve("--max-question-length", 1).exit_code == 0

    def test_who_opens_it_to_others_is_warned(self, serve):
        result = serve("--host", "0.0.0.0", "--no-mcp")
        assert result.exit_code == 0
        assert result.stderr == "Whoever reaches 0.0.0.0 can ask these documents: there is no authentication.\n"
        assert "MCP            not served" in result.stdout.splitlines()
        named = serve("--allow-host", "docs.example", "--allow-host", "other.example")
        assert "Whoever reaches docs.example or other.example can ask" in named.stderr

    def test_names_reach_both_servers(self, serve, monkeypatch):
        """Those of this machine, and those that are given."""
        heard = []

        async def ask(apps):
            for served, host in product(apps, ("localhost", "docs.example", "evil.example")):
                async with httpx.AsyncClient(
                    transport=httpx.ASGITransport(served), base_url=f"http://{host}"
                ) as client:
                    heard.append((await client.get("/status")).status_code)

        monkeypatch.setattr(Servers, "__init__", lambda _, apps, *__: asyncio.run(ask(apps.values())))
        monkeypatch.setattr(Servers, "run", lambda _: None)
        assert serve("--allow-host", "docs.example").exit_code == 0
        assert heard == [200, 200, 400] * 2


@pytest.mark.parametrize("option", ["--top-k", "--passages", "--max-question-length", "--max-body-size"])
def test_limits_have_limits(serve, option):
    result = serve(option, 0)
    assert (result.exit_code, result.stdout) == (MISTAKE, "")
    assert option in result.stderr
