"""The applications in this process, with the tiny model: what they answer, and what they don't."""

import asyncio
import threading

import httpx
import pytest

from rom_haystack.folders import LibraryError
from rom_haystack.serving.app import PATHS, mcp_app, rest_app

CHAT = "/v1/chat/completions"


def client_of(app):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://127.0.0.1:1416"
    )


@pytest.fixture(scope="module")
def app(shared):
    return rest_app(shared, hosts=["127.0.0.1"], max_body_size=10_000)


@pytest.fixture
async def client(app):
    async with client_of(app) as client:
        yield client


def user(content):
    return {"model": "qa", "messages": [{"role": "user", "content": content}]}


async def test_health_and_status(client, shared):
    health = await client.get("/health")
    assert (health.status_code, health.json()) == (200, shared.health())
    assert (await client.get("/status")).json()["pipelines"] == ["qa"]
    assert (await client.get("/status/qa")).json() == {"status": "Up!", "pipeline": "qa"}
    assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == ["qa"]


async def test_health_is_503_where_nothing_can_be_answered(client, shared, monkeypatch):
    def lost():
        raise LibraryError("The index is lost.")

    monkeypatch.setattr(shared.library._index, "store", lost)
    health = await client.get("/health")
    asked = await client.post("/qa/run", json={"question": "Who?"})
    assert (health.status_code, health.json()["ready"], health.json()["passages"]) == (503, False, 0)
    assert (asked.status_code, asked.json()["detail"], health.json()["reason"]) == (503, *["The index is lost."] * 2)


async def test_rest_answers_as_the_service_does(client, shared):
    asked = {"question": "What hunts at night?", "top_k": 2, "passages": 3}
    response = await client.post("/qa/run", json=asked)
    assert response.json() == {"result": shared.ask(*asked.values())}
    assert "embedding" not in response.text
    filters = {"field": "meta.file_path", "operator": "==", "value": "owl.txt"}
    found = (await client.post("/qa/run", json={"question": "What?", "filters": filters})).json()["result"]
    assert [passage["file_path"] for passage in found["passages"]] == ["owl.txt"]


async def test_health_answers_while_questions_are_read(client, shared, monkeypatch):
    go_on = threading.Event()
    run = shared.qa.run

    def slow(**arguments):
        go_on.wait(5)
        return run(**arguments)

    monkeypatch.setattr(shared.qa, "run", slow)
    asked = [asyncio.create_task(client.post("/qa/run", json={"question": f"What {n}?"})) for n in range(16)]
    assert (await client.get("/health")).status_code == 200
    assert not any(task.done() for task in asked)
    go_on.set()
    assert {(await task).status_code for task in asked} == {200}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ('{"question": ""}', 422, "The question is empty; ask with at least one word."),
        ('{"question": "  \\u2003"}', 422, "The question is empty; ask with at least one word."),
        ('{"question": "' + "x" * 61 + '"}', 422, "The question has 61 characters, and the limit is 60. "),
        ('{"question": "' + "x" * 20_000 + '"}', 413, "The request has 20,016 bytes, and the limit is 10,000. "),
        ('{"question": "\\ud800"}', 422, "The request has half of a surrogate pair in a text; "),
        ('{"question": 5}', 422, "question: Input should be a valid string"),
        ('{"question": null}', 422, "question: Input should be a valid string"),
        ("{}", 422, "question: Field required"),
        ("[]", 422, "The request: Input should be a valid dictionary"),
        ("", 422, "The request: Field required"),
        ("{", 422, "The request is no JSON: Expecting property name enclosed in double quotes (character 2)"),
        ('{"question": "x", "top_k": 0}', 422, "top_k is 0; it must be a whole number from 1 to 50."),
        ('{"question": "x", "passages": 101}', 422, "passages is 101; it must be a whole number from 1 to 100."),
        ('{"question": "x", "top_k": NaN}', 422, "top_k: Input should be a finite number"),
        ('{"question": "x", "top_k": 1e999}', 422, "top_k: Input should be a finite number"),
        ('{"question": "x", "top_k": ' + "9" * 30 + "}", 422, "top_k is 99999999999999999999; it must be a whole "),
        ('{"question": "x", "top_k": ' + "9" * 5000 + "}", 400, "There was an error parsing the body"),
        ('{"question": "x", "filters": []}', 422, "filters: Input should be a valid dictionary"),
        ('{"question": "x", "filters": {"a": 1}}', 422, "The filters can't be used: "),
        (
            '{"question": "x", "filters": {"a": ' + "[" * 99 + "]" * 99 + "}}",
            422,
            "The request is nested more than 100 ",
        ),
    ],
    ids=range(20),
)
async def test_requests_that_can_not_be_answered(client, capsys, body, status, message):
    response = await client.post("/qa/run", content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    assert response.json()["detail"].startswith(message)
    assert response.json()["error"]["message"] == response.json()["detail"]
    assert len(response.text) < 600
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "question", ["</b><red>{x} %s {0}", "\0\x1b[2J", "e\u0301\u202e👩‍🚀", "\ufffe\uffff", "�?" * 30]
)
async def test_odd_questions_are_answered(client, capsys, question):
    for path, request in (("/qa/run", {"question": question}), (CHAT, user(question))):
        response = await client.post(path, json=request)
        assert response.status_code == 200
    assert capsys.readouterr() == ("", "")


