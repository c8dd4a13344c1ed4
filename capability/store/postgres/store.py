"""The store in a PostgreSQL database."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Self

from capability.errors import StoreRolledBack
from capability.revocation import RevocationStatus
from capability.store import events
from capability.store.audit import STORE_WRITER, Entry, Event, Head, Watch, problems, unwatched
from capability.store.dump import Dump
from capability.store.moments import micros
from capability.store.postgres.bounded import Connection
from capability.store.postgres.connection import Connections, Target, revision_in
from capability.store.postgres.feed import fed
from capability.store.postgres.listener import Listener
from capability.store.postgres.registry import COLUMNS, REVOKED, RULED, condition, insert, record
from capability.store.postgres.schema import CHANNEL
from capability.store.postgres.transfer import (
    BATCH,
    ENTRY,
    REVOCATION,
    RULE,
    append,
    dump_of,
    heads,
    load_into,
    revocation,
    rule,
    streamed,
)
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

_STATUS: Final = (
    "SELECT (SELECT value FROM capability.revision),"
    " ARRAY(SELECT id FROM capability.revocations WHERE id = ANY(%(ids)s::bytea[])),"
    f" ARRAY(SELECT t.root FROM capability.tokens t WHERE t.root = ANY(%(ids)s::bytea[]) AND {RULED})"
)

_REVOKE: Final = (
    "INSERT INTO capability.revocations (id, reason, actor, at, revision, expires)"
    " SELECT id, %s, %s, %s, %s, expires"
    " FROM unnest(%s::bytea[], %s::bigint[]) WITH ORDINALITY AS meant (id, expires, place) ORDER BY place"
    " ON CONFLICT (id) DO NOTHING"
)

_GUARDS: Final = (
    "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'capability.audit'::regclass"
    " AND tgname = 'audit_is_only_appended_to' AND tgenabled IN ('O', 'A')"
)


class PostgresStore:
    """The store in the database of `url`, which must hold one (`create` makes it).

    A database that is behind `min_revision`, or behind what this object has seen, raises StoreRolledBack.
    """

    def __init__(self, url: str, *, min_revision: int = 0) -> None:
        target = Target(url)
        self._connections = Connections(target, min_revision=min_revision)
        self._listener = Listener(target)
        try:
            self.revision()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._connections.target.place}>"

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any, and the revision."""
        ids = checked_ids(revocation_ids)

        def ask(connection: Connection) -> tuple[RevocationStatus, int]:
            row = connection.execute(_STATUS, {"ids": [*ids]}, binary=True, prepare=True).fetchone()
            revision = revision_in(row)
            revoked = set() if row is None else {*row[1], *row[2]}
            first = next((each for each in ids if each in revoked), None)
            return RevocationStatus(first, revision), revision

        return self._connections.asking(ask)

    def revision(self) -> int:
        """Returns the revision: one question to the server."""

        def ask(connection: Connection) -> tuple[int, int]:
            row = connection.execute("SELECT value FROM capability.revision", prepare=True).fetchone()
            found = revision_in(row)
            return found, found

        return self._connections.asking(ask)

    def wait(self, revision: int, timeout: float) -> None:
        """Returns when the revision has moved past `revision`, or after `timeout` seconds."""
        self._listener.wait(revision, timeout)

    def register(self, record: Record, *, actor: str | None = None) -> None:
        """Adds a record. Raises ValueError when its id or its root is registered already."""
        check_words(actor)
        new = record.seen_by(revoked=False, last_used=None)

        def write(connection: Connection, revision: int) -> None:
            insert(connection, [new])
            append(connection, [events.minted(record, actor)], STORE_WRITER)

        self._connections.writing(write, idempotent=False)

    def records(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None, after: str | None = None
    ) -> tuple[Record, ...]:
        """Returns the records that are meant, oldest first: at most `limit`, from behind the id `after`."""
        where, values = condition(selection)
        if after is not None:
            where += " AND t.serial > coalesce((SELECT serial FROM capability.tokens WHERE id = %s), 0)"
            values.append(after)
        rows = self._rows(
            f"SELECT {COLUMNS} FROM capability.tokens t WHERE {where} ORDER BY t.serial LIMIT %s",
            *values,
            limit,
        )
        return tuple(map(record, rows))

    def registered(self, root: bytes) -> Record | None:
        """Returns the record of the token whose root block has this id."""
        rows = self._rows(f"SELECT {COLUMNS} FROM capability.tokens t WHERE t.root = %s", root)
        return record(rows[0]) if rows else None

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens, by the ids of their roots, were last used; earlier times change nothing."""
        values = sorted(
            (root, micros(in_utc(used))) for root, used in uses.items()
        )  # one order for all writers

        def write(connection: Connection) -> None:
            connection.cursor().executemany(
                "UPDATE capability.tokens SET last_used = %(used)s"
                " WHERE root = %(root)s AND coalesce(last_used, 0) < %(used)s",
                [{"root": root, "used": used} for root, used in values],
            )

        self._connections.noting(write, idempotent=True)

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
        meant = [(each, until) for each in ids]
        return self._connections.writing(
            lambda connection, revision: _revoke(connection, revision, meant, reason, actor, now),
            idempotent=True,
        )

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

        def write(connection: Connection, revision: int) -> int:
            meant = connection.execute(
                f"SELECT t.root, t.expires FROM capability.tokens t WHERE {where} ORDER BY t.serial", values
            ).fetchall()
            return _revoke(connection, revision, [(row[0], row[1]) for row in meant], reason, actor, now)

        return self._connections.writing(write, idempotent=True)

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

        def write(connection: Connection, revision: int) -> int:
            if connection.execute(
                f"SELECT 1 FROM capability.tokens t WHERE t.{column} = %(whose)s"
                " AND (%(until)s::bigint IS NULL OR t.created < %(until)s::bigint)"
                f" AND NOT {REVOKED} LIMIT 1",
                {"whose": value, "until": micros(until)},
            ).fetchone():
                revision = _next_revision(connection)
                connection.execute(
                    f"INSERT INTO capability.rules ({column}, up_to, before, reason, actor, at, revision)"
                    " VALUES (%s, (SELECT max(serial) FROM capability.tokens), %s, %s, %s, %s, %s)",
                    (value, micros(until), reason, actor, micros(now), revision),
                )
            event = events.revoked_all_of(owner, tenant, until, reason, actor, now, revision)
            append(connection, [event], STORE_WRITER)
            return revision

        return self._connections.writing(write, idempotent=True)

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revocations in the order they were made."""
        return tuple(map(revocation, self._rows(f"SELECT {REVOCATION} ORDER BY revision, serial")))

    def rules(self) -> tuple[Rule, ...]:
        """Returns all rules in the order they were made."""
        return tuple(map(rule, self._rows(f"SELECT {RULE} ORDER BY serial")))

    def changes(self, since: int) -> Changes:
        """Returns what was revoked after revision `since`."""
        with self.feed(since) as feed:
            return feed.collected()

    @contextmanager
    def feed(self, since: int) -> Iterator[Feed]:
        """Returns the same, an id at a time. No transaction is open meanwhile.

        What a revision brought is never added to, so pages make up one moment.
        """
        revision = self.revision()
        if since > revision:
            raise StoreRolledBack(since, revision)
        yield Feed(fed(self._rows, since, revision) if revision > since else iter(()), revision)

    def prune(self, *, now: datetime | None = None, actor: str | None = None) -> int:
        """Drops the revocations of tokens that have expired a day ago or earlier; returns how many."""
        check_words(actor)
        bound = events.prune_bound(now)

        def write(connection: Connection, revision: int) -> int:
            count: int = connection.execute(
                "DELETE FROM capability.revocations WHERE expires <= %s", (micros(bound),)
            ).rowcount
            if count:
                append(connection, [events.pruned(count, bound, actor)], STORE_WRITER)
            return count

        return self._connections.writing(write, idempotent=False)

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`; writers of other chains do not wait."""
        noted = [*events]
        self._connections.noting(lambda connection: append(connection, noted, writer), idempotent=False)

    def audit(self, *, writer: str | None = None) -> Iterator[Entry]:
        """Yields the lines of the trail, read a thousand at a time."""
        last: tuple[str, int] = ("" if writer is None else writer, 0)
        only = "" if writer is None else " AND writer = %s"
        while True:
            rows = self._rows(
                f"SELECT {ENTRY} WHERE (writer, number) > (%s, %s){only} ORDER BY writer, number LIMIT %s",
                *last,
                *(() if writer is None else (writer,)),
                BATCH,
            )
            for row in rows:
                yield Entry(*row)
            if len(rows) < BATCH:
                return
            last = (rows[-1][0], rows[-1][1])

    def heads(self) -> dict[str, Head]:
        """Returns the end of each writer's chain."""
        return self._connections.reading(lambda connection, _: heads(connection))

    def audit_problems(self, *, watch: Watch = unwatched) -> tuple[str, ...]:
        """Returns what is wrong with the audit trail at this moment."""

        def read(connection: Connection, revision: int) -> tuple[str, ...]:
            rows = streamed(connection, f"SELECT {ENTRY} ORDER BY writer, number")
            return tuple(problems(watch(Entry(*row) for row in rows), heads(connection)))

        return self._connections.reading(read)

    def problems(self) -> tuple[str, ...]:
        """Returns what is damaged: the revision, the guard of the audit trail, the server, and the trail."""

        def read(connection: Connection, revision: int) -> list[str]:
            found: list[str] = []
            (last,) = connection.execute(
                "SELECT greatest((SELECT max(revision) FROM capability.revocations),"
                " (SELECT max(revision) FROM capability.rules), 0)"
            ).fetchone() or (0,)
            if last > revision:
                found.append(f"something was revoked at revision {last}, and the store is at {revision}")
            if connection.execute(_GUARDS).fetchone() == (0,):
                found.append("nothing keeps lines of the audit trail from being changed")
            if connection.execute("SHOW fsync").fetchone() == ("off",):
                found.append("the server does not wait for its disk: fsync is off")
            return found

        return (*self._connections.reading(read), *self.audit_problems())

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """Returns all that the store holds at one moment."""
        self.revision()  # dead connections are replaced here: nothing that was read in part is read again
        with self._connections.open_reading() as (connection, revision):
            with self._connections.target.translated():
                dump = dump_of(connection, revision, self._connections.target)
            yield dump

    def load(self, dump: Dump, *, actor: str | None = None) -> None:
        """Puts a dump into this store, all or nothing."""
        check_words(actor)

        def write(connection: Connection, revision: int) -> None:
            load_into(connection, dump)
            append(connection, [events.loaded(dump.revision, dump.count, actor)], STORE_WRITER)
            _announce(connection)

        self._connections.writing(write, idempotent=False)

    def close(self) -> None:
        """Closes the connections. Nothing can be asked afterwards."""
        self._listener.close()
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Returns the rows of a query that sees one moment."""
        return self._connections.reading(
            lambda connection, _: connection.execute(query, values, binary=True).fetchall()
        )


def _next_revision(connection: Connection) -> int:
    row = connection.execute("UPDATE capability.revision SET value = value + 1 RETURNING value").fetchone()
    _announce(connection)
    return revision_in(row)


def _announce(connection: Connection) -> None:
    """Tells who listens the revision, when and if the transaction commits."""
    connection.execute(f"SELECT pg_notify('{CHANNEL}', value::text) FROM capability.revision")


def _revoke(
    connection: Connection,
    revision: int,
    ids: Sequence[tuple[bytes, int | None]],
    reason: str | None,
    actor: str | None,
    now: datetime,
) -> int:
    added = connection.execute(
        _REVOKE,
        (
            *(reason, actor, micros(now), revision + 1),
            *([each for each, _ in ids], [until for _, until in ids]),
        ),
    ).rowcount
    if added > 0:
        revision = _next_revision(connection)
    event = events.revoked_ids(tuple(each for each, _ in ids), reason, actor, now, revision)
    append(connection, [event], STORE_WRITER)
    return revision
