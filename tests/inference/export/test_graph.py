"""Exporting checkpoints: every family's graph gives torch's outputs, and a folder is never left half made."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.backends.openvino import OpenVINOBackend
from rom_haystack.inference.export import checks, graph, packages
from rom_haystack.inference.export.folder import (
    fingerprint,
    graph_path,
    has_graph,
    is_made_from,
    load_facts,
    weights_path,
)
from rom_haystack.inference.export.graph import export_graph
from rom_haystack.inference.export.int8 import calibration_inputs
from rom_haystack.inference.facts import facts_of
from rom_haystack.inference.untracked import import_untracked
from rom_haystack.modeling import CheckpointError, ROMConfig, ROMModel, load_checkpoint

READING = ("start_logits", "end_logits", "relevance_logits")


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint's ONNX graph, and the OpenVINO one made from it."""
    folder = tmp_path_factory.mktemp("exports") / "tiny"
    export_graph(tiny_checkpoint, folder, "onnx")
    export_graph(tiny_checkpoint, folder, "openvino")
    return folder


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))


@pytest.fixture
def export(exported: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint's export."""
    return Path(shutil.copytree(exported, tmp_path / "export"))


def batch(model: ROMModel, pad_token_id: int, *lengths: int) -> dict[str, np.ndarray]:
    """Random inputs of these lengths, padded to the longest."""
    random = np.random.default_rng(len(lengths))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = random.integers(5, model.get_input_embeddings().num_embeddings, mask.shape)
    inputs = {"input_ids": np.where(mask, ids, pad_token_id), "attention_mask": mask}
    if model.uses_token_types:
        inputs["token_type_ids"] = mask * (np.arange(mask.shape[1]) > mask.shape[1] // 2)
    return inputs


def of_torch(model: ROMModel, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's own outputs, by their names in a graph."""
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    with torch.inference_mode():
        reading = model(**tensors, head="reading")
        vector = model(**tensors, head="retrieval")["embedding"]
    return {"vector": vector.numpy(), **{name: reading[name].numpy() for name in READING}}


def engines(folder: Path) -> dict[str, object]:
    """Run the graphs of a folder as they are: inputs to outputs by name."""
    session = import_untracked("onnxruntime").InferenceSession(graph_path(folder, "onnx", int8=False))
    names = [output.name for output in session.get_outputs()]
    compiled = (
        import_untracked("openvino")
        .Core()
        .compile_model(graph_path(folder, "openvino", int8=False), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
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


def test_exports_and_engines_contact_nobody_and_say_nothing(checkpoint, tmp_path):
    """In a process of its own, as on a user's machine: engines hold back their telemetry in tests by themselves."""
    script = """
import sys
attempts = []
watched = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request")
sys.addaudithook(lambda event, args: attempts.append(event) if event in watched else None)
from pathlib import Path
import numpy as np
from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.backends.openvino import OpenVINOBackend
from rom_haystack.inference.export.folder import load_facts
from rom_haystack.inference.export.graph import export_graph
checkpoint, folder, report = map(Path, sys.argv[1:])
tokens = TokenIds(np.arange(5, 25), np.zeros(20, dtype=np.int64))
for backend, kind in (("onnx", ONNXBackend), ("openvino", OpenVINOBackend)):
    for int8 in (False, True):
        pairs = [("Who was here in 1815?", "Ada was here. " * n) for n in (1, 5, 20)]
        graph = export_graph(checkpoint, folder, backend, int8=int8, calibration=pairs)
        kind(graph, load_facts(folder), dtype="int8" if int8 else "float32").run([tokens], "reading")
report.write_text(f"{attempts} {'openvino_telemetry' in sys.modules}")
"""
    home = tmp_path / "home"
    home.mkdir()
    report = tmp_path / "report"
    held_back = ("CI", "GITHUB_ACTIONS", "NNCF_CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    result = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint), str(tmp_path / "export"), str(report)],
        env={name: value for name, value in os.environ.items() if name not in held_back} | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert report.read_text() == "[] False"
    assert result.stdout == ""
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_calibration_shows_all_three_forms(tiny_checkpoint):
    model, tokenizer = load_checkpoint(tiny_checkpoint)
    facts = facts_of(model, tokenizer)
    query, passage, pair = calibration_inputs(tokenizer, facts, [("Who was Ada?", "Ada " * 600)])
    assert query["input_ids"].shape == (1, len(tokenizer("Who was Ada?")["input_ids"]))
    assert passage["input_ids"].shape == (1, 384)
    assert pair["input_ids"].shape == (1, 384)
    assert (passage["token_type_ids"].max(), pair["token_type_ids"].max()) == (0, 1)
    assert all(inputs["attention_mask"].all() for inputs in (query, passage, pair))
