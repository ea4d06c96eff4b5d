"""How large the model is, counted from its files, beside designs that keep more than one."""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from rom_haystack.inference.converted import find_checkpoint

#: Parameters of BERT-base (uncased) without its pooler, which no part of DPR needs.
BERT_BASE = 108_891_648

_ENCODER = "encoder."
_HEADER = struct.Struct("<Q")
#: Bytes per number, by the type in an engine's name.
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class ModelSize:
    """Parameters of one checkpoint.

    Attributes:
        name: What the checkpoint is called.
        encoder: Parameters of its encoder.
        heads: Parameters of all its heads.
    """

    name: str
    encoder: int
    heads: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.encoder + self.heads


@dataclass(frozen=True)
class Design:
    """A way to build question answering.

    Attributes:
        name: In words.
        parameters: All numbers that it keeps in memory.
        megabytes: What these take as they are computed with here.
    """

    name: str
    parameters: int
    megabytes: float


def size_of(model: str) -> ModelSize | None:
    """Count a checkpoint's parameters from the headers of its weights, without loading it.

    Args:
        model: Bundled name or folder.

    Returns:
        The counts; None for a checkpoint without weights, such as an exported graph.
    """
    folder = find_checkpoint(model, local_files_only=True)
    encoder = total = 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, parameters in _tensors(path):
            total += parameters
            encoder += parameters if name.startswith(_ENCODER) else 0
    return ModelSize(Path(model).name, encoder, total - encoder) if total else None


def designs(sizes: Sequence[ModelSize], engine: str) -> list[Design]:
    """Put what runs here beside the same with three encoders, and beside DPR.

    Args:
        sizes: The models in use: one that finds and reads, or one for each.
        engine: What they run on, such as `openvino-bfloat16`; all designs are counted at its type.
    """
    width = bytes_per_number(engine)
    one = len(sizes) == 1
    counts = {
        "One shared encoder (here)" if one else "Two encoders (here)": sum(size.total for size in sizes),
        "Three separate encoders": 3 * max(size.encoder for size in sizes) + max(size.heads for size in sizes),
        "DPR: three of BERT-base": 3 * BERT_BASE,
    }
    return [Design(name, count, count * width / 1e6) for name, count in counts.items()]


def bytes_per_number(engine: str) -> int:
    """Tell from an engine's name, such as `torch-float32`, how many bytes one of its numbers has."""
    return _BYTES.get(engine.rpartition("-")[2], _BYTES["float32"])


def process_megabytes() -> float:
    """Return the memory that this process has now, everything counted."""
    return float(psutil.Process().memory_info().rss / 1e6)


def _tensors(path: Path) -> list[tuple[str, int]]:
    """Read names and sizes of the tensors of floats in a safetensors file."""
    with path.open("rb") as file:
        (length,) = _HEADER.unpack(file.read(_HEADER.size))
        header = json.loads(file.read(length))
    return [
        (name, math.prod(tensor["shape"]))
        for name, tensor in header.items()
        if name != "__metadata__" and "F" in tensor["dtype"]
    ]
