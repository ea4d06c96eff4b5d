"""A folder of files as a searchable library: its index on disk, brought up to date file by file."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMDocumentEmbedder
from rom_haystack.files import UnreadableSourceError, displayable, mime_type_of
from rom_haystack.folders import (
    FoundFile,
    LibraryError,
    default_index,
    existing_folder,
    expanded,
    has_hash,
    scan,
    settled,
    why_unreadable,
)
from rom_haystack.modeling import DEFAULT_CHECKPOINT, resolve_checkpoint
from rom_haystack.pipelines import ROMFileConverter

#: Version of the index layout this code writes, and the newest it reads.
FORMAT_VERSION = 1

_MANIFEST = "manifest.json"
_LOCK = "lock"
_STORE_FILE = re.compile(r"passages-[0-9]+\.json(\.new)?")
_INDEX_FILE = re.compile(rf"manifest\.json(\.new)?|lock|{_STORE_FILE.pattern}")
# Passages embedded and written together: whole files, until there are this many.
_GROUP = 64


@dataclass
class FileEntry:
    """What the index knows of one file.

    Attributes:
        size: Bytes.
        mtime_ns: Time of the last change, in nanoseconds; -1 where it can't be trusted yet.
        sha256: Hash of the content.
        ids: The file's passages in the store.
        reason: Why there are none; None for a file that was read.
    """

    size: int
    mtime_ns: int
    sha256: str
    ids: list[str] = field(default_factory=list)
    reason: str | None = None


@dataclass
class Manifest:
    """The table of contents of an index. What it names is what the index holds; it is replaced last.

    Attributes:
        folder: The folder of documents.
        model: The model that embedded them, as it was asked for.
        fingerprint: Hash of the model's files.
        settings: How files were cut into passages.
        generation: Number of times that the store was saved.
        files: By path in the folder, with `/`.
        format_version: Layout of the index.
    """

    folder: str
    model: str
    fingerprint: str
    settings: dict[str, Any]
    generation: int = 0
    files: dict[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def store_file(self) -> str:
        """Name of the file with the passages of this generation."""
        return f"passages-{self.generation}.json"


@dataclass
class UpdateReport:
    """What an update did.

    Attributes:
        added: Files that were new.
        replaced: Files whose content had changed.
        removed: Files that are gone, or that can't be read any more.
        unchanged: Files whose passages were kept as they were.
        skipped: Files without passages, each with the reason.
        passages: Passages in the index now.
        rebuilt: Why the index was made anew; None where it was only brought up to date.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    passages: int = 0
    rebuilt: str | None = None


@dataclass
class _Plan:
    """What separates the index from the folder."""

    changed: dict[str, FoundFile] = field(default_factory=dict)
    touched: dict[str, FileEntry] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.changed or self.touched or self.gone)


#: Called after each file of an update: files done, files to do, name of the file.
Progress = Callable[[int, int, str], None]


