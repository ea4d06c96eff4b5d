"""The models in memory, and the engine that takes over once it is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from demo.core import engine as engines
from demo.core.engine import Engine
from demo.core.measuring import Measuring, MeasuringError
from rom_haystack.inference import EncoderSpec, selection
from rom_haystack.inference.choices import Choice

DEADLINE_S = 60


@pytest.fixture
def unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which no engine was measured, and a program that does not wait for it."""
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ROM_BACKEND", "measured")
    return tmp_path / "cache"


def until(holds) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestParts:
    def test_are_made_once(self, tiny_checkpoint):
        engine = Engine()
        model = str(tiny_checkpoint)
        assert engine.embedder(model) is engine.embedder(model)
        assert engine.reader(model, "off") is engine.reader(model, "off")
        assert engine.reader(model, "off") is not engine.reader(model, "fast")
        assert engine.reader(model, "fast").adaptive_reading == "fast"

    def test_share_one_model(self, tiny_checkpoint):
        engine = Engine()
        model = str(tiny_checkpoint)
        engine.embedder(model).warm_up()
        engine.reader(model, "off").warm_up()
        assert engine.embedder(model)._encoder is engine.reader(model, "off")._encoder

    def test_the_least_recently_used_go(self, tiny_checkpoint):
        engine = Engine()
        first, second = engine.embedder("first"), engine.embedder("second")
        for number in range(engines._KEPT - 1):
            engine.embedder(f"other {number}")
            assert engine.embedder("first") is first
        assert engine.embedder("second") is not second

    def test_the_model_is_loaded_before_it_is_needed(self, tiny_checkpoint):
        engine = Engine(str(tiny_checkpoint))
        engine.warm_up()
        until(lambda: engine.embedder(str(tiny_checkpoint))._encoder is not None)


class TestTakingOver:
    def test_nothing_to_measure(self, monkeypatch):
        monkeypatch.setattr(engines, "Measuring", lambda model: pytest.fail("measured"))
        engine = Engine()  # ROM_BACKEND says torch
        engine.prepare()
        assert (engine.name, engine.preparing) == ("torch-float32", False)

    def test_what_was_measured_takes_over(self, unmeasured, tiny_checkpoint, monkeypatch):
        """Torch answers until the measurements are there, and those who use it then keep it."""
        known = None

        class Measured:
            def __init__(self, model):
                assert model == str(tiny_checkpoint)

            def wait(self):
                nonlocal known
                until(lambda: asked)
                known = Choice("onnx", "float32", "it is faster")
                return True

        asked = []
        monkeypatch.setattr(engines, "Measuring", Measured)
        for module in (engines, selection):
            monkeypatch.setattr(module, "known_choice", lambda spec: known)
        engine = Engine(str(tiny_checkpoint))
        before = engine.embedder(str(tiny_checkpoint))
        before.warm_up()
        engine.prepare()
        engine.prepare()  # once is enough
        assert (engine.name, engine.preparing) == ("torch-float32", True)
        assert engine.embedder(str(tiny_checkpoint)) is before
        asked.append("Who?")
        until(lambda: not engine.preparing)
        assert engine.name == "onnx-float32"
        assert engine.embedder(str(tiny_checkpoint))._encoder.backend_name == "onnx-float32"
        assert len(before.run("Who?")["embedding"]) == 64
        assert before._encoder.backend_name == "torch-float32"

    def test_a_failure_leaves_torch(self, unmeasured, tiny_checkpoint, monkeypatch, caplog):
        def fail(self):
            raise MeasuringError("Engines could not be measured: no memory.")

        monkeypatch.setattr(Measuring, "__init__", lambda self, model: None)
        monkeypatch.setattr(Measuring, "wait", fail)
        engine = Engine(str(tiny_checkpoint))
        engine.prepare()
        until(lambda: not engine.preparing)
        assert engine.name == "torch-float32"
        assert caplog.messages == ["Engines could not be measured: no memory. The demo goes on with torch-float32."]
        assert len(engine.embedder(str(tiny_checkpoint)).run("Who?")["embedding"]) == 64


class TestMeasuring:
    def test_what_fails_says_why(self, unmeasured):
        with pytest.raises(MeasuringError, match=r"could not be measured: .*nowhere"):
            Measuring("nowhere").wait()

    def test_ends_with_us(self, unmeasured, tiny_checkpoint):
        measuring = Measuring(str(tiny_checkpoint))
        process = measuring._process
        assert process.poll() is None
        measuring._ending()  # as happens when this process ends
        assert not measuring.wait()
        assert process.returncode != 0

    @pytest.mark.integration
    def test_keeps_the_choice_where_auto_finds_it(self, unmeasured, tiny_checkpoint):
        spec = EncoderSpec.create(tiny_checkpoint)
        assert selection.known_choice(spec) is None
        assert Measuring(str(tiny_checkpoint)).wait()
        assert selection.known_choice(spec) is not None
        assert "ROM_BACKEND" in os.environ
