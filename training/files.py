"""Folders that are there in full or not at all, whatever kills the process or cuts the power."""

from __future__ import annotations

import shutil
from pathlib import Path

from rom_haystack.durable import sync, sync_folder


def replace_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its name; one that is there of that name is deleted first.

    Args:
        partial: The folder, on the same file system.
        final: Its name from now on.
    """
    for file in partial.rglob("*"):
        sync_folder(file) if file.is_dir() else sync(file)
    sync_folder(partial)
    delete_folder(final)
    partial.rename(final)
    sync_folder(final.parent)


def delete_folder(folder: Path) -> None:
    """Delete a folder if it is there; half of it is never seen under its name."""
    if folder.is_dir():
        trash = trash_of(folder)
        shutil.rmtree(trash, ignore_errors=True)
        folder.rename(trash)
        shutil.rmtree(trash)


def trash_of(folder: Path) -> Path:
    """Return the name that a folder has while it is deleted."""
    return folder.with_name(f"deleted.{folder.name}")
