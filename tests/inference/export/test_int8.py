"""Quantised graphs, and the texts they are calibrated with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.backends.openvino import OpenVINOBackend
from rom_haystack.inference.export.folder import graph_path, load_facts, weights_path
from rom_haystack.inference.export.graph import export_graph
from rom_haystack.inference.export.int8 import calibration_inputs
from rom_haystack.inference.facts import facts_of
from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint

from .conftest import batch, of_torch


class TestInt8:
    @pytest.fixture(scope="class")
    def wide_model(self, tiny_tokenizer) -> ROMModel:
        """One layer as wide as the bundled checkpoint's: some kernels are chosen by width."""
        sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12, "num_hidden_layers": 1}
        encoder = AutoConfig.for_model("bert", vocab_size=len(tiny_tokenizer), initializer_range=0.05, **sizes)
        torch.manual_seed(3)
        return ROMModel(ROMConfig(encoder=encoder)).eval()

    @pytest.mark.parametrize(("backend", "kind"), [("openvino", OpenVINOBackend), ("onnx", ONNXBackend)])
    def test_a_quantised_graph_is_small_and_near(self, wide_model, tiny_tokenizer, tmp_path, backend, kind):
        wide_model.save_pretrained(tmp_path / "rom")
        tiny_tokenizer.save_pretrained(tmp_path / "rom")
        paths = [export_graph(tmp_path / "rom", tmp_path / "export", backend, int8=int8) for int8 in (True, False)]
        assert paths[0] == graph_path(tmp_path / "export", backend, int8=True)
        sizes = [weights_path(path).stat().st_size for path in paths]
        assert sizes[0] < 0.5 * sizes[1]
        engine = kind(paths[0], load_facts(tmp_path / "export"), dtype="int8")
        assert engine.name == f"{backend}-int8"
        for length in (12, 31, 32, 33, 200):  # OpenVINO was wrong at 32 with bfloat16 beside int8
            inputs = batch(wide_model, 0, length)
            tokens = TokenIds(inputs["input_ids"][0], inputs["token_type_ids"][0])
            (embedding,), (reading,) = engine.run([tokens], "retrieval"), engine.run([tokens], "reading")
            expected = of_torch(wide_model, inputs)
            assert embedding["embedding"] @ expected["vector"][0] > 0.995
            for name in ("start_logits", "end_logits"):
                assert np.corrcoef(reading[name], expected[name][0])[0, 1] > 0.99

    def test_calibration_texts_make_a_graph_anew(self, tiny_checkpoint, export):
        first = export_graph(tiny_checkpoint, export, "openvino", int8=True, calibration=[("Who?", "Ada.")])
        made = weights_path(first).read_bytes(), first.read_bytes()
        second = export_graph(tiny_checkpoint, export, "openvino", int8=True, calibration=[("When?", "In 1815 " * 99)])
        assert (weights_path(second).read_bytes(), second.read_bytes()) != made


def test_calibration_shows_all_three_forms(tiny_checkpoint):
    model, tokenizer = load_checkpoint(tiny_checkpoint)
    facts = facts_of(model, tokenizer)
    query, passage, pair = calibration_inputs(tokenizer, facts, [("Who was Ada?", "Ada " * 600)])
    assert query["input_ids"].shape == (1, len(tokenizer("Who was Ada?")["input_ids"]))
    assert passage["input_ids"].shape == (1, 384)
    assert pair["input_ids"].shape == (1, 384)
    assert (passage["token_type_ids"].max(), pair["token_type_ids"].max()) == (0, 1)
    assert all(inputs["attention_mask"].all() for inputs in (query, passage, pair))
