"""What stands around a server's application: known names and paths only, bodies within limits, and ends of streams."""

import json
import re
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rom_haystack.serving.errors import error_response
from rom_haystack.serving.limits import MAX_DEPTH

_PORT = re.compile(r":\d*$")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# A text that never ends is one to the end, so that the search goes through a body once.
_TOKENS = re.compile(rb'"(?:[^"\\]+|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


class Gate:
    """Let through requests to known names and paths whose bodies are not too large or too deep, and valid Unicode.

    Hayhooks also deploys whatever code it is sent, draws pipelines on another's server, and takes files. What is not
    named here can't be reached, whatever it has or will have. Names are checked because a page of another site could
    have its own lead here, and read the answers.

    Args:
        app: What stands behind.
        paths: Paths that exist, exactly.
        max_body_size: Most bytes of a body.
        hosts: Names by which clients may call this server. None for any.
    """

    def __init__(
        self, app: ASGIApp, *, paths: Collection[str], max_body_size: int, hosts: Sequence[str] | None = None
    ) -> None:
        self.app = app
        self.paths = paths
        self.max_body_size = max_body_size
        self.hosts = None if hosts is None else [host.lower() for host in hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may not pass; else read its body and pass both on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = _PORT.sub("", Headers(scope=scope).get("host", ""))
        if self.hosts is not None and host.lower() not in self.hosts:
            refusal = error_response(
                400,
                f"This server is not known as '{host[:100]}', only as {', '.join(self.hosts)}. Call it by one of "
                "these, or let it be started with --allow-host and that name.",
            )
            await refusal(scope, receive, send)
            return
        if scope["path"] not in self.paths:
            refusal = error_response(404, f"There is nothing here; there is {', '.join(sorted(self.paths))}.")
            await refusal(scope, receive, send)
            return
        size = Headers(scope=scope).get("content-length", "")
        declared = int(size) if size.isdecimal() and len(size) < 20 else 0
        body = bytearray()
        whole = declared > self.max_body_size
        while not whole:
            message = await receive()
            if message["type"] != "http.request":  # the client has left
                return
            body += message.get("body", b"")
            whole = len(body) > self.max_body_size or not message.get("more_body", False)
        if max(declared, len(body)) > self.max_body_size:
            found = f"{declared:,}" if declared > self.max_body_size else f"more than {self.max_body_size:,}"
            refusal = error_response(
                413,
                f"The request has {found} bytes, and the limit is {self.max_body_size:,}. Send fewer or shorter "
                "messages, or let the server be started with a larger --max-body-size.",
            )
        elif not _is_utf8(body):
            refusal = error_response(422, "The request is not valid UTF-8; send JSON in UTF-8.")
        elif _depth(body) > MAX_DEPTH:
            refusal = error_response(
                422, f"The request is nested more than {MAX_DEPTH} levels deep; send a flatter one."
            )
        elif _has_half_character(body):
            refusal = error_response(422, "The request has half of a surrogate pair in a text; send valid Unicode.")
        else:
            await self.app(scope, _replayed(bytes(body), receive), send)
            return
        await refusal(scope, receive, send)


class StreamEnd:
    """End streams of chat completions with `[DONE]`, as OpenAI does, and as some clients need it.

    Args:
        app: What stands behind.
        paths: Where chat completions are.
    """

    def __init__(self, app: ASGIApp, *, paths: Collection[str]) -> None:
        self.app = app
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and what it gets back, with the end."""
        if scope["type"] != "http" or scope["path"] not in self.paths:
            await self.app(scope, receive, send)
            return
        streams = False

        async def send_with_end(message: Message) -> None:
            nonlocal streams
            if message["type"] == "http.response.start":
                streams = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            elif streams and not message.get("more_body", False):
                message = {**message, "body": message.get("body", b"") + b"data: [DONE]\n\n"}
            await send(message)

        await self.app(scope, receive, send_with_end)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read already once more, and then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _is_utf8(body: bytes | bytearray) -> bool:
    """Tell whether a body is what is checked here; of JSON, Python would also read UTF-16, UTF-32 and surrogates."""
    if b"\0" in body:  # in no JSON, but between the letters of those two
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_half_character(body: bytes | bytearray) -> bool:
    """Tell whether a JSON text has an escape for half of a surrogate pair, which no answer could repeat."""
    if not _SURROGATE.search(body):
        return False
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except ValueError:  # no JSON, as the application will say
        return False
    return False


def _depth(body: bytes | bytearray) -> int:
    """Count how deeply the lists and objects of a JSON text are nested; roughly, where it is no JSON."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:  # nearly always, and at once
        return 0
    depth = deepest = 0
    for token in _TOKENS.finditer(body):
        if (found := token[0][:1]) != b'"':
            depth += 1 if found in b"[{" else -1
            deepest = max(deepest, depth)
    return deepest
