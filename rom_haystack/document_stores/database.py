"""The SQLite file of a store: making and opening it, connections, transactions, and errors in words."""

import errno
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from haystack.document_stores.errors import DocumentStoreError

from rom_haystack.document_stores.connections import Connections, forked

#: Marks a SQLite file as a store of ours ("ROM1").
APPLICATION_ID = 0x524F4D31
#: Version of the layout this code writes, and the newest it reads.
FORMAT_VERSION = 1

_TABLES = (
    # norm: what the stored vector is multiplied by to give the embedding back; NULL where there is no embedding.
    # extra: JSON of what few documents have (a blob's mime type and meta, a sparse embedding).
    """CREATE TABLE documents(
        slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT, meta TEXT NOT NULL,
        norm REAL, blob BLOB, extra TEXT)""",
    "CREATE TABLE settings(name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE state(
        generation INTEGER, next_slot INTEGER, version INTEGER,
        vacancies INTEGER, documents INTEGER, indexes INTEGER)""",
    # A log of the slots without a live vector: deleted documents, and documents without embedding.
    "CREATE TABLE vacant(sequence INTEGER PRIMARY KEY, slot INTEGER NOT NULL)",
    """CREATE TABLE vector_indexes(
        file TEXT PRIMARY KEY, generation INTEGER, factory TEXT, slots INTEGER, size INTEGER, crc32 INTEGER)""",
    "INSERT INTO state VALUES (1, 0, 0, 0, 0, 0)",
)
# `shrink` rewrites the file when more than this share of it is free.
_SHRINK_ABOVE = 0.2
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# What is said of values that were never written so, without a code of its own.
_DAMAGED_TEXTS = ("malformed JSON", "Could not decode to UTF-8")
_UNWRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


class DamagedStoreError(DocumentStoreError):
    """A file of a store can't be trusted.

    Args:
        path: The file.
        why: What is wrong with it.

    Attributes:
        problem: The file and what is wrong, without the remedy.
    """

    def __init__(self, path: Path, why: str) -> None:
        self.problem = f"{path} is damaged ({why})"
        super().__init__(
            f"{self.problem}. Repair the store with `rom index FOLDER --repair` if it is the index of a folder, else "
            "with rom_haystack.document_stores.repair; what is readable will be kept."
        )


class State(NamedTuple):
    """What changes with every write; one row, so that a search knows at once whether its index is up to date.

    Attributes:
        generation: Names the vector file; raised when slots are numbered anew.
        next_slot: The first slot that was never used.
        version: Number of changes of documents.
        vacancies: Length of the log of vacant slots.
        documents: Number of documents.
        indexes: Number of FAISS indexes that were ever saved.
    """

    generation: int
    next_slot: int
    version: int
    vacancies: int
    documents: int
    indexes: int


class Database:
    """The SQLite file of a store.

    Any number of threads and processes may read at the same time, each in a snapshot of its own; writers take turns.
    A forked process must make an object of its own.

    Args:
        path: The SQLite file. It is made where there is none, unless `read_only`.
        settings: What is fixed when a store is made; kept in the file.
        schema: Statements that make further tables.
        prepare: Called once on every new connection.
        read_only: Refuse to write.
        lock_timeout: Seconds to wait for another thread or process that writes.

    Raises:
        DocumentStoreError: The file is damaged, is something else's, is of a newer version, or can't be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        settings: Mapping[str, Any],
        schema: Sequence[str],
        prepare: Callable[[sqlite3.Connection], None],
        read_only: bool = False,
        lock_timeout: float = 10.0,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self._prepare = prepare
        self._lock_timeout = lock_timeout
        self._writer = threading.Lock()
        self._connections = Connections(path, read_only=read_only, lock_timeout=lock_timeout)

        def prepare_first(connection: sqlite3.Connection) -> None:
            self._check_or_create(connection, settings, schema)
            self.settings = _read_settings(connection)
            if "identity" not in self.settings:
                raise DamagedStoreError(path, "its settings are incomplete")
            prepare(connection)

        with self.explained(), self._connections.lent(prepare_first):
            pass

    @property
    def inherited(self) -> bool:
        """Whether this process was forked after the object was made, which is of no use in it then."""
        return self._connections.inherited

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction: all that is read through it is of one moment.

        Raises:
            DocumentStoreError: The file can't be read.
        """
        with self.explained(), self._connections.lent(self._prepare) as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a write transaction, which is kept when the block ends and undone when it raises.

        Raises:
            DocumentStoreError: The store is read-only, another thread or process writes, or the disk is full.
        """
        if self.read_only:
            raise DocumentStoreError(
                f"The store in {self.path.parent} was opened with read_only=True; nothing is written."
            )
        self._connections.check_own()
        with self._turn(), self.explained(), self._connections.lent(self._prepare) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            self._connections.check_own()
            connection.execute("COMMIT")

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the file, as far as readers allow."""
        with self.explained(), self._connections.lent(self._prepare) as connection:
            connection.execute("PRAGMA busy_timeout = 0")  # a reader may take long, and need not be waited for
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.execute(f"PRAGMA busy_timeout = {round(self._lock_timeout * 1000)}")

    def shrink(self) -> None:
        """Give space back to the disk where much of the file is free; writers wait meanwhile."""
        with self.explained(), self._connections.lent(self._prepare) as connection:
            free, pages = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count")
            )
            if free > _SHRINK_ABOVE * pages:
                connection.execute("VACUUM")

    def close(self) -> None:
        """Close all idle connections; later use opens new ones."""
        self._connections.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of SQLite and of the system into ones that name the store, the cause and the remedy."""
        try:
            yield
        except sqlite3.Error as error:
            raise (forked(self.path) if self.inherited else self._explain(error)) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            cause = "the disk is full; nothing was changed" if full else f"{error.strerror or error}"
            raise DocumentStoreError(f"The store in {self.path.parent} can't be used: {cause}.") from error

    def _explain(self, error: sqlite3.Error) -> DocumentStoreError:
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & 0xFF
        store = f"The store in {self.path.parent}"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return self._busy("process")
        if code in _DAMAGED or str(error).startswith(_DAMAGED_TEXTS):
            return DamagedStoreError(self.path, str(error))
        if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_WRITE:
            return DocumentStoreError(f"{store} can't be written: the disk is full; nothing was changed.")
        if extended == sqlite3.SQLITE_IOERR:
            return DocumentStoreError(f"{store} failed: {error}, as when the disk is full; nothing was changed.")
        if code in _UNWRITABLE:
            return DocumentStoreError(
                f"{store} can't be written or opened ({error}). Check its permissions, or open it with read_only=True."
            )
        return DocumentStoreError(f"{store} failed: {error}.")

    def _busy(self, writer: str) -> DocumentStoreError:
        return DocumentStoreError(
            f"The store in {self.path.parent} is being written by another {writer}, which did not finish within "
            f"{self._lock_timeout:g} s. Try again later, or raise lock_timeout."
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the threads of this process write one after the other."""
        if not self._writer.acquire(timeout=self._lock_timeout):
            raise self._busy("thread")
        try:
            yield
        finally:
            self._writer.release()

    def _check_or_create(
        self, connection: sqlite3.Connection, settings: Mapping[str, Any], schema: Sequence[str]
    ) -> None:
        if not self.read_only and not _has_tables(connection):
            connection.execute("PRAGMA page_size = 8192")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if not _has_tables(connection):  # no other process was faster
                self._create(connection, settings, schema)
            connection.execute("COMMIT")
        if not _has_tables(connection):
            raise DocumentStoreError(f"{self.path} is empty: no store has been made in it yet. Open it to write first.")
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application_id != APPLICATION_ID:
            raise DocumentStoreError(f"{self.path} is a database of something else, and no store. Choose another path.")
        if version > FORMAT_VERSION:
            raise DocumentStoreError(
                f"The store in {self.path.parent} has format version {version}; this version of rom-haystack reads up "
                f"to {FORMAT_VERSION}. Update rom-haystack."
            )

    def _create(self, connection: sqlite3.Connection, settings: Mapping[str, Any], schema: Sequence[str]) -> None:
        for statement in (*_TABLES, *schema):
            connection.execute(statement)
        named = {**settings, "identity": uuid4().hex}  # which tells the store's files from another store's
        rows = [(name, json.dumps(value)) for name, value in named.items()]
        connection.executemany("INSERT INTO settings VALUES (?, ?)", rows)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def read_state(connection: sqlite3.Connection) -> State:
    """Read the store's state as of the connection's transaction."""
    query = "SELECT generation, next_slot, version, vacancies, documents, indexes FROM state"
    return State(*connection.execute(query).fetchone())


def write_state(connection: sqlite3.Connection, state: State) -> None:
    """Replace the store's state, and count one more change of its documents."""
    connection.execute(
        "UPDATE state SET generation = ?, next_slot = ?, version = version + 1, vacancies = ?, documents = ?",
        (state.generation, state.next_slot, state.vacancies, state.documents),
    )


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _read_settings(connection: sqlite3.Connection) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM settings")}
