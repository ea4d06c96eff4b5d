"""The index of a library on disk: a manifest, a document store and a lock in one folder, kept in agreement."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy

from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.repair import UnreadableStoreError, find_problems, remove_unfinished, repair
from rom_haystack.document_stores.settings import DATABASE, prepare_folder
from rom_haystack.folders import LibraryError, NotUpdatableError
from rom_haystack.manifest import MANIFEST, FileEntry, Manifest, ManifestFile

_LOCK = "lock"
_STORE = "store"
# What repairs leave beside the store: the damaged one, and, if they are killed, the one that was to replace it.
_LEFTOVER = re.compile(rf"{_STORE}\.(damaged|repairing|repaired)-[0-9]+")
_FORMAT_1_FILE = re.compile(r"passages-[0-9]+\.json(\.new)?")
_OUR_FILE = re.compile(rf"manifest\.json(\.new)?|{_LOCK}|{_STORE}|{_LEFTOVER.pattern}|{_FORMAT_1_FILE.pattern}")
# The store is optimized when more than this share of its passages was written or deleted since the last time.
_OPTIMIZE_ABOVE = 0.1


@dataclass
class Repaired:
    """What a repair found and did.

    Attributes:
        problems: What was wrong; empty where nothing was.
        kept: Passages that could be kept; the others are indexed again.
        damaged_folder: Where the damaged files were put; the next repair removes them.
    """

    problems: list[str] = field(default_factory=list)
    kept: int = 0
    damaged_folder: str | None = None


class WritableIndex:
    """An index while it is updated.

    Args:
        manifest: What it holds of each file.
        store: The passages.
        file: Where the manifest is kept.
        rebuilt: Why the index is made anew; None where it is only brought up to date.
    """

    def __init__(
        self, manifest: Manifest, store: SQLiteFAISSDocumentStore, file: ManifestFile, rebuilt: str | None
    ) -> None:
        self.manifest = manifest
        self.store = store
        self.rebuilt = rebuilt
        self._file = file
        if manifest.store_version != store.version:
            self._reconcile()

    def exchange(self, entries: Mapping[str, FileEntry | None], passages: Sequence[Document]) -> None:
        """Write the new passages of some files, then delete their old ones.

        Args:
            entries: By file; None for a file that is to have no entry any more.
            passages: Those the entries name, with embeddings.
        """
        if not entries:
            return
        outdated = self.manifest.outdated_by(entries)
        if passages:
            self.store.write_documents(list(passages), policy=DuplicatePolicy.OVERWRITE)
        if outdated:
            self.store.delete_documents(outdated)
        # Only now, so that a failure leaves a manifest that is true, or that the store's version tells from the truth.
        self.manifest.replace(entries)
        self.manifest.store_version = self.store.version
        self.manifest.churn += len(passages) + len(outdated)
        self._file.save_when_due(self.manifest)

    def optimize_when_due(self) -> None:
        """Optimize the store if much of it has changed since the last time."""
        if self.manifest.churn > _OPTIMIZE_ABOVE * self.store.count_documents():
            self.store.optimize()
            self.manifest.store_version = self.store.version
            self.manifest.churn = 0

    def save(self) -> None:
        """Save the manifest; the store needs no saving."""
        self._file.save(self.manifest)

    def _reconcile(self) -> None:
        """Make store and manifest agree: drop passages that no file has, and forget files that lack passages."""
        manifest, store = self.manifest, self.store
        if manifest.files:
            batches = store.iter_documents(return_embedding=False)
            there = {document.id for batch in batches for document in batch}
            incomplete = [name for name, entry in manifest.files.items() if not there.issuperset(entry.ids)]
            manifest.replace({name: FileEntry.unknown() for name in incomplete})
            if strangers := [passage for passage in there if not manifest.names(passage)]:
                store.delete_documents(strangers)
        elif store.count_documents():
            store.delete_all_documents()
        manifest.store_version = store.version
        self.save()


class LibraryIndex:
    """The index of a folder of documents.

    Args:
        path: Where it lies, or is to lie.
        empty: The manifest of an index of these documents, this model and these settings before anything is in it.

    Raises:
        LibraryError: Something else lies there.
    """

    def __init__(self, path: Path, empty: Manifest) -> None:
        self.path = path
        self._empty = empty
        self._file = ManifestFile(path)
        self._check()
        self._reader = self._open_store(read_only=True)
        self._read_from: tuple[int, int] | None = None
        self._fits = False

    def read(self) -> tuple[Manifest, str | None]:
        """Read the manifest, without the lock.

        Returns:
            The manifest, or an empty one without store version where the index must be made; then also why, if it must
            be made anew.

        Raises:
            LibraryError: See `ManifestFile.read`.
        """
        empty = replace(self._empty, files={})
        manifest, why = self._file.read(Path(empty.folder))
        if manifest is None:
            return empty, why
        if manifest.fingerprint != empty.fingerprint:
            return empty, "the index was made with another model"
        if (manifest.settings, manifest.store_settings) != (empty.settings, empty.store_settings):
            return empty, "the index was made with other settings"
        if not self._database.exists():
            return empty, "the index was damaged" if manifest.files else None
        return manifest, None

    def agrees_with(self, manifest: Manifest) -> bool:
        """Tell whether the store holds what a manifest says.

        Raises:
            LibraryError: The store is damaged.
        """
        if manifest.store_version is None:
            return False
        with explained():
            self._fits = True
            return manifest.store_version == self._current_reader().version

    def store(self) -> SQLiteFAISSDocumentStore:
        """Return the store for reading.

        Raises:
            LibraryError: There is no index yet, or it is damaged.
        """
        if not self._fits:  # a manifest may be large, and what update() has read need not be read again
            manifest, why = self.read()
            if manifest.store_version is None:
                reason = f" ({why})" if why else ""
                raise LibraryError(
                    f"There is no index of {manifest.folder} in {self.path} that can be searched{reason}. Make it with "
                    "update()."
                )
        with explained():
            reader = self._current_reader()
            reader.count_documents()
        return reader

    def close(self) -> None:
        """Close the store; later use opens it again."""
        self._reader.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from updating the index.

        Raises:
            NotUpdatableError: One is at it, or the index can't be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / _LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise NotUpdatableError(
                f"Another process is updating the index in {self.path}. Try again when it has finished."
            ) from None
        except OSError as error:
            raise NotUpdatableError(
                f"The index in {self.path} can't be written ({error.strerror or error}). Choose another place with "
                "index (--index), or set ROM_HOME."
            ) from error
        try:
            yield
        finally:
            lock.release()

    # What needs the lock

    @contextmanager
    def writable(self) -> Iterator[WritableIndex]:
        """Open the index for an update, its manifest and store in agreement; make it where there is none that fits.

        Raises:
            LibraryError: The store is damaged, or can't be written.
        """
        self._reader.close()  # so that the writer is the last to close the database, and leaves no log beside it
        manifest, rebuilt = self.read()
        if manifest.store_version is None:
            self._make_way_for(manifest)
        with explained(), self._open_store(read_only=False) as store:
            yield WritableIndex(manifest, store, self._file, rebuilt)
            self._fits = True

    def repair(self) -> Repaired:
        """Repair the store where it is damaged; `writable` then finds what it holds.

        Raises:
            LibraryError: The index can't be written.
        """
        manifest, why = self.read()
        self._reader.close()
        if not self._database.exists():
            return Repaired()
        with self._writing_explained(), explained():
            if why is not None:  # all is made anew, and nothing of the store is worth keeping
                self._remove_store()
                return Repaired()
            store = self._open_store(read_only=False)
            problems = find_problems(store)
            if not problems:
                return Repaired(kept=store.count_documents())
            self._file.save(replace(manifest, store_version=None))
            try:
                found = repair(store)
            except UnreadableStoreError:
                aside = _free_name(self.path / f"{_STORE}.damaged")
                self._database.parent.rename(aside)
                return Repaired(problems, damaged_folder=str(aside))
            if found.without_embedding:
                store.delete_documents(found.without_embedding)
            store.close()
        kept = found.kept - len(found.without_embedding)
        return Repaired(problems, kept, str(found.damaged_folder) if found.damaged_folder else None)

    def remove_leftovers(self, but: str | None) -> None:
        """Remove what earlier repairs left, but one folder."""
        for path in list(self.path.iterdir()):
            if _LEFTOVER.fullmatch(path.name) and str(path) != but:
                shutil.rmtree(path, ignore_errors=True)

    def _current_reader(self) -> SQLiteFAISSDocumentStore:
        """Return the store for reading; if another was put in its place since it was opened, then that one."""
        try:
            status = self._database.stat()
            place = (status.st_dev, status.st_ino)
        except OSError:  # opening it says what is wrong
            place = None
        if place != self._read_from:
            self._reader.close()
            self._read_from = place
        return self._reader

    @property
    def _database(self) -> Path:
        return self.path / _STORE / DATABASE

    def _open_store(self, *, read_only: bool) -> SQLiteFAISSDocumentStore:
        return SQLiteFAISSDocumentStore(
            self.path / _STORE,
            **self._empty.store_settings,
            indexed_meta_fields=["file_path"],
            read_only=read_only,
            auto_optimize=False,  # see `optimize_when_due`
        )

    def _make_way_for(self, manifest: Manifest) -> None:
        """Save the manifest of a store that may hold anything, after removing what can't be its store."""
        before, _ = self._file.read(Path(manifest.folder))
        with self._writing_explained():
            if not self._database.exists() or (before and before.store_settings != manifest.store_settings):
                self._remove_store()
            self._file.save(manifest)
            for path in list(self.path.iterdir()):
                if _FORMAT_1_FILE.fullmatch(path.name):
                    path.unlink()

    def _remove_store(self) -> None:
        """Remove the store's files, the database first: without it the rest is nothing."""
        folder = self._database.parent
        for path in sorted(folder.glob(f"{DATABASE}*")):
            path.unlink()
        remove_unfinished(folder)
        with explained():
            prepare_folder(folder, read_only=False)  # refuses a folder with files of someone else
        shutil.rmtree(folder)

    @contextmanager
    def _writing_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LibraryError(f"The index in {self.path} can't be written: {error.strerror or error}.") from error

    def _check(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise LibraryError(f"{self.path} is a file; an index is a folder. Choose another place for it.")
        strangers = [path.name for path in self.path.iterdir() if not _OUR_FILE.fullmatch(path.name)]
        manifest: Any = None
        with suppress(OSError, ValueError):  # none, or a damaged one
            manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(manifest, dict):
            if {"format_version", "fingerprint"} <= manifest.keys():
                return
            strangers.insert(0, MANIFEST)  # whole, but something else's
        if strangers:
            raise LibraryError(
                f"{self.path} holds other files ({strangers[0]}, …) and no index. Choose an empty or a new folder."
            )


@contextmanager
def explained() -> Iterator[None]:
    """Turn the store's errors, which name file and remedy, into the library's."""
    try:
        yield
    except DocumentStoreError as error:
        raise LibraryError(str(error)) from error


def _free_name(path: Path) -> Path:
    """Number a path so that there is nothing yet."""
    number = 1
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free
