"""Sockets and servers, with small applications."""

import asyncio
import os
import signal
import socket
import threading
from contextlib import suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rom_haystack.serving.gate import Gate
from rom_haystack.serving.server import Servers, is_local, known_names, listener, url_of


def saying(text):
    async def say(_):
        return PlainTextResponse(text)

    return Starlette(routes=[Route("/", say)])


def test_an_address_is_taken_but_nobody_answers_there_yet():
    with listener("127.0.0.1", 0, "--port") as taken:
        host, port = taken.getsockname()
        assert (url_of(taken), port > 0) == (f"http://127.0.0.1:{port}", True)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))


def test_an_address_that_is_taken_is_explained():
    with listener("127.0.0.1", 0, "--port") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"Can't listen at 127\.0\.0\.1, port {port}: .* Give another to --mcp-port"
        ):
            listener("127.0.0.1", port, "--mcp-port")


@pytest.mark.parametrize("host", ["192.0.2.7", "x" * 300, "a..b", "\ud800"])
def test_hosts_that_are_not_this_machine(host):
    with pytest.raises(ValueError, match="--host"):
        listener(host, 0, "--port")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_a_server_for_this_machine_knows_its_names(host):
    """A client that calls it by its address, by a name of this machine, and by a name that leads here."""
    try:
        taken = listener(host, 0, "--port")
    except ValueError:
        if host in ("127.0.0.1", "localhost"):  # every machine has these
            raise
        pytest.skip(f"this machine has no loopback address {host}")
    app = saying("here")
    app.add_middleware(Gate, paths={"/"}, max_body_size=0, hosts=known_names(taken, ["docs.example"]))
    url, port = url_of(taken), taken.getsockname()[1]
    heard = []

    def ask():
        known = ("localhost", "127.0.0.1", "[::1]", "docs.example")
        names = [
            {},
            *({"host": f"{name}:{port}"} for name in known),
            {"host": "docs.example"},
            {"host": "evil.example"},
        ]
        heard.extend(httpx.get(url, headers=headers).status_code for headers in names)
        servers.stop()

    client = threading.Thread(target=ask)
    servers = Servers({taken: app}, client.start)
    servers.run()
    client.join()
    assert heard == [200, 200, 200, 200, 200, 200, 400]


def test_a_server_for_others_is_called_by_any_name_unless_some_are_given():
    with listener("0.0.0.0", 0, "--port") as taken:
        assert not is_local(taken)
        assert known_names(taken) is None
        assert known_names(taken, ["docs.example"]) == ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "docs.example"]


@pytest.mark.parametrize("name", ["", "*", "*.example", "https://docs.example", "docs.example:80", "a/b", "::1", "a b"])
def test_what_is_no_name(name):
    with (
        listener("127.0.0.1", 0, "--port") as taken,
        pytest.raises(ValueError, match=r"is no name of a server; give --allow-host"),
    ):
        known_names(taken, [name])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_serve_once_ready_and_a_signal_ends_them(number):
    heard = []
    apps = {listener("127.0.0.1", 0, "--port"): saying(text) for text in ("one", "two")}

    def ask():
        heard.extend(httpx.get(url).text for url in urls)
        os.kill(os.getpid(), number)

    urls = [url_of(taken) for taken in apps]
    client = threading.Thread(target=ask)
    before = signal.getsignal(number)
    Servers(apps, client.start).run()
    client.join()
    assert heard == ["one", "two"]
    assert signal.getsignal(number) is before
    assert all(taken.fileno() == -1 for taken in apps)
    for url in urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_a_request_that_is_being_answered_is_finished():
    asked, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(_):
        asked.set()
        go_on.wait()
        return PlainTextResponse("finished")

    heard = []
    taken = listener("127.0.0.1", 0, "--port")
    url = url_of(taken)
    client = threading.Thread(target=lambda: heard.append(httpx.get(url).text))
    servers = Servers({taken: Starlette(routes=[Route("/", slow)])}, client.start)

    waited = []

    def stop():
        asked.wait()
        servers.stop()
        waited.append(not ended.wait(0.5))  # several of the server's ticks: it would have ended, if it did not wait
        go_on.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    servers.run()
    ended.set()
    client.join()
    stopper.join()
    assert (waited, heard) == ([True], ["finished"])


def test_a_request_that_takes_too_long_is_cut_off(monkeypatch):
    monkeypatch.setattr("rom_haystack.serving.server._GRACE", 0)
    heard = []
    taken = listener("127.0.0.1", 0, "--port")
    url = url_of(taken)

    async def slow(_):
        servers.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        return PlainTextResponse("finished")

    client = threading.Thread(target=lambda: heard.append(httpx.get(url, timeout=10).status_code))
    servers = Servers({taken: Starlette(routes=[Route("/", slow)])}, client.start)
    servers.run()
    client.join()
    assert heard == [500]
