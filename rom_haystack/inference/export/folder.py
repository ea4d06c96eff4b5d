"""What an export folder holds, and where it lies.

Beside its graphs (`graph_path`) a folder holds what inference needs of the checkpoint, so that torch and transformers
are not asked: `facts.json`, `tokenizer.json`, `config.json` and, if the checkpoint has one, `calibration.json`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rom_haystack.caches import cache_home
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.places import FACTS_FILE, has_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GraphBackend = Literal["onnx", "openvino"]

#: Version of the layout that this code writes, and the newest it reads.
EXPORT_VERSION = 1
TOKENIZER_FILE = "tokenizer.json"


def graph_path(folder: Path, backend: GraphBackend, *, int8: bool) -> Path:
    """Return where a folder's graph for an engine is, or would be."""
    stem, suffix = ("model", "onnx") if backend == "onnx" else ("openvino", "xml")
    return folder / f"{stem}{'-int8' if int8 else ''}.{suffix}"


def weights_path(graph: Path) -> Path:
    """Return the file beside a graph that holds its weights; engines map it into memory."""
    return graph.with_suffix(".bin" if graph.suffix == ".xml" else ".onnx.data")


def has_graph(folder: Path, backend: GraphBackend, *, int8: bool) -> bool:
    """Tell whether a folder holds a graph for an engine, and all that goes with it."""
    graph = graph_path(folder, backend, int8=int8)
    return all(path.is_file() for path in (folder / FACTS_FILE, folder / TOKENIZER_FILE, graph, weights_path(graph)))


def export_place(checkpoint: Path) -> Path:
    """Return the folder in which a checkpoint's graphs are kept.

    That is the checkpoint's own folder if it was exported there, else one in the user's cache, named after the
    checkpoint and the state of its files: a checkpoint that changes is exported anew.
    """
    return checkpoint if (checkpoint / FACTS_FILE).is_file() else cache_place(checkpoint)


def cache_place(checkpoint: Path) -> Path:
    """Return the folder in the user's cache for a checkpoint's graphs, which may not be there yet."""
    state = [str(checkpoint.resolve()), f"version {EXPORT_VERSION}"]
    for pattern in ("*.json", "*.safetensors"):
        for path in sorted(checkpoint.glob(pattern)):
            status = path.stat()
            state.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    key = hashlib.blake2b("\0".join(state).encode("utf-8", "surrogateescape"), digest_size=8)
    return cache_home() / "exports" / f"{checkpoint.name}-{key.hexdigest()}"


def fingerprint(checkpoint: Path) -> str:
    """Return a hash of a checkpoint's configuration and weights: of all that its graphs are made from."""
    digest = hashlib.blake2b(digest_size=16)
    for path in (checkpoint / "config.json", *sorted(checkpoint.glob("*.safetensors"))):
        with path.open("rb") as file:
            digest.update(os.fsencode(path.name) + b"\0" + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def write_facts(folder: Path, facts: ModelFacts, *, source: str) -> None:
    """Write a folder's facts and which checkpoint (`fingerprint`) its graphs are made from."""
    record = {"version": EXPORT_VERSION, "source": source, "facts": dataclasses.asdict(facts)}
    (folder / FACTS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def is_made_from(folder: Path, source: str) -> bool:
    """Tell whether a folder holds an export, as this version makes them, of the checkpoint with this fingerprint."""
    try:
        record = _record(folder)
    except CheckpointError:
        return False
    return bool(record["source"] == source and record["version"] == EXPORT_VERSION)


def load_facts(folder: Path) -> ModelFacts:
    """Read the facts of an exported model.

    Raises:
        CheckpointError: The folder holds no export, a damaged one or one of a newer version, or the weights in it
            have changed since.
    """
    record = _record(folder)
    if has_weights(folder) and fingerprint(folder) != record["source"]:
        raise CheckpointError(
            f"The graphs in {folder} were made from other weights than the folder holds now. Export them anew "
            f"(rom export), or delete {FACTS_FILE} there."
        )
    facts = record["facts"]
    kinds = {"str": str, "int": int, "bool": bool}
    fields = dataclasses.fields(ModelFacts)
    expected = {field.name: kinds[str(field.type)] for field in fields}
    later = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    if not isinstance(facts, dict) or {name: type(value) for name, value in (later | facts).items()} != expected:
        raise _damaged(folder / FACTS_FILE, f"its facts are {facts}")
    return ModelFacts(**facts)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of an exported model.

    Raises:
        CheckpointError: The folder holds none, or a damaged one.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 (not needed to find an export)

    path = folder / TOKENIZER_FILE
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises nothing more precise
        raise _damaged(path, str(error)) from error


def _record(folder: Path) -> dict[str, Any]:
    path = folder / FACTS_FILE
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    version = record.get("version") if isinstance(record, dict) else None
    if not isinstance(version, int) or not {"source", "facts"} <= record.keys():
        raise _damaged(path, "it is no record of an export")
    if version > EXPORT_VERSION:
        raise CheckpointError(
            f"{folder} is an export of version {version}; this version of rom-haystack reads up to {EXPORT_VERSION}. "
            "Update rom-haystack, or export the checkpoint anew with it (rom export)."
        )
    return record


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} can't be read ({reason}). Export the checkpoint anew (rom export).")
