"""Folders of models: saved, and compared."""

import filecmp
import shutil
from pathlib import Path

from rom_haystack.inference.converted import find_checkpoint


def copy_model(
    model: str, target: Path, *, revision: str | None = None, token: str | None = None, local_files_only: bool = False
) -> Path:
    """Copy a model to a folder, as a ROM checkpoint; a model that was there before is replaced.

    Args:
        model: Bundled name, folder or hub id, of a ROM checkpoint or of a model that can be converted.
        target: The folder.
        revision: Branch, tag or commit of a hub id.
        token: Access token for a private hub id.
        local_files_only: Never ask the hub.

    Raises:
        CheckpointError: There is no such model.
        ValueError: The folder holds something else.
    """
    source = find_checkpoint(model, revision=revision, token=token, local_files_only=local_files_only)
    target = target.expanduser().absolute()
    if target.exists() and target.samefile(source):
        return target
    if target.exists() and not (target.is_dir() and ((target / "config.json").is_file() or not any(target.iterdir()))):
        raise ValueError(f"{target} is there already, and holds no model (no config.json). Choose another folder.")
    half = target.with_name(target.name + ".new")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half)
    shutil.rmtree(target, ignore_errors=True)
    half.replace(target)
    return target


def same_model(one: Path, other: Path) -> bool:
    """Tell whether two folders hold the same files, so that one model in memory can do for both."""
    names = {path.name for path in one.iterdir()}
    if names != {path.name for path in other.iterdir()}:
        return False
    files = [name for name in names if (one / name).is_file()]
    return len(files) == len(names) and not any(filecmp.cmpfiles(one, other, files, shallow=False)[1:])