class Library:
    """A folder of documents with its index on disk.

    The documents' folder is only read. The index (a manifest and the document store) lies in a folder of its own and
    always is one complete state: an update that is killed leaves the one before, and one that is interrupted (Ctrl-C)
    keeps the files it had finished.

    ```python
    from rom_haystack.library import Library

    library = Library("docs")
    report = library.update()
    store = library.store
    ```

    Args:
        folder: The documents.
        index: Where the index lies. None for a folder of the user's cache (`ROM_HOME`, else the system's cache), by
            documents folder and model.
        model: Bundled name, folder or hub id of a ROM checkpoint.
        device: Where the model runs; None picks the machine's default.
        split_length: Most words per passage.
        split_overlap: Words that neighbouring passages share.

    Raises:
        LibraryError: `folder` is no folder, or `index` can't be one.
        CheckpointError: The model can't be found.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        index: str | Path | None = None,
        model: str = DEFAULT_CHECKPOINT,
        device: ComponentDevice | None = None,
        split_length: int = 120,
        split_overlap: int = 0,
    ) -> None:
        self.folder = existing_folder(folder)
        self.model = model
        self.device = device
        self.settings = {"split_length": split_length, "split_overlap": split_overlap}
        self._fingerprint = model_fingerprint(resolve_checkpoint(model))
        self.index = expanded(index).absolute() if index is not None else default_index(self.folder, self._fingerprint)
        self._check_index()
        self._converter: ROMFileConverter | None = None
        self._embedder = ROMDocumentEmbedder(
            model=model, device=device, meta_fields_to_embed=["title"], progress_bar=False
        )
        self._store: InMemoryDocumentStore | None = None

    @property
    def store(self) -> InMemoryDocumentStore:
        """The document store with the passages of the last update, read from disk when it is first asked for."""
        if self._store is None:
            self._store = self._open()[1]
        return self._store

    def update(self, progress: Progress | None = None) -> UpdateReport:
        """Bring the index up to date with the folder; only what changed is converted and embedded.

        Files are compared by size and time, and by content where those differ. Hidden files and folders are left out.

        Args:
            progress: Called after each new or changed file.

        Returns:
            What was done.

        Raises:
            LibraryError: The index belongs to another folder, is of a newer version, can't be written, or is being
                updated by another process.
        """
        found, unreadable = scan(self.folder)
        manifest, store, rebuilt = self._open()
        plan = _compare(found, unreadable, manifest)
        if plan.empty:
            self._store = store
        else:
            with self._locked():
                manifest, store, rebuilt = self._open()  # another process may have been here
                plan = _compare(found, unreadable, manifest)
                added = [name for name in plan.changed if name not in manifest.files]
                self._store = store
                self._apply(plan, manifest, progress)
                return _report(plan, manifest, store, added, rebuilt)
        return _report(plan, manifest, store, [], rebuilt)

    def _apply(self, plan: _Plan, manifest: Manifest, progress: Progress | None) -> None:
        """Carry out a plan on the store and the manifest, and save both."""
        before = _ids(manifest)
        try:
            manifest.files.update(plan.touched)
            for name in plan.gone:
                self.store.delete_documents(manifest.files.pop(name).ids)
            self._index(plan, manifest, progress)
        finally:
            self._embedder.close()
            self._save(manifest, store_changed=_ids(manifest) != before)

    def _index(self, plan: _Plan, manifest: Manifest, progress: Progress | None) -> None:
        group: dict[str, tuple[FileEntry, list[Document]]] = {}
        for done, (name, file) in enumerate(plan.changed.items(), start=1):
            try:
                group[name] = self._convert(name, file)
            except (OSError, UnreadableSourceError) as error:
                plan.skipped[name] = why_unreadable(error) if isinstance(error, OSError) else str(error)
                if name in manifest.files:
                    self.store.delete_documents(manifest.files.pop(name).ids)
            if sum(len(documents) for _, documents in group.values()) >= _GROUP or done == len(plan.changed):
                self._write(group, manifest)
                group.clear()
            if progress is not None:
                progress(done, len(plan.changed), displayable(name))

    def _convert(self, name: str, file: FoundFile) -> tuple[FileEntry, list[Document]]:
        if self._converter is None:
            self._converter = ROMFileConverter(**self.settings)
        data = file.path.read_bytes()  # raises OSError if it is gone or locked since it was looked at
        source = ByteStream(data, meta={"file_path": displayable(name)}, mime_type=mime_type_of(name))
        try:
            result = self._converter.run(sources=[source])
        except Exception as error:  # converters raise errors of any kind, and one odd file must not stop the rest
            cause = error.__cause__ or error
            raise UnreadableSourceError(f"can't be converted ({type(cause).__name__}: {cause})") from error
        entry = FileEntry(file.size, settled(file.mtime_ns), hashlib.sha256(data).hexdigest())
        entry.ids = [document.id for document in result["documents"]]
        entry.reason = next(iter(result["skipped"].values()), None)
        return entry, result["documents"]

    def _write(self, group: dict[str, tuple[FileEntry, list[Document]]], manifest: Manifest) -> None:
        """Embed a group of files, then exchange their old passages for the new."""
        documents = [document for _, documents in group.values() for document in documents]
        if documents:
            documents = self._embedder.run(documents)["documents"]
        for name, (entry, _) in group.items():
            if name in manifest.files:
                self.store.delete_documents(manifest.files[name].ids)
            manifest.files[name] = entry
        self.store.write_documents(documents, policy=DuplicatePolicy.OVERWRITE)

    def _open(self) -> tuple[Manifest, InMemoryDocumentStore, str | None]:
        """Read the index, or begin a new one where there is none that can be used; then also say why."""
        fresh = Manifest(str(self.folder), self.model, self._fingerprint, self.settings)
        manifest = self._read_manifest()
        if manifest is None:
            damaged = (self.index / _MANIFEST).exists()
            return fresh, _new_store(), "the index was damaged" if damaged else None
        fresh.generation = manifest.generation
        if (manifest.fingerprint, manifest.settings) != (self._fingerprint, self.settings):
            what = "another model" if manifest.fingerprint != self._fingerprint else "other settings"
            return fresh, _new_store(), f"the index was made with {what}"
        try:
            return manifest, _load_store(self.index / manifest.store_file, manifest), None
        except (DocumentStoreError, FileNotFoundError, ValueError, KeyError, TypeError):
            again = self._read_manifest()
            if again is not None and again.generation != manifest.generation:
                return self._open()  # another process replaced the index while it was being read
            return fresh, _new_store(), "the index was damaged"

    def _read_manifest(self) -> Manifest | None:
        try:
            raw = json.loads((self.index / _MANIFEST).read_text(encoding="utf-8"))
            version = raw["format_version"]
            if version > FORMAT_VERSION:
                raise LibraryError(
                    f"The index in {self.index} has format version {version}; this version of rom-haystack reads up to "
                    f"{FORMAT_VERSION}. Update rom-haystack, or choose another place with index (--index)."
                )
            manifest = Manifest(**{**raw, "files": {name: FileEntry(**entry) for name, entry in raw["files"].items()}})
        except LibraryError:
            raise
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LibraryError(f"The index in {self.index} {why_unreadable(error)}.") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if manifest.folder != str(self.folder):
            raise LibraryError(
                f"The index in {self.index} belongs to another folder, {manifest.folder}. Choose another place with "
                "index (--index), or delete that index if it isn't needed any more."
            )
        return manifest

    def _save(self, manifest: Manifest, *, store_changed: bool) -> None:
        """Save the store under a new name, then the manifest that names it, then drop older stores."""
        try:
            if store_changed or not (self.index / manifest.store_file).exists():
                manifest.generation += 1
                _save_store(self.store, self.index / manifest.store_file)
            _replace(self.index / _MANIFEST, json.dumps(asdict(manifest), indent=1))
            for path in list(self.index.iterdir()):
                if _STORE_FILE.fullmatch(path.name) and path.name != manifest.store_file:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise LibraryError(f"The index in {self.index} can't be written: {error.strerror or error}.") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.index.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.index / _LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise LibraryError(
                f"Another process is updating the index in {self.index}. Try again when it has finished."
            ) from None
        except OSError as error:
            raise LibraryError(
                f"The index in {self.index} can't be written ({error.strerror or error}). Choose another place with "
                "index (--index), or set ROM_HOME."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _check_index(self) -> None:
        if not self.index.exists():
            return
        if not self.index.is_dir():
            raise LibraryError(f"{self.index} is a file; an index is a folder. Choose another place for it.")
        strangers = [path.name for path in self.index.iterdir() if not _INDEX_FILE.fullmatch(path.name)]
        try:
            manifest = json.loads((self.index / _MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or a damaged one
            manifest = None
        if isinstance(manifest, dict):
            if {"format_version", "fingerprint"} <= manifest.keys():
                return
            strangers.insert(0, _MANIFEST)  # whole, but something else's
        if strangers:
            raise LibraryError(
                f"{self.index} holds other files ({strangers[0]}, …) and no index. Choose an empty or a new folder."
            )


def model_fingerprint(checkpoint: Path) -> str:
    """Hash the files that make a model what it is: configuration, vocabulary and weights."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(checkpoint.iterdir()):
        if path.suffix in (".json", ".safetensors", ".txt", ".model"):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, hashlib.blake2b).digest())
    return digest.hexdigest()


