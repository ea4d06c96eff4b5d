"""What stands around the application, with a small application within."""

import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from rom_haystack.serving.gate import Gate, StreamEnd


async def echo(request):
    return PlainTextResponse(await request.body())


async def stream(request):
    return StreamingResponse(iter(["data: 1\n\n", "data: 2\n\n"]), media_type="text/event-stream")


APP = Starlette(
    routes=[Route(path, app, methods=["POST"]) for path, app in {"/a": echo, "/secret": echo, "/s": stream}.items()]
)


@pytest.fixture
async def client():
    app = StreamEnd(Gate(APP, paths={"/a", "/s", "/t"}, max_body_size=1000), paths={"/a", "/s"})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def in_pieces(size, number):
    for _ in range(number):
        yield b"x" * size


async def test_what_is_in_order_reaches_the_application_whole(client):
    body = json.dumps({"text": 'ö [{"\\ 😀', "list": [[1], {"a": [[]]}]}).encode()
    assert (await client.post("/a", content=body)).content == body
    assert (await client.post("/a", content=in_pieces(100, 10))).content == b"x" * 1000
    assert (await client.post("/a")).content == b""


@pytest.mark.parametrize("path", ["/secret", "/secret/", "//secret", "/a/", "/a/../secret", "/a%2f..%2fsecret", "/A"])
async def test_only_known_paths_are_there(client, path):
    response = await client.post(path)
    assert response.status_code == 404
    assert response.json()["detail"] == "There is nothing here; there is /a, /s, /t."


async def test_only_known_names_are_there():
    app = Gate(APP, paths={"/a"}, max_body_size=10, hosts=["localhost", "[::1]", "Docs.example"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for host in ("localhost", "LOCALHOST:80", "[::1]", "[::1]:1416", "docs.example", "docs.example:"):
            assert (await client.post("/a", headers={"host": host})).status_code == 200
        for host in ("", "localhost.evil.example", "x.docs.example", "docs.example:80:80", "ö" * 999, "evil.example"):
            response = await client.post("/secret", headers={"host": host.encode()})
            assert response.status_code == 400
            assert len(response.text) < 700
        assert response.json()["error"]["message"] == response.json()["detail"]
        assert response.json()["detail"] == (
            "This server is not known as 'evil.example', only as localhost, [::1], docs.example. Call it by one of "
            "these, or let it be started with --allow-host and that name."
        )


async def test_bodies_over_the_limit(client):
    declared = await client.post("/a", content=b"x" * 1001)
    streamed = await client.post("/a", content=in_pieces(100, 11))
    assert (declared.status_code, streamed.status_code) == (413, 413)
    assert declared.json()["detail"].startswith("The request has 1,001 bytes, and the limit is 1,000. Send fewer or ")
    assert streamed.json()["detail"].startswith("The request has more than 1,000 bytes, and the limit is 1,000. ")
    assert "--max-body-size" in streamed.json()["detail"]


async def test_a_body_over_the_limit_is_not_read_on():
    """Neither one that says how large it is nor one that never ends."""
    sent = []

    async def endless():
        sent.append(1)
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def ignore(message):
        pass

    gate = Gate(APP, paths={"/a"}, max_body_size=1000)
    for headers, read in (([], 11), ([(b"content-length", b"5000")], 0)):
        sent.clear()
        await gate({"type": "http", "method": "POST", "path": "/a", "headers": headers}, endless, ignore)
        assert len(sent) == read


@pytest.mark.parametrize(("depth", "status"), [(100, 200), (101, 422), (400, 422)])
async def test_nesting(client, depth, status):
    for opening, closing in ("[]", ('{"a":', "}")):
        body = (
            '{"x": "' + "[" * 30 + '\\"[", "y": [' + opening * (depth - 2) + "1" + closing * (depth - 2) + "]}"
        ).encode()
        response = await client.post("/a", content=body[:1000] if status == 422 else body)
        assert response.status_code == status
    if status == 422:
        assert response.json()["detail"] == "The request is nested more than 100 levels deep; send a flatter one."


@pytest.mark.parametrize("end", [b"", b"\\", b'"'])
async def test_texts_that_do_not_end_are_gone_through_once(end):
    """Else these would take hours."""
    body = b"[" * 90 + b'"' + b"[" * 90 + b'\\"' * 400_000 + end
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Gate(APP, paths={"/a"}, max_body_size=10**6)), base_url="http://test"
    ) as client:
        assert (await client.post("/a", content=body)).content == body
        assert (await client.post("/a", content=b"[" * 20 + body)).status_code == 422


async def test_many_lists_that_are_not_within_each_other(client):
    assert (await client.post("/a", content=b"[" + b",".join([b"[]"] * 150) + b"]")).status_code == 200


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\uDFFF": 1}', r'["\ud83d", "\ude00"]', r'"\ud83dx\ude00"'])
async def test_half_characters_are_refused_wherever_they_are(client, text):
    response = await client.post("/a", content=text.encode())
    assert response.status_code == 422
    assert "half of a surrogate pair" in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"question": "\xed\xa0\x80 who"}',
        b'"\xff"',
        b'"\xc3',
        r'{"question": "\ud800"}'.encode("utf-16-le"),
        r'{"question": "\ud800"}'.encode("utf-16"),
        r'{"question": "\ud800"}'.encode("utf-32-be"),
        ('{"\u2200": ' + "[" * 110 + "]" * 110 + "}").encode("utf-16-le"),
    ],
)
async def test_what_is_not_utf_8_is_refused(client, body):
    """Python's JSON reads it all the same, but the other checks can't."""
    response = await client.post("/a", content=body)
    assert response.status_code == 422
    assert response.json()["detail"] == "The request is not valid UTF-8; send JSON in UTF-8."


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', r'"\\ud800"', r'"\ud800'])
async def test_whole_characters_pass_and_no_json_is_left_to_the_application(client, text):
    assert (await client.post("/a", content=text.encode())).text == text


async def test_streams_end_as_openais_do(client):
    assert (await client.post("/s")).text == "data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    assert (await client.post("/a", content=b"no stream")).text == "no stream"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(StreamEnd(APP, paths={"/a"})), base_url="http://test"
    ) as other:
        assert (await other.post("/s")).text == "data: 1\n\ndata: 2\n\n"
