"""A folder of documents, and the `rom` command called in this process.

`rom convert` is tested beside conversions, `rom serve` beside serving.
"""

import pytest
from typer.testing import CliRunner

from rom_haystack.cli import app


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def docs(tmp_path, pdf):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "birds.md").write_text("# Birds [of] prey\n\nThe kestrel hovers [bold]high[/bold] above the meadow.")
    pages = ("The heron waits beside the river. " * 8, "The owl hunts at night. " * 8)
    (folder / "guide.pdf").write_bytes(pdf(*pages))
    return folder


@pytest.fixture
def rom(tiny_checkpoint):
    """Call a command with the tiny model."""

    def rom(command, *arguments):
        return CliRunner().invoke(app, [command, *map(str, arguments), "--model", str(tiny_checkpoint)])

    return rom
