"""Compare a graph with the model that it was made from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rom_haystack.inference.backends.graph import GRAPH_OUTPUTS
from rom_haystack.inference.export.folder import GraphBackend
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.inference.openvino_core import openvino_core
from rom_haystack.inference.untracked import import_untracked
from rom_haystack.modeling import ROMModel
from rom_haystack.modeling.errors import CheckpointError

#: Difference that an output may have, as a part of the largest magnitude of its kind.
_TOLERANCE = {"float32": 1e-3, "int8": 0.5}
_LONGEST = 512

Arrays = dict[str, NDArray[Any]]
Engine = Callable[[Arrays], Arrays]


def check_graph(graph: Path, backend: GraphBackend, model: ROMModel, facts: ModelFacts, *, int8: bool) -> None:
    """Compare a graph's outputs with torch's for batches of one and several inputs, short ones and long ones.

    Quantised graphs are only checked for not being broken; `rom_haystack.inference.fidelity` measures what they lose.

    Raises:
        CheckpointError: They differ, or the engine can't run the graph.
    """
    try:
        engine = _onnx_engine(graph) if backend == "onnx" else _openvino_engine(graph)
        _compare(engine, model, _batches(model, facts), tolerance=_TOLERANCE["int8" if int8 else "float32"])
    except CheckpointError:
        raise
    except Exception as error:  # engines raise many kinds
        raise CheckpointError(f"The exported graph can't be run: {error}. Use backend='torch'.") from error


def _compare(engine: Engine, model: ROMModel, batches: Iterable[Arrays], *, tolerance: float) -> None:
    """Compare each output over all batches, as its magnitude in a single short one may be next to nought."""
    differences: dict[str, list[tuple[float, tuple[int, ...]]]] = defaultdict(list)
    magnitudes: dict[str, float] = {}
    for inputs in batches:
        found = engine(inputs)
        for name, expected in _torch_outputs(model, inputs).items():
            difference, magnitude = _difference(found[name], expected, inputs["attention_mask"])
            differences[name].append((math.inf if math.isnan(difference) else difference, inputs["input_ids"].shape))
            magnitudes[name] = max(magnitude, magnitudes.get(name, _least_magnitude(name)))
    for name, found_differences in differences.items():
        difference, shape = max(found_differences)
        if difference > tolerance * magnitudes[name]:
            raise CheckpointError(
                f"The exported graph's {name} differ from torch's by {difference / magnitudes[name]:.1e} of their "
                f"magnitude for inputs of shape {shape}; {tolerance:.0e} is allowed. Use backend='torch'."
            )


def _batches(model: ROMModel, facts: ModelFacts) -> Iterator[Arrays]:
    """Make up inputs, some padded."""
    generator = np.random.default_rng(0)
    vocabulary = np.setdiff1d(np.arange(model.get_input_embeddings().num_embeddings), [facts.pad_token_id])
    longest = min(facts.max_length, _LONGEST)
    for lengths in ([1], [32], [longest], [5, 40], [longest // 2, longest // 3, longest // 4]):
        shortened = np.minimum(lengths, longest)
        mask = (np.arange(shortened.max()) < shortened[:, None]).astype(np.int64)
        ids = generator.choice(vocabulary, mask.shape)
        inputs = {"input_ids": np.where(mask, ids, facts.pad_token_id), "attention_mask": mask}
        if facts.uses_token_types:
            inputs["token_type_ids"] = mask * (np.arange(mask.shape[1]) > mask.shape[1] // 3)
        yield inputs


def _difference(found: NDArray[Any], expected: NDArray[Any], attention_mask: NDArray[Any]) -> tuple[float, float]:
    """Return the largest difference and the largest magnitude; outputs of padding mean nothing."""
    if expected.shape == attention_mask.shape:
        found, expected = found[attention_mask > 0], expected[attention_mask > 0]
    return float(np.abs(found - expected).max()), float(np.abs(expected).max())


def _least_magnitude(name: str) -> float:
    """Log-odds below 1 say next to nothing, and all of them may be nought, so their magnitude counts as at least 1."""
    return 1.0 if name.endswith("logits") else 0.0


@torch.inference_mode()
def _torch_outputs(model: ROMModel, inputs: Arrays) -> Arrays:
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    return {
        in_graph: model(**tensors, head=head)[name].numpy()
        for head, names in GRAPH_OUTPUTS.items()
        if head in model.heads
        for name, in_graph in names.items()
    }


def _onnx_engine(graph: Path) -> Engine:
    session = import_untracked("onnxruntime").InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def _openvino_engine(graph: Path) -> Engine:
    compiled = openvino_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return lambda inputs: {output.any_name: array for output, array in request.infer(inputs).items()}
