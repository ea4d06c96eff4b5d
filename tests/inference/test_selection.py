"""What auto means: by rule, by measurement, and from what was measured before."""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from rom_haystack.inference import EncoderSpec, machine, selection
from rom_haystack.inference.export.folder import export_place, graph_path, weights_path
from rom_haystack.inference.fidelity import Fidelity
from rom_haystack.inference.selection import known_choice
from rom_haystack.modeling import CheckpointError

TRUE = Fidelity(0.9999, 0.9995, 0.99, 0.99, 0.8, 0.9, 0.8, 0.9, 3000.0, 1000.0)
UNTRUE = replace(TRUE, span_agreement=0.9, tokens_per_second=9000.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch) -> Path:
    """An empty cache, and no word from the environment."""
    monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ROM_BACKEND", raising=False)
    selection._announce.cache_clear()
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def installed(monkeypatch) -> set[str]:
    """What is installed, as far as selection can see; add and remove as needed."""
    packages = {"torch", "onnx", "onnxscript", "openvino", "onnxruntime"}
    monkeypatch.setattr(selection, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(selection, "default_dtype", lambda backend: "bfloat16" if backend == "openvino" else "float32")
    return packages


class Engines:
    """Stand-ins for engines: what is measured of each, and what was loaded."""

    def __init__(self):
        self.measured = {"openvino-bfloat16": TRUE, "onnx-float32": replace(TRUE, tokens_per_second=1100.0)}
        self.fail = {}
        self.loads = []
        self.comparisons = 0

    def load(self, spec):
        name = f"{spec.backend}-{spec.dtype}"
        self.loads.append(name)
        if name in self.fail:
            raise self.fail[name]
        return name

    def compare(self, reference, engines, sample):
        assert reference == "torch-float32"
        self.comparisons += len(sample.questions) > 1
        return {spec: self.measured[encoder] for spec, encoder in engines.items()}


@pytest.fixture(autouse=True)
def engines(monkeypatch) -> Engines:
    engines = Engines()
    monkeypatch.setattr(selection, "load_encoder", engines.load)
    monkeypatch.setattr(selection, "compare", engines.compare)
    return engines


@pytest.fixture
def spec(tiny_checkpoint) -> EncoderSpec:
    return EncoderSpec.create(tiny_checkpoint)


def name_of(spec: EncoderSpec) -> str:
    found = spec.resolved()
    return f"{found.backend}-{found.dtype}"


class TestMeasuring:
    def test_the_fastest_faithful_engine_is_chosen(self, spec, engines, home):
        assert name_of(spec) == "openvino-bfloat16"
        engines.measured["onnx-float32"] = replace(TRUE, tokens_per_second=3001.0)
        (record,) = home.glob("exports/*/selection.json")
        record.unlink()
        assert name_of(spec) == "onnx-float32"

    @pytest.mark.parametrize(
        "measured", [UNTRUE, replace(TRUE, cosine_mean=0.99), replace(TRUE, tokens_per_second=999)]
    )
    def test_torch_where_none_is_both_faithful_and_faster(self, spec, engines, measured):
        engines.measured = dict.fromkeys(engines.measured, measured)
        assert name_of(spec) == "torch-float32"
        reason = known_choice(spec).reason
        assert f"openvino-bfloat16 is {measured.speedup:.1f} times as fast" in reason
        assert f"same answer in {measured.span_agreement:.1%}" in reason

    def test_measured_once_then_looked_up(self, spec, engines):
        assert known_choice(spec) is None
        first = spec.resolved()
        assert engines.comparisons == 1
        engines.loads.clear()
        assert spec.resolved() == first
        assert engines.loads == []
        assert known_choice(spec).reason == (
            "it is 3.0 times as fast as torch-float32 on this machine, with the same answer in 99.0% of the passages"
        )

    def test_what_was_measured_is_written_down(self, spec, home):
        spec.resolved()
        (record,) = home.glob("exports/*/selection.json")
        assert record.parent == export_place(Path(spec.model))
        (entry,) = json.loads(record.read_text())["choices"].values()
        assert (entry["backend"], entry["dtype"]) == ("openvino", "bfloat16")
        assert entry["measured"]["onnx-float32"]["tokens_per_second"] == 1100
        assert set(entry["circumstances"]) == {"cpu", "features", "cores", "versions", "graphs"}

    def test_another_machine_and_other_versions_are_measured_anew(self, spec, engines, monkeypatch):
        spec.resolved()
        monkeypatch.setattr(machine, "usable_cores", lambda: 64)
        assert known_choice(spec) is None
        spec.resolved()
        monkeypatch.setattr(machine, "version", lambda name: "99")
        assert known_choice(spec) is None
        spec.resolved()
        assert engines.comparisons == 3
        monkeypatch.undo()

    def test_every_machine_finds_its_own_choice_in_a_shared_cache(self, spec, engines, monkeypatch):
        spec.resolved()
        with monkeypatch.context() as other:
            other.setattr(machine, "usable_cores", lambda: 64)
            engines.measured["openvino-bfloat16"] = UNTRUE
            assert name_of(spec) == "onnx-float32"
        assert known_choice(spec).name == "openvino-bfloat16"

    def test_a_new_graph_is_measured(self, spec, engines):
        spec.resolved()
        place = export_place(Path(spec.model))
        write_graph(place, "openvino", int8=True)
        assert known_choice(spec) is None
        engines.measured["openvino-int8"] = replace(TRUE, tokens_per_second=5000.0)
        assert name_of(spec) == "openvino-int8"

    def test_quantised_graphs_are_never_made_unasked(self, spec, engines):
        spec.resolved()
        assert engines.loads == ["torch-float32", "onnx-float32", "openvino-bfloat16"]

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format_version": 1, "choices": 3}', b"null"])
    def test_a_damaged_record_is_made_anew(self, spec, engines, home, content):
        spec.resolved()
        (record,) = home.glob("exports/*/selection.json")
        record.write_bytes(content)
        assert known_choice(spec) is None
        assert name_of(spec) == "openvino-bfloat16"
        assert known_choice(spec).name == "openvino-bfloat16"

    @pytest.mark.parametrize("change", [{"backend": "jax"}, {"dtype": "int4"}, {"backend": None}])
    def test_an_entry_that_names_no_engine_counts_for_nothing(self, spec, home, change):
        spec.resolved()
        (record,) = home.glob("exports/*/selection.json")
        content = json.loads(record.read_text())
        (key,) = content["choices"]
        content["choices"][key] |= change
        record.write_text(json.dumps(content))
        assert known_choice(spec) is None

    @pytest.mark.parametrize("error", [ImportError("broken"), RuntimeError("no AVX"), CheckpointError("differs")])
    def test_an_engine_that_fails_is_left_out(self, spec, engines, caplog, home, error):
        engines.fail = {"openvino-bfloat16": error}
        assert name_of(spec) == "onnx-float32"
        assert f"openvino-default can't run {spec.model}: {type(error).__name__}: {error}" in caplog.text
        (record,) = home.glob("exports/*/selection.json")
        assert str(error) in record.read_text()

    def test_torch_where_all_fail(self, spec, engines):
        engines.fail = dict.fromkeys(engines.measured, RuntimeError("no"))
        assert name_of(spec) == "torch-float32"
        assert "none runs" in known_choice(spec).reason

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
    def test_what_may_pass_does_not_decide_for_good(self, spec, engines, caplog, error):
        engines.fail = {"openvino-bfloat16": error}
        assert spec.resolved().backend == "torch"
        assert "Set ROM_HOME to a writable folder" in caplog.text
        engines.fail = {}
        assert spec.resolved().backend == "openvino"

    def test_a_damaged_checkpoint_fails_as_it_does_in_torch(self, spec, engines, home):
        engines.fail = {"torch-float32": CheckpointError("damaged")}
        with pytest.raises(CheckpointError, match="damaged"):
            spec.resolved()
        assert not list(home.glob("exports/*/selection.json"))

    def test_a_model_that_can_not_read_is_left_to_torch(self, spec, engines, monkeypatch):
        def compare(*_, **__):
            raise KeyError("The model has no head 'reading'.")

        monkeypatch.setattr(selection, "compare", compare)
        assert name_of(spec) == "torch-float32"
        assert "has no head 'reading'" in known_choice(spec).reason

    def test_several_threads_measure_once(self, spec, engines):
        together = Barrier(4)

        def resolve(_):
            together.wait(timeout=30)
            return name_of(spec)

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(resolve, range(4))) == {"openvino-bfloat16"}
        assert engines.comparisons == 1

    def test_torch_where_the_cache_can_not_be_written(self, spec, engines, tmp_path, monkeypatch, caplog):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("ROM_HOME", str(tmp_path / "file"))
        assert name_of(spec) == "torch-float32"
        assert "Set ROM_HOME to a writable folder" in caplog.text
        assert engines.comparisons == 0

    def test_preparation_and_choice_are_logged(self, spec, caplog):
        with caplog.at_level(logging.INFO, "rom_haystack.inference"):
            spec.resolved()
            spec.resolved()
        assert [record.name for record in caplog.records] == [
            "rom_haystack.inference.preparation",
            "rom_haystack.inference.selection",
        ]
        assert "openvino-bfloat16, as it is 3.0 times as fast" in caplog.messages[1]


