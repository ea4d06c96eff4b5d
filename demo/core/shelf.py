"""The collections that stay, and those that don't."""

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import unicodedata
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

import rom_haystack
from demo.core.collection import DOCUMENTS, Collection, FileInfo, ShelfError
from demo.core.uploads import KINDS, Added, Upload
from rom_haystack.durable import replace_file
from rom_haystack.files import mime_type_of
from rom_haystack.folders import LibraryError, existing_folder, expanded

__all__ = [
    "Added",
    "Collection",
    "FileInfo",
    "Shelf",
    "ShelfError",
    "Upload",
    "demo_home",
    "remove_left_sessions",
    "session_collection",
]

_SAMPLE = "sample"
_RECORD = "collection.json"
_LOCK = "lock"
_PRIVATE = 0o700
_PATIENCE = 30.0  # seconds
# What is being made or removed has such a name; a process that is killed meanwhile leaves it, and the next removes it.
_UNFINISHED = "."
# Folders of unsaved uploads, and the file in each that is locked while its process lives.
_SESSION = "rom-demo-"
_IN_USE = "in-use"
_YOUNG = 60  # seconds
#: Most characters of a collection's name.
MAX_NAME_LENGTH = 60
#: Most files, and folders, in a folder that is linked.
MAX_LINKED_FILES = 10_000
MAX_LINKED_FOLDERS = 20_000


def demo_home() -> Path:
    """Folder of what the demo keeps: `ROM_DEMO_HOME` if it is set, else in the user's data folder."""
    if named := os.environ.get("ROM_DEMO_HOME"):
        return Path(named).expanduser().absolute()
    return platformdirs.user_data_path("rom_haystack") / "demo"


