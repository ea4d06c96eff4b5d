"""A demo that runs for a measurement: the real server, on a home and a port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.errors import JobError

ROOT = Path(__file__).parents[2]
#: Where answers are asked for; the address is that of a loopback interface.
HOST = "127.0.0.1"
# Longest time that a server may take to end.
_PATIENCE_S = 30


@dataclass
class Server:
    """A demo that runs.

    Attributes:
        port: Where it listens.
        started: When it was started, by `time.perf_counter`.
        process: The process.
        log: What it says.
    """

    port: int
    started: float
    process: subprocess.Popen[bytes]
    log: Path

    def resident_bytes(self) -> int:
        """Return the memory of the process, mapped files included."""
        resident: int = psutil.Process(self.process.pid).memory_info().rss
        return resident

    def check(self) -> None:
        """See that it runs.

        Raises:
            JobError: It has ended.
        """
        if self.process.poll() is not None:
            said = self.log.read_text(encoding="utf-8", errors="replace").strip()
            raise JobError(f"The demo ended with {self.process.returncode}: {said[-500:] or 'it said nothing'}")


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Start a demo, and end it afterwards.

    Args:
        folder: Its home. What lies there is used, so an empty one makes it start as on a new machine.
    """
    port = _free_port()
    environment = {**os.environ, "ROM_HOME": str(folder / "rom"), "ROM_DEMO_HOME": str(folder / "demo")}
    environment.pop("ROM_BACKEND", None)  # as a user has it
    command = [sys.executable, "-m", "streamlit", "run", "demo/app.py", f"--server.port={port}"]
    command += [f"--server.address={HOST}", "--server.headless=true", "--browser.gatherUsageStats=false"]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)  # noqa: S603 (ours)
    try:
        yield Server(port, started, process, log)
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
    return port
