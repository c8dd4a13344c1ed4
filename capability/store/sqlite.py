"""A store in one SQLite file, shared by any number of threads and processes of a machine.

A file is ours when its `application_id` says so; its `user_version` counts the migrations it has had. A
write is one `BEGIN IMMEDIATE` transaction, so revisions follow each other without gaps whoever writes, and
`synchronous=FULL` makes a revocation outlive a power cut once `revoke` has returned.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from sqlite_utils import Database

from capability.errors import StoreSchemaError, StoreUnavailable
from capability.revocation import RevocationStatus
from capability.store.protocol import Revocation, check_words, checked_ids, checked_time

APPLICATION_ID: Final = 0x63617073
"""`caps` in ASCII: tells our files from other SQLite files."""

MIGRATIONS: Final = (
    # 1: revocations
    (
        "CREATE TABLE revision (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL)",
        "INSERT INTO revision (one, value) VALUES (1, 0)",
        "CREATE TABLE revocations ("
        " id BLOB PRIMARY KEY NOT NULL CHECK (typeof(id) = 'blob'),"
        " reason TEXT, actor TEXT, at TEXT NOT NULL, revision INTEGER NOT NULL)",
        "CREATE INDEX revocations_by_revision ON revocations (revision)",
    ),
)
"""What takes a file from one version to the next. Only ever appended to."""

BUSY_SECONDS: Final = 5.0
"""How long to wait for another writer before the store counts as unavailable."""

_VARIABLES: Final = 500
"""Ids asked for in one statement; older SQLite libraries take 999 values at most."""

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
    with _translated(path), _connection(path, mode="rwc") as connection:
        _version(connection, path, blank_is_new=True)  # someone else's file is not touched
        if _pragma(connection, "journal_mode") != "wal":
            _enter_wal(connection)
        _migrate(connection, path, blank_is_new=True)


class SQLiteStore:
    """The store in the file at `path`, which must exist (`create` makes it).

    `timeout` is how many seconds to wait for another writer. One connection is shared under a lock; it is
    opened again after a fork and when another file has taken the path, so that neither a shared connection
    nor a deleted file is ever read.
    """

    def __init__(self, path: str | Path, *, timeout: float = BUSY_SECONDS) -> None:
        self.path = Path(path).absolute()
        self._timeout = timeout
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._identity: tuple[int, int, int] | None = None
        self._open = True
        with self._reading():
            pass

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any, and the revision."""
        ids = checked_ids(revocation_ids)
        revoked: set[bytes] = set()
        with self._reading() as database:
            revision = _revision(database)
            for start in range(0, len(ids), _VARIABLES):
                part = ids[start : start + _VARIABLES]
                marks = ", ".join("?" * len(part))
                found = database.execute(f"SELECT id FROM revocations WHERE id IN ({marks})", part)
                revoked.update(row[0] for row in found)
        return RevocationStatus(next((each for each in ids if each in revoked), None), revision)

    def revoke(
        self,
        revocation_ids: Sequence[bytes],
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes every id and returns the revision, from which on they are revoked."""
        ids = checked_ids(revocation_ids)
        check_words(reason, actor)
        moment = checked_time(at or datetime.now(UTC)).astimezone(UTC).isoformat()
        with self._writing() as database:
            revision = _revision(database)
            added = 0
            for each in ids:
                added += database.execute(
                    "INSERT INTO revocations (id, reason, actor, at, revision) VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (id) DO NOTHING",
                    (each, reason, actor, moment, revision + 1),
                ).rowcount
            if added:
                revision += 1
                database.execute("UPDATE revision SET value = ?", (revision,))
        return revision

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revocations in the order they were made."""
        with self._reading() as database:
            rows = list(database["revocations"].rows_where(order_by="revision, rowid"))
        return tuple(_revocation(row) for row in rows)

    def close(self) -> None:
        """Closes the connection. Nothing can be asked afterwards."""
        with self._lock:
            self._open = False
            self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        """Yields the database in a transaction that sees one moment of it."""
        with self._transaction("BEGIN") as database:
            yield database

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """Yields the database in a transaction that no other writer can come between."""
        with self._transaction("BEGIN IMMEDIATE") as database:
            yield database

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Database]:
        with self._lock, _translated(self.path):
            database = self._connected()
            try:
                database.conn.execute(begin)
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
            self._identity = identity
        return self._database

    def _look(self) -> tuple[int, int, int]:
        """Returns what tells this file, in this process, from any other."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise StoreUnavailable(f"there is no store at {str(self.path)!r}") from error
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(f"{str(self.path)!r} is not a file")
        return (os.getpid(), found.st_dev, found.st_ino)

    def _disconnect(self) -> None:
        database, self._database = self._database, None
        # A connection that came through a fork belongs to the parent: closing it here would drop the
        # parent's locks on the file.
        if database is not None and self._identity is not None and self._identity[0] == os.getpid():
            database.conn.close()


def _open(path: Path, *, timeout: float) -> Database:
    """Connects to the store at `path` and brings it to the newest version."""
    connection = _connect(path, mode="rw", timeout=timeout)
    try:
        _migrate(connection, path, blank_is_new=False)
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
        for pragma in ("foreign_keys = ON", "synchronous = FULL", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {pragma}")
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


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


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


def _migrate(connection: sqlite3.Connection, path: Path, *, blank_is_new: bool) -> None:
    """Checks that the file is ours, and applies the migrations that it lacks."""
    if _version(connection, path, blank_is_new=blank_is_new) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first.
        version = _version(connection, path, blank_is_new=blank_is_new)
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Makes several reads see the same state: between two of them, another process may make the store."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: Path, *, blank_is_new: bool) -> int:
    with _one_moment(connection):
        application = _pragma(connection, "application_id")
        version: int = _pragma(connection, "user_version")
        blank = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == APPLICATION_ID:
        if version > len(MIGRATIONS):
            raise StoreSchemaError(
                f"the store at {str(path)!r} has version {version}; this program knows {len(MIGRATIONS)}"
            )
        return version
    if blank and blank_is_new and not application and not version:
        return 0
    raise StoreSchemaError(f"the file at {str(path)!r} is not a store of capability tokens")


def _revision(database: Database) -> int:
    row = database.execute("SELECT value FROM revision").fetchone()
    if row is None or type(row[0]) is not int:
        raise StoreSchemaError("the store has lost its revision")
    revision: int = row[0]
    return revision


def _revocation(row: dict[str, Any]) -> Revocation:
    try:
        at = datetime.fromisoformat(row["at"])
    except ValueError as error:
        raise StoreSchemaError("the store holds a revocation without a readable time") from error
    return Revocation(row["id"], row["reason"], row["actor"], at, row["revision"])


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that Python's module raises itself, such as use after close, have no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL) & 0xFF


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Lets no exception of sqlite3 out. Whatever is not known to be damage may pass, so: unavailable."""
    try:
        yield
    except sqlite3.Error as error:
        if _primary_code(error) in _DAMAGED:
            raise StoreSchemaError(f"the store at {str(path)!r} is damaged or is not one: {error}") from error
        raise StoreUnavailable(f"the store at {str(path)!r} cannot be used: {error}") from error
