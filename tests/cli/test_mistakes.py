"""Mistakes in calls and failures around them end in one line and an exit code, whatever the command."""

import json
import shutil
import sys

import pytest
from haystack.core.errors import PipelineRuntimeError
from typer.testing import CliRunner

from rom_haystack.cli import INTERRUPTED, MISTAKE, app
from rom_haystack.library import Library


def test_an_engine_that_is_not_installed_is_a_mistake(rom, docs, monkeypatch):
    monkeypatch.setenv("ROM_BACKEND", "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = rom("index", docs)
    assert (result.exit_code, result.stdout) == (MISTAKE, "")
    assert "pip install 'rom-haystack[openvino]'" in result.stderr
    monkeypatch.setenv("ROM_BACKEND", "jax")
    assert "ROM_BACKEND is 'jax'" in rom("index", docs).stderr


def test_mistakes_are_explained_without_a_traceback(rom, docs, tmp_path):
    mistakes = {
        "The question is empty": rom("ask", "  ", "--docs", docs),
        "There is no folder": rom("ask", "Who?", "--docs", docs / "missing"),
        "is a file; give the folder": rom("index", docs / "birds.md"),
        "holds other files": rom("index", docs, "--index", docs),
        "is no ROM checkpoint": CliRunner().invoke(app, ["ask", "Who?", "--docs", str(docs), "--model", str(tmp_path)]),
        "No checkpoint 'no-such-model'": CliRunner().invoke(app, ["info", "no-such-model"]),
        "greater than or equal to 1": rom("ask", "Who?", "--docs", docs, "--top-k", "0"),
    }
    for message, result in mistakes.items():
        assert result.exit_code == MISTAKE, message
        assert message in result.stderr
        assert "Traceback" not in result.output
        assert result.stdout == ""


def test_paths_that_can_not_be_are_mistakes(rom, docs):
    long = "x" * 300
    ask = ("ask", "Who?", "--docs")
    mistakes = [
        ("File name too long", rom(*ask, long)),
        ("File name too long", rom(*ask, docs, "--index", docs / long)),
        ("File name too long", CliRunner().invoke(app, ["info", long])),
        ("'~nosuchuser/x'", rom(*ask, "~nosuchuser/x")),
        ("'~nosuchuser/x'", rom(*ask, docs, "--index", "~nosuchuser/x")),
        ("'~nosuchuser/x'", CliRunner().invoke(app, ["info", "~nosuchuser/x"])),
    ]
    for message, result in mistakes:
        assert result.exit_code == MISTAKE, message
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            PermissionError(13, "Permission denied", "/a/b"),
            "'/a/b': Permission denied. Check the path and its permissions.\n",
        ),
        (PipelineRuntimeError("reader", None, "out of\nmemory"), "'reader' failed: out of memory\n"),
    ],
)
def test_failures_around_us_are_one_line(rom, docs, monkeypatch, error, line):
    def fail(*_):
        raise error

    monkeypatch.setattr(Library, "update", fail)
    result = rom("index", docs)
    assert (result.exit_code, result.stderr) == (MISTAKE, line)


def test_our_own_errors_keep_their_traceback(rom, docs, monkeypatch):
    def fail(*_):
        raise KeyError("a bug")

    monkeypatch.setattr(Library, "update", fail)
    assert isinstance(rom("index", docs).exception, KeyError)


def test_a_damaged_model_is_a_mistake(docs, tiny_checkpoint, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = CliRunner().invoke(app, ["ask", "Who?", "--docs", str(docs), "--model", str(damaged)])
    assert result.exit_code == MISTAKE
    assert "can't be loaded" in result.stderr


def test_mistakes_are_json_too(rom, docs):
    result = rom("ask", " ", "--docs", docs, "--json")
    assert result.exit_code == MISTAKE
    assert json.loads(result.stdout) == {"error": "The question is empty; ask with at least one word."}


def test_an_interrupt_has_its_own_exit_code(rom, docs, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Library, "update", interrupt)
    result = rom("index", docs)
    assert result.exit_code == INTERRUPTED
    assert result.stderr == "Interrupted.\n"
