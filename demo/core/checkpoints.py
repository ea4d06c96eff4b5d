"""What a checkpoint's name means on this machine, and what the model in it can do."""

from dataclasses import dataclass

from rom_haystack.inference.converted import find_checkpoint
from rom_haystack.modeling import DEFAULT_CHECKPOINT, CheckpointError, bundled_checkpoints
from rom_haystack.modeling.conversion.sources import read_json
from rom_haystack.modeling.places import is_local

#: The encoder that the bundled checkpoint was trained from.
UNTUNED_BASE = "sentence-transformers/all-MiniLM-L6-v2"


class MissingCheckpointError(ValueError):
    """A checkpoint is not on this machine, or is none; the message says how to get it."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that may take part in answering.

    Attributes:
        name: As the user wrote it.
        finds: Checkpoint that finds passages: this one, or the bundled one where this one can't.
        reads: The same of reading answers.
        note: What the bundled one does for it, in a sentence; empty where it does all itself.
    """

    name: str
    finds: str
    reads: str
    note: str


def checkpoint(name: str) -> Checkpoint:
    """Find a checkpoint, without asking the hub; a model of another kind is converted, once.

    Args:
        name: Bundled name, folder, or hub id that is in the local cache.

    Raises:
        MissingCheckpointError: It is not here, or nothing that can be used.
    """
    name = name.strip()
    if not name:
        raise MissingCheckpointError("No checkpoint is named. Choose one, or write the path of a folder.")
    if name in bundled_checkpoints():
        return Checkpoint(name, name, name, "")
    try:
        folder = find_checkpoint(name, local_files_only=True)
    except CheckpointError as error:
        raise MissingCheckpointError(_remedy(name, error)) from error
    heads = (read_json(folder / "config.json") or {}).get("heads", {})
    if "retrieval" not in heads:
        note = f"It only reads: {DEFAULT_CHECKPOINT} finds the passages."
        return Checkpoint(name, DEFAULT_CHECKPOINT, str(folder), note)
    if "reading" not in heads:
        note = f"It only finds passages: {DEFAULT_CHECKPOINT} reads the answers."
        return Checkpoint(name, str(folder), DEFAULT_CHECKPOINT, note)
    return Checkpoint(name, str(folder), str(folder), "")


def _remedy(name: str, error: CheckpointError) -> str:
    if is_local(name):
        return f"The checkpoint '{name}' can't be used: {error}"
    return (
        f"The checkpoint '{name}' is not on this machine: it is not bundled, no such folder is here, and the hub's "
        f"cache has no copy. The demo fetches nothing by itself. Get it by hf download {name}, or write the path of "
        "its folder."
    )
