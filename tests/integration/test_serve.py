"""`rom serve` as a process of its own, and real clients: httpx, OpenAI's, and MCP's."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import NamedTuple

import httpx
import openai
import pytest
from filelock import FileLock
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from rom_haystack.inference.samples import SAMPLE_CORPUS

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
WATCHING = ROOT / "tests" / "watching"
ROM = [sys.executable, "-c", "from rom_haystack.cli import main; main()"]
QUESTION = "Which Apollo 11 astronaut stayed in orbit?"
#: Of the sample corpus, as much as the questions need; indexing it all takes longer than all these tests.
FILES = ("honey-bees", "jupiter", "ludwig-van-beethoven", "mars", "the-great-wall-of-china", "the-moon", "the-sahara")
UNANSWERED = "What is the capital of the planet Zorg?"


class Server(NamedTuple):
    process: subprocess.Popen
    ready: dict
    folder: Path

    @property
    def url(self):
        return self.ready["url"]

    def errors(self):
        return (self.folder / "errors").read_text()


@contextmanager
def served(folder, *arguments):
    """Start a server in a folder, wait until it says that it is ready, and in the end kill it if it still runs."""
    code = folder / "pipelines" / "evil"
    code.mkdir(parents=True)
    (code / "pipeline_wrapper.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    (folder / ".env").write_text("HAYHOOKS_SHOW_TRACEBACKS=true\nHF_HUB_OFFLINE=0\n")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(WATCHING), str(ROOT)]),
        "WATCHED": str(folder / "watched"),
        "LOG": "no-such-level",
        "HAYHOOKS_CORS_ALLOW_ORIGINS": '["*"]',
        "HAYHOOKS_DURABLE_MODE": "true",
        "HAYHOOKS_TRACING_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4318",
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    }
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [*ROM, "serve", "--port", "0", "--mcp-port", "0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=environment,
        )
    too_late = Timer(300, process.kill)  # then reading ends
    too_late.start()
    try:
        # All that it prints, once it answers, is one document, whose last line is a brace.
        lines = []
        while not lines or lines[-1] not in {"}\n", ""}:
            lines.append(process.stdout.readline())
        too_late.cancel()
        document = "".join(lines)
        assert '"url"' in document, document + (folder / "errors").read_text()
        yield Server(process, json.loads(document), folder)
    finally:
        too_late.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for all tests; when they are through, a signal must end it cleanly."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "docs").mkdir()
    for name in FILES:
        shutil.copy(SAMPLE_CORPUS / f"{name}.md", folder / "docs")
    with served(folder, "--docs", "docs", "--passages", "4") as server:
        yield server
        check_end(server)


def check_end(server):
    """Look at what a server leaves behind, and at what it has said and done all the time."""
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/health").status_code == 200  # a connection that stays open
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    with FileLock(Path(server.ready["index"]["path"]) / "lock", timeout=0):  # nobody holds it
        pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")
    assert server.process.stdout.read() == ""
    assert not (server.folder / "watched").exists()
    assert "question" not in server.errors().lower()
    assert QUESTION not in server.errors()


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def chat(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_it_is_ready_when_it_says_so(server, client):
    health = client.get("/health")
    assert health.status_code == 200
    assert health.json() == {name: server.ready[name] for name in health.json()}
    assert (health.json()["ready"], health.json()["model"]) == (True, "rom-minilm-l6")
    assert (health.json()["backend"], health.json()["passages"] > 20) == ("torch-float32", True)
    assert client.get("/status").json()["status"] == "Up!"


def test_rest(client):
    result = client.post("/qa/run", json={"question": QUESTION, "top_k": 2}).json()["result"]
    best = result["answers"][0]
    assert (result["question"], result["answered"], len(result["answers"])) == (QUESTION, True, 2)
    assert (best["answer"], best["document"]["title"]) == ("Michael Collins", "The Moon")
    assert best["document"]["content"][best["start"] : best["end"]] == best["answer"]
    assert best["sentence"][best["sentence_start"] : best["sentence_end"]] == best["answer"]
    assert len(result["passages"]) == 4
    nothing = client.post("/qa/run", json={"question": UNANSWERED}).json()["result"]
    assert (nothing["answered"], nothing["answers"], len(nothing["passages"])) == (False, [], 4)


def test_openais_client(chat):
    assert [model.id for model in chat.models.list()] == ["qa"]
    conversation = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": UNANSWERED},
        {"role": "assistant", "content": "No answer found in these documents."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    reply = chat.chat.completions.create(model="qa", messages=conversation).choices[0]
    lines = reply.message.content.splitlines()
    assert reply.finish_reason == "stop"
    assert lines[0].startswith("**Michael Collins** (")
    assert lines[2].startswith("> **Michael Collins** remained in lunar orbit")
    assert "- [1] The Moon, the-moon.md" in lines
    chunks = list(chat.chat.completions.create(model="qa", messages=conversation, stream=True))
    contents = [chunk.choices[0].delta.content for chunk in chunks]
    assert "".join(contents) == reply.message.content
    assert len(contents) > 3
    assert chunks[-1].choices[0].finish_reason == "stop"
    nothing = chat.chat.completions.create(model="qa", messages=conversation[1:2]).choices[0].message.content
    assert nothing.startswith("No answer found in these documents.\n\nNearest passages:\n\n- ")
    assert chat.responses.create(model="qa", input=QUESTION).output_text == reply.message.content


def test_the_documented_client(server, capsys):
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    example, reply = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("python", "markdown"))
    exec(compile(example.replace("http://127.0.0.1:1416", server.url), "serving.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line in reply.splitlines()] == reply.splitlines()


def test_openais_client_hears_of_mistakes(chat):
    with pytest.raises(openai.UnprocessableEntityError, match="The question is empty"):
        chat.chat.completions.create(model="qa", messages=[{"role": "user", "content": " "}], stream=True)
    with pytest.raises(openai.UnprocessableEntityError, match="the limit is 1000"):
        chat.responses.create(model="qa", input="x" * 1001)
    with pytest.raises(openai.NotFoundError, match="'gpt-4' not found"):
        chat.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.APIStatusError, match="the limit is 1,048,576") as raised:
        chat.chat.completions.create(model="qa", messages=[{"role": "user", "content": "x" * 1_100_000}])
    assert raised.value.status_code == 413


async def test_mcps_client(server):
    async with (
        streamable_http_client(server.ready["mcp_url"]) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert not {"deploy_pipeline", "undeploy_pipeline"} & set(tools)
        tool = tools["ask_documents"]
        assert tool.description.startswith("Answer a question with exact quotes")
        assert set(tool.inputSchema["properties"]) == {"question", "top_k", "passages", "filters"}
        found = await session.call_tool("ask_documents", {"question": QUESTION, "top_k": 1})
        assert not found.isError
        assert json.loads(found.content[0].text)["answers"][0]["answer"] == "Michael Collins"
        for arguments, message in [
            ({"question": ""}, "The question is empty"),
            ({"question": QUESTION, "top_k": 99}, "top_k is 99; it must be a whole number from 1 to 50."),
            ({}, "'question' is a required property"),
        ]:
            refused = await session.call_tool("ask_documents", arguments)
            assert refused.isError
            assert message in refused.content[0].text
        files = {"pipeline_wrapper.py": f"open({str(server.folder / 'ran')!r}, 'w')"}
        deployed = await session.call_tool(
            "deploy_pipeline", {"name": "evil", "files": files, "overwrite": True, "save_files": False}
        )
        assert deployed.isError


def test_sixteen_at_a_time(server, client):
    def quotes(found):
        return [answer["answer"] for answer in found["answers"][:2]]

    questions = [QUESTION, "Who composed the Ninth Symphony?", "What do honey bees make?", UNANSWERED] * 4

    def ask(question):
        return httpx.post(f"{server.url}/qa/run", json={"question": question}, timeout=120)

    with ThreadPoolExecutor(16) as threads:
        together = [response.json()["result"] for response in threads.map(ask, questions)]
    for question, found in zip(questions[:4], together, strict=False):
        assert quotes(found) == quotes(ask(question).json()["result"])
    assert [found["question"] for found in together] == questions
    assert [quotes(found) for found in together] == [quotes(found) for found in together[:4]] * 4


def test_what_must_not_be_is_not(server, client):
    """Code can't be sent, other sites can't ask, and nothing is known of the environment's wishes."""
    files = {"name": "evil", "files": {"pipeline_wrapper.py": f"open({str(server.folder / 'ran')!r}, 'w')"}}
    assert client.post("/deploy_files", json=files).status_code == 404
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
    assert "access-control-allow-origin" not in client.get("/health", headers={"origin": "http://a.example"}).headers
    assert client.get("/evil/run").status_code == 404
    assert client.get("/status").json()["durable_mode"] is False
    assert not (server.folder / "ran").exists()


def test_a_server_that_does_not_start_is_told(tmp_path):
    """Or all tests would wait for it."""
    with pytest.raises(AssertionError, match="--top-k"), served(tmp_path, "--top-k", "0"):
        pass


def test_the_watch_sees_what_leaves(tmp_path):
    """Or nothing could be learnt from what it does not see."""
    code = "import socket\ns = socket.socket()\ns.setblocking(False)\ns.connect_ex(('192.0.2.1', 9))"
    environment = {**os.environ, "PYTHONPATH": str(WATCHING), "WATCHED": str(tmp_path / "watched")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "watched").read_text() == "socket.connect 192.0.2.1\n"
