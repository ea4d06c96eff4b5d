"""The table of contents of a library's index: what was read of each file, and which passages came of it."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from rom_haystack.durable import replace_file
from rom_haystack.folders import LibraryError, why_unreadable

#: Version of the index layout this code writes, and the newest it reads.
FORMAT_VERSION = 2
#: Name of the file in the index.
MANIFEST = "manifest.json"

# During a long update the manifest is saved so seldom that saving takes about a tenth of the time.
_TIMES_ITS_COST = 10


@dataclass
class FileEntry:
    """What the index knows of one file.

    Attributes:
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds; -1 where it can't be trusted yet.
        sha256: Hash of the content.
        ids: The file's passages in the store.
        reason: Why there are none; None for a file that was read.
        pages: Pages of a PDF file that was read.
    """

    size: int
    mtime_ns: int
    sha256: str
    ids: list[str] = field(default_factory=list)
    reason: str | None = None
    pages: int | None = None

    @classmethod
    def unknown(cls) -> "FileEntry":
        """Stand for a file that was indexed and must be again, whatever is in it."""
        return cls(size=-1, mtime_ns=-1, sha256="")


@dataclass
class Manifest:
    """The table of contents of an index.

    The store is the truth: what it holds beyond the manifest, or lacks, shows by its version.

    Attributes:
        folder: The folder of documents.
        model: The model that embedded them, as it was asked for.
        fingerprint: Hash of the model's files.
        settings: How files were cut into passages.
        store_settings: What the store was made with.
        store_version: The store's version when it held just what the manifest says; None while it may hold anything.
        churn: Passages written and deleted since the store was last optimized.
        files: By path in the folder, with `/`.
        format_version: Layout of the index.
    """

    folder: str
    model: str
    fingerprint: str
    settings: dict[str, Any]
    store_settings: dict[str, Any]
    store_version: int | None = None
    churn: int = 0
    files: dict[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def outdated_by(self, entries: Mapping[str, FileEntry | None]) -> list[str]:
        """List the passages that no file will have any more once `replace` has been given these entries."""
        change: Counter[str] = Counter()
        for name, entry in entries.items():
            if name in self.files:
                change.subtract(self.files[name].ids)
            if entry is not None:
                change.update(entry.ids)
        return [passage for passage, count in change.items() if count < 0 and self._named[passage] + count <= 0]

    def replace(self, entries: Mapping[str, FileEntry | None]) -> None:
        """Set files' entries; None drops one."""
        for name, entry in entries.items():
            if name in self.files:
                self._named.subtract(self.files.pop(name).ids)
            if entry is not None:
                self._named.update(entry.ids)
                self.files[name] = entry

    def names(self, passage: str) -> bool:
        """Tell whether a file has this passage."""
        return self._named[passage] > 0

    @cached_property
    def _named(self) -> Counter[str]:
        """How many files have each passage: names that differ only in what is no Unicode are shown as the same."""
        return Counter(passage for entry in self.files.values() for passage in entry.ids)


class ManifestFile:
    """The file that a manifest is kept in.

    Args:
        index: Folder of the index.
    """

    def __init__(self, index: Path) -> None:
        self.index = index
        self.path = index / MANIFEST
        self._due = 0.0

    def read(self, folder: Path) -> tuple[Manifest | None, str | None]:
        """Read the manifest.

        Args:
            folder: The documents' folder that it must belong to.

        Returns:
            The manifest, or None where there is none that can be used; then also why, unless there just is none.

        Raises:
            LibraryError: It belongs to another folder, is of a newer version, or can't be read.
        """
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
            version, owner = raw["format_version"], raw["folder"]
            self._check(version, owner, folder)
            if version < FORMAT_VERSION:
                return None, "the index was made by an earlier version of rom-haystack"
            files = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
            return Manifest(**{**raw, "files": files}), None
        except LibraryError:
            raise
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise LibraryError(f"The index in {self.index} {why_unreadable(error)}.") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            return None, "the index was damaged"

    def save(self, manifest: Manifest) -> None:
        """Save a manifest in place of the one before.

        Raises:
            LibraryError: It can't be written.
        """
        start = time.monotonic()
        try:
            content = {item.name: getattr(manifest, item.name) for item in fields(manifest)}
            replace_file(self.path, json.dumps(content, default=vars))
        except OSError as error:
            raise LibraryError(f"The index in {self.index} can't be written: {error.strerror or error}.") from error
        end = time.monotonic()
        self._due = end + _TIMES_ITS_COST * (end - start)

    def save_when_due(self, manifest: Manifest) -> None:
        """Save a manifest if the last time was long enough ago, measured by what it took."""
        if time.monotonic() >= self._due:
            self.save(manifest)

    def adopt(self, folder: Path) -> None:
        """Let the index belong to a folder to which the documents, with their time stamps, were moved or copied.

        Raises:
            LibraryError: It can't be written.
        """
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
            if raw["folder"] != str(folder):
                replace_file(self.path, json.dumps({**raw, "folder": str(folder)}))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return  # none, or a damaged one; `read` tells
        except OSError as error:
            raise LibraryError(f"The index in {self.index} can't be written: {error.strerror or error}.") from error

    def _check(self, version: int, owner: str, folder: Path) -> None:
        if version > FORMAT_VERSION:
            raise LibraryError(
                f"The index in {self.index} has format version {version}; this version of rom-haystack reads up to "
                f"{FORMAT_VERSION}. Update rom-haystack, or choose another place with index (--index)."
            )
        if owner != str(folder):
            raise LibraryError(
                f"The index in {self.index} belongs to another folder, {owner}. Choose another place with index "
                "(--index), or delete that index if it isn't needed any more."
            )
