"""What is too large for memory is read into a folder, once: where it lies, and whether it is still of its sources.

Such a data set is read into the folder `<name>.partial` and then named, so that it is whole or not there. The name is
made of the sources' paths, sizes and times; where it is there already, as when a run goes on, nothing is read again.
Processes that want the same one wait for the first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from training.data.beir import beir_files
from training.data.dataset import DataSet
from training.data.jsonl import jsonl_files
from training.data.stored import StoredDraft, open_stored
from training.data.text import text_files
from training.errors import DataError
from training.files import delete_folder, replace_folder

#: Bytes of files from which on they are read into a folder. In memory they take about twice as many, in every process
#: that makes batches.
LARGE = 1 << 28
#: Bytes of JSON or text in a byte that is gzip'd.
_UNPACKED = 3
#: Goes up when stores change, so that those of older versions are not taken for today's.
_VERSION = 1
_NAMES = re.compile(r"(deleted\.)?[0-9a-f]{16}(\.partial|\.lock)?")


def is_large(paths: Sequence[Path]) -> bool:
    """Tell whether data sets hold more than should be kept in memory; unpacked, as `_UNPACKED` estimates it."""
    files = (file for path in paths for file in source_files(path))
    return sum(file.stat().st_size * (_UNPACKED if file.suffix == ".gz" else 1) for file in files) >= LARGE


def source_files(path: Path) -> list[Path]:
    """Return the files that a data set is read from; none where there is none."""
    if path.is_file():
        return [path]
    return jsonl_files(path) or beir_files(path) or text_files(path)


def kept_in(folder: Path, paths: Sequence[Path], read: Callable[[StoredDraft], DataSet]) -> DataSet:
    """Return data sets, as one, that are kept in a folder; they are read first unless they are there.

    Args:
        folder: Folder of any number of such.
        paths: The data sets.
        read: Reads them.

    Raises:
        DataError: They can't be read, or the folder can't be written.
    """
    facts = [(str(path.resolve()), [_facts(file) for file in source_files(path)]) for path in paths]
    name = hashlib.sha256(json.dumps([_VERSION, facts]).encode()).hexdigest()[:16]
    place = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not place.is_dir():
                _make(place, read)
    except OSError as error:
        raise DataError(
            f"{folder} can't be written ({error}). Data sets of {LARGE >> 20} MB and more need room there, about as "
            "much as they take unpacked."
        ) from error
    return open_stored(place)


def delete_stores(folder: Path) -> None:
    """Delete the data sets that are kept in a folder, and the folder if there is nothing else in it."""
    found = [path for path in folder.glob("*") if _NAMES.fullmatch(path.name)]
    for path in found:
        if path.is_dir():
            delete_folder(path)
        else:
            path.unlink(missing_ok=True)
    if found and not any(folder.iterdir()):
        folder.rmdir()


def _facts(file: Path) -> tuple[str, int, int]:
    found = file.stat()
    return str(file.resolve()), found.st_size, found.st_mtime_ns


def _make(place: Path, read: Callable[[StoredDraft], DataSet]) -> None:
    partial = place.with_name(f"{place.name}.partial")
    delete_folder(partial)
    partial.mkdir()
    draft = StoredDraft(partial)
    try:
        read(draft)
        replace_folder(partial, place)
    except BaseException:
        draft.close()
        delete_folder(partial)
        raise
