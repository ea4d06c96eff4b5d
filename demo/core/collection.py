"""A set of documents that can be asked, with its indexes."""

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from demo.core.exchange import FileExchange
from demo.core.jobs import Report
from demo.core.uploads import Added, Upload, check_uploads
from rom_haystack.folders import LibraryError, NotUpdatableError, existing_folder
from rom_haystack.library import Library, UpdateReport
from rom_haystack.manifest import MANIFEST, FileEntry, ManifestFile
from rom_haystack.modeling import DEFAULT_CHECKPOINT

#: Name of the folder with the documents of a collection that keeps them.
DOCUMENTS = "documents"
_INDEXES = "indexes"

Kind = Literal["sample", "own", "linked", "session"]


class ShelfError(ValueError):
    """Something about collections that can't be done; the message says why and what to do."""


@dataclass(frozen=True)
class FileInfo:
    """A document of a collection.

    Attributes:
        name: Its path in the collection's folder.
        size: Bytes.
        passages: Passages that it was cut into.
        pages: Its pages; None where it has none, as Markdown.
        problem: Why it could not be read; None where it was.
    """

    name: str
    size: int
    passages: int
    pages: int | None
    problem: str | None


def ignore(done: int, total: int, label: str) -> None:
    """Report to nobody."""


class Collection:
    """A set of documents that can be asked; any number of threads may use it.

    Args:
        id: Its name in addresses.
        name: Its name as the user wrote it.
        kind: `sample` (comes with the package), `own` (we keep the documents), `linked` (a folder elsewhere, which is
            only read) or `session` (the unsaved uploads of one browser session).
        folder: The documents.
        home: Where its indexes lie.
    """

    def __init__(self, id: str, name: str, kind: Kind, folder: Path, home: Path) -> None:  # noqa: A002 (its name)
        self.id = id
        self.name = name
        self.kind = kind
        self.folder = folder
        self.home = home
        self._opening = threading.Lock()
        self._libraries: dict[str, Library] = {}

    @property
    def version(self) -> str:
        """What changes whenever the passages in the index of any model change."""
        digest = hashlib.blake2b(digest_size=8)
        for manifest in sorted(self._indexes.glob(f"*/{MANIFEST}")):
            try:
                status = manifest.stat()
            except OSError:  # just being exchanged or removed; asked again, it tells
                continue
            digest.update(f"{manifest.parent.name} {status.st_ino} {status.st_mtime_ns};".encode())
        return digest.hexdigest()

    @property
    def changeable(self) -> bool:
        """Whether documents can be added and removed here."""
        return self.kind in ("own", "session")

    def library(self, model: str = DEFAULT_CHECKPOINT) -> Library:
        """Return the one open library of a model, which all threads share.

        Args:
            model: Bundled name or folder of the checkpoint.

        Raises:
            LibraryError: The folder of the documents is gone.
            CheckpointError: The model can't be found.
        """
        with self._opening:
            if model not in self._libraries:
                index = self._indexes / _file_name(model)
                if self.changeable:  # the folder moves with the index
                    ManifestFile(index).adopt(existing_folder(self.folder))
                followed = self.kind != "linked"  # what was pointed at is the folder, not what lies elsewhere
                self._libraries[model] = Library(self.folder, index=index, model=model, follow_links=followed)
            return self._libraries[model]

    def files(self) -> list[FileInfo]:
        """List the documents, as they were when they were last indexed; by name."""
        entries = self.library().files()
        infos = {
            name: FileInfo(name, entry.size, len(entry.ids), entry.pages, entry.reason)
            for name, entry in entries.items()
        }
        if self.changeable:
            for name, size in self._sizes().items():
                infos.setdefault(name, FileInfo(name, size, 0, None, "is not indexed yet"))
        return [infos[name] for name in sorted(infos, key=str.casefold)]

    def add(self, uploads: Sequence[Upload], report: Report = ignore) -> Added:
        """Add documents, and index them.

        Files that can't be taken or read are left out; the rest goes on without them. Where the work ends early (by
        `CancelledError` from `report`, or an error), files that were read by then stay, and the others are as before.

        Args:
            uploads: The files. One with the name of a document that is there replaces it.
            report: Called after each file that was read.

        Raises:
            ShelfError: The documents of this collection can't be changed here.
            LibraryError: The index can't be written.
        """
        self._check_changeable()
        with self._locked(report):
            present = self._sizes()
            taken, failed = check_uploads(uploads, present)
            with FileExchange(self.folder, self.home / "replaced") as exchange:
                failed += exchange.write(taken)
                skipped = self._index_exchanged(exchange, report)
        failed += [(name, reason) for name, reason in skipped.items() if name in taken]
        done = [name for name in exchange.written if name not in skipped]
        return Added(
            tuple(name for name in done if name not in present),
            tuple(name for name in done if name in present),
            tuple(failed),
        )

    def remove(self, names: Sequence[str], report: Report = ignore) -> None:
        """Remove documents, and their passages.

        Args:
            names: The documents; names that are not there are passed over.
            report: Called while this waits for another change to end.

        Raises:
            ShelfError: The documents of this collection can't be changed here.
            LibraryError: The index can't be written.
        """
        self._check_changeable()
        with self._locked(report):
            for name in set(names) & self._sizes().keys():
                (self.folder / name).unlink(missing_ok=True)
            self._update(report)

    def reindex(self, report: Report = ignore, model: str = DEFAULT_CHECKPOINT) -> UpdateReport:
        """Bring the index up to date with the documents; the first time, make it; mend it where it is damaged.

        Args:
            report: Called after each file that was new or changed.
            model: The checkpoint whose index it is.

        Raises:
            LibraryError: The folder is gone, or the index can't be written.
            CheckpointError: The model can't be found.
        """
        with self._locked(report):
            library = self.library(model)
            try:
                return library.update(report)
            except NotUpdatableError:
                raise
            except LibraryError:  # damage; what a repair can't change, it says again
                return library.repair(report)

    def copy_to(self, home: Path) -> None:
        """Copy the documents and their indexes to the home of another collection.

        Args:
            home: A folder without either.
        """
        with self._locked(ignore):
            self.close()  # so that the stores leave no logs beside their databases
            shutil.copytree(self.folder, home / DOCUMENTS)
            if self._indexes.exists():
                shutil.copytree(self._indexes, home / _INDEXES, ignore=shutil.ignore_patterns("lock"))

    def close(self) -> None:
        """Close the indexes; later use opens them again."""
        with self._opening:
            libraries = list(self._libraries.values())
            self._libraries.clear()
        for library in libraries:
            library.close()

    @property
    def _indexes(self) -> Path:
        return self.home / _INDEXES

    def _update(self, report: Report) -> UpdateReport:
        """Bring the index of the bundled model up to date, and those of other models that were made before."""
        result = self.library().update(report)
        with self._opening:
            others = [library for model, library in self._libraries.items() if model != DEFAULT_CHECKPOINT]
        for library in others:
            library.update(report)
        return result

    def _index_exchanged(self, exchange: FileExchange, report: Report) -> dict[str, str]:
        """Index what was exchanged, and take back what can't be read; returns the reasons by name."""
        try:
            skipped = dict(self._update(report).skipped)
        except BaseException:
            entries = self.library().files()
            exchange.undo([name for name, hash_ in exchange.written.items() if not _is_read(entries.get(name), hash_)])
            raise
        if back := [name for name in exchange.written if name in skipped]:
            exchange.undo(back)
            self._update(ignore)
        return skipped

    def _sizes(self) -> dict[str, int]:
        with os.scandir(self.folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if not entry.name.startswith(".")}

    def _check_changeable(self) -> None:
        if not self.changeable:
            raise ShelfError(
                f"The documents of '{self.name}' are only read here. Change them in their folder, or make a collection."
            )

    @contextmanager
    def _locked(self, report: Report) -> Iterator[None]:
        """Keep other threads and processes from changing the collection; wait for them, reporting."""
        self.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.home / "lock", thread_local=False)
        while True:
            try:
                lock.acquire(timeout=0.2)
                break
            except Timeout:
                report(0, 0, "waiting for another change of these documents to end")
        try:
            yield
        finally:
            lock.release()


def _is_read(entry: FileEntry | None, sha256: str) -> bool:
    return entry is not None and entry.reason is None and entry.sha256 == sha256


def _file_name(model: str) -> str:
    """Name the folder of a model's index: readable, and one for each model."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", Path(model).name)[:40]
    return f"{readable}-{hashlib.blake2b(model.encode(), digest_size=6).hexdigest()}"