class TestRules:
    @pytest.fixture(autouse=True)
    def nothing_is_measured(self, monkeypatch):
        monkeypatch.setattr(selection, "_measured_choice", lambda spec: pytest.fail("measured"))

    def test_other_devices_are_for_torch(self, spec):
        assert name_of(replace(spec, device="cuda:0")) == "torch-float32"
        assert name_of(replace(spec, device="cuda:0", dtype="bfloat16")) == "torch-bfloat16"
        assert "cuda:0" in known_choice(replace(spec, device="cuda:0")).reason

    def test_loading_options_are_for_torch(self, tiny_checkpoint, monkeypatch):
        monkeypatch.setenv("ROM_BACKEND", "openvino")
        for options in ({"model_kwargs": {"a": 1}}, {"tokenizer_kwargs": {"a": 1}}):
            assert name_of(EncoderSpec.create(tiny_checkpoint, **options)) == "torch-float32"

    @pytest.mark.parametrize(
        ("named", "expected"),
        [("torch", "torch-float32"), ("onnx", "onnx-float32"), ("openvino", "openvino-bfloat16")],
    )
    def test_the_environment_decides(self, spec, monkeypatch, named, expected):
        monkeypatch.setenv("ROM_BACKEND", named)
        assert name_of(spec) == expected
        assert name_of(replace(spec, backend="onnx")) == "onnx-float32"  # not for those that name their own

    def test_an_unknown_engine_in_the_environment(self, spec, monkeypatch):
        monkeypatch.setenv("ROM_BACKEND", "jax")
        with pytest.raises(ValueError, match="ROM_BACKEND is 'jax'; set it to one of auto, measured, torch, onnx"):
            spec.resolved()

    def test_measured_but_not_now(self, spec, monkeypatch):
        monkeypatch.setenv("ROM_BACKEND", "measured")
        assert known_choice(spec) is None
        assert name_of(spec) == "torch-float32"
        monkeypatch.setattr(selection, "computes_in_bfloat16", lambda: True)
        assert name_of(EncoderSpec()) == "torch-bfloat16"
        assert name_of(spec) == "torch-float32"  # no one knows what bfloat16 does to it
        monkeypatch.setattr(selection, "computes_in_bfloat16", lambda: False)
        assert name_of(EncoderSpec()) == "torch-float32"

    def test_the_environment_can_not_ask_for_what_there_is_not(self, spec, monkeypatch):
        monkeypatch.setenv("ROM_BACKEND", "onnx")
        with pytest.raises(ValueError, match="Unknown dtype 'bfloat16' for backend 'onnx'"):
            replace(spec, dtype="bfloat16").resolved()

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
    def test_a_type_that_torch_has_is_for_torch(self, spec, dtype):
        assert name_of(replace(spec, dtype=dtype)) == f"torch-{dtype}"

    def test_int8_is_for_the_first_engine_there_is(self, spec, installed):
        assert name_of(replace(spec, dtype="int8")) == "openvino-int8"
        installed.remove("openvino")
        assert name_of(replace(spec, dtype="int8")) == "onnx-int8"
        installed.remove("onnxruntime")
        assert name_of(replace(spec, dtype="int8")) == "openvino-int8"  # loading it says what to install

    def test_a_named_engine_gets_its_own_type(self, spec):
        for backend, dtype in (("torch", "float32"), ("onnx", "float32"), ("openvino", "bfloat16")):
            assert name_of(replace(spec, backend=backend)) == f"{backend}-{dtype}"

    @pytest.mark.parametrize("missing", [("openvino", "onnxruntime"), ("onnx",), ("onnxscript",)])
    def test_torch_where_no_engine_is_installed(self, spec, installed, caplog, missing):
        installed.difference_update(missing)
        with caplog.at_level(logging.INFO, "rom_haystack.inference"):
            assert name_of(spec) == "torch-float32"
        assert missing[0] in caplog.text
        assert "pip install 'rom-haystack[openvino]'" in caplog.text

    def test_a_missing_checkpoint_is_named(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"no config\.json"):
            EncoderSpec.create(tmp_path).resolved()


