"""From specs to encoders: in torch, and from graphs that are made once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rom_haystack.inference import EncoderSpec, ReadingOptions, loading
from rom_haystack.inference.export import graph as graphs
from rom_haystack.inference.export.folder import export_place, graph_path, has_graph
from rom_haystack.inference.loading import load_encoder, load_exported
from rom_haystack.inference.samples import read_sample
from rom_haystack.inference.stopping import load_stopping
from rom_haystack.modeling import CheckpointError

SAMPLE = read_sample(part=slice(0, 2))
STOPPING = {"stopping": {"passage_score_weight": 0.5, "settings": {"fast": {"level": 1.0, "slope": 2.0}}}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_checkpoint) -> Path:
    """The tiny checkpoint, calibrated, as graphs for both engines and without its weights."""
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = shutil.copytree(tiny_checkpoint, folder / "checkpoint")
    (checkpoint / "calibration.json").write_text(json.dumps(STOPPING))
    for backend in ("openvino", "onnx"):
        graphs.export_graph(checkpoint, folder / "graphs", backend)
    return folder / "graphs"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_spec_that_leaves_something_open_is_refused(tiny_checkpoint):
    for spec in (EncoderSpec.create(tiny_checkpoint), EncoderSpec.create(tiny_checkpoint, backend="torch")):
        with pytest.raises(ValueError, match="resolve it first"):
            load_encoder(spec)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_graphs_say_what_torch_says(exported, tiny_encoder, backend):
    encoder = load_encoder(EncoderSpec.create(exported, backend=backend, model_kwargs={"dtype": "float32"}))
    assert encoder.backend_name == f"{backend}-float32"
    assert encoder.facts == tiny_encoder.facts
    passages = list(SAMPLE.passages)
    np.testing.assert_allclose(encoder.encode_passages(passages), tiny_encoder.encode_passages(passages), atol=1e-4)
    queries = [SAMPLE.questions[0].text] * len(passages)
    options = ReadingOptions(answers_per_seq=1)
    found, expected = (
        [answers[0] for answers in each.read(queries, passages, options)] for each in (encoder, tiny_encoder)
    )
    np.testing.assert_allclose([a.logit for a in found], [a.logit for a in expected], atol=1e-3)
    assert [a.text for a in found] == [a.text for a in expected]


def test_stopping_rules_come_along(exported, tiny_checkpoint, tmp_path):
    checkpoint = Path(shutil.copytree(tiny_checkpoint, tmp_path / "calibrated"))
    (checkpoint / "calibration.json").write_text(json.dumps(STOPPING))
    rules = load_stopping(checkpoint)
    assert set(rules) == {"fast"}
    assert EncoderSpec.create(checkpoint, backend="torch").load().stopping == rules
    assert EncoderSpec.create(exported, backend="onnx").load().stopping == rules
    assert EncoderSpec.create(tiny_checkpoint, backend="torch").load().stopping == {}


def test_torch_need_not_be_there_for_graphs(exported, tiny_encoder):
    code = """
import json, sys
sys.modules["torch"] = sys.modules["transformers"] = None
from rom_haystack.inference import EncoderSpec
encoder = EncoderSpec.create(sys.argv[1]).load()
answers = encoder.read(["What is it?"], [sys.argv[2]])[0]
print(json.dumps([encoder.backend_name, encoder.encode_queries(["What is it?"]).tolist(), answers[0].logit]))
"""
    passage = SAMPLE.passages[0]
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported), passage],
        env={**os.environ, "ROM_BACKEND": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, vectors, logit = json.loads(done.stdout)
    assert name.startswith("openvino-")
    np.testing.assert_allclose(vectors, tiny_encoder.encode_queries(["What is it?"]), atol=0.02)  # perhaps in bfloat16
    assert logit == pytest.approx(tiny_encoder.read(["What is it?"], [passage])[0][0].logit, abs=0.5)


def test_importing_the_registry_imports_no_torch():
    code = (
        "import sys, rom_haystack.inference.registry; print({'torch', 'transformers', 'haystack'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


class TestExporting:
    @pytest.fixture
    def exports(self, exported, monkeypatch) -> list[tuple[Path, Path, str, bool]]:
        """What was asked of the exporter; it puts down a graph that was made before."""
        asked = []

        def export_graph(checkpoint, folder, backend, *, int8=False):
            asked.append((checkpoint, folder, backend, int8))
            shutil.copytree(exported, folder, dirs_exist_ok=True)
            if int8:
                for path in list(folder.glob("openvino.*")):
                    path.rename(path.with_stem("openvino-int8"))
            return graph_path(folder, backend, int8=int8)

        monkeypatch.setattr(graphs, "export_graph", export_graph)
        return asked

    def test_a_missing_graph_is_made_once(self, tiny_checkpoint, home, exports, caplog):
        spec = EncoderSpec.create(tiny_checkpoint, backend="onnx")
        with caplog.at_level(logging.INFO, loading.preparation.name):
            spec.load()
            spec.load()
        checkpoint = tiny_checkpoint.resolve()
        assert exports == [(checkpoint, export_place(checkpoint), "onnx", False)]
        assert export_place(checkpoint).is_relative_to(home)
        assert caplog.messages == [f"Exporting {checkpoint} for backend 'onnx', once …"]

    def test_a_cache_that_cannot_be_written_is_explained(self, tiny_checkpoint, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("ROM_HOME", str(tmp_path / "file" / "home"))
        with pytest.raises(CheckpointError, match=r"can't be written to .*Set ROM_HOME to a writable folder"):
            EncoderSpec.create(tiny_checkpoint, backend="onnx").load()

    def test_a_quantised_graph_is_another_one(self, tiny_checkpoint, home, exports):
        spec = EncoderSpec.create(tiny_checkpoint, backend="openvino", model_kwargs={"dtype": "int8"})
        assert spec.load().backend_name == "openvino-int8"
        assert [asked[2:] for asked in exports] == [("openvino", True)]

    def test_graphs_beside_the_weights_are_used(self, exported, tiny_checkpoint, home, tmp_path):
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "both"))
        graphs.export_graph(folder, folder, "onnx")
        assert EncoderSpec.create(folder, backend="onnx").load().backend_name == "onnx-float32"
        assert EncoderSpec.create(folder, backend="torch").load().backend_name == "torch-float32"
        assert not home.exists()

    def test_what_can_not_be_made_is_explained(self, exported, exports):
        int8 = EncoderSpec.create(exported, backend="openvino", model_kwargs={"dtype": "int8"})
        with pytest.raises(CheckpointError, match=r"no openvino-int8\.xml .* and no weights to make it from"):
            int8.load()
        with pytest.raises(CheckpointError, match="holds no weights for backend 'torch'"):
            EncoderSpec.create(exported, backend="torch").load()
        assert exports == []


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_an_engine_that_is_not_installed_is_named(exported, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'rom-haystack\[{backend}\]'"):
        load_exported(exported, backend, "float32")
    assert has_graph(exported, backend, int8=False)
