"""Finding checkpoints, and what is said when there is none; nothing here loads weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from rom_haystack.modeling import CheckpointError, ROMConfig, places, resolve_checkpoint


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path) -> Path:
    """A copy of the tiny checkpoint, to be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "damaged"))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def error_of(model, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint(model, **options)
    return str(caught.value)


@pytest.mark.usefixtures("no_hub")
class TestNoCheckpoints:
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

    def test_a_folder_of_exported_graphs_is_a_checkpoint(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        (checkpoint / "facts.json").write_text("{}", encoding="utf-8")
        assert resolve_checkpoint(checkpoint) == checkpoint
        change_config(checkpoint, model_type="bert")
        assert f"{checkpoint} is no ROM checkpoint" in error_of(checkpoint)


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
        monkeypatch.setattr(places, "_BUNDLED", tmp_path / "bundled")
        monkeypatch.chdir(tmp_path)
        assert resolve_checkpoint("rom-small") == tmp_path / "bundled" / "rom-small"
        assert "no config.json" in error_of("./rom-small")

    def test_parent_folder_is_no_bundled_name(self, tiny_checkpoint, tmp_path, monkeypatch):
        copy = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
        (copy / "below").mkdir()
        monkeypatch.chdir(copy / "below")
        assert resolve_checkpoint("..") == copy.resolve()

    @pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/x"])
    def test_impossible_paths(self, name):
        assert f"'{name}' can't be looked up: " in error_of(name)


class TestHub:
    @pytest.mark.parametrize("name", ["nobody/nothing", "no-such-name", "/no/such/folder", "a b c"])
    def test_missing_everywhere(self, name, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(places, "_BUNDLED", tmp_path / "bundled")
        message = error_of(name)
        assert f"No checkpoint '{name}'" in message
        assert "no such folder" in message

    def test_message_lists_what_is_bundled(self, tmp_path, monkeypatch):
        (tmp_path / "rom-a").mkdir()
        (tmp_path / "rom-b").mkdir()
        monkeypatch.setattr(places, "_BUNDLED", tmp_path)
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
        once = [("someone/rom", True, "v2", "secret"), ("someone/rom", False, "v2", "secret")]
        assert asked == 2 * once  # its settings, then the rest

    @pytest.mark.parametrize("weights", [True, False])
    def test_an_interrupted_download_goes_on(self, tiny_checkpoint, tmp_path, monkeypatch, weights):
        shutil.copy(tiny_checkpoint / "config.json", tmp_path)
        if weights:
            shutil.copy(tiny_checkpoint / "model.safetensors", tmp_path)
        asked = []

        def download(name, *, local_files_only=False, **options):
            asked.append(local_files_only)
            if not local_files_only:
                shutil.copy(tiny_checkpoint / "model.safetensors", tmp_path)
            return str(tmp_path)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        assert resolve_checkpoint("someone/rom") == tmp_path
        assert asked == [True, weights]

    def test_downloads_weights_and_graphs_but_no_pickles(self, tiny_checkpoint, monkeypatch):
        patterns = []

        def download(name, *, allow_patterns, **options):
            patterns.extend(allow_patterns)
            return str(tiny_checkpoint)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        resolve_checkpoint("someone/rom")
        wanted = ["config.json", "facts.json", "tokenizer.json", "vocab.txt", "spiece.model", "model.safetensors"]
        wanted += ["model.onnx", "model-int8.onnx.data", "openvino.xml", "openvino.bin", "openvino-int8.bin"]
        unwanted = ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pkl", "rng_state.pth", "model.h5"]
        assert list(filter_repo_objects(wanted + unwanted, allow_patterns=patterns)) == wanted

    def test_another_model_is_refused_by_its_settings(self, tmp_path, monkeypatch):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
        patterns = []

        def download(name, *, allow_patterns, **options):
            patterns.append(allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        assert "names the model type 'bert'" in error_of("someone/bert")
        assert patterns == [["*.json"]]


def test_the_names_in_a_config_are_the_models_own(tmp_path):
    ROMConfig().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["format_version"]) == (places.MODEL_TYPE, places.FORMAT_VERSION) == ("rom", 1)
