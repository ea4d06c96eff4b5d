"""Connections to a SQLite file: lent to one borrower at a time, kept for the next, and not carried into a fork."""

import ctypes
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from haystack.document_stores.errors import DocumentStoreError

# Connections that are kept for later; each has a cache of its own.
_MAX_IDLE = 4
# Inode, time of the last change and size of a file, which tell whether it was written.
_Stamp = tuple[int, int, int]
# SQLite notes which locks it holds on a file for the whole process, and a fork copies the note but not the locks: what
# the forked process then takes for a lock protects nothing. So idle connections are closed before a fork, and a file
# that still has one can't be used in the forked process.
_OPEN: WeakValueDictionary[int, "Connections"] = WeakValueDictionary()
_IN_USE_AT_FORK: set[Path] = set()


class Connections:
    """Connections to one SQLite file.

    Args:
        path: The file. It is made where there is none, unless `read_only`.
        read_only: Open it for reading only.
        lock_timeout: Seconds to wait for another process that writes.

    Attributes:
        inherited: Whether this process was forked after the object was made, which is of no use in it then.
    """

    def __init__(self, path: Path, *, read_only: bool, lock_timeout: float) -> None:
        self.inherited = False
        self._path = path
        self._read_only = read_only
        self._lock_timeout = lock_timeout
        self._idle: list[tuple[sqlite3.Connection, _Stamp | None]] = []
        # By a key of each loan; None until there is a connection, and while idle ones are closed.
        self._lent: dict[object, sqlite3.Connection | None] = {}
        _OPEN[id(self)] = self

    @contextmanager
    def lent(self, prepare: Callable[[sqlite3.Connection], None]) -> Iterator[sqlite3.Connection]:
        """Lend a connection; a transaction that is open at the end is undone.

        Args:
            prepare: Called on the connection if it is a new one.

        Raises:
            DocumentStoreError: Another user wrote the file while it was read without locks, or see `check_own`.
        """
        self.check_own()
        loan = object()
        self._lent[loan] = None  # so that no fork misses a connection that is just being made
        try:
            stamp = self._unlocked_stamp()
            with self._undisturbed(stamp):
                connection = self._take_idle(stamp) or self._connect(stamp, prepare)
                self._lent[loan] = connection
                try:
                    yield connection
                finally:
                    if not self.inherited:
                        self._give_back(connection, stamp)
        finally:
            self._lent.pop(loan, None)

    def close(self) -> None:
        """Close all idle connections; later use opens new ones."""
        loan = object()
        self._lent[loan] = None
        while (idle := self._pop()) is not None:
            idle[0].close()
        self._lent.pop(loan, None)

    def check_own(self) -> None:
        """Check that this process did not inherit the object in a fork.

        Raises:
            DocumentStoreError: It did.
        """
        if self.inherited:
            raise forked(self._path)

    def leave_to_parent(self) -> None:
        """Let go of all connections in a process that was just forked, without touching the files."""
        self.inherited = True
        connections = [*self._lent.values(), *(connection for connection, _ in self._idle)]
        if connections:
            _IN_USE_AT_FORK.add(self._path)
        self._lent, self._idle = {}, []
        for connection in connections:
            if connection is not None:
                _abandon(connection)

    def _take_idle(self, stamp: _Stamp | None) -> sqlite3.Connection | None:
        while (idle := self._pop()) is not None:
            connection, opened = idle
            if opened == stamp:
                return connection
            connection.close()
        return None

    def _pop(self) -> tuple[sqlite3.Connection, _Stamp | None] | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread may have taken the last one
            return None

    def _give_back(self, connection: sqlite3.Connection, stamp: _Stamp | None) -> None:
        if connection.in_transaction:  # SQLite may have ended it itself, as on a full disk
            connection.execute("ROLLBACK")
        if len(self._idle) < _MAX_IDLE:
            self._idle.append((connection, stamp))
        else:
            connection.close()

    def _unlocked_stamp(self) -> _Stamp | None:
        """Give the file's stamp where it must be read without locks, else None.

        That is in a folder that we can't write, without a log: SQLite would need to make files. Nobody is writing the
        file at the moment, but may begin to.
        """
        if not self._read_only or os.access(self._path.parent, os.W_OK):
            return None
        return None if self._path.with_name(f"{self._path.name}-wal").exists() else _stamp(self._path)

    @contextmanager
    def _undisturbed(self, stamp: _Stamp | None) -> Iterator[None]:
        """Refuse what was read without locks, rightly or wrongly, from a file that somebody wrote meanwhile."""
        try:
            yield
        except Exception:
            self._check_stamp(stamp)
            raise
        self._check_stamp(stamp)

    def _check_stamp(self, stamp: _Stamp | None) -> None:
        if stamp is not None and stamp != _stamp(self._path):
            raise DocumentStoreError(
                f"The store in {self._path.parent} was written by another user while it was being read. Try again."
            )

    def _connect(self, stamp: _Stamp | None, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
        mode = "mode=rwc" if not self._read_only else "mode=ro" if stamp is None else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=self._lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.execute("PRAGMA cache_size = -4096")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("CREATE TEMP TABLE doomed(slot INTEGER PRIMARY KEY)")
            connection.execute("PRAGMA synchronous = FULL")
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def check_not_inherited(path: Path) -> None:
    """Check that a file may be opened in this process, as far as the fork goes that the process may come from.

    Raises:
        DocumentStoreError: The file was in use at the moment of the fork.
    """
    if path in _IN_USE_AT_FORK:
        raise forked(path)


def forked(path: Path) -> DocumentStoreError:
    """Say why a file can't be used in a forked process, and what to do."""
    return DocumentStoreError(
        f"The store in {path.parent} was in use when this process was forked (a search, a write, an unfinished "
        "iter_documents), and can't be used here. Fork while nothing uses it, best after close(), or start processes "
        "with multiprocessing's 'spawn'."
    )


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _abandon(connection: sqlite3.Connection) -> None:
    # Not even when this process ends may it be closed, which would undo what the parent is writing.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    try:
        connection.interrupt()  # so that an unfinished iter_documents reads no further
    except sqlite3.ProgrammingError:  # it was just being closed
        return


def _all_open() -> list[Connections]:
    found = [reference() for reference in _OPEN.valuerefs()]  # unlike values(), safe while other threads open some
    return [connections for connections in found if connections is not None]


def _before_fork() -> None:
    for connections in _all_open():
        connections.close()


def _after_fork_in_child() -> None:
    for connections in _all_open():
        connections.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
