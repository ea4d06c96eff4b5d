"""What an export leaves in its folder, when it is made anew, and several at once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.export import graph
from rom_haystack.inference.export.folder import fingerprint, has_graph, is_made_from, load_facts
from rom_haystack.inference.export.graph import export_graph
from rom_haystack.modeling import load_checkpoint


class TestFolder:
    def test_a_folder_holds_what_inference_needs_and_nothing_else(self, exported, tiny_checkpoint):
        assert {path.name for path in exported.iterdir()} == {
            ".lock",
            "config.json",
            "facts.json",
            "model.onnx",
            "model.onnx.data",
            "openvino.bin",
            "openvino.xml",
            "tokenizer.json",
        }
        assert (exported / "config.json").read_bytes() == (tiny_checkpoint / "config.json").read_bytes()
        assert is_made_from(exported, fingerprint(tiny_checkpoint))

    def test_calibrated_stopping_goes_with_the_graphs(self, checkpoint, tmp_path):
        (checkpoint / "calibration.json").write_text('{"stopping": {}}')
        export_graph(checkpoint, tmp_path / "export", "onnx")
        assert (tmp_path / "export" / "calibration.json").read_text() == '{"stopping": {}}'

    def test_a_checkpoint_can_be_exported_into_its_own_folder(self, checkpoint):
        files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
        export_graph(checkpoint, checkpoint, "onnx")
        assert has_graph(checkpoint, "onnx", int8=False)
        assert load_facts(checkpoint).max_length == 512
        for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
            assert (checkpoint / name).read_bytes() == files[name]
        load_checkpoint(checkpoint)

    def test_a_graph_that_is_there_is_not_made_again(self, tiny_checkpoint, export, monkeypatch):
        monkeypatch.setattr(graph, "load_checkpoint", None)
        path = export_graph(tiny_checkpoint, export, "openvino")
        assert path == export / "openvino.xml"

    def test_a_changed_checkpoint_is_exported_anew_and_its_old_graphs_go(self, checkpoint, export):
        weights = load_file(checkpoint / "model.safetensors")
        weights["heads.reading.relevance.bias"] += 5
        save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
        before = ONNXBackend(export / "model.onnx", load_facts(export), dtype="float32")
        export_graph(checkpoint, export, "onnx")
        after = ONNXBackend(export / "model.onnx", load_facts(export), dtype="float32")
        assert not has_graph(export, "openvino", int8=False)
        assert not (export / "openvino.bin").exists()
        tokens = TokenIds(np.arange(5, 12), np.zeros(7, dtype=np.int64))
        difference = [b.run([tokens], "reading")[0]["relevance_logits"] for b in (before, after)]
        assert difference[1] - difference[0] == pytest.approx(5, abs=1e-4)

    def test_several_at_once_export_once(self, checkpoint, tmp_path, monkeypatch):
        made = []
        write = graph._write_onnx
        monkeypatch.setattr(graph, "_write_onnx", lambda *args: made.append(args) or write(*args))
        with ThreadPoolExecutor(4) as threads:
            paths = list(threads.map(lambda _: export_graph(checkpoint, tmp_path / "export", "onnx"), range(4)))
        assert paths == [tmp_path / "export" / "model.onnx"] * 4
        assert len(made) == 1

    def test_another_process_is_waited_for(self, tiny_checkpoint, export, tmp_path):
        """A process that holds the folder's lock is exporting; who comes meanwhile finds its graph."""
        script = (
            "import sys; from pathlib import Path; from filelock import FileLock\n"
            f"folder = Path({str(export)!r})\n"
            "with FileLock(folder / '.lock'):\n"
            "    print('locked', flush=True); sys.stdin.readline(); (folder / 'hidden').rename(folder / 'model.onnx')\n"
        )
        (export / "model.onnx").rename(export / "hidden")
        other = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "locked\n"
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(export_graph, tiny_checkpoint, export, "onnx")
            inode = (export / "hidden").stat().st_ino
            other.communicate("go\n")
            assert waiting.result().stat().st_ino == inode

    def test_what_a_killed_export_left_goes(self, checkpoint, tmp_path):
        (tmp_path / "export" / ".export").mkdir(parents=True)
        (tmp_path / "export" / ".export" / "model.onnx.data").write_bytes(b"half")
        export_graph(checkpoint, tmp_path / "export", "onnx")
        assert not (tmp_path / "export" / ".export").exists()
