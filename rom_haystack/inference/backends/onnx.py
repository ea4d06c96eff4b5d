"""ONNX Runtime: one input per call, all threads on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.backends.graph import (
    GRAPH_OUTPUTS,
    check_head,
    check_process,
    graph_inputs,
    head_outputs,
)
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.inference.machine import usable_cores
from rom_haystack.inference.untracked import import_untracked
from rom_haystack.modeling.errors import CheckpointError

_ERRORS_ONLY = 3


class ONNXBackend(Backend):
    """Run an exported graph in ONNX Runtime on the CPU; safe to use from several threads.

    Inputs are never batched: each runs alone, on all threads, so nothing is padded for company's sake, and outputs do
    not depend on what else is in the call.

    A process forked from one that has a backend can't use it, since its threads stay behind: load it in the worker,
    or start workers by `spawn`.

    Args:
        graph: The graph's `.onnx` file.
        facts: Of the model in the graph.
        dtype: Type of the weights in the graph: `int8` for a quantised one.
        threads: CPU threads; None for all cores that this process may use.

    Raises:
        ImportError: ONNX Runtime is not installed.
        ValueError: `threads` is below 1.
        CheckpointError: The graph can't be read.
    """

    def __init__(
        self, graph: Path, facts: ModelFacts, *, dtype: Literal["float32", "int8"], threads: int | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; it must be at least 1.")
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = _ERRORS_ONLY
        # Threads that wait for work by spinning take the cores from other programs, and from this one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has a dozen kinds, all meaning that it can't run this file
            raise CheckpointError(f"The graph {graph} can't be loaded; export it anew ({error}).") from error
        self.name = f"onnx-{dtype}"
        self._facts = facts
        self._outputs = {output.name for output in self._session.get_outputs()}
        self._process = os.getpid()

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:  # noqa: ARG002 (never batched)
        """Run the encoder and one head; see `Backend.run`.

        Raises:
            KeyError: The graph has no such head.
            RuntimeError: The process was forked.
        """
        check_process(self._process)
        check_head(self._outputs, head)
        names = list(GRAPH_OUTPUTS[head].values())
        outputs = []
        for tokens in inputs:
            found = self._session.run(names, graph_inputs(tokens, self._facts))
            outputs.append(head_outputs(dict(zip(names, found, strict=True)), head, len(tokens), self._facts))
        return outputs


def _onnxruntime() -> Any:
    try:
        return import_untracked("onnxruntime")
    except ImportError as error:
        raise ImportError(
            f"backend='onnx' needs ONNX Runtime ({error}). Install it: pip install 'rom-haystack[onnx]'."
        ) from error
