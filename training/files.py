"""Files and folders that are there in full or not at all, whatever kills the process or cuts the power."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Write a text file, replacing what is there at once."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    _sync(partial)
    partial.replace(path)
    _sync_folder(path.parent)


def replace_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its name; one that is there of that name is deleted first.

    Args:
        partial: The folder, on the same file system.
        final: Its name from now on.
    """
    for file in partial.rglob("*"):
        _sync_folder(file) if file.is_dir() else _sync(file)
    _sync_folder(partial)
    delete_folder(final)
    partial.rename(final)
    _sync_folder(final.parent)


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


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if sys.platform != "win32":  # Windows can't open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
