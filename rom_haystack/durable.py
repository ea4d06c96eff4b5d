"""Files that are there in full or not at all, whatever kills the process or cuts the power."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Write a text file in UTF-8, replacing what is there at once; meanwhile there is a `.new` beside it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    sync(new)
    new.replace(path)
    sync_folder(path.parent)


def sync(file: Path) -> None:
    """Let a file's content survive a power cut."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
    if sys.platform != "win32":  # Windows can't open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
