"""The store in a SQLite file."""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from capability.errors import StoreRolledBack
from capability.revocation import RevocationStatus
from capability.store import events
from capability.store.audit import STORE_WRITER, Entry, Event, Head, Watch, link, problems, unwatched
from capability.store.dump import Dump
from capability.store.moments import micros
from capability.store.records import (
    EVERYTHING,
    Changes,
    Feed,
    Owner,
    Record,
    Revocation,
    Rule,
    Selection,
    check_one,
    check_words,
    checked_ids,
    in_utc,
)
from capability.store.sqlite.connection import BUSY_SECONDS, SharedConnection, translated
from capability.store.sqlite.registry import (
    COLUMNS,
    REVOKED,
    RULED,
    condition,
    insert,
    record,
)
from capability.store.sqlite.transfer import REVOCATION, RULE, dump_of, load_into, revocation, rule

_VARIABLES: Final = 500
"""Ids asked for in one statement; older SQLite libraries take 999 values at most."""

_PAGE: Final = 1000
"""Lines of the audit trail read in one transaction."""


_LOOK: Final = 0.02
"""Seconds between two looks of somebody who waits: a look takes microseconds, and a file tells nobody."""


class SQLiteStore:
    """The store in the file at `path`, which must exist (`create` makes it).

    `timeout` is how many seconds to wait for another writer. A file that is behind `min_revision`, or behind
    what this object has seen, raises StoreRolledBack.
    """

    def __init__(self, path: str | Path, *, timeout: float = BUSY_SECONDS, min_revision: int = 0) -> None:
        self.path = Path(path).absolute()
        self._connection = SharedConnection(self.path, timeout=timeout, min_revision=min_revision)
        with self._connection.reading():
            pass

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any, and the revision."""
        ids = checked_ids(revocation_ids)
        revoked: set[bytes] = set()
        with self._connection.reading() as database:
            connection = database.conn
            revision = _revision(connection)
            for start in range(0, len(ids), _VARIABLES):
                part = ids[start : start + _VARIABLES]
                marks = ", ".join("?" * len(part))
                for question in (
                    f"SELECT id FROM revocations WHERE id IN ({marks})",
                    f"SELECT t.root FROM tokens t WHERE t.root IN ({marks}) AND {RULED}",
                ):
                    revoked.update(row[0] for row in connection.execute(question, part))
        return RevocationStatus(next((each for each in ids if each in revoked), None), revision)

    def revision(self) -> int:
        """Returns the revision, in a few microseconds when nobody has written since the last question."""
        return self._connection.revision()

    def register(self, record: Record, *, actor: str | None = None) -> None:
        """Adds a record. Raises ValueError when its id or its root is registered already."""
        check_words(actor)
        with self._connection.writing() as database:
            insert(database.conn, record)
            _append(database.conn, [events.minted(record, actor)], STORE_WRITER)

    def records(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None, after: str | None = None
    ) -> tuple[Record, ...]:
        """Returns the records that are meant, oldest first: at most `limit`, from behind the id `after`."""
        where, values = condition(selection)
        if after is not None:
            where += " AND t.serial > coalesce((SELECT serial FROM tokens WHERE id = ?), 0)"
            values.append(after)
        with self._connection.reading() as database:
            rows = database.conn.execute(
                f"SELECT {COLUMNS}, {REVOKED} FROM tokens t WHERE {where} ORDER BY t.serial LIMIT ?",
                [*values, -1 if limit is None else limit],
            ).fetchall()
        return tuple(map(record, rows))

    def registered(self, root: bytes) -> Record | None:
        """Returns the record of the token whose root block has this id."""
        with self._connection.reading() as database:
            row = database.conn.execute(
                f"SELECT {COLUMNS}, {REVOKED} FROM tokens t WHERE t.root = ?", (root,)
            ).fetchone()
        return None if row is None else record(row)

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens, by the ids of their roots, were last used; earlier times change nothing."""
        values = [(micros(in_utc(used)), root) for root, used in uses.items()]
        with self._connection.writing() as database:
            database.conn.executemany(
                "UPDATE tokens SET last_used = ?1 WHERE root = ?2 AND coalesce(last_used, 0) < ?1", values
            )

    def revoke(
        self,
        revocation_ids: Sequence[bytes],
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
        expires: datetime | None = None,
    ) -> int:
        """Revokes every id and returns the revision, from which on they are revoked."""
        ids = checked_ids(revocation_ids)
        check_words(reason, actor)
        now = in_utc(at or datetime.now(UTC))
        until = None if expires is None else micros(in_utc(expires))
        with self._connection.writing() as database:
            return _revoke(database.conn, [(each, until) for each in ids], reason, actor, now)

    def revoke_selected(
        self,
        selection: Selection,
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes the tokens of all records that are meant."""
        check_words(reason, actor)
        now = in_utc(at or datetime.now(UTC))
        where, values = condition(selection)
        with self._connection.writing() as database:
            meant = database.conn.execute(
                f"SELECT t.root, t.expires FROM tokens t WHERE {where} ORDER BY t.serial", values
            ).fetchall()
            return _revoke(database.conn, meant, reason, actor, now)

    def revoke_all_of(
        self,
        owner: Owner | None = None,
        tenant: str | None = None,
        *,
        before: datetime | None = None,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes all tokens of an owner or of a tenant that are registered by now."""
        check_one(owner, tenant)
        check_words(reason, actor, tenant)
        now = in_utc(at or datetime.now(UTC))
        until = None if before is None else in_utc(before)
        column, value = ("owner", str(owner)) if owner is not None else ("tenant", tenant)
        with self._connection.writing() as database:
            connection = database.conn
            revision = _revision(connection)
            if connection.execute(
                f"SELECT 1 FROM tokens t WHERE t.{column} = ? AND (? IS NULL OR t.created < ?)"
                f" AND NOT {REVOKED} LIMIT 1",
                (value, micros(until), micros(until)),
            ).fetchone():
                revision = _next_revision(connection)
                connection.execute(
                    f"INSERT INTO rules ({column}, up_to, before, reason, actor, at, revision)"
                    " VALUES (?, (SELECT max(serial) FROM tokens), ?, ?, ?, ?, ?)",
                    (value, micros(until), reason, actor, micros(now), revision),
                )
            event = events.revoked_all_of(owner, tenant, until, reason, actor, now, revision)
            _append(connection, [event], STORE_WRITER)
            return revision

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revocations in the order they were made."""
        with self._connection.reading() as database:
            rows = database.conn.execute(f"SELECT {REVOCATION} ORDER BY revision, rowid").fetchall()
        return tuple(map(revocation, rows))

    def rules(self) -> tuple[Rule, ...]:
        """Returns all rules in the order they were made."""
        with self._connection.reading() as database:
            rows = database.conn.execute(f"SELECT {RULE} ORDER BY serial").fetchall()
        return tuple(map(rule, rows))

    def changes(self, since: int) -> Changes:
        """Returns what was revoked after revision `since`."""
        with self.feed(since) as feed:
            return feed.collected()

    @contextmanager
    def feed(self, since: int) -> Iterator[Feed]:
        """Returns the same, an id at a time."""
        if self.revision() == since:  # what a follower asks most
            yield Feed(iter(()), since)
            return
        with self._connection.snapshot() as connection:
            revision = _revision(connection)
            if since > revision:
                raise StoreRolledBack(since, revision)
            yield Feed(_fed(connection, since, self.path), revision)

    def wait(self, revision: int, timeout: float) -> None:
        """Returns when the revision has moved past `revision`, or after `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.revision() <= revision:
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_LOOK, left))

    def prune(self, *, now: datetime | None = None, actor: str | None = None) -> int:
        """Drops the revocations of tokens that have expired a day ago or earlier; returns how many."""
        check_words(actor)
        bound = events.prune_bound(now)
        with self._connection.writing() as database:
            count: int = database.conn.execute(
                "DELETE FROM revocations WHERE expires <= ?", (micros(bound),)
            ).rowcount
            if count:
                _append(database.conn, [events.pruned(count, bound, actor)], STORE_WRITER)
        return count

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`."""
        with self._connection.writing() as database:
            _append(database.conn, events, writer)

    def audit(self, *, writer: str | None = None) -> Iterator[Entry]:
        """Yields the lines of the trail, read a thousand at a time."""
        last: tuple[str, int] = ("" if writer is None else writer, 0)
        while True:
            with self._connection.reading() as database:
                rows = database.conn.execute(
                    "SELECT writer, number, line, hash FROM audit WHERE (writer, number) > (?1, ?2)"
                    " AND (?3 IS NULL OR writer = ?3) ORDER BY writer, number LIMIT ?4",
                    (*last, writer, _PAGE),
                ).fetchall()
            for row in rows:
                yield Entry(*row)
            if len(rows) < _PAGE:
                return
            last = (rows[-1][0], rows[-1][1])

    def heads(self) -> dict[str, Head]:
        """Returns the end of each writer's chain."""
        with self._connection.reading() as database:
            return _heads(database.conn)

    def audit_problems(self, *, watch: Watch = unwatched) -> tuple[str, ...]:
        """Returns what is wrong with the audit trail at this moment."""
        with self._connection.reading() as database:
            rows = database.conn.execute(
                "SELECT writer, number, line, hash FROM audit ORDER BY writer, number"
            )
            return tuple(problems(watch(Entry(*row) for row in rows), _heads(database.conn)))

    def problems(self) -> tuple[str, ...]:
        """Returns what is damaged: pages and indexes of the file, references, and the audit trail."""
        with self._connection.reading() as database:
            found = [row[0] for row in database.conn.execute("PRAGMA integrity_check") if row[0] != "ok"]
            broken = database.conn.execute("PRAGMA foreign_key_check").fetchall()
            found += [f"a row of {row[0]} refers to what is not there" for row in broken]
        return (*found, *self.audit_problems())

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Returns all that the store holds at one moment."""
        with self._connection.snapshot() as connection:
            yield dump_of(connection, self.path)

    def load(self, dump: Dump, *, actor: str | None = None) -> None:
        """Puts a dump into this store, all or nothing."""
        check_words(actor)
        with self._connection.writing() as database:
            load_into(database.conn, dump)
            event = events.loaded(dump.revision, dump.count, actor)
            _append(database.conn, [event], STORE_WRITER)

    def close(self) -> None:
        """Closes the connection. Nothing can be asked afterwards."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _revision(connection: sqlite3.Connection) -> int:
    revision: int = connection.execute("SELECT value FROM revision").fetchone()[0]
    return revision


def _fed(connection: sqlite3.Connection, since: int, path: Path) -> Iterator[bytes]:
    """Yields the ids of what was revoked after a revision, those of rules too."""
    questions = ["SELECT id FROM revocations WHERE revision > ? ORDER BY revision, rowid"]
    questions += [
        f"SELECT t.root FROM rules r JOIN tokens t ON t.{column} = r.{column}"
        " AND t.serial <= r.up_to AND (r.before IS NULL OR t.created < r.before) WHERE r.revision > ?"
        for column in ("owner", "tenant")
    ]
    # Who reads may be within another store's transaction, which would take an error for its own.
    with translated(path):
        for question in questions:
            for row in connection.execute(question, (since,)):
                yield row[0]


def _next_revision(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE revision SET value = value + 1")
    return _revision(connection)


def _revoke(
    connection: sqlite3.Connection,
    ids: Sequence[tuple[bytes, int | None]],
    reason: str | None,
    actor: str | None,
    now: datetime,
) -> int:
    revision = _revision(connection)
    added = connection.executemany(
        "INSERT INTO revocations (id, reason, actor, at, revision, expires) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        [(each, reason, actor, now.isoformat(), revision + 1, until) for each, until in ids],
    ).rowcount
    if added > 0:
        revision = _next_revision(connection)
    event = events.revoked_ids(tuple(each for each, _ in ids), reason, actor, now, revision)
    _append(connection, [event], STORE_WRITER)
    return revision


def _append(connection: sqlite3.Connection, events: Iterable[Event], writer: str) -> None:
    row = connection.execute("SELECT number, hash FROM audit_heads WHERE writer = ?", (writer,)).fetchone()
    head = None if row is None else Head(*row)
    entries: list[Entry] = []
    for event in events:
        entry = link(event, writer, head)
        head = Head(entry.number, entry.hash)
        entries.append(entry)
    if head is None or not entries:
        return
    connection.executemany(
        "INSERT INTO audit (writer, number, line, hash) VALUES (?, ?, ?, ?)",
        [(each.writer, each.number, each.text, each.hash) for each in entries],
    )
    connection.execute(
        "INSERT INTO audit_heads (writer, number, hash) VALUES (?, ?, ?)"
        " ON CONFLICT (writer) DO UPDATE SET number = excluded.number, hash = excluded.hash",
        (writer, head.number, head.hash),
    )


def _heads(connection: sqlite3.Connection) -> dict[str, Head]:
    rows = connection.execute("SELECT writer, number, hash FROM audit_heads")
    return {writer: Head(number, end) for writer, number, end in rows}
