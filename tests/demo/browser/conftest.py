"""A real Chromium, and a real `streamlit run` on a home of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

ROOT = Path(__file__).parents[3]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ONLY_THIS_MACHINE = "MAP * ~NOTFOUND, EXCLUDE localhost"
#: Where screenshots are kept, for people to look at.
SCREENSHOTS = Path(os.environ.get("ROM_SCREENSHOTS") or ROOT / ".ci" / "screenshots")
SCREEN = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
#: Most milliseconds to wait for what is expected; a machine that does much else is slow.
PATIENCE = 60_000

#: Finds what is broader than the window.
BROADER = """() => {
    const scrolls = [document.scrollingElement, ...document.querySelectorAll(".stMain")]
        .some(element => element.scrollWidth > element.clientWidth)
    const out = [...document.querySelectorAll("body *")]
        .filter(element => element.getBoundingClientRect().right > innerWidth + 1)
    return scrolls ? out.map(element => element.outerHTML.slice(0, 120)).concat("the page") : []
}"""

expect.set_options(timeout=PATIENCE)


@dataclass
class Demo:
    """A demo that runs, or is stopped for a while.

    Attributes:
        folder: What it keeps, and its log.
        port: Where it listens.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def home(self) -> Path:
        """Folder of its collections."""
        return self.folder / "demo"

    @property
    def watched(self) -> Path:
        """File that is there if it has tried to reach another machine."""
        return self.folder / "watched"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Start it, and wait until it can be visited."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "watching"), str(ROOT)]),
            "WATCHED": str(self.watched),
            "HOME": str(self.folder),  # no settings of whoever runs the tests
            "ROM_HOME": str(self.folder / "rom"),
            "ROM_DEMO_HOME": str(self.home),
            "ROM_BACKEND": "torch",
        }
        command = [sys.executable, "-m", "streamlit", "run", "demo/app.py", "--server.port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE / 1000
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/_stcore/health", timeout=0.5).is_success
        return False


@contextmanager
def running(folder: Path, browser: Browser) -> Iterator[Demo]:
    """Run a demo, with the sample articles indexed, as long as the context lasts."""
    with socket.create_server(("localhost", 0)) as free:
        demo = Demo(folder, free.getsockname()[1])
    try:
        demo.start()
        page = browser.new_page()
        page.goto(demo.url)
        expect(page.get_by_role("heading", name="For example")).to_be_visible(timeout=5 * PATIENCE)
        page.close()
        yield demo
    finally:
        demo.stop()
    assert not demo.watched.exists(), f"It tried to reach {demo.watched.read_text()}"
    assert "Traceback" not in demo.log(), demo.log()


@pytest.fixture(scope="module")
def demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo for all tests of a module that live with what others do to it."""
    with running(tmp_path_factory.mktemp("demo"), browser) as demo:
        yield demo


@pytest.fixture
def own_demo(browser: Browser, tmp_path: Path) -> Iterator[Demo]:
    """A demo of the test's own."""
    with running(tmp_path, browser) as demo:
        yield demo


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, which finds no other machine.

    Its driver keeps an event loop running, in which no other test could run one, so it ends with each module.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address as a new visitor: `visit(url, theme="dark", phone=True)`.

    In the end no page may have complained in the browser's console, or asked another machine for anything.
    """
    contexts = []
    complaints: list[str] = []

    def note_said(said: ConsoleMessage) -> None:
        # An address such as /documents is first taken for a folder that the demo might be served in.
        if said.type == "error" and not re.search(r"/\w+/_stcore/(health|host-config)$", said.location["url"]):
            complaints.append(f"{said.text} {said.location}")

    def note_request(url: str) -> None:
        if not url.startswith(("http://localhost:", "ws://localhost:", "data:", "blob:")):
            complaints.append(f"asked for {url}")

    def visit(url: str, *, theme: str = "light", phone: bool = False) -> Page:
        context = browser.new_context(color_scheme=theme, viewport=PHONE if phone else SCREEN, reduced_motion="reduce")
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", note_said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: note_request(request.url))
        page.on("websocket", lambda opened: note_request(opened.url))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


@dataclass(frozen=True)
class Look:
    """What can be told of a page by looking at it."""

    page: Page

    def settle(self, heading: str) -> None:
        """Wait until a heading is there, and nothing more happens."""
        expect(self.page.get_by_role("heading", name=heading).first).to_be_visible()
        expect(self.page.locator(".stApp")).to_have_attribute("data-test-script-state", "notRunning")
        expect(self.page.locator("[data-stale=true], [data-testid=stSkeleton]")).to_have_count(0)

    def on_a_phone(self) -> None:
        """Make the window as small as a phone."""
        self.page.set_viewport_size(PHONE)

    def keep(self, name: str) -> None:
        """Keep what the page looks like, from top to bottom."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        window = self.page.viewport_size
        height = self.page.locator(".stMain").evaluate("main => main.scrollHeight")  # it is this that scrolls
        self.page.set_viewport_size({"width": window["width"], "height": max(height, window["height"])})
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
        self.page.set_viewport_size(window)

    def violations(self) -> list[str]:
        """What keeps people from using the page, as far as a program can tell."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def sideways(self) -> list[str]:
        """What stays broader than the window, so that the page must be scrolled sideways to see it."""
        with suppress(PlaywrightTimeoutError):  # charts follow the window's size a moment later
            self.page.wait_for_function(f"() => ({BROADER})().length === 0", timeout=10_000)
        return self.page.evaluate(BROADER)

    def levels(self) -> list[int]:
        """The levels of the headings that are seen, from top to bottom."""
        headings = self.page.get_by_role("heading").filter(visible=True)
        return headings.evaluate_all("headings => headings.map(h => Number(h.ariaLevel || h.tagName[1]))")


@pytest.fixture(scope="session")
def look() -> type[Look]:
    """Look at a page: `look(page).violations()`."""
    return Look