def _compare(found: dict[str, FoundFile], unreadable: dict[str, str], manifest: Manifest) -> _Plan:
    plan = _Plan(skipped=dict(unreadable), gone=[name for name in manifest.files if name not in found])
    for name, file in found.items():
        entry = manifest.files.get(name)
        if entry is None:
            plan.changed[name] = file
            continue
        if (entry.size, entry.mtime_ns) != (file.size, file.mtime_ns):
            if file.size != entry.size or not has_hash(file.path, entry.sha256):
                plan.changed[name] = file
                continue
            trusted = settled(file.mtime_ns)
            if trusted != entry.mtime_ns:
                plan.touched[name] = FileEntry(file.size, trusted, entry.sha256, entry.ids, entry.reason)
        if entry.reason is None:
            plan.unchanged.append(name)
        else:
            plan.skipped[name] = entry.reason
    return plan


def _report(
    plan: _Plan, manifest: Manifest, store: InMemoryDocumentStore, added: list[str], rebuilt: str | None
) -> UpdateReport:
    skipped = plan.skipped | {
        name: manifest.files[name].reason or "" for name in plan.changed if name in manifest.files
    }
    skipped = {name: reason for name, reason in skipped.items() if reason}
    read = [name for name in plan.changed if name not in skipped]
    return UpdateReport(
        added=[displayable(name) for name in read if name in added],
        replaced=[displayable(name) for name in read if name not in added],
        removed=[displayable(name) for name in plan.gone],
        unchanged=[displayable(name) for name in plan.unchanged],
        skipped=sorted((displayable(name), reason) for name, reason in skipped.items()),
        passages=store.count_documents(),
        rebuilt=rebuilt,
    )


def _ids(manifest: Manifest) -> list[str]:
    return [passage for entry in manifest.files.values() for passage in entry.ids]


def _replace(path: Path, text: str) -> None:
    """Write a file so that it is there in full or not at all, power cuts included."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    if sys.platform != "win32":  # Windows can't open folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# What follows is all that depends on the kind of document store.


def _new_store() -> InMemoryDocumentStore:
    return InMemoryDocumentStore(embedding_similarity_function="dot_product", shared=False)


def _load_store(path: Path, manifest: Manifest) -> InMemoryDocumentStore:
    """Read a store and check that it holds what the manifest says."""
    if not manifest.generation:
        return _new_store()
    store = InMemoryDocumentStore.load_from_disk(str(path))
    if sorted(store.storage) != sorted(set(_ids(manifest))):
        raise ValueError("the store does not hold what the manifest says")
    return store


def _save_store(store: InMemoryDocumentStore, path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    store.save_to_disk(str(new))
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)
