"""Pages without a browser, on a home of their own with the sample indexed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from demo.core.shelf import Shelf
from demo.views import frame, indexing

APP = Path(__file__).parents[3] / "demo" / "app.py"

Opens = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the main module back, in whose place Streamlit puts the page, and from which new processes start."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def indexed_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("indexed")
    sample = Shelf(home).get("sample")
    sample.reindex()
    sample.close()
    return home


@pytest.fixture
def home(indexed_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the demo keeps in this test; no other test sees it."""
    copy = tmp_path / "home"
    shutil.copytree(indexed_home, copy)
    monkeypatch.setenv("ROM_DEMO_HOME", str(copy))
    _forget()
    yield copy
    _forget()


@pytest.fixture
def open_app(home: Path) -> Opens:
    """Open the demo as a new browser session: `open_app(q="Who?")`, with the parameters of a link."""

    def visit(**link: str) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=120)
        app.query_params.update(link)
        app.run()
        assert not app.exception
        return app

    return visit


def _forget() -> None:
    """Let the next session look anew where things are; the models stay loaded."""
    frame.shelf.clear()
    indexing.updates.clear()


@pytest.fixture
def visit_page(home: Path) -> Opens:
    """Draw one page alone, as a new session: `visit_page(page, q="…")`, with what its link says."""

    def visit(page: Callable[[], None], **link: str) -> AppTest:
        app = AppTest.from_function(page, default_timeout=120)
        app.query_params.update(link)
        app.run()
        assert not app.exception
        return app

    return visit
