"""OpenVINO: every input alone, as many at once as there are streams."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.backends.graph import check_head, check_process, graph_inputs, head_outputs
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.inference.openvino_core import openvino_core
from rom_haystack.modeling.errors import CheckpointError

if TYPE_CHECKING:
    from openvino import Core, InferRequest

OpenVINODtype = Literal["float32", "bfloat16", "float16", "int8"]

#: Inputs handed over ahead of the streams, so that no stream waits for Python.
_REQUESTS_PER_STREAM = 2
#: OpenVINO's name of the capability to compute natively in a type.
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}


def default_dtype() -> OpenVINODtype:
    """Return the fastest type that keeps the answers: bfloat16 if this CPU computes in it natively, else float32.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    return "bfloat16" if "bfloat16" in native_dtypes() else "float32"


def native_dtypes() -> list[str]:
    """Return the types in which OpenVINO computes natively on this CPU; the others would only be slower.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for name, capability in _CAPABILITIES.items() if capability in capabilities]


class OpenVINOBackend(Backend):
    """Run an exported graph in OpenVINO on the CPU; safe to use from several threads.

    Inputs are never batched: each runs alone on one of several streams of few threads, so nothing is padded for
    company's sake, and outputs are bit-equal whatever else is in the call. How many streams pay on this CPU is
    OpenVINO's choice. Several callers share the streams in the order in which their inputs come.

    A process forked from one that has a backend can't use it, nor exit cleanly, since its threads stay behind: load
    it in the worker, or start workers by `spawn`.

    Args:
        graph: The graph's `.xml` file, its `.bin` beside it. Weights are memory-mapped.
        facts: Of the model in the graph.
        dtype: Type of the arithmetic. `int8` is for a quantised graph; what such a graph leaves unquantised runs in
            float32.
        threads: Most CPU threads; None for all cores that this process may use.

    Raises:
        ImportError: OpenVINO is not installed.
        ValueError: This CPU can't compute natively in `dtype`, or `threads` is below 1.
        CheckpointError: The graph can't be read.
    """

    def __init__(self, graph: Path, facts: ModelFacts, *, dtype: OpenVINODtype, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; it must be at least 1.")
        native = native_dtypes()
        if dtype not in native:
            raise ValueError(f"dtype is '{dtype}'; OpenVINO computes in these on this CPU: {', '.join(native)}.")
        try:
            self._compiled = _core().compile_model(graph, "CPU", _settings(dtype, threads))
        except RuntimeError as error:
            raise CheckpointError(f"The graph {graph} can't be loaded; export it anew ({error}).") from error
        self.name = f"openvino-{dtype}"
        self._facts = facts
        self._outputs = {output.any_name for output in self._compiled.outputs}
        self.parallel = int(self._compiled.get_property("NUM_STREAMS"))
        self._process = os.getpid()
        # Each caller takes a set of requests and brings it back; appending and popping are atomic.
        self._idle: deque[list[InferRequest]] = deque()

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:  # noqa: ARG002 (never batched)
        """Run the encoder and one head; see `Backend.run`.

        Raises:
            KeyError: The graph has no such head.
            RuntimeError: OpenVINO failed, or the process was forked. No input of the call is left running.
        """
        check_process(self._process)
        check_head(self._outputs, head)
        requests = self._take_requests()
        started: deque[tuple[InferRequest, int]] = deque()
        outputs = []
        try:
            for number, tokens in enumerate(inputs):
                if len(started) == len(requests):
                    outputs.append(self._finish(*started.popleft(), head))
                request = requests[number % len(requests)]
                request.start_async(graph_inputs(tokens, self._facts))
                started.append((request, len(tokens)))
            while started:
                outputs.append(self._finish(*started.popleft(), head))
        except BaseException:  # one may be left busy, so none is used again
            for request in requests:
                with contextlib.suppress(RuntimeError):
                    request.wait()
            raise
        self._idle.append(requests)
        return outputs

    def _take_requests(self) -> list[InferRequest]:
        try:
            return self._idle.pop()
        except IndexError:
            return [self._compiled.create_infer_request() for _ in range(_REQUESTS_PER_STREAM * self.parallel)]

    def _finish(self, request: InferRequest, length: int, head: Head) -> Outputs:
        request.wait()
        return head_outputs({name: request.get_tensor(name).data for name in self._outputs}, head, length, self._facts)


def _settings(dtype: OpenVINODtype, threads: int | None) -> dict[str, Any]:
    # What a quantised graph leaves unquantised runs in float32: beside bfloat16, OpenVINO 2026.4 computes inputs of
    # exactly 32 tokens wrongly on CPUs with AMX.
    precision = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}[dtype]
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": precision,
        # Pinned threads of two processes would wait for each other on the same cores while others are idle.
        "ENABLE_CPU_PINNING": False,
    }
    return settings if threads is None else {**settings, "INFERENCE_NUM_THREADS": threads}


def _core() -> Core:
    try:
        return openvino_core()
    except ImportError as error:
        raise ImportError(
            f"backend='openvino' needs OpenVINO ({error}). Install it: pip install 'rom-haystack[openvino]'."
        ) from error
