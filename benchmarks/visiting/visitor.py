"""A visitor of the demo: a client of Streamlit's protocol, which sees what a browser would draw."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.errors import JobError
from benchmarks.visiting.server import HOST, Server

_TAG = re.compile(r"<[^>]*>")
#: Marks the quote in an answer, see `demo.views.cards`.
_QUOTE = "<mark"
# Seconds between tries to reach a server that is starting, and the longest time to wait for anything.
_RETRY_S = 0.02
_PATIENCE_S = 300


@dataclass
class Page:
    """What came of a request.

    Attributes:
        quote_s: Seconds until the first quote was there; None where none came.
        whole_s: Seconds until the page was drawn whole.
        texts: What was drawn, without markup.
        errors: What went wrong, as the page says it.
    """

    quote_s: float | None = None
    whole_s: float = 0.0
    texts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def shows(self, text: str) -> bool:
        """Whether a text stands on the page, in one piece."""
        return any(text in shown for shown in self.texts)


class Visitor:
    """One browser session.

    Args:
        connection: Its connection to the server.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def open(self, **parameters: str) -> Page:
        """Ask for the start page, and wait until it is drawn.

        Args:
            **parameters: Those of the address, such as the question `q`.

        Raises:
            JobError: The page is not there in five minutes.
        """
        request = BackMsg()
        request.rerun_script.query_string = urlencode(parameters)
        page, start = Page(), time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._connection.send(request.SerializeToString())
                async for data in self._connection:
                    message = ForwardMsg.FromString(data if isinstance(data, bytes) else data.encode())
                    if message.WhichOneof("type") == "script_finished":
                        if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                            page.errors.append("The script can't be compiled.")
                        break
                    look_at(message.delta.new_element, page, start)
        except TimeoutError as error:
            raise JobError(f"The page was not drawn in {_PATIENCE_S} s.") from error
        page.whole_s = time.perf_counter() - start
        return page


@asynccontextmanager
async def visiting(server: Server) -> AsyncIterator[Visitor]:
    """Open a browser session, as soon as the server lets one in.

    Raises:
        JobError: The server has ended, or lets no one in.
    """
    end = time.perf_counter() + _PATIENCE_S
    address = f"ws://{HOST}:{server.port}/_stcore/stream"
    while True:
        try:
            connection = await connect(address, subprotocols=[Subprotocol("streamlit")], max_size=None)
            break
        except OSError as error:
            server.check()
            if time.perf_counter() > end:
                raise JobError(f"The demo lets no one in: {error}") from error
            await asyncio.sleep(_RETRY_S)
    async with connection:
        yield Visitor(connection)


def look_at(element: Element, page: Page, start: float) -> None:
    """Note what an element says.

    Args:
        element: What the server has sent.
        page: Where to note it.
        start: When the page was asked for, by `time.perf_counter`.
    """
    kind = element.WhichOneof("type")
    if kind == "exception":
        page.errors.append(f"{element.exception.type}: {element.exception.message}")
    elif kind == "alert" and element.alert.format == Alert.ERROR:
        page.errors.append(element.alert.body)
    elif kind == "html":
        if page.quote_s is None and _QUOTE in element.html.body:
            page.quote_s = time.perf_counter() - start
        page.texts.append(html.unescape(_TAG.sub("", element.html.body)))
    elif kind == "heading":
        page.texts.append(element.heading.body)
