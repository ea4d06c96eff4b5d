"""From a spec to an encoder at work, exporting the model first where its engine needs a graph that isn't there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from rom_haystack.inference.announcing import preparation
from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.inference.encoder import ROMEncoder
from rom_haystack.inference.export.folder import (
    GraphBackend,
    cache_place,
    export_place,
    graph_path,
    has_graph,
    load_facts,
    load_tokenizer,
)
from rom_haystack.inference.scores import load_scores
from rom_haystack.inference.stopping import load_stopping
from rom_haystack.inference.tokenization import TextTokenizer
from rom_haystack.modeling import CheckpointError
from rom_haystack.modeling.places import has_weights

if TYPE_CHECKING:
    from rom_haystack.inference.backends.base import Backend
    from rom_haystack.inference.backends.openvino import OpenVINODtype
    from rom_haystack.inference.facts import ModelFacts
    from rom_haystack.inference.registry import EncoderSpec


def load_encoder(spec: EncoderSpec) -> ROMEncoder:
    """Load the encoder of a spec.

    An engine that runs graphs finds them in the model's folder or in the cache; if it has none yet, the model is
    exported first, once. A folder of graphs alone needs neither torch nor transformers.

    Args:
        spec: With backend and dtype named (see `EncoderSpec.resolved`).

    Raises:
        ValueError: The spec leaves backend or dtype open, or this machine can't compute in its dtype.
        CheckpointError: The checkpoint can't be found, is damaged, or can't be exported.
        ImportError: The engine is not installed.
    """
    if not spec.is_concrete:
        raise ValueError(f"{spec} leaves its backend or dtype open; resolve it first.")
    if spec.backend == "torch":
        return _torch_encoder(spec)
    return load_exported(exported_folder(spec), cast("GraphBackend", spec.backend), str(spec.dtype))


def checkpoint_folder(spec: EncoderSpec) -> Path:
    """Find the folder of a spec's model; a model of another kind is converted first, once.

    Raises:
        CheckpointError: There is none.
    """
    return find_checkpoint(spec.model, revision=spec.revision, token=spec.token, local_files_only=spec.local_files_only)


def default_dtype(backend: str) -> str:
    """Return the type in which an engine computes unless told otherwise.

    Raises:
        ImportError: The engine is not installed.
    """
    if backend != "openvino":
        return "float32"
    from rom_haystack.inference.backends import openvino  # noqa: PLC0415 (only if this engine is used)

    return openvino.default_dtype()


def exported_folder(spec: EncoderSpec) -> Path:
    """Return the folder with the graph of a spec's engine, exporting the model if no one has yet.

    Raises:
        CheckpointError: The model can't be found or exported, or the export can't be written.
        ImportError: What the export needs is not installed.
    """
    checkpoint = checkpoint_folder(spec)
    backend, int8 = cast("GraphBackend", spec.backend), spec.dtype == "int8"
    for folder in (export_place(checkpoint), cache_place(checkpoint)):
        if has_graph(folder, backend, int8=int8):
            return folder
    if not has_weights(checkpoint):
        raise CheckpointError(
            f"{checkpoint} has no {graph_path(folder, backend, int8=int8).name} for backend '{backend}' and dtype "
            f"'{spec.dtype}', and no weights to make it from. Export the checkpoint there with `rom export`."
        )
    from rom_haystack.inference.export.graph import export_graph  # noqa: PLC0415 (it imports torch)

    preparation.info("Exporting %s for backend '%s', once …", spec.model, backend)
    try:
        export_graph(checkpoint, folder, backend, int8=int8)
    except OSError as error:
        raise CheckpointError(
            f"The export of {spec.model} can't be written to {folder} ({error}). Set ROM_HOME to a writable folder, or "
            "use backend='torch'."
        ) from error
    return folder


def load_exported(folder: Path, backend: GraphBackend, dtype: str) -> ROMEncoder:
    """Load the encoder of an export folder, without torch and transformers.

    Args:
        folder: Export folder with the engine's graph.
        backend: Engine.
        dtype: Type of its arithmetic; `int8` takes the quantised graph.

    Raises:
        ValueError: This machine can't compute in `dtype`.
        CheckpointError: The folder is damaged.
        ImportError: The engine is not installed.
    """
    facts = load_facts(folder)
    engine = _graph_backend(folder, facts, backend, dtype)
    encoder = ROMEncoder(engine, TextTokenizer(load_tokenizer(folder), facts), facts, stopping=load_stopping(folder))
    encoder.scores = load_scores(folder)
    return encoder


def _torch_encoder(spec: EncoderSpec) -> ROMEncoder:
    import torch  # noqa: PLC0415 (a second to import, and only this engine needs it)

    from rom_haystack.modeling import load_checkpoint  # noqa: PLC0415 (so does it)

    folder = checkpoint_folder(spec)
    if not has_weights(folder):
        raise CheckpointError(f"{folder} holds no weights for backend 'torch', only graphs; choose another backend.")
    options: dict[str, Any] = json.loads(spec.options)
    model, tokenizer = load_checkpoint(
        folder,
        dtype=getattr(torch, str(spec.dtype)),
        device=spec.device,
        model_kwargs=options.get("model"),
        tokenizer_kwargs=options.get("tokenizer"),
    )
    encoder = ROMEncoder.from_model(model, tokenizer)
    encoder.stopping = load_stopping(folder)
    encoder.scores = load_scores(folder)
    return encoder


def _graph_backend(folder: Path, facts: ModelFacts, backend: GraphBackend, dtype: str) -> Backend:
    graph = graph_path(folder, backend, int8=dtype == "int8")
    if backend == "openvino":
        from rom_haystack.inference.backends.openvino import OpenVINOBackend  # noqa: PLC0415 (optional)

        return OpenVINOBackend(graph, facts, dtype=cast("OpenVINODtype", dtype))
    from rom_haystack.inference.backends.onnx import ONNXBackend  # noqa: PLC0415 (optional)

    return ONNXBackend(graph, facts, dtype=cast("Literal['float32', 'int8']", dtype))