class TestGraphsAlone:
    """An export folder that has no weights beside its graphs."""

    @pytest.fixture
    def exported(self, tiny_checkpoint, tmp_path) -> Path:
        folder = tmp_path / "exported"
        folder.mkdir()
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(tiny_checkpoint / name, folder)
        (folder / "facts.json").write_text("{}")
        return folder

    def test_the_engine_that_has_a_graph(self, exported):
        write_graph(exported, "onnx")
        assert name_of(EncoderSpec.create(exported)) == "onnx-float32"
        write_graph(exported, "openvino", int8=True)
        assert name_of(EncoderSpec.create(exported)) == "openvino-int8"
        write_graph(exported, "openvino")
        assert name_of(EncoderSpec.create(exported)) == "openvino-bfloat16"

    def test_torch_need_not_be_installed(self, exported, tiny_checkpoint, installed):
        write_graph(exported, "openvino")
        shutil.copy(tiny_checkpoint / "model.safetensors", exported)
        installed -= {"torch", "onnx", "onnxscript"}
        assert name_of(EncoderSpec.create(exported)) == "openvino-bfloat16"

    def test_a_record_for_a_checkpoint_exported_in_its_own_folder_lies_in_the_cache(
        self, exported, tiny_checkpoint, home
    ):
        write_graph(exported, "openvino")
        shutil.copy(tiny_checkpoint / "model.safetensors", exported)
        before = sorted(exported.iterdir())
        assert name_of(EncoderSpec.create(exported)) == "openvino-bfloat16"
        assert sorted(exported.iterdir()) == before
        assert len(list(home.glob("exports/exported-*/selection.json"))) == 1


def write_graph(folder: Path, backend: str, *, int8: bool = False) -> None:
    """Put down files by the names of a graph and what belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = graph_path(folder, backend, int8=int8)
    for path in (folder / "facts.json", folder / "tokenizer.json", graph, weights_path(graph)):
        path.touch()


def test_circumstances_of_this_machine():
    found = machine.circumstances()
    assert found == machine.circumstances()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["versions"]["torch"].split(".")[0] == "2"
    json.dumps(found)


def test_instruction_sets_matter_and_their_order_does_not(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPU_INFO", info)
    found = []
    for flags in ("avx2 amx_bf16", "amx_bf16 avx2", "avx2"):
        info.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t: x\n")
        found.append(machine.circumstances())
    assert found[0] == found[1]
    assert found[0]["cpu"] == found[2]["cpu"] == "Some CPU"
    assert found[0]["features"] != found[2]["features"]


def test_a_machine_without_a_description(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "missing")
    assert machine.circumstances()["cpu"]
