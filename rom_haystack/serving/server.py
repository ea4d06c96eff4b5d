"""Servers on sockets of their own, which start and stop together."""

import asyncio
import ipaddress
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import HANDLED_SIGNALS

#: Seconds that open connections have to end when the server stops.
_GRACE = 5
_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


def listener(host: str, port: int, option: str) -> socket.socket:
    """Take an address, without answering there yet.

    Args:
        host: Name or address of this machine.
        port: The port; 0 for any free one.
        option: The option that names the port, for errors.

    Raises:
        ValueError: The address is not to be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"There is no host '{host}' ({error}). Give an address of this machine to --host.") from error
    taken = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ValueError(
            f"Can't listen at {host}, port {port}: {error.strerror}. Give another to {option}, 0 for any free one, "
            "or another address to --host."
        ) from error
    return taken


def is_local(taken: socket.socket) -> bool:
    """Tell whether only this machine reaches a socket."""
    return ipaddress.ip_address(taken.getsockname()[0].partition("%")[0]).is_loopback


def known_names(taken: socket.socket, allowed: Sequence[str] = ()) -> list[str] | None:
    """Return the names by which clients may call a server.

    Args:
        taken: Its socket.
        allowed: Names to add to those of this machine.

    Returns:
        The names; None for any, where others than this machine reach it and nothing is said of names.

    Raises:
        ValueError: What is allowed is no name.
    """
    for name in allowed:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' is no name of a server; give --allow-host one like docs.example, without scheme and port."
            )
    if not allowed and not is_local(taken):
        return None
    return list(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", _in_url(taken.getsockname()[0]), *allowed]))


def url_of(taken: socket.socket) -> str:
    """Return where clients reach a socket."""
    host, port = taken.getsockname()[:2]
    return f"http://{_in_url(host)}:{port}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Servers:
    """Serve applications until a signal (SIGINT, SIGTERM) comes; requests that are being answered are finished.

    Args:
        apps: The applications by their sockets, which are closed in the end.
        on_ready: Called when all of them answer.
    """

    def __init__(self, apps: Mapping[socket.socket, ASGIApp], on_ready: Callable[[], None]) -> None:
        self._listeners = list(apps)
        self._servers = [_Server(app, self._started) for app in apps.values()]
        self._on_ready = on_ready
        self.should_exit = False

    def run(self) -> None:
        """Serve; returns when all has ended."""
        # A method of an object with `should_exit`: event streams look at the handler to learn that they must end.
        before = {number: signal.signal(number, self.stop) for number in HANDLED_SIGNALS}
        try:
            asyncio.run(self._serve())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self, number: int = signal.SIGTERM, _: object = None) -> None:
        """Let all servers end; a second Ctrl-C does not wait for open connections."""
        for server in self._servers:
            server.force_exit |= self.should_exit and number == signal.SIGINT
            server.should_exit = True
        self.should_exit = True

    async def _serve(self) -> None:
        await asyncio.gather(*map(self._serve_one, self._servers, self._listeners))

    async def _serve_one(self, server: "_Server", taken: socket.socket) -> None:
        try:
            await server.serve(sockets=[taken])
        finally:
            self.stop()  # one alone is not what was asked for

    def _started(self) -> None:
        if all(server.started for server in self._servers):
            self._on_ready()


class _Server(uvicorn.Server):
    """One of several servers: it tells when it has started, and leaves signals to them all."""

    def __init__(self, app: ASGIApp, on_started: Callable[[], None]) -> None:
        config: dict[str, Any] = {"log_config": None, "access_log": False, "ws": "none", "lifespan": "on"}
        super().__init__(
            uvicorn.Config(app, timeout_graceful_shutdown=_GRACE, proxy_headers=False, server_header=False, **config)
        )
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
