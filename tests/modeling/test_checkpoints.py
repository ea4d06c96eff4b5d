"""Finding, loading and writing checkpoints, and what is said when that is not possible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from rom_haystack.modeling import (
    CheckpointError,
    ROMConfig,
    ROMModel,
    checkpoints,
    load_checkpoint,
    resolve_checkpoint,
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
    def test_a_file(self, checkpoint):
        path = checkpoint / "config.json"
        assert error_of(path) == f"'{path}' is a file; a ROM checkpoint is a folder with config.json and weights."

    def test_no_config(self, checkpoint):
        (checkpoint / "config.json").unlink()
        assert error_of(checkpoint) == f"{checkpoint} is no ROM checkpoint: it has no config.json."

    @pytest.mark.parametrize("content", [b'{"model_type": "rom"', b"\xff\xfe\x00"], ids=["cut", "binary"])
    def test_broken_json(self, checkpoint, content):
        (checkpoint / "config.json").write_bytes(content)
        assert error_of(checkpoint).startswith(f"{checkpoint / 'config.json'} can't be read: ")

    @pytest.mark.parametrize("content", [{"model_type": "bert"}, {}, ["rom"]])
    def test_another_model(self, checkpoint, content):
        (checkpoint / "config.json").write_text(json.dumps(content), encoding="utf-8")
        message = error_of(checkpoint)
        assert f"{checkpoint} is no ROM checkpoint" in message
        assert ("'bert'" if content == {"model_type": "bert"} else "'None'") in message
        assert "ROMModel.from_encoder" in message

    @pytest.mark.parametrize("version", [2, 99, "1.5"])
    def test_newer_format(self, checkpoint, version):
        change_config(checkpoint, format_version=version)
        message = error_of(checkpoint)
        assert f"{checkpoint} has checkpoint format version {version}" in message
        assert "reads up to 1. Update rom-haystack." in message

    def test_no_weights(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        assert error_of(checkpoint) == f"{checkpoint} holds no weights (*.safetensors)."

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
class TestLocalNames:
    def test_folder_as_path_and_as_text(self, tiny_checkpoint):
        assert resolve_checkpoint(tiny_checkpoint) == tiny_checkpoint.resolve()
        assert resolve_checkpoint(str(tiny_checkpoint)) == tiny_checkpoint.resolve()

    def test_relative_folder_and_home(self, tiny_checkpoint, monkeypatch):
        monkeypatch.chdir(tiny_checkpoint.parent)
        monkeypatch.setenv("HOME", str(tiny_checkpoint.parent))
        assert resolve_checkpoint(f"./{tiny_checkpoint.name}") == tiny_checkpoint.resolve()
        assert resolve_checkpoint(f"~/{tiny_checkpoint.name}") == tiny_checkpoint.resolve()
        monkeypatch.chdir(tiny_checkpoint)
        assert resolve_checkpoint(".") == tiny_checkpoint.resolve()

    def test_bundled_name_comes_before_a_folder_of_that_name(self, tiny_checkpoint, tmp_path, monkeypatch):
        shutil.copytree(tiny_checkpoint, tmp_path / "bundled" / "rom-small")
        (tmp_path / "rom-small").mkdir()
        monkeypatch.setattr(checkpoints, "_BUNDLED", tmp_path / "bundled")
        monkeypatch.chdir(tmp_path)
        assert resolve_checkpoint("rom-small") == tmp_path / "bundled" / "rom-small"
        assert "no config.json" in error_of("./rom-small")

    def test_parent_folder_is_no_bundled_name(self, tiny_checkpoint, monkeypatch):
        (tiny_checkpoint / "below").mkdir(exist_ok=True)
        monkeypatch.chdir(tiny_checkpoint / "below")
        assert resolve_checkpoint("..") == tiny_checkpoint.resolve()

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

    @pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/x"])
    def test_impossible_paths(self, name):
        assert f"'{name}' can't be looked up: " in error_of(name)


class TestHub:
    @pytest.mark.parametrize("name", ["nobody/nothing", "no-such-name", "/no/such/folder", "a b c"])
    def test_missing_everywhere(self, name, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(checkpoints, "_BUNDLED", tmp_path / "bundled")
        message = error_of(name)
        assert f"No checkpoint '{name}'" in message
        assert "no such folder" in message

    def test_message_lists_what_is_bundled(self, tmp_path, monkeypatch):
        (tmp_path / "rom-a").mkdir()
        (tmp_path / "rom-b").mkdir()
        monkeypatch.setattr(checkpoints, "_BUNDLED", tmp_path)
        assert "(bundled: rom-a, rom-b)" in error_of("nobody/nothing")

    def test_cached_id_is_taken_from_the_cache(self, tiny_checkpoint, tmp_path, monkeypatch):
        commit = "0123456789" * 4
        repository = tmp_path / "models--someone--rom-tiny"
        snapshot = Path(shutil.copytree(tiny_checkpoint, repository / "snapshots" / commit))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit, encoding="utf-8")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        assert resolve_checkpoint("someone/rom-tiny") == snapshot
        assert resolve_checkpoint("someone/rom-tiny", revision=commit) == snapshot
        assert load_checkpoint("someone/rom-tiny")[0].config.model_type == "rom"
        assert "No checkpoint 'someone/rom-tiny'" in error_of("someone/rom-tiny", revision="other")

    def test_cache_is_asked_first_and_then_the_hub(self, tiny_checkpoint, monkeypatch):
        asked = []

        def download(name, *, local_files_only=False, **options):
            asked.append((name, local_files_only, options["revision"], options["token"]))
            if local_files_only:
                raise LocalEntryNotFoundError("not cached")
            return str(tiny_checkpoint)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        assert resolve_checkpoint("someone/rom", revision="v2", token="secret") == tiny_checkpoint
        assert asked == [("someone/rom", True, "v2", "secret"), ("someone/rom", False, "v2", "secret")]

    def test_downloads_no_pickles(self, tiny_checkpoint, monkeypatch):
        patterns = []

        def download(name, *, allow_patterns, **options):
            patterns.extend(allow_patterns)
            return str(tiny_checkpoint)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        resolve_checkpoint("someone/rom")
        assert set(patterns) == {"*.json", "*.safetensors", "*.txt", "*.model"}


class TestRelease:
    def test_half_the_size_and_no_pickles(self, tiny_model, tiny_tokenizer, tiny_checkpoint, tmp_path):
        save_release(tiny_model, tiny_tokenizer, tmp_path)
        assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".txt"}
        weights = load_file(tmp_path / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
        full, half = ((folder / "model.safetensors").stat().st_size for folder in (tiny_checkpoint, tmp_path))
        assert half == pytest.approx(full / 2, rel=0.05)

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
