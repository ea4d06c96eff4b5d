"""A folder of files as a searchable library: its index on disk, brought up to date file by file."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMDocumentEmbedder
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.repair import repair
from rom_haystack.document_stores.settings import DATABASE, prepare_folder
from rom_haystack.files import UnreadableSourceError, displayable, mime_type_of
from rom_haystack.folders import (
    FoundFile,
    LibraryError,
    NotUpdatableError,
    default_index,
    existing_folder,
    expanded,
    has_hash,
    scan,
    settled,
    why_unreadable,
)
from rom_haystack.manifest import FileEntry, Manifest, ManifestFile
from rom_haystack.modeling import DEFAULT_CHECKPOINT, ROMConfig, resolve_checkpoint
from rom_haystack.pipelines import ROMFileConverter

_LOCK = "lock"
_STORE = "store"
# What repairs leave beside the store: the damaged one, and, if they are killed, the one that was to replace it.
_LEFTOVER = re.compile(rf"{_STORE}\.(damaged|repaired)-[0-9]+")
_FORMAT_1_FILE = re.compile(r"passages-[0-9]+\.json(\.new)?")
_INDEX_FILE = re.compile(rf"manifest\.json(\.new)?|{_LOCK}|{_STORE}|{_LEFTOVER.pattern}|{_FORMAT_1_FILE.pattern}")
# Passages embedded and written together: whole files, until there are this many.
_GROUP = 64
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
        stale: Why the index could not be brought up to date; None where it was.
        repaired: What a repair did before; None where none was asked for.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    passages: int = 0
    rebuilt: str | None = None
    stale: str | None = None
    repaired: Repaired | None = None


@dataclass
class _Plan:
    """What separates the index from the folder."""

    changed: dict[str, FoundFile] = field(default_factory=dict)
    touched: dict[str, FileEntry] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def urgent(self) -> bool:
        """Whether the passages are not those of the folder; new time stamps alone can wait."""
        return bool(self.changed or self.gone)

    @property
    def empty(self) -> bool:
        return not (self.urgent or self.touched)


#: Called after each file of an update: files done, files to do, name of the file.
Progress = Callable[[int, int, str], None]


class Library:
    """A folder of documents with its index on disk.

    The documents' folder is only read. The index (a manifest and a `SQLiteFAISSDocumentStore`) lies in a folder of its
    own. An update that is interrupted or killed keeps the files it had finished, and what it left half done is undone
    by the next. Other processes may search meanwhile.

    ```python
    from rom_haystack.library import Library

    with Library("docs") as library:
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
        checkpoint = resolve_checkpoint(model)
        self._fingerprint = model_fingerprint(checkpoint)
        self._store_settings = {**_embeddings_of(checkpoint), "keyword_meta_fields": ["title"]}
        self.index = expanded(index).absolute() if index is not None else default_index(self.folder, self._fingerprint)
        self._manifest_file = ManifestFile(self.index)
        self._check_index()
        self._converter: ROMFileConverter | None = None
        self._embedder = ROMDocumentEmbedder(
            model=model, device=device, meta_fields_to_embed=["title"], progress_bar=False
        )
        self._reader = self._open_store(read_only=True)

    @property
    def store(self) -> SQLiteFAISSDocumentStore:
        """The document store with the passages of the last update, for reading; it follows later updates.

        Raises:
            LibraryError: There is no index of this folder, model and settings yet, or it is damaged.
        """
        manifest, why = self._read_manifest()
        if manifest.store_version is None:
            raise LibraryError(
                f"There is no index of {self.folder} in {self.index} that can be searched"
                f"{f' ({why})' if why else ''}. Make it with update()."
            )
        with _explained():
            self._reader.count_documents()
        return self._reader

    def update(self, progress: Progress | None = None, *, required: bool = True) -> UpdateReport:
        """Bring the index up to date with the folder; only what changed is converted and embedded.

        Files are compared by size and time, and by content where those differ. Hidden files and folders are left out.
        The model, where it was needed, stays in memory until `close`.

        Args:
            progress: Called after each new or changed file.
            required: Raise where the index can't be written. With False an index that has passages is then left as it
                is, and the report says why (`stale`).

        Returns:
            What was done.

        Raises:
            LibraryError: The index belongs to another folder, is of a newer version, or is damaged.
            NotUpdatableError: It can't be written, or another process is updating it.
        """
        found, unreadable = scan(self.folder)
        manifest, _ = self._read_manifest()
        plan = _compare(found, unreadable, manifest)
        whole = self._agrees_with(manifest)
        if not (whole and plan.empty):
            try:
                with self._locked():
                    return self._bring_up_to_date(found, unreadable, progress)
            except NotUpdatableError as error:
                if plan.urgent or not whole:
                    if not required and (passages := self._searchable()):
                        return UpdateReport(passages=passages, stale=str(error))
                    raise
        return _report(plan, manifest, self._reader, [], None)

    def repair(self, progress: Progress | None = None) -> UpdateReport:
        """Check the store in full, repair it where it is damaged, and bring the index up to date.

        What is readable is kept, and the files of all other passages are indexed again. The damaged files are kept,
        too, until the next repair. No other process should use the index meanwhile.

        Args:
            progress: Called after each file that is indexed again.

        Returns:
            What was found (`repaired`) and done.

        Raises:
            LibraryError: As from `update`.
        """
        found, unreadable = scan(self.folder)
        with self._locked(), _explained():
            repaired = self._repair_store()
            report = self._bring_up_to_date(found, unreadable, progress)
            for path in self.index.iterdir():
                if _LEFTOVER.fullmatch(path.name) and str(path) != repaired.damaged_folder:
                    shutil.rmtree(path, ignore_errors=True)
        return replace(report, repaired=repaired)

    def close(self) -> None:
        """Give back the model and close the store; later use takes them again."""
        self._embedder.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The index as it is

    def _read_manifest(self) -> tuple[Manifest, str | None]:
        """Read the manifest, or begin a new one, of no store version, where there is none that fits; then say why."""
        fresh = Manifest(str(self.folder), self.model, self._fingerprint, self.settings, self._store_settings)
        manifest, why = self._manifest_file.read(self.folder)
        if manifest is None:
            return fresh, why
        if manifest.fingerprint != self._fingerprint:
            return fresh, "the index was made with another model"
        if (manifest.settings, manifest.store_settings) != (self.settings, self._store_settings):
            return fresh, "the index was made with other settings"
        if not self._database.exists():
            return fresh, "the index was damaged" if manifest.files else None
        return manifest, None

    def _agrees_with(self, manifest: Manifest) -> bool:
        """Tell whether the store holds what a manifest says."""
        with _explained():
            return manifest.store_version is not None and manifest.store_version == self._reader.version

    def _searchable(self) -> int:
        """Count the passages that can be searched, whether or not they are up to date."""
        try:
            return self.store.count_documents()
        except LibraryError:
            return 0

    @property
    def _database(self) -> Path:
        return self.index / _STORE / DATABASE

    def _open_store(self, *, read_only: bool) -> SQLiteFAISSDocumentStore:
        return SQLiteFAISSDocumentStore(
            self.index / _STORE,
            **self._store_settings,
            indexed_meta_fields=["file_path"],
            read_only=read_only,
            auto_optimize=False,  # an update does it itself, at its end
        )

    # Bringing it up to date; all of this holds the lock

    def _bring_up_to_date(
        self, found: dict[str, FoundFile], unreadable: dict[str, str], progress: Progress | None
    ) -> UpdateReport:
        self._reader.close()  # it comes back to what is there then, even if that is another store
        manifest, rebuilt = self._read_manifest()
        if manifest.store_version is None:
            self._make_way_for(manifest)
        with _explained(), self._open_store(read_only=False) as store:
            if manifest.store_version != store.version:
                self._reconcile(manifest, store)
            plan = _compare(found, unreadable, manifest)
            added = [name for name in plan.changed if name not in manifest.files]
            if not plan.empty:
                self._apply(plan, manifest, store, progress)
            return _report(plan, manifest, store, added, rebuilt)

    def _make_way_for(self, manifest: Manifest) -> None:
        """Save a manifest for a store that may hold anything, after removing what can't be its store."""
        before, _ = self._manifest_file.read(self.folder)
        try:
            if not self._database.exists() or (before and before.store_settings != manifest.store_settings):
                self._remove_store()
            self._manifest_file.save(manifest)
            for path in list(self.index.iterdir()):
                if _FORMAT_1_FILE.fullmatch(path.name):
                    path.unlink()
        except OSError as error:
            raise LibraryError(f"The index in {self.index} can't be written: {error.strerror or error}.") from error

    def _remove_store(self) -> None:
        """Remove the store's files, the database first: without it the rest is nothing."""
        folder = self.index / _STORE
        for path in sorted(folder.glob(f"{DATABASE}*")):
            path.unlink()
        with _explained():
            prepare_folder(folder, read_only=False)  # refuses a folder with files of someone else
        shutil.rmtree(folder)

    def _reconcile(self, manifest: Manifest, store: SQLiteFAISSDocumentStore) -> None:
        """Make store and manifest agree: drop passages that no file has, and forget files that lack passages."""
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
        self._manifest_file.save(manifest)

    def _apply(
        self, plan: _Plan, manifest: Manifest, store: SQLiteFAISSDocumentStore, progress: Progress | None
    ) -> None:
        """Carry out a plan on the store and the manifest."""
        try:
            manifest.replace(plan.touched)
            self._exchange(dict.fromkeys(plan.gone), [], manifest, store)
            self._index(plan, manifest, store, progress)
            if manifest.churn > _OPTIMIZE_ABOVE * store.count_documents():
                store.optimize()
                manifest.store_version = store.version
                manifest.churn = 0
        finally:
            self._manifest_file.save(manifest)

    def _index(
        self, plan: _Plan, manifest: Manifest, store: SQLiteFAISSDocumentStore, progress: Progress | None
    ) -> None:
        entries: dict[str, FileEntry] = {}
        passages: list[Document] = []
        for done, (name, file) in enumerate(plan.changed.items(), start=1):
            try:
                entries[name], documents = self._convert(name, file)
                passages += documents
            except (OSError, UnreadableSourceError) as error:
                plan.skipped[name] = why_unreadable(error) if isinstance(error, OSError) else str(error)
                self._exchange({name: None}, [], manifest, store)
            if len(passages) >= _GROUP or done == len(plan.changed):
                self._exchange(entries, self._embedded(passages), manifest, store)
                entries, passages = {}, []
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

    def _embedded(self, passages: list[Document]) -> list[Document]:
        return self._embedder.run(passages)["documents"] if passages else []

    def _exchange(
        self,
        entries: Mapping[str, FileEntry | None],
        passages: list[Document],
        manifest: Manifest,
        store: SQLiteFAISSDocumentStore,
    ) -> None:
        """Write the new passages of some files, then delete their old ones; the manifest follows."""
        outdated = manifest.outdated_by(entries)
        if passages:
            store.write_documents(passages, policy=DuplicatePolicy.OVERWRITE)
        if outdated:
            store.delete_documents(outdated)
        manifest.replace(entries)
        manifest.store_version = store.version
        manifest.churn += len(passages) + len(outdated)
        self._manifest_file.save_when_due(manifest)

    def _repair_store(self) -> Repaired:
        """Repair the store; afterwards it may hold anything, and the manifest says so."""
        manifest, _ = self._read_manifest()
        if not self._database.exists():
            return Repaired()
        if manifest.store_version is not None:
            self._manifest_file.save(replace(manifest, store_version=None))
        self._reader.close()
        try:
            found = repair(self._open_store(read_only=False))
        except DocumentStoreError as error:  # nothing is readable
            aside = _free_name(self.index / f"{_STORE}.damaged")
            (self.index / _STORE).rename(aside)
            return Repaired([str(error)], damaged_folder=str(aside))
        if found.without_embedding:
            with self._open_store(read_only=False) as store:
                store.delete_documents(found.without_embedding)
        kept = found.kept - len(found.without_embedding)
        return Repaired(found.problems, kept, found.damaged_folder and str(found.damaged_folder))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.index.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.index / _LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise NotUpdatableError(
                f"Another process is updating the index in {self.index}. Try again when it has finished."
            ) from None
        except OSError as error:
            raise NotUpdatableError(
                f"The index in {self.index} can't be written ({error.strerror or error}). Choose another place with "
                "index (--index), or set ROM_HOME."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _check_index(self) -> None:
        """Check that the index's folder is an index or can become one."""
