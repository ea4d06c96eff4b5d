"""Every family's graph gives torch's outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.export.folder import graph_path, load_facts
from rom_haystack.inference.export.graph import export_graph
from rom_haystack.inference.openvino_core import openvino_core
from rom_haystack.inference.untracked import import_untracked
from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint

from .conftest import batch, of_torch


def engines(folder: Path) -> dict[str, object]:
    """Run the graphs of a folder as they are: inputs to outputs by name."""
    session = import_untracked("onnxruntime").InferenceSession(graph_path(folder, "onnx", int8=False))
    names = [output.name for output in session.get_outputs()]
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(graph_path(folder, "openvino", int8=False), "CPU", precision)
    return {
        "onnx": lambda inputs: dict(zip(names, session.run(None, inputs), strict=True)),
        "openvino": lambda inputs: {output.any_name: array for output, array in compiled(inputs).items()},
    }


def assert_same_outputs(folder: Path, model: ROMModel, *, longest: int) -> None:
    """Compare a folder's graphs with torch, for several batches of several lengths."""
    pad_token_id = load_facts(folder).pad_token_id
    for lengths in ([1], [2], [longest], [9, 9], [longest, 2, 17], [3, 40, 33, 40, 5]):
        inputs = batch(model, pad_token_id, *lengths)
        expected = of_torch(model, inputs)
        for engine, run in engines(folder).items():
            found = run(inputs)
            assert found.keys() == expected.keys(), engine
            for name, array in expected.items():
                real = inputs["attention_mask"] > 0 if array.shape == inputs["attention_mask"].shape else ...
                np.testing.assert_allclose(
                    found[name][real], array[real], atol=1e-4, rtol=1e-4, err_msg=f"{engine} {name} {lengths}"
                )


class TestOutputs:
    def test_graphs_give_torchs_outputs_for_any_batch_and_length(self, exported, tiny_model):
        assert_same_outputs(exported, tiny_model, longest=512)

    def test_every_family_of_encoders_is_exported(self, family, encoder_folder, tmp_path):
        model = ROMModel.from_encoder(str(encoder_folder)).eval()
        model.save_pretrained(tmp_path / "rom")
        family.tokenizer.save_pretrained(tmp_path / "rom")
        for backend in ("onnx", "openvino"):
            export_graph(tmp_path / "rom", tmp_path / "export", backend)
        assert load_facts(tmp_path / "export").max_length == 64
        assert_same_outputs(tmp_path / "export", model, longest=64)

    def test_a_model_without_reading_has_a_graph_without_it(self, tiny_model, tiny_tokenizer, tmp_path):
        heads = {"retrieval": {"pooling": "cls", "projection_dim": 8, "similarity": "dot"}, "masked_lm": {}}
        torch.manual_seed(5)
        model = ROMModel(ROMConfig(encoder=tiny_model.config.encoder, heads=heads)).eval()
        model.save_pretrained(tmp_path / "rom")
        tiny_tokenizer.save_pretrained(tmp_path / "rom")
        path = export_graph(tmp_path / "rom", tmp_path / "export", "onnx")
        backend = ONNXBackend(path, load_facts(tmp_path / "export"), dtype="float32")
        (outputs,) = backend.run([TokenIds(np.arange(5, 12), np.zeros(7, dtype=np.int64))], "retrieval")
        with torch.inference_mode():
            expected = model(torch.arange(5, 12)[None], torch.ones(1, 7, dtype=torch.int64), head="retrieval")
        np.testing.assert_allclose(outputs["embedding"], expected["embedding"][0], atol=1e-4)
        with pytest.raises(KeyError, match="no head 'reading', only: retrieval"):
            backend.run([], "reading")

    def test_weights_are_halved_only_where_nothing_is_lost(self, checkpoint, export, tmp_path):
        weights = load_file(checkpoint / "model.safetensors")
        save_file({name: w.half() for name, w in weights.items()}, checkpoint / "model.safetensors", {"format": "pt"})
        halved = export_graph(checkpoint, tmp_path / "half", "openvino").with_suffix(".bin")
        full = graph_path(export, "openvino", int8=False).with_suffix(".bin")
        assert halved.stat().st_size < 0.6 * full.stat().st_size
        model, _ = load_checkpoint(checkpoint)
        export_graph(checkpoint, tmp_path / "half", "onnx")
        assert_same_outputs(tmp_path / "half", model, longest=512)
