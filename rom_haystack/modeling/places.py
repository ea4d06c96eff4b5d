"""Find ROM checkpoints: bundled, in a folder, or on the Hugging Face hub. Needs neither torch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rom_haystack.modeling.errors import CheckpointError

DEFAULT_CHECKPOINT = "rom-minilm-l6"
#: What the config.json of a ROM checkpoint calls the model.
MODEL_TYPE = "rom"
#: Version of the checkpoint layout this code writes, and the newest it reads.
FORMAT_VERSION = 1
#: What tells a folder of exported graphs, which may have no weights beside them.
FACTS_FILE = "facts.json"

_BUNDLED = Path(__file__).parent.parent / "checkpoints"
#: What is fetched from the hub: first what tells what is there, then, of a ROM checkpoint, what inference reads.
SETTINGS = ("*.json",)
_FILES = (*SETTINGS, "*.safetensors", "*.txt", "*.model", "*.onnx", "*.onnx.data", "openvino*.xml", "openvino*.bin")
_MODELS = ("*.safetensors", "*.onnx", "openvino*.xml")


def resolve_checkpoint(
    model: str | Path, *, revision: str | None = None, token: str | None = None, local_files_only: bool = False
) -> Path:
    """Find a checkpoint's folder: a bundled name, else a local folder, else a hub id (its cached copy first).

    The hub is asked only for an id that is neither bundled, nor local, nor in the cache, and never when
    `HF_HUB_OFFLINE=1`.

    Args:
        model: Bundled name (`rom-minilm-l6`), folder or hub id.
        revision: Branch, tag or commit of a hub id.
        token: Access token for a private hub id.
        local_files_only: Never ask the hub; a hub id must then be in the cache.

    Raises:
        CheckpointError: Nothing of that name can be found, or it is no ROM checkpoint of a readable version.
    """
    folder = locate(model, revision=revision, token=token, local_files_only=local_files_only)
    if folder.is_file():
        raise CheckpointError(f"'{model}' is a file; a ROM checkpoint is a folder with config.json and weights.")
    check_folder(folder)
    return folder


def locate(
    model: str | Path, *, revision: str | None = None, token: str | None = None, local_files_only: bool = False
) -> Path:
    """Find what a name means, as `resolve_checkpoint` does, whatever it may be: it can be a file, too.

    Of a hub id that is no ROM checkpoint, the settings alone are fetched; `fetch` gets more.

    Raises:
        CheckpointError: Nothing of that name can be found.
    """
    bundled = bundled_checkpoints()
    try:
        local = Path(model).expanduser()
        is_there = local.exists()
    except (OSError, RuntimeError) as error:  # too long, not to be looked at, or an unknown user's home
        raise CheckpointError(
            f"'{model}' can't be looked up: {error}. Give a bundled name, the full path of a readable folder, or a "
            "hub id."
        ) from error
    if str(model) in bundled:
        return bundled[str(model)]
    if is_there:
        return local.resolve()
    folder = fetch(str(model), SETTINGS, revision=revision, token=token, local_files_only=local_files_only)
    try:
        _check_config(folder)
    except CheckpointError:
        return folder
    cached = any(any(folder.glob(pattern)) for pattern in _MODELS)
    return fetch(
        str(model), _FILES, revision=revision, token=token, local_files_only=local_files_only, or_cached=cached
    )


def fetch(
    model: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    or_cached: bool = True,
) -> Path:
    """Get files of a hub id, and return the folder in the cache that holds them.

    Args:
        model: Hub id.
        files: Patterns of their names, folders included.
        revision: As in `resolve_checkpoint`.
        token: As in `resolve_checkpoint`.
        local_files_only: As in `resolve_checkpoint`.
        or_cached: Take what is in the cache where there is anything, without asking the hub.

    Raises:
        CheckpointError: They can't be had.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (only hub ids need it)
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    options: dict[str, Any] = {"revision": revision, "token": token, "allow_patterns": list(files)}
    try:
        try:
            return Path(snapshot_download(model, local_files_only=or_cached or local_files_only, **options))
        except LocalEntryNotFoundError:
            if local_files_only or not or_cached:
                raise
            return Path(snapshot_download(model, **options))
    except Exception as error:  # bad ids, missing repositories and lost connections each have their own class
        bundled = ", ".join(bundled_checkpoints())
        raise CheckpointError(
            f"No checkpoint '{model}': not bundled (bundled: {bundled}), no such folder, and not to be had from the "
            f"hub ({type(error).__name__}: {error})."
        ) from error


def check_folder(folder: Path) -> None:
    """Check that a folder looks like a ROM checkpoint that this version reads, without loading its weights.

    A folder of exported graphs is one too, even without weights that torch could load.

    Raises:
        CheckpointError: It does not; the message says why and what to do.
    """
    _check_config(folder)
    if not has_weights(folder) and not (folder / FACTS_FILE).is_file():
        raise CheckpointError(f"{folder} holds no weights (*.safetensors).")


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights that torch can load."""
    return any(folder.glob("*.safetensors"))


def is_local(model: str) -> bool:
    """Tell whether a name is no business of the hub's: bundled, there, or impossible."""
    if model in bundled_checkpoints():
        return True
    try:
        return Path(model).expanduser().exists()
    except (OSError, RuntimeError):  # finding it says what is wrong
        return True


def bundled_checkpoints() -> dict[str, Path]:
    """Return the folders of the checkpoints that come with the package, by name."""
    return {path.name: path for path in sorted(_BUNDLED.glob("*")) if path.is_dir()}


def _check_config(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no ROM checkpoint: it has no config.json.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} can't be read: {error}.") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != MODEL_TYPE:
        raise CheckpointError(
            f"{folder} is no ROM checkpoint: its config.json names the model type '{model_type}', not "
            f"'{MODEL_TYPE}'. ROMModel.from_encoder starts a ROM model from a plain encoder, and `rom convert` makes "
            "one of a DPR, sentence-transformers or question answering model."
        )
    version = config.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format version {version}; this version of rom-haystack reads up to "
            f"{FORMAT_VERSION}. Update rom-haystack."
        )
