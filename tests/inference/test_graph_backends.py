"""ONNX Runtime and OpenVINO as inference engines: the model's own outputs, whatever else is run, from any thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from rom_haystack.inference.backends.base import Backend, Outputs, TokenIds
from rom_haystack.inference.backends.onnx import ONNXBackend
from rom_haystack.inference.backends.openvino import OpenVINOBackend, default_dtype, native_dtypes
from rom_haystack.inference.export.folder import export_place, graph_path, load_facts
from rom_haystack.inference.export.graph import export_graph
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.inference.openvino_core import openvino_core
from rom_haystack.inference.untracked import import_untracked
from rom_haystack.modeling import CheckpointError, ROMModel

openvino = import_untracked("openvino")

BACKENDS = ["onnx-float32", *(f"openvino-{dtype}" for dtype in native_dtypes() if dtype != "int8")]
HEADS = ("retrieval", "reading")


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path) -> Path:
    """The tiny model's graphs for both engines."""
    folder = export_place(tiny_checkpoint)
    export_graph(tiny_checkpoint, folder, "onnx")
    export_graph(tiny_checkpoint, folder, "openvino")
    return folder


@pytest.fixture(scope="module")
def facts(folder: Path) -> ModelFacts:
    return load_facts(folder)


@pytest.fixture(scope="module")
def make(folder: Path, facts: ModelFacts) -> Callable[..., Backend]:
    """Load a backend by its name."""

    def load(name: str, **options) -> Backend:
        engine, dtype = name.split("-")
        kind = ONNXBackend if engine == "onnx" else OpenVINOBackend
        return kind(graph_path(folder, engine, int8=False), facts, dtype=dtype, **options)

    return load


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, make) -> Backend:
    """Each engine in each type that this machine computes in."""
    return make(request.param)


