"""A folder of files as a searchable library: its index on disk, brought up to date file by file."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMDocumentEmbedder
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.files import PDF, displayable, mime_type_of
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
from rom_haystack.hybrid import ROMHybridRetriever
from rom_haystack.library_index import LibraryIndex, Repaired, WritableIndex
from rom_haystack.manifest import FileEntry, Manifest
from rom_haystack.modeling import DEFAULT_CHECKPOINT, resolve_checkpoint
from rom_haystack.pdf import pdf_pages
from rom_haystack.pipelines import ROMExtractiveQA, ROMFileConverter
from rom_haystack.unreadable import UnreadableSourceError

# Passages embedded and written together: whole files, until there are this many.
_GROUP = 64


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


#: Called before, during and after each file of an update: files done, files to do, name of the file. What it raises
#: ends the update; the files that were finished stay.
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
        follow_links: Also read what links in the folder lead to outside of it.

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
        follow_links: bool = True,
    ) -> None:
        self.folder = existing_folder(folder)
        self.follow_links = follow_links
        self.model = model
        self.device = device
        self.settings = {"split_length": split_length, "split_overlap": split_overlap}
        checkpoint = resolve_checkpoint(model)
        fingerprint = model_fingerprint(checkpoint)
        store_settings = {**_embeddings_of(checkpoint), "keyword_meta_fields": ["title"]}
        self.index = expanded(index).absolute() if index is not None else default_index(self.folder, fingerprint)
        empty = Manifest(str(self.folder), model, fingerprint, self.settings, store_settings)
        self._index = LibraryIndex(self.index, empty)
        self._converter: ROMFileConverter | None = None
        self._embedder = ROMDocumentEmbedder(
            model=model, device=device, meta_fields_to_embed=["title"], progress_bar=False
        )

    @property
    def store(self) -> SQLiteFAISSDocumentStore:
        """The document store with the passages of the last update, for reading; it follows later updates.

        Raises:
            LibraryError: There is no index of this folder, model and settings yet, or it is damaged.
        """
        return self._index.store()

    def files(self) -> dict[str, FileEntry]:
        """Tell what the index holds of each file, by the file's path in the folder.

        Raises:
            LibraryError: As from `update`.
        """
        return {displayable(name): entry for name, entry in self._index.read()[0].files.items()}

    def qa(self, keyword_weight: float | None = None) -> ROMExtractiveQA:
        """Build the pipeline that answers questions from the passages.

        Args:
            keyword_weight: Share of the keyword search in finding passages, from 0 to 1; the rest is the dense
                search's. None for equal shares.

        Raises:
            LibraryError: As from `store`.
            ValueError: The share is out of range.
        """
        weights = None if keyword_weight is None else [keyword_weight, 1 - keyword_weight]
        found_by = ROMHybridRetriever(self.store, model=self.model, device=self.device, weights=weights)
        return ROMExtractiveQA(retriever=found_by, model=self.model, device=self.device)

    def update(self, progress: Progress | None = None, *, required: bool = True) -> UpdateReport:
        """Bring the index up to date with the folder; only what changed is converted and embedded.

        Files are compared by size and time, and by content where those differ. Hidden files and folders are left out.
        The model, where it was needed, stays in memory until `close`.

        Args:
            progress: Called as each new or changed file is read.
            required: Raise where the index can't be written. With False an index that has passages is then left as it
                is, and the report says why (`stale`).

        Returns:
            What was done.

        Raises:
            LibraryError: The index belongs to another folder, is of a newer version, or is damaged.
            NotUpdatableError: It can't be written, or another process is updating it.
        """
        found, unreadable = scan(self.folder, follow_links=self.follow_links)
        manifest, _ = self._index.read()
        plan = _compare(found, unreadable, manifest)
        whole = self._index.agrees_with(manifest)
        if whole and plan.empty:
            return _report(plan, manifest, self.store, [])
        try:
            with self._index.locked():
                return self._bring_up_to_date(found, unreadable, progress)
        except NotUpdatableError as error:
            if whole and not plan.urgent:
                return _report(plan, manifest, self.store, [])
            if required or not (passages := self._searchable()):
                raise
            return UpdateReport(passages=passages, stale=str(error))

    def repair(self, progress: Progress | None = None) -> UpdateReport:
        """Check the store in full, repair it where it is damaged, and bring the index up to date.

        What is readable is kept, and the files of all other passages are indexed again. The damaged files are kept,
        too, until the next repair. No other process should use the index meanwhile.

        Args:
            progress: Called as each file is indexed again.

        Returns:
            What was found (`repaired`) and done.

        Raises:
            LibraryError: As from `update`.
        """
        found, unreadable = scan(self.folder, follow_links=self.follow_links)
        with self._index.locked():
            repaired = self._index.repair()
            report = self._bring_up_to_date(found, unreadable, progress)
            self._index.remove_leftovers(but=repaired.damaged_folder)
        return replace(report, repaired=repaired)

    def close(self) -> None:
        """Give back the model and close the store; later use takes them again."""
        self._embedder.close()
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _searchable(self) -> int:
        """Count the passages that can be searched, whether or not they are up to date."""
        try:
            return self.store.count_documents()
        except LibraryError:
            return 0

    def _bring_up_to_date(
        self, found: dict[str, FoundFile], unreadable: dict[str, str], progress: Progress | None
    ) -> UpdateReport:
        """Do what has to be done; the caller holds the lock."""
        with self._index.writable() as index:
            plan = _compare(found, unreadable, index.manifest)
            added = [name for name in plan.changed if name not in index.manifest.files]
            if not plan.empty:
                self._apply(plan, index, progress)
            return replace(_report(plan, index.manifest, index.store, added), rebuilt=index.rebuilt)

    def _apply(self, plan: _Plan, index: WritableIndex, progress: Progress | None) -> None:
        try:
            index.exchange({**plan.touched, **dict.fromkeys(plan.gone)}, [])
            self._add(plan, index, progress)
            index.optimize_when_due()
        finally:
            index.save()

    def _add(self, plan: _Plan, index: WritableIndex, progress: Progress | None) -> None:
        """Convert, embed and write the new and the changed files."""
        entries: dict[str, FileEntry] = {}
        passages: list[Document] = []
        report = progress or _unreported
        for done, (name, file) in enumerate(plan.changed.items(), start=1):
            at_work = partial(report, done - 1, len(plan.changed), displayable(name))
            at_work()
            try:
                entries[name], documents = self._convert(name, file)
                passages += documents
            except (OSError, UnreadableSourceError) as error:
                plan.skipped[name] = why_unreadable(error) if isinstance(error, OSError) else str(error)
                index.exchange({name: None}, [])
            if len(passages) >= _GROUP or done == len(plan.changed):
                index.exchange(entries, self._embed(passages, at_work))
                entries, passages = {}, []
            report(done, len(plan.changed), displayable(name))

    def _embed(self, passages: list[Document], between: Callable[[], None]) -> list[Document]:
        """Embed passages, a group at a time."""
        embedded: list[Document] = []
        for start in range(0, len(passages), _GROUP):
            if start:
                between()
            embedded += self._embedder.run(passages[start : start + _GROUP])["documents"]
        return embedded

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
        entry.pages = pdf_pages(data) if source.mime_type == PDF and result["documents"] else None
        entry.ids = [document.id for document in result["documents"]]
        entry.reason = next(iter(result["skipped"].values()), None)
        return entry, result["documents"]


def _unreported(done: int, total: int, name: str) -> None:
    """Report to nobody."""


def model_fingerprint(checkpoint: Path) -> str:
    """Hash the files that make a model what it is: configuration, vocabulary and weights, but not measurements."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(checkpoint.iterdir()):
        made_of = path.suffix in (".json", ".safetensors", ".txt", ".model")
        if made_of and path.name not in ("calibration.json", "facts.json"):
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, hashlib.blake2b).digest())
    return digest.hexdigest()


def _embeddings_of(checkpoint: Path) -> dict[str, Any]:
    """Tell from a checkpoint's configuration, without loading it, what a store of its embeddings is made with."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    head = config.get("heads", {}).get("retrieval", {})
    similarity = "dot_product" if head.get("similarity") == "dot" else "cosine"
    width = head.get("projection_dim") or config.get("encoder", {}).get("hidden_size") or _hidden_size(checkpoint)
    return {"embedding_dim": width, "similarity": similarity}


def _hidden_size(checkpoint: Path) -> int:
    """Ask transformers, which takes long to import, for the width of an encoder that has another name for it."""
    from rom_haystack.modeling import ROMConfig  # noqa: PLC0415

    return int(ROMConfig.from_pretrained(checkpoint).hidden_size)


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
                plan.touched[name] = replace(entry, mtime_ns=trusted)
        if entry.reason is None:
            plan.unchanged.append(name)
        else:
            plan.skipped[name] = entry.reason
    return plan


def _report(plan: _Plan, manifest: Manifest, store: SQLiteFAISSDocumentStore, added: list[str]) -> UpdateReport:
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
    )
