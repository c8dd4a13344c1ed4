"""Connections to a store's database: a pool of them, and how a program outlives the loss of one."""

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo, errors, pq
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from capability.errors import (
    StoreError,
    StoreRolledBack,
    StoreSchemaError,
    StoreUnavailable,
    StoreURLError,
)
from capability.store.postgres.bounded import Connection, NoAnswer
from capability.store.postgres.schema import migrate, version_of

T = TypeVar("T")

WAIT_SECONDS: Final = 5
"""How long to wait for the server, a connection or another writer, before the store is unavailable."""

GLANCE_SECONDS: Final = 0.5
"""How long to wait for a connection before looking why none comes."""

CHANGE_SECONDS: Final = 300
"""How long a statement that may have much to do is waited for; a short one, WAIT_SECONDS."""

MAX_CONNECTIONS: Final = 8
"""Connections of one store object; a thread that needs one more waits."""

_DEFAULTS: Final = {
    "connect_timeout": str(WAIT_SECONDS),
    # A standby lags behind, and would say "not revoked" of what has been revoked.
    "target_session_attrs": "primary",
    # A server that has gone without a word is noticed within seconds.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "capability",
    "client_encoding": "UTF8",
}
"""What holds where the URL does not say otherwise. A password may also come from PGPASSFILE."""

_SETTINGS: Final = (
    "SET search_path = ''; "
    f"SET lock_timeout = '{WAIT_SECONDS}s'; "
    # A writer that was stopped in the middle does not keep the others waiting for ever.
    "SET idle_in_transaction_session_timeout = '60s'; "
    # What is prepared are questions by an index, which to plan anew takes longer than to answer.
    "SET plan_cache_mode = force_generic_plan"
)

