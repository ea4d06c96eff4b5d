"""The tiny checkpoint's export, and torch's outputs to compare graphs with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rom_haystack.inference.export.graph import export_graph
from rom_haystack.modeling import ROMModel

READING = ("start_logits", "end_logits", "relevance_logits")


@pytest.fixture(scope="session")
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
