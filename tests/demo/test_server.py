"""Who may speak with the demo's server, by the settings that it comes with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

SETTINGS = Path(__file__).parents[2] / "demo" / ".streamlit"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server with the demo's settings, and a page with nothing on it."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(SETTINGS, folder / ".streamlit")
    (folder / "app.py").touch()
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, "HOME": str(folder)}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
        yield port
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("localhost", port), timeout=1).close()
        return True
    return False


def shake_hands(port: int, name: str) -> int:
    """Ask for a session as a page does that a browser has by a name, and return the status."""
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {name}:{port}",
        f"Origin: http://{name}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
    ]
    with socket.create_connection(("localhost", port), timeout=PATIENCE_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_a_browser_on_this_machine_is_let_in(port, name):
    assert shake_hands(port, name) == 101


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "192.0.2.7"])
def test_a_web_page_whose_name_leads_here_is_not(port, name):
    assert shake_hands(port, name) == 403