async def test_what_is_no_text_at_all(client):
    for content in (b"\xff\xfe\x00", b"\0" * 100, b"question=x"):
        for kind in ("application/json", "application/x-www-form-urlencoded", ""):
            response = await client.post("/qa/run", content=content, headers={"content-type": kind} if kind else {})
            assert 400 <= response.status_code < 500
            assert response.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"question": "\xed\xa0\x80 who"}',
        r'{"question": "\ud800"}'.encode("utf-16-le"),
        ('{"question": "x", "filters": {"\u2200": ' + '{"a":' * 800 + "1" + "}" * 802).encode("utf-16-le"),
    ],
    ids=["surrogate", "escape", "depth"],
)
async def test_other_encodings_hide_nothing(client, capsys, content):
    response = await client.post("/qa/run", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["detail"]) == (
        422,
        "The request is not valid UTF-8; send JSON in UTF-8.",
    )
    assert capsys.readouterr() == ("", "")


async def test_chat_replies_the_same_in_one_and_in_pieces(client):
    whole = (await client.post(CHAT, json=user("What hunts at night?"))).json()["choices"][0]
    lines = (await client.post(CHAT, json={**user("What hunts at night?"), "stream": True})).text.split("\n\n")
    chunks = [httpx.Response(200, text=line.removeprefix("data: ")).json() for line in lines[:-2]]
    assert lines[-2:] == ["data: [DONE]", ""]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == whole["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert (whole["message"]["role"], whole["finish_reason"]) == ("assistant", "stop")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (user(""), 422, "The question is empty"),
        (user("x" * 61), 422, "The question has 61 characters"),
        (user(None), 422, "The last user message has no text"),
        ({"model": "qa", "messages": []}, 422, "The conversation has no message with role 'user'"),
        ({"model": "qa"}, 422, "messages: Field required"),
        ({"model": "gpt-4", "messages": user("x")["messages"]}, 404, "Pipeline 'gpt-4' not found"),
    ],
)
async def test_chats_that_can_not_be_answered(client, request_, status, message, stream):
    response = await client.post(CHAT, json={**request_, "stream": stream})
    assert response.status_code == status
    assert response.json()["detail"].startswith(message)


async def test_code_can_not_be_deployed(client, tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    files = {"name": "x", "files": {"pipeline_wrapper.py": code}, "save_files": False}
    for path in ("/deploy_files", "/deploy-yaml", "/undeploy/qa", "/deploy_files/", "//deploy_files", "/v1/files"):
        assert (await client.post(path, json=files)).status_code == 404
    for path in ("/draw/qa", "/docs", "/redoc", "/traces", "/dashboard"):
        assert (await client.get(path)).status_code == 404
    assert not (tmp_path / "ran").exists()
    assert (await client.get("/status")).json()["pipelines"] == ["qa"]


async def test_the_description_holds_what_is_there(client):
    schema = (await client.get("/openapi.json")).json()
    assert schema["info"]["title"] == "rom serve"
    assert {"/qa/run", "/health", CHAT} <= set(schema["paths"]) <= PATHS
    request = schema["components"]["schemas"]["qaRunRequest"]["properties"]
    assert request["question"]["description"] == "The question, in a sentence or a few words."


async def test_other_names_and_other_sites_are_turned_away(client, shared):
    """A page whose name leads here can't ask, and one of another site can't read."""
    asked = {"json": {"question": "Who?"}}
    response = await client.post("/qa/run", **asked, headers={"host": "evil.example"})
    assert (response.status_code, response.json()["error"]["message"]) == (400, response.json()["detail"])
    response = await client.post("/qa/run", **asked, headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in response.headers
    async with client_of(mcp_app(shared, hosts=["127.0.0.1"])) as mcp:
        assert (await mcp.get("/status")).status_code == 200
        assert (await mcp.get("/status", headers={"host": "evil.example"})).status_code == 400
        assert (await mcp.get("/sse")).status_code == 404
    async with client_of(rest_app(shared)) as open_to_all:
        assert (await open_to_all.get("/health", headers={"host": "any.example"})).status_code == 200


async def test_failures_are_500_and_logged_without_what_was_asked(client, shared, monkeypatch, capsys):
    def fail(**_):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(shared.qa, "run", fail)
    response = await client.post("/qa/run", json={"question": "My secret question?"})
    assert (response.status_code, response.json()["detail"]) == (500, "Pipeline execution failed: the disk is gone")
    logged = capsys.readouterr().err
    assert "the disk is gone" in logged
    assert "secret" not in logged
