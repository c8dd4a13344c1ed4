"""One connection to a store's file, shared by threads, and made again when it is no longer the right one."""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlite_utils import Database

from capability.errors import StoreRolledBack, StoreSchemaError, StoreUnavailable
from capability.store.sqlite.schema import migrate, pragma, version_of

BUSY_SECONDS: Final = 5.0
"""How long to wait for another writer before the store counts as unavailable."""

_DAMAGED: Final = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_MISMATCH,
}
"""Primary result codes of a file that will not get better by waiting. SQLITE_ERROR: a table is missing."""


def create(path: Path) -> None:
    """Makes an empty store at `path`, unless there is a store already. Several processes may try at once."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"there is no folder {str(folder)!r} for the store")
    _make_private(path)
    with translated(path), _connection(path, mode="rw") as connection:
        version_of(connection, path, blank_is_new=True)  # someone else's file is not touched
        if pragma(connection, "journal_mode") != "wal":
            _enter_wal(connection)
        migrate(connection, path, blank_is_new=True)


def _make_private(path: Path) -> None:
    """Makes an empty file of mode 0600 where there is none; SQLite gives its log and index the same mode.

    INVARIANT: a file that is there is not opened, since closing it would drop this process's locks on it.
    """
    try:
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        return  # it is there, or cannot be made, which SQLite then says


class SharedConnection:
    """Transactions on the file at `path`, which must exist, one at a time.

    The connection is opened again after a fork and when another file has taken the path, so that neither a
    shared connection nor a deleted file is ever read. Every transaction reads the revision first: once a
    revision was seen, or `min_revision` was asked for, an older file is refused.
    """

    def __init__(self, path: Path, *, timeout: float, min_revision: int) -> None:
        self.path = path
        self._name = os.fspath(path)
        self._timeout = timeout
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._cursor: sqlite3.Cursor
        self._identity: tuple[int, int, int] | None = None
        self._open = True
        self._seen = min_revision
        self._data_version: int | None = None

    def revision(self) -> int:
        """Returns the revision; reads it only when someone else has written since it was last read."""
        with self._lock:
            try:
                self._connected()
                # to its end, lest the read stay open and see this moment for ever
                ((data_version,),) = self._cursor.execute("PRAGMA data_version").fetchall()
            except sqlite3.Error as error:
                self._disconnect()
                raise _translation(self.path, error) from error
            if data_version != self._data_version:
                with self.reading():
                    self._data_version = data_version
            return self._seen

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """Yields the database in a transaction that sees one moment of it."""
        with self._transaction("BEGIN") as database:
            yield database

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """Yields the database in a transaction that no other writer can come between."""
        with self._transaction("BEGIN IMMEDIATE") as database:
            yield database
            revision = _revision(database.conn)
        self._seen = revision

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection of its own that sees one moment of the store, for as long as it takes to read.

        Other threads go on with the shared one, and writers do not wait.
        """
        with self.reading():
            pass
        with translated(self.path), closing(_open(self.path, timeout=self._timeout).conn) as connection:
            connection.execute("BEGIN")
            found = _revision(connection)
            if found < self._seen:
                raise StoreRolledBack(self._seen, found)
            yield connection

    def close(self) -> None:
        """Closes the connection. Nothing can be asked afterwards."""
        with self._lock:
            self._open = False
            self._disconnect()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Database]:
        with self._lock, translated(self.path):
            database = self._connected()
            try:
                database.conn.execute(begin)
                found = _revision(database.conn)
                if found < self._seen:
                    raise StoreRolledBack(self._seen, found)
                self._seen = found
                yield database
                database.conn.execute("COMMIT")
            except sqlite3.Error:
                # Whatever state it is in, the next call starts with a new connection.
                self._disconnect()
                raise
            finally:
                if self._database is not None and database.conn.in_transaction:
                    database.conn.execute("ROLLBACK")

    def _connected(self) -> Database:
        if not self._open:
            raise StoreUnavailable("the store is closed")
        identity = self._look()
        if self._database is None or identity != self._identity:
            self._disconnect()
            self._database = _open(self.path, timeout=self._timeout)
            self._cursor = self._database.conn.cursor()
            self._identity = identity
        return self._database

    def _look(self) -> tuple[int, int, int]:
        """Returns what tells this file, in this process, from any other."""
        try:
            found = os.stat(self._name)
        except OSError as error:
            raise StoreUnavailable(f"there is no store at {str(self.path)!r}") from error
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(f"{str(self.path)!r} is not a file")
        return (os.getpid(), found.st_dev, found.st_ino)

    def _disconnect(self) -> None:
        database, self._database = self._database, None
        self._data_version = None
        # A connection that came through a fork belongs to the parent: closing it here would drop the
        # parent's locks on the file.
        if database is not None and self._identity is not None and self._identity[0] == os.getpid():
            database.conn.close()


def _revision(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM revision").fetchone()
    if row is None or type(row[0]) is not int:
        raise StoreSchemaError("the store has lost its revision")
    revision: int = row[0]
    return revision


def _open(path: Path, *, timeout: float) -> Database:
    """Connects to the store at `path` and brings it to the newest version."""
    connection = _connect(path, mode="rw", timeout=timeout)
    try:
        migrate(connection, path, blank_is_new=False)
    except BaseException:
        connection.close()
        raise
    return Database(connection, execute_plugins=False)


def _connect(path: Path, *, mode: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for setting in ("foreign_keys = ON", "synchronous = FULL", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {setting}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _connection(path: Path, *, mode: str) -> Iterator[sqlite3.Connection]:
    connection = _connect(path, mode=mode, timeout=BUSY_SECONDS)
    try:
        yield connection
    finally:
        connection.close()


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switches to the write-ahead log. SQLite does not wait by itself for others who try the same."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that Python's module raises itself, such as use after close, have no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL) & 0xFF


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Lets no exception of sqlite3 out."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translation(path, error) from error


def _translation(path: Path, error: sqlite3.Error) -> StoreSchemaError | StoreUnavailable:
    """Returns our word for an error of SQLite. Whatever is not known to be damage may pass: unavailable."""
    if _primary_code(error) in _DAMAGED:
        return StoreSchemaError(f"the store at {str(path)!r} is damaged or is not one: {error}")
    return StoreUnavailable(f"the store at {str(path)!r} cannot be used: {error}")
