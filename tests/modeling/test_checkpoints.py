"""Loading and writing checkpoints, and what is said when that is not possible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from rom_haystack.modeling import (
    CheckpointError,
    ROMConfig,
    ROMModel,
    load_checkpoint,
    save_release,
)


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path) -> Path:
    """A copy of the tiny checkpoint, to be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "damaged"))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def error_of(model, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(model, **options)
    return str(caught.value)


@pytest.mark.usefixtures("no_hub")
class TestDamagedFolders:
    @pytest.mark.parametrize("kept", [0, 5, 1000, -1])
    def test_truncated_weights(self, checkpoint, kept):
        path = checkpoint / "model.safetensors"
        path.write_bytes(path.read_bytes()[:kept])
        message = error_of(checkpoint)
        assert f"The checkpoint in {checkpoint} can't be loaded; is a file damaged?" in message

    def test_missing_weight(self, checkpoint):
        change_weights(checkpoint, lambda weights: weights.pop("heads.reading.span.bias"))
        message = error_of(checkpoint)
        assert f"The weights in {checkpoint} do not fit its config.json" in message
        assert "heads.reading.span.bias" in message

    def test_wrong_shape(self, checkpoint):
        change_weights(checkpoint, lambda weights: weights.update({"heads.reading.span.bias": torch.zeros(3)}))
        message = error_of(checkpoint)
        assert str(checkpoint) in message
        assert "heads.reading.span.bias" in message

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_weights_that_are_no_numbers(self, checkpoint, value):
        def spoil(weights):
            weights["heads.reading.span.weight"][1, 3] = value

        change_weights(checkpoint, spoil)
        assert error_of(checkpoint) == (
            f"The weights in {checkpoint} hold NaN or infinite values, first in 'heads.reading.span.weight'."
        )

    def test_an_exported_graph_alone(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        (checkpoint / "facts.json").write_text("{}", encoding="utf-8")
        message = error_of(checkpoint)
        assert f"{checkpoint} holds an exported graph only" in message
        assert 'backend="openvino" or backend="onnx"' in message

    def test_what_is_no_checkpoint_at_all(self, checkpoint):
        change_config(checkpoint, model_type="bert")
        assert f"{checkpoint} is no ROM checkpoint" in error_of(checkpoint)

    def test_unknown_head(self, checkpoint):
        change_config(checkpoint, heads={"retrieval": {}, "summary": {}})
        assert "Unknown head 'summary'" in error_of(checkpoint)

    def test_unknown_encoder(self, checkpoint):
        change_config(checkpoint, encoder={"model_type": "no-such-encoder"})
        message = error_of(checkpoint)
        assert str(checkpoint) in message
        assert "no-such-encoder" in message

    def test_no_tokenizer(self, checkpoint):
        for path in checkpoint.glob("tokenizer*"):
            path.unlink()
        assert f"The checkpoint in {checkpoint} can't be loaded" in error_of(checkpoint)


@pytest.mark.usefixtures("no_hub")
class TestLoading:
    def test_loaded_model_is_ready_for_inference(self, tiny_checkpoint, tiny_model):
        model, tokenizer = load_checkpoint(tiny_checkpoint)
        assert not any(module.training for module in model.modules())
        assert model.dtype == torch.float32
        assert tokenizer.is_fast
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny_model.parameters(), strict=True))

    def test_dtype_and_further_options_reach_the_loaders(self, tiny_checkpoint):
        model, tokenizer = load_checkpoint(
            tiny_checkpoint,
            dtype=torch.bfloat16,
            model_kwargs={"attn_implementation": "eager"},
            tokenizer_kwargs={"model_max_length": 77},
        )
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert model.encoder.config._attn_implementation == "eager"
        assert tokenizer.model_max_length == 77


def test_a_hub_id_is_looked_up_as_asked_for(tiny_checkpoint, monkeypatch):
    asked = []

    def download(name, *, local_files_only=False, **options):
        asked.append((name, local_files_only, options["revision"], options["token"]))
        return str(tiny_checkpoint)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model, _ = load_checkpoint("someone/rom-tiny", revision="v2", token="secret", local_files_only=True)
    assert model.config.model_type == "rom"
    assert set(asked) == {("someone/rom-tiny", True, "v2", "secret")}


class TestRelease:
    def test_half_the_size_and_no_pickles(self, tiny_model, tiny_tokenizer, tiny_checkpoint, tmp_path):
        save_release(tiny_model, tiny_tokenizer, tmp_path)
        assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".txt"}
        weights = load_file(tmp_path / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
        full, half = ((folder / "model.safetensors").stat().st_size for folder in (tiny_checkpoint, tmp_path))
        assert half == pytest.approx(full / 2, rel=0.05)

    def test_the_tokenizer_neither_cuts_nor_pads(self, tiny_model, tiny_tokenizer, tmp_path):
        tiny_tokenizer(["Nile", "The Nile flows north."], truncation=True, max_length=4, padding=True)
        save_release(tiny_model, tiny_tokenizer, tmp_path)
        saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
        assert saved["truncation"] is saved["padding"] is None
        assert tiny_tokenizer.backend_tokenizer.truncation is not None

    def test_loads_in_single_precision(self, tiny_model, tiny_tokenizer, tmp_path):
        save_release(tiny_model, tiny_tokenizer, tmp_path)
        loaded, _ = load_checkpoint(tmp_path)
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
        for got, expected in zip(loaded.parameters(), tiny_model.parameters(), strict=True):
            assert torch.equal(got, expected.to(torch.float16).to(torch.float32))

    def test_leaves_the_model_as_it_was(self, tiny_model, tiny_tokenizer, tmp_path):
        before = [parameter.clone() for parameter in tiny_model.parameters()]
        save_release(tiny_model, tiny_tokenizer, tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(before, tiny_model.parameters(), strict=True))
        assert tiny_model.dtype == torch.float32

    def test_records_the_format_version(self, tmp_path):
        ROMConfig().save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["format_version"] == 1


def test_old_checkpoint_class_is_found_by_name(tiny_checkpoint):
    config = json.loads((tiny_checkpoint / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [ROMModel.__name__]