_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT value FROM capability.revision"
_WRITING: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    # A revocation is on disk when the call returns, whatever the server's default; never less than that.
    # It is said in each transaction, for a proxy in between may have changed the session.
    "SELECT set_config('synchronous_commit', 'on', true)"
    " WHERE current_setting('synchronous_commit') <> 'remote_apply'; "
    "SELECT value FROM capability.revision FOR UPDATE"
)
_BEGUN: Final = (pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
_COMMIT: Final = "SELECT value FROM capability.revision; COMMIT"


class Target:
    """Where a URL leads. The password is in no text that this makes, nor in its repr."""

    def __init__(self, url: str) -> None:
        """Raises StoreURLError for what libpq does not read as a URL."""
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # What libpq says about it quotes the URL.
            raise StoreURLError(
                "the PostgreSQL URL cannot be read: write postgresql://USER@HOST/DATABASE,"
                " and special characters as %XX"
            ) from None
        ports = str(given.get("port") or "0").split(",")
        if not all(not port or (port.isdecimal() and int(port) < 65536) for port in ports):
            raise StoreURLError("the PostgreSQL URL has a port that is none")
        if "@" in str(given.get("host") or "").removeprefix("@"):  # which begins the name of a socket
            # libpq ends a password at the first @, and every message would show the rest of it.
            raise StoreURLError("the host of the PostgreSQL URL holds an @: write one in a password as %40")
        self.parameters: dict[str, Any] = {**_DEFAULTS, **given}
        self._password = str(given.get("password") or "")
        database = given.get("dbname") or os.environ.get("PGDATABASE") or "the default database"
        host = given.get("host") or os.environ.get("PGHOST") or "the local server"
        self.place = f"the store in {database!r} at {host!r}"

    def connect(self) -> Connection:
        """Returns a new connection, with which each statement is a transaction unless one is begun."""
        try:
            connection = Connection.connect(**self.parameters, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise self.translation(error) from error
        return connection

    def settle(self, connection: Connection) -> None:
        """Makes the settings of a new connection that the store relies on."""
        connection.patience = WAIT_SECONDS
        connection.execute(_SETTINGS)
        # Prepared statements belong to a session, which a proxy in between may change under us: then another
        # program's statement could answer by our name for it. A proxy gives the client a number of its own.
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if row == (connection.info.backend_pid,):
            connection.prepare_threshold = sys.maxsize  # what says `prepare=True`, and nothing else

    def translation(self, error: psycopg.Error) -> StoreError | ValueError:
        """Returns our word for an error of PostgreSQL. Whatever is not known to be lasting: unavailable."""
        text = error.diag.message_primary or "; ".join(str(error).splitlines()) or type(error).__name__
        if self._password:
            text = text.replace(self._password, "***")
        if isinstance(error, psycopg.DataError) and error.sqlstate is None:
            # psycopg's own: text with a zero byte. What the server finds wrong with data is no such mistake.
            return ValueError(f"PostgreSQL cannot keep that: {text}")
        if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn | errors.UndefinedFunction):
            return StoreSchemaError(f"{self.place} is damaged or is not one: {text}")
        if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
            return StoreSchemaError(f"{self.place} is damaged: {text}")
        return StoreUnavailable(f"{self.place} cannot be used: {text}")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Lets no exception of psycopg out."""
        try:
            yield
        except psycopg.Error as error:
            raise self.translation(error) from error


def create(url: str) -> None:
    """Makes an empty store in the database of `url`, unless it holds one already. Several may try at once."""
    _open(Target(url), absent_is_new=True)


class Connections:
    """Transactions on the store of `target`, which must exist, on several connections at a time.

    A connection that turns out to be dead is replaced, and what it was to do is done once more where that
    does no harm. Every answer has the revision with it: once a revision was seen, or `min_revision` was asked
    for, an older database is refused.
    """

    def __init__(self, target: Target, *, min_revision: int) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._seen = min_revision
        self._pool: ConnectionPool[Connection] | None = None
        self._process = 0
        self._lost = False
        self._failures = 0
        self._open = True
        _open(target, absent_is_new=False)

    def asking(self, work: Callable[[Connection], tuple[T, int]]) -> T:
        """Returns what `work` reads with one statement, which gives the revision too."""

        def ask(connection: Connection) -> T:
            before = self._seen
            connection.patience = WAIT_SECONDS
            result, revision = work(connection)
            self._see(before, revision)
            return result

        return self._run(ask, again=lambda: True)

    def reading(self, work: Callable[[Connection, int], T]) -> T:
        """Returns what `work` reads in a transaction that sees one moment, and its revision."""

        def read(connection: Connection) -> T:
            revision = self._begin(connection, _READING)
            result = work(connection, revision)
            connection.execute("COMMIT")
            return result

        return self._run(read, again=lambda: True)

    def writing(self, work: Callable[[Connection, int], T], *, idempotent: bool) -> T:
        """Returns what `work` does in a transaction that no other writer can come between.

        Where the connection is lost after `work` began, and doing it twice is not the same as once, it is
        not done again.
        """
        began = False

        def write(connection: Connection) -> T:
            nonlocal began
            revision = self._begin(connection, _WRITING)
            began = True
            result = work(connection, revision)
            self._commit(connection, idempotent=idempotent)
            return result

        return self._run(write, again=lambda: idempotent or not began)

    def noting(self, work: Callable[[Connection], T], *, idempotent: bool) -> T:
        """Returns what `work` does in a transaction that does not keep other writers waiting."""
        began = False

        def note(connection: Connection) -> T:
            nonlocal began
            connection.patience = CHANGE_SECONDS
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            began = True
            result = work(connection)
            self._commit(connection, idempotent=idempotent)
            return result

        return self._run(note, again=lambda: idempotent or not began)

    @contextmanager
    def open_reading(self) -> Iterator[tuple[Connection, int]]:
        """Yields a connection in a transaction that sees one moment for as long as it takes."""
        pool, connection = self._borrow()
        try:
            with self.target.translated():
                connection.execute("SET idle_in_transaction_session_timeout = 0")
                revision = self._begin(connection, _READING)
            yield connection, revision
        finally:
            connection.close()  # with its settings
            pool.putconn(connection)

    def check_open(self) -> None:
        """Raises StoreUnavailable when the store is closed."""
        if not self._open:
            raise StoreUnavailable("the store is closed")

    def close(self) -> None:
        """Closes the connections. Nothing can be asked afterwards."""
        with self._lock:
            self._open = False
            pool, self._pool = self._pool, None
        if pool is not None and self._process == os.getpid():
            pool.close()

    def _run(self, work: Callable[[Connection], T], again: Callable[[], bool]) -> T:
        retried = False
        while True:
            pool, connection = self._borrow()
            try:
                return work(connection)
            except psycopg.Error as error:
                lost = connection.closed
                self._lost = self._lost or lost
                # Who waited in vain is told so, and does not wait as long again.
                if retried or not lost or isinstance(error, NoAnswer) or not again():
                    raise self.target.translation(error) from error
                retried = True
            finally:
                connection.patience = WAIT_SECONDS
                if connection.info.transaction_status in _BEGUN:
                    with suppress(psycopg.Error):  # then it is closed, and the pool throws it away
                        connection.execute("ROLLBACK")
                pool.putconn(connection)

    def _begin(self, connection: Connection, statement: str) -> int:
        before = self._seen
        connection.patience = 2 * WAIT_SECONDS  # longer than for the lock, which the server gives up itself
        cursor = connection.execute(statement)
        while cursor.nextset():  # to the last statement's
            pass
        revision = revision_in(cursor.fetchone())
        self._see(before, revision)
        connection.patience = CHANGE_SECONDS
        return revision

    def _commit(self, connection: Connection, *, idempotent: bool) -> None:
        try:
            row = connection.execute(_COMMIT).fetchone()
        except psycopg.OperationalError as error:
            if idempotent:
                raise
            raise StoreUnavailable(
                f"{self.target.place} was lost while it made a change; look whether it was made"
            ) from error
        self._see(0, revision_in(row))

    def _see(self, before: int, revision: int) -> None:
        """Refuses a revision behind one that had been seen `before` the database was asked for it."""
        if revision < before:
            raise StoreRolledBack(before, revision)
        with self._lock:
            self._seen = max(self._seen, revision)

    def _borrow(self) -> tuple["ConnectionPool[Connection]", Connection]:
        if self._lost:
            # Asked directly, a server that is down says so at once, and in its own words.
            self._probe()
            pool = self._pool_of_this_process()
            pool.check()
            self._lost = False
        pool = self._pool_of_this_process()
        for _ in range(math.ceil(WAIT_SECONDS / GLANCE_SECONDS)):
            try:
                return pool, pool.getconn()
            except PoolClosed as error:  # by another thread, since it was looked at
                raise StoreUnavailable("the store is closed") from error
            except PoolTimeout:
                self._look_why(pool)
        self._lost = True
        self._probe()
        raise StoreUnavailable(
            f"{self.target.place} cannot be used: no connection came free in {WAIT_SECONDS} s"
        )

    def _look_why(self, pool: "ConnectionPool[Connection]") -> None:
        """Raises StoreUnavailable where no connection comes because the server takes none.

        It may have gone between the look at it and the wait for a connection, which the pool would go on
        trying to make.
        """
        failures = pool.get_stats().get("connections_errors", 0)
        if failures > self._failures:
            self._probe()
            self._failures = failures

    def _probe(self) -> None:
        self.check_open()
        with self.target.translated(), self.target.connect() as connection:
            self._prepare(connection)

    def _pool_of_this_process(self) -> "ConnectionPool[Connection]":
        with self._lock:
            self.check_open()
            # Connections that came through a fork belong to the parent, and the pool's threads stayed there.
            if self._pool is None or self._process != os.getpid():
                self._pool = ConnectionPool(
                    connection_class=Connection,
                    kwargs={**self.target.parameters, "autocommit": True, "prepare_threshold": None},
                    min_size=1,
                    max_size=MAX_CONNECTIONS,
                    timeout=GLANCE_SECONDS,
                    reconnect_timeout=WAIT_SECONDS,
                    num_workers=1,
                    configure=self._prepare,
                    name="capability",
                    open=True,
                )
                self._process = os.getpid()
                self._failures = 0
            return self._pool

    def _prepare(self, connection: Connection) -> None:
        self.target.settle(connection)
        version_of(connection, self.target.place, absent_is_new=False)


def revision_in(row: tuple[Any, ...] | None) -> int:
    """Returns the revision that a row begins with."""
    if row is None or type(row[0]) is not int:
        raise StoreSchemaError("the store has lost its revision")
    revision: int = row[0]
    return revision


def _open(target: Target, *, absent_is_new: bool) -> None:
    """Connects once and brings the store to the newest version, so that what is wrong is said at once."""
    with target.translated(), target.connect() as connection:
        target.settle(connection)
        connection.patience = None  # making an index of a large store takes what it takes
        migrate(connection, target.place, absent_is_new=absent_is_new)
