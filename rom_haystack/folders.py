"""Folders of files: what is in them, and where their indexes lie."""

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from rom_haystack.caches import cache_home
from rom_haystack.files import mime_type_of
from rom_haystack.unreadable import UnreadableSourceError

#: Bytes of the largest file that is read.
MAX_FILE_SIZE = 50 * 1024 * 1024
# A file changed within this time of being looked at may change again without a new time stamp (some file systems
# count in steps of two seconds).
_TIMESTAMP_STEP_NS = 2_000_000_000


class LibraryError(ValueError):
    """A library can't be opened or updated; the message says why and what to do."""


class NotUpdatableError(LibraryError):
    """An index can't be updated now: another process is at it, or it lies where nothing can be written."""


@dataclass
class FoundFile:
    """A file in the folder, as it was when it was looked at."""

    path: Path
    size: int
    mtime_ns: int


def scan(folder: Path, *, follow_links: bool = True) -> tuple[dict[str, FoundFile], dict[str, str]]:
    """Find the files of a folder that can be indexed.

    Hidden files and folders are left out; links to folders are followed, each folder once.

    Args:
        folder: The folder.
        follow_links: Also follow links that lead out of the folder.

    Returns:
        Files by their path in the folder, sorted, and reasons by path for files of a supported kind that can't be read.
    """
    found: dict[str, FoundFile] = {}
    unreadable: dict[str, str] = {}
    seen: set[tuple[int, int]] = set()
    within = None if follow_links else folder.resolve()

    def walk(directory: Path) -> None:
        status = directory.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        # Links last, so that a folder is known by its own name where it has one here.
        for path in sorted(directory.iterdir(), key=lambda p: (p.is_symlink(), p.name)):
            if path.name.startswith("."):
                continue
            name = path.relative_to(folder).as_posix()
            try:
                if path.is_dir():
                    _check_link(path, within)
                    walk(path)
                elif mime_type_of(path) is not None:
                    _check_link(path, within)
                    found[name] = _look_at(path)
            except OSError as error:
                unreadable[name] = why_unreadable(error)
            except UnreadableSourceError as error:
                unreadable[name] = str(error)

    try:
        walk(folder)
    except OSError as error:
        raise LibraryError(f"The folder {folder} {why_unreadable(error)}.") from error
    return dict(sorted(found.items())), unreadable


def default_index(folder: Path, fingerprint: str) -> Path:
    """Place the index of a folder in the cache.

    Raises:
        LibraryError: `ROM_HOME` names the home of an unknown user.
    """
    digest = hashlib.blake2b(os.fsencode(folder) + b"\0" + fingerprint.encode(), digest_size=12)
    try:
        return cache_home() / digest.hexdigest()
    except ValueError as error:
        raise LibraryError(str(error)) from error


def expanded(path: str | Path) -> Path:
    """Write out a path that begins with `~`.

    Raises:
        LibraryError: It names the home of an unknown user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise LibraryError(
            f"'{path}' can't be found: it names the home of a user who isn't known here. Write the path out in full."
        ) from error


def existing_folder(folder: str | Path) -> Path:
    """Return a folder's whole path.

    Raises:
        LibraryError: There is no such folder.
    """
    path = expanded(folder)
    if not path.exists():
        raise LibraryError(f"There is no folder '{folder}'.")
    if not path.is_dir():
        raise LibraryError(f"'{folder}' is a file; give the folder that it is in.")
    return path.resolve()


def _check_link(path: Path, within: Path | None) -> None:
    """Refuse a link that leads out of a folder."""
    if within is not None and path.is_symlink() and not path.resolve().is_relative_to(within):
        raise UnreadableSourceError("is a link that leads out of the folder")


def _look_at(path: Path) -> FoundFile:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableSourceError("is no regular file")
    if status.st_size > MAX_FILE_SIZE:
        size, limit = (f"{value / 1024 / 1024:.0f} MB" for value in (status.st_size, MAX_FILE_SIZE))
        raise UnreadableSourceError(f"is too large: {size}, and the limit is {limit}; split it into smaller files")
    path.open("rb").close()
    return FoundFile(path, status.st_size, status.st_mtime_ns)


def why_unreadable(error: OSError) -> str:
    """Say in a few words why a file or folder can't be read."""
    return f"can't be read: {error.strerror or error}"


def settled(mtime_ns: int) -> int:
    """Return a time stamp that a later change is sure to alter: -1, from before 1970, where this one might stay."""
    return mtime_ns if mtime_ns < time.time_ns() - _TIMESTAMP_STEP_NS else -1


def has_hash(path: Path, sha256: str) -> bool:
    """Tell whether a file's content has this SHA-256 hash."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:  # gone since it was looked at; the attempt to index it will say so
        return False