class Shelf:
    """The collections that stay, in one folder; several processes may use it.

    A collection is there once its folder has its final name, and gone once it has not: making and deleting one are
    each a single renaming, so a process that is killed leaves none half done.

    Args:
        home: The folder; made if need be.

    Raises:
        ShelfError: It can't be made or written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "collections"
        self._opened: dict[str, Collection] = {}
        self._guard = threading.Lock()
        corpus = Path(rom_haystack.__file__).parent / "sample_corpus"
        place = hashlib.blake2b(os.fsencode(corpus), digest_size=6).hexdigest()  # there may be several installations
        self._sample = Collection(_SAMPLE, "Sample articles", "sample", corpus, home / f"{_SAMPLE}-{place}")
        try:
            # Other accounts of this machine have no business here; a home that was there already is its owner's matter.
            if not home.is_dir():
                home.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            self._folder.mkdir(exist_ok=True)
            with suppress(PermissionError):  # somebody else's
                self._folder.chmod(_PRIVATE)
            with self._locked():
                for left in self._folder.glob(f"{_UNFINISHED}*"):
                    with suppress(OSError, Timeout), FileLock(left / _LOCK, timeout=0):  # or it is being made
                        shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise ShelfError(
                f"The demo's folder {home} can't be written ({error.strerror or error}). Set ROM_DEMO_HOME to another."
            ) from error

    def collections(self) -> list[Collection]:
        """List the collections: the sample, then the others by name."""
        found: list[Collection] = []
        for id_ in self._ids():
            with suppress(ShelfError):  # deleted since it was listed
                found.append(self.get(id_))
        return [self._sample, *sorted(found, key=lambda one: one.name.casefold())]

    def damaged(self) -> list[str]:
        """List ids of collections whose record can't be read; they can only be deleted."""
        return [id_ for id_ in self._ids() if self._is_damaged(id_)]

    def get(self, id: str) -> Collection:  # noqa: A002 (its name)
        """Return a collection by its id; the same object every time.

        Raises:
            ShelfError: There is none.
        """
        if id == _SAMPLE:
            return self._sample
        with self._guard:
            place = self._folder / id
            if not re.fullmatch(r"[a-z0-9-]{1,60}", id) or not (place / _RECORD).is_file():
                self._opened.pop(id, None)
                raise ShelfError("There is no such collection; it may have been deleted. Choose another one.")
            if id not in self._opened:
                self._opened[id] = _read(place)
            return self._opened[id]

    def create(self, name: str) -> Collection:
        """Make an empty collection.

        Raises:
            ShelfError: The name can't be used, or nothing can be written.
        """
        with self._making(name) as place:
            _write(place, name=name.strip(), folder=None)
        return self.get(place.name.removeprefix(_UNFINISHED))

    def link(self, name: str, folder: str | Path) -> Collection:
        """Make a collection of the files in a folder, which is only read.

        Args:
            name: Its name; blank for the folder's.
            folder: The folder.

        Raises:
            ShelfError: There is no such folder, or as from `create`.
        """
        try:
            # A blank or relative path would be one of the server's working directory, which nobody sees here.
            if not str(folder).strip() or not expanded(folder).is_absolute():
                raise ShelfError(f"'{folder}' is no full path; give one that begins with / or ~ (or a drive).")
            linked = existing_folder(folder)
        except LibraryError as error:
            raise ShelfError(str(error)) from error
        self._check_linked(linked)
        name = name.strip() or linked.name
        with self._making(name) as place:
            _write(place, name=name, folder=linked)
        return self.get(place.name.removeprefix(_UNFINISHED))

    def keep(self, drafts: Collection, name: str) -> Collection:
        """Move a session's unsaved uploads into a new collection.

        Raises:
            ShelfError: There are none, or as from `create`.
        """
        if not drafts.files():
            raise ShelfError("There are no unsaved documents to keep.")
        with self._making(name) as place:
            copied = drafts.copy_to(place)
            _write(place, name=name.strip(), folder=None)
        drafts.remove(copied)  # what was added meanwhile stays where it is
        return self.get(place.name.removeprefix(_UNFINISHED))

    def delete(self, id: str) -> None:  # noqa: A002 (its name)
        """Delete a collection: its documents, unless they lie in a folder elsewhere, and its indexes.

        Raises:
            ShelfError: There is none, or it is the sample.
        """
        if id == _SAMPLE:
            raise ShelfError("The sample comes with the demo and can't be deleted.")
        collection = None if id in self.damaged() else self.get(id)
        with self._locked():
            if collection is not None:
                collection.close()
            gone = self._folder / f"{_UNFINISHED}{id}"
            (self._folder / id).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        with self._guard:
            self._opened.pop(id, None)

    def _ids(self) -> list[str]:
        return sorted(path.parent.name for path in self._folder.glob(f"[!{_UNFINISHED}]*/{_RECORD}"))

    def _is_damaged(self, id_: str) -> bool:
        try:
            _read(self._folder / id_)
        except ShelfError:
            return (self._folder / id_ / _RECORD).exists()  # or it was deleted since it was listed
        return False

    @contextmanager
    def _making(self, name: str) -> Iterator[Path]:
        """Give a folder to make a collection in, and put it in its place if all goes well."""
        readable = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "-", readable).strip("-")[:40]
        id_ = "-".join(filter(None, [slug, secrets.token_hex(3)]))
        place = self._folder / f"{_UNFINISHED}{id_}"
        in_use = FileLock(place / _LOCK, thread_local=False)  # says that the folder was not left by a killed process
        try:
            with self._locked():
                self._check_name(name)
                place.mkdir(mode=_PRIVATE)
                in_use.acquire()
            yield place  # others go on meanwhile; it may take long
            with self._locked():
                self._check_name(name)
                in_use.release()
                place.rename(self._folder / id_)
        except OSError as error:
            raise ShelfError(f"The collection can't be saved: {error.strerror or error}.") from error
        finally:
            in_use.release()
            shutil.rmtree(place, ignore_errors=True)  # not there any more, where all went well

    def _check_name(self, name: str) -> None:
        name = name.strip()
        if not name:
            raise ShelfError("The collection needs a name.")
        if len(name) > MAX_NAME_LENGTH:
            raise ShelfError(f"The name has {len(name)} characters; the limit is {MAX_NAME_LENGTH}. Shorten it.")
        if any(unicodedata.category(character).startswith("C") for character in name):
            raise ShelfError("The name has characters that can't be seen; leave them out.")
        if name.casefold() in (one.name.casefold() for one in self.collections()):
            raise ShelfError(f"There is a collection called '{name}' already; choose another name.")

    def _check_linked(self, folder: Path) -> None:
        if self.home.resolve().is_relative_to(folder) or folder.is_relative_to(self.home.resolve()):
            raise ShelfError(f"'{folder}' holds the demo's own files, or is among them; choose another folder.")
        files = 0
        for seen, (_, inner, names) in enumerate(os.walk(folder)):
            inner[:] = [name for name in inner if not name.startswith(".")]
            files += sum(mime_type_of(name) is not None for name in names)
            if files > MAX_LINKED_FILES or seen > MAX_LINKED_FOLDERS:
                raise ShelfError(
                    f"'{folder}' holds more than {MAX_LINKED_FILES:,} files that can be read, or "
                    f"{MAX_LINKED_FOLDERS:,} folders; choose a folder in it."
                )
        if not files:
            raise ShelfError(f"'{folder}' holds no file that can be read; the kinds are {KINDS}.")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads and processes from making and deleting collections."""
        try:
            with FileLock(self._folder / _LOCK, timeout=_PATIENCE, thread_local=False):
                yield
        except Timeout as error:
            raise ShelfError("Another process is changing the collections. Try again when it has finished.") from error


def session_collection() -> Collection:
    """Make a collection of unsaved uploads, which goes with the object, and with the process."""
    remove_left_sessions()
    directory = tempfile.TemporaryDirectory(prefix=_SESSION, ignore_cleanup_errors=True)
    home = Path(directory.name)
    in_use = FileLock(home / _IN_USE, thread_local=False)
    in_use.acquire()
    (home / DOCUMENTS).mkdir()
    collection = Collection(f"unsaved-{secrets.token_hex(8)}", "Unsaved documents", "session", home / DOCUMENTS, home)
    weakref.finalize(collection, _remove_session, directory, in_use)
    return collection


def _remove_session(directory: tempfile.TemporaryDirectory[str], in_use: FileLock) -> None:
    in_use.release()
    directory.cleanup()


def remove_left_sessions() -> None:
    """Remove the unsaved uploads of processes that were killed: nobody holds their locks any more."""
    for in_use in Path(tempfile.gettempdir()).glob(f"{_SESSION}*/{_IN_USE}"):
        with suppress(OSError, Timeout):
            if in_use.stat().st_mtime < time.time() - _YOUNG:  # a younger one may not be locked yet
                with FileLock(in_use, timeout=0):
                    shutil.rmtree(in_use.parent, ignore_errors=True)


def _write(place: Path, *, name: str, folder: Path | None) -> None:
    """Write the record of a collection, whose documents lie in `folder`, or here."""
    (place / DOCUMENTS).mkdir(exist_ok=True)
    record = {"name": name, "folder": str(folder) if folder else None}
    replace_file(place / _RECORD, json.dumps(record, ensure_ascii=False))


def _read(place: Path) -> Collection:
    try:
        record = json.loads((place / _RECORD).read_text(encoding="utf-8"))
        name, folder = str(record["name"]), record["folder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShelfError(f"The collection in {place} is damaged; delete that folder.") from error
    if folder is None:
        return Collection(place.name, name, "own", place / DOCUMENTS, place)
    return Collection(place.name, name, "linked", Path(folder), place)
