"""Exports that fail say why, and leave no folder half made."""

from __future__ import annotations

import copy
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from rom_haystack.inference.export import checks, graph, packages
from rom_haystack.inference.export.folder import has_graph
from rom_haystack.inference.export.graph import export_graph
from rom_haystack.modeling import CheckpointError

from .conftest import batch


class TestErrors:
    def test_another_model_is_not_overwritten(self, checkpoint, tiny_checkpoint, tmp_path):
        other = Path(shutil.copytree(tiny_checkpoint, tmp_path / "other"))
        before = {path.name: path.read_bytes() for path in other.iterdir()}
        with pytest.raises(CheckpointError, match=r"holds another model.*choose an empty folder"):
            export_graph(checkpoint, other, "onnx")
        assert {path.name: path.read_bytes() for path in other.iterdir()} == before

    def test_a_head_that_says_nothing_is_no_difference(self, tiny_model, tiny_tokenizer, tmp_path):
        silent = copy.deepcopy(tiny_model)
        for parameter in silent.heads["reading"].relevance.parameters():
            torch.nn.init.zeros_(parameter)
        silent.save_pretrained(tmp_path / "silent")
        tiny_tokenizer.save_pretrained(tmp_path / "silent")
        assert export_graph(tmp_path / "silent", tmp_path / "export", "onnx").exists()

    def test_a_graph_that_differs_from_torch_is_not_kept(self, checkpoint, tmp_path, monkeypatch):
        forward = graph._AllHeads.forward

        def skewed(self, input_ids, attention_mask, token_type_ids):
            vector, *reading = forward(self, input_ids, attention_mask, token_type_ids)
            return vector * 1.1, *reading

        monkeypatch.setattr(graph._AllHeads, "forward", skewed)
        with pytest.raises(
            CheckpointError, match=r"graph's vector differ from torch's by 1.0e-01 .*; 1e-03 is allowed"
        ):
            export_graph(checkpoint, tmp_path / "export", "onnx")
        assert [path.name for path in (tmp_path / "export").iterdir()] == [".lock"]

    def test_an_output_is_judged_by_its_magnitude_in_all_inputs(self, tiny_model):
        batches = [batch(tiny_model, 0, length) for length in (1, 20)]
        outputs = [checks._torch_outputs(tiny_model, inputs) for inputs in batches]
        name = "relevance_logits"
        magnitude = max(1.0, *(float(np.abs(found[name]).max()) for found in outputs))
        for part, message in (
            (0.4, None),
            (0.6, r"differ from torch's by 6.0e-01"),
            (np.nan, "differ from torch's by inf"),
        ):
            skewed = iter([{**outputs[0], name: outputs[0][name] + part * magnitude}, outputs[1]])
            with pytest.raises(CheckpointError, match=message) if message else nullcontext():
                checks._compare(lambda _, skewed=skewed: next(skewed), tiny_model, batches, tolerance=0.5)

    def test_a_graph_that_its_engine_refuses_is_not_kept(self, checkpoint, export, monkeypatch):
        (export / "openvino.xml").unlink()

        def refuse(graph: Path) -> checks.Engine:
            raise RuntimeError("unsupported operator")

        monkeypatch.setattr(checks, "_openvino_engine", refuse)
        with pytest.raises(CheckpointError, match="can't be run: unsupported operator"):
            export_graph(checkpoint, export, "openvino")
        assert not (export / "openvino.xml").exists()
        assert has_graph(export, "onnx", int8=False)

    def test_an_encoder_that_no_graph_can_hold_is_named(self, checkpoint, tmp_path, monkeypatch):
        forward = graph._AllHeads.forward

        def branching(self, input_ids, attention_mask, token_type_ids):
            if input_ids.sum() > 100:  # depends on values, which a graph can't
                input_ids = input_ids + 1
            return forward(self, input_ids, attention_mask, token_type_ids)

        monkeypatch.setattr(graph._AllHeads, "forward", branching)
        with pytest.raises(
            CheckpointError, match=r"'bert' can't be written as a graph.*backend='torch'.*data-dependent"
        ):
            export_graph(checkpoint, tmp_path / "export", "onnx")
        assert [path.name for path in (tmp_path / "export").iterdir()] == [".lock"]

    def test_a_folder_that_is_no_checkpoint_is_an_error(self, tmp_path):
        with pytest.raises(CheckpointError, match="no ROM checkpoint"):
            export_graph(tmp_path, tmp_path / "export", "onnx")
        assert not (tmp_path / "export").exists()

    @pytest.mark.parametrize(
        ("backend", "int8", "extra"),
        [("onnx", False, "onnx"), ("openvino", False, "openvino"), ("openvino", True, "openvino,int8")],
    )
    def test_missing_packages_are_named(self, checkpoint, tmp_path, monkeypatch, backend, int8, extra):
        monkeypatch.setattr(packages, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=rf"needs onnx, onnxscript.*pip install 'rom-haystack\[{extra}\]'"):
            export_graph(checkpoint, tmp_path / "export", backend, int8=int8)
        assert not (tmp_path / "export").exists()

    def test_a_folder_that_cannot_be_made_is_an_error(self, checkpoint, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="file"):
            export_graph(checkpoint, tmp_path / "file" / "export", "onnx")