def pairs(*lengths: int, seed: int = 0) -> list[TokenIds]:
    """Pairs of random tokens, with the later part of each in the second segment."""
    random = np.random.default_rng(seed)
    return [TokenIds(random.integers(5, 800, n), (np.arange(n) > n // 3).astype(np.int64)) for n in lengths]


def direct(model: ROMModel, tokens: TokenIds, head: str) -> dict[str, np.ndarray]:
    """What the model itself says of one input, without padding."""
    with torch.inference_mode():
        outputs = model(
            input_ids=torch.from_numpy(tokens.input_ids)[None],
            attention_mask=torch.ones(1, len(tokens), dtype=torch.int64),
            token_type_ids=torch.from_numpy(tokens.token_type_ids)[None],
            head=head,
        )
    return {name: tensor[0].numpy() for name, tensor in outputs.items()}


def assert_equal(found: list[Outputs], expected: list[Outputs]) -> None:
    """Compare outputs bit by bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


class TestOutputs:
    @pytest.mark.parametrize("head", HEADS)
    def test_outputs_are_the_models_own_in_the_order_of_the_inputs(self, backend, tiny_model, head):
        tolerance = 1e-4 if backend.name.endswith("float32") else 0.1
        inputs = pairs(40, 512, 3, 31, 32, 33, 129, 2, 40)
        for tokens, outputs in zip(inputs, backend.run(inputs, head), strict=True):
            expected = direct(tiny_model, tokens, head)
            assert outputs.keys() == expected.keys()
            for name in expected:
                assert outputs[name].dtype == np.float32
                assert outputs[name].shape == expected[name].shape
                np.testing.assert_allclose(outputs[name], expected[name], atol=tolerance, rtol=tolerance)

    def test_segments_matter(self, backend):
        (tokens,) = pairs(20)
        flat = TokenIds(tokens.input_ids, np.zeros(20, dtype=np.int64))
        one, other = backend.run([tokens, flat], "retrieval")
        assert np.abs(one["embedding"] - other["embedding"]).max() > 0.01

    def test_cosine_embeddings_have_unit_length(self, backend):
        for outputs in backend.run(pairs(5, 50, 500), "retrieval"):
            assert np.linalg.norm(outputs["embedding"]) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("head", HEADS)
    def test_outputs_do_not_depend_on_company_or_order(self, backend, head):
        inputs = pairs(512, 200, 60, 60, 33, 32, 31, 5)
        alone = [backend.run([tokens], head)[0] for tokens in inputs]
        assert_equal(backend.run(inputs, head), alone)
        assert_equal(backend.run(inputs[::-1], head), alone[::-1])
        assert_equal(backend.run(inputs, head, batch_size=3), alone)

    def test_outputs_stay_when_the_engine_runs_on(self, backend):
        inputs = pairs(40, 40, 40)
        kept = backend.run(inputs, "reading")
        copies = [{name: array.copy() for name, array in outputs.items()} for outputs in kept]
        backend.run(pairs(40, 40, 40, 40, 40, 40, seed=1), "reading")
        assert_equal(kept, copies)

    def test_nothing_in_nothing_out(self, backend):
        assert backend.run([], "retrieval") == []

    @pytest.mark.parametrize("head", HEADS)
    def test_eight_threads_share_one_backend(self, backend, head):
        work = [pairs(*np.random.default_rng(seed).integers(2, 200, 12), seed=seed) for seed in range(8)]
        expected = [backend.run(inputs, head) for inputs in work]
        with ThreadPoolExecutor(8) as threads:
            for _ in range(3):
                for found, one in zip(
                    threads.map(lambda inputs: backend.run(inputs, head), work), expected, strict=True
                ):
                    assert_equal(found, one)

    @pytest.mark.parametrize("name", ["onnx-float32", "openvino-float32"])
    def test_one_thread_gives_the_same_outputs(self, make, name):
        inputs = pairs(100, 30, 7)
        many, one = make(name).run(inputs, "reading"), make(name, threads=1).run(inputs, "reading")
        for found, expected in zip(one, many, strict=True):
            for output in found:
                np.testing.assert_allclose(found[output], expected[output], atol=1e-4)


class TestErrors:
    def test_an_input_that_is_too_long_is_an_error_and_the_backend_works_on(self, backend):
        inputs = pairs(60, 50, 40, 30)
        expected = backend.run(inputs, "reading")
        for _ in range(3):
            with pytest.raises(ValueError, match="513 tokens; this model takes up to 512"):
                backend.run([*inputs, *pairs(513), *inputs], "reading")
            assert_equal(backend.run(inputs, "reading"), expected)

    def test_an_error_of_one_input_waits_for_all_that_were_started(self, make, monkeypatch):
        backend = make("openvino-float32")
        inputs = pairs(300, 200, 100, 100, 100, 100)
        expected = backend.run(inputs, "reading")
        (requests,) = backend._idle  # the next call takes them

        def fail(*args: object) -> Outputs:
            raise RuntimeError("the engine failed")

        with monkeypatch.context() as patch:
            patch.setattr(backend, "_finish", fail)
            with pytest.raises(RuntimeError, match="the engine failed"):
                backend.run(inputs, "reading")
        assert all(request.wait_for(0) for request in requests)
        assert_equal(backend.run(inputs, "reading"), expected)

    def test_a_head_that_the_graph_lacks_is_an_error(self, make, monkeypatch):
        for name in ("onnx-float32", "openvino-float32"):
            backend = make(name)
            backend._outputs = {"vector"}
            with pytest.raises(KeyError, match="no head 'reading', only: retrieval"):
                backend.run(pairs(5), "reading")

    @pytest.mark.parametrize("name", ["onnx-float32", "openvino-float32"])
    def test_no_threads_are_an_error(self, make, name):
        with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
            make(name, threads=0)

    @pytest.mark.parametrize(("kind", "file"), [(ONNXBackend, "model.onnx"), (OpenVINOBackend, "openvino.xml")])
    @pytest.mark.parametrize("content", [None, b"", b"<net", b"\x08"])
    def test_a_missing_or_damaged_graph_is_an_error(self, facts, tmp_path, kind, file, content):
        if content is not None:
            (tmp_path / file).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{file} can't be loaded; export it anew"):
            kind(tmp_path / file, facts, dtype="float32")

    @pytest.mark.parametrize(
        ("kind", "package", "extra"), [(ONNXBackend, "onnxruntime", "onnx"), (OpenVINOBackend, "openvino", "openvino")]
    )
    def test_an_engine_that_is_not_installed_is_named(self, facts, monkeypatch, kind, package, extra):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=rf"pip install 'rom-haystack\[{extra}\]'"):
            kind(Path("graph"), facts, dtype="float32")

    @pytest.mark.parametrize("name", ["onnx-float32", "openvino-float32"])
    def test_a_forked_process_is_told_instead_of_waiting_for_ever(self, make, name):
        backend = make(name)
        inputs = pairs(5)
        backend.run(inputs, "retrieval")
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # what waits for ever is ended, and fails the test
            try:
                backend.run(inputs, "retrieval")
            except RuntimeError as error:
                os._exit(3 if "spawn" in str(error) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        backend.run(inputs, "retrieval")


INTERRUPTED = """
import signal, sys
from pathlib import Path

from rom_haystack.inference.backends.openvino import OpenVINOBackend
from rom_haystack.inference.export.folder import graph_path, load_facts

folder = Path(sys.argv[1])
graph, facts = graph_path(folder, "openvino", int8=False), load_facts(folder)
first, second = (OpenVINOBackend(graph, facts, dtype="float32") for _ in range(2))
del first
del second
signal.signal(signal.SIGINT, signal.default_int_handler)  # which processes in the background don't have
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_signals_are_handled_after_engines_were_given_up(folder):
    """OpenVINO leaves the process with a stack for signals that is not there any more, unless its core is kept."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


class TestTypes:
    @pytest.fixture
    def old_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A CPU that computes in float32 and int8 only."""
        asked = openvino.Core.get_property

        def get_property(core: object, device: str, name: str) -> object:
            return ["FP32", "INT8"] if name == "OPTIMIZATION_CAPABILITIES" else asked(core, device, name)

        monkeypatch.setattr(openvino.Core, "get_property", get_property)

    def test_the_default_is_bfloat16_where_the_cpu_has_it(self):
        native = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        assert default_dtype() == ("bfloat16" if native else "float32")

    def test_the_default_is_float32_elsewhere(self, old_cpu):
        assert default_dtype() == "float32"

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
    def test_a_type_that_the_cpu_lacks_is_an_error(self, old_cpu, folder, facts, dtype):
        with pytest.raises(ValueError, match=f"dtype is '{dtype}'.*on this CPU: float32, int8"):
            OpenVINOBackend(graph_path(folder, "openvino", int8=False), facts, dtype=dtype)

    @pytest.mark.parametrize("name", BACKENDS)
    def test_the_name_says_engine_and_type(self, make, name):
        assert make(name).name == name

    def test_float32_is_float32_even_where_the_cpu_prefers_less(self, make):
        assert make("openvino-float32")._compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


@pytest.mark.parametrize("name", BACKENDS)
def test_graphs_run_without_torch_and_say_nothing(folder, name):
    engine, dtype = name.split("-")
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from rom_haystack.inference.export.folder import load_facts\n"
        "from rom_haystack.inference.backends.base import TokenIds\n"
        f"from rom_haystack.inference.backends.{engine} import *\n"
        f"backend = {'ONNX' if engine == 'onnx' else 'OpenVINO'}Backend\n"
        "graph, dtype = Path(sys.argv[1]), sys.argv[2]\n"
        "backend = backend(graph, load_facts(graph.parent), dtype=dtype)\n"
        "ids = np.arange(5, 25)\n"
        "backend.run([TokenIds(ids, ids * 0)] * 3, 'reading')"
    )
    graph = graph_path(folder, engine, int8=False)
    result = subprocess.run([sys.executable, "-c", script, graph, dtype], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
