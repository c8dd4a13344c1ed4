"""Rows in and out of a store's tables: revocations, rules, lines of the trail, and all of them at once."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, Final

from psycopg import errors

from capability.errors import StoreDumpError, StoreNotEmpty
from capability.store.audit import Entry, Event, Head, link
from capability.store.dump import Dump, Item, checked
from capability.store.moments import micros, moment
from capability.store.postgres.bounded import Connection
from capability.store.postgres.connection import Target
from capability.store.postgres.registry import COLUMNS, insert, record
from capability.store.records import Owner, Record, Revocation, Rule

REVOCATION: Final = "id, reason, actor, at, revision, expires FROM capability.revocations"
RULE: Final = "owner, tenant, before, reason, actor, at, revision, up_to FROM capability.rules"
ENTRY: Final = "writer, number, line, hash FROM capability.audit"
"""The columns of a row, and the table."""

BATCH: Final = 1000
"""Rows that are in memory at a time, where there may be many."""

_COUNT: Final = " + ".join(
    f"(SELECT count(*) FROM capability.{table})" for table in ("tokens", "rules", "revocations", "audit")
)


def revocation(row: Sequence[Any]) -> Revocation:
    """Returns the revocation that a row holds."""
    expires = None if row[5] is None else moment(row[5])
    return Revocation(row[0], row[1], row[2], moment(row[3]), row[4], expires)


def rule(row: Sequence[Any]) -> Rule:
    """Returns the rule that a row holds."""
    return Rule(
        owner=None if row[0] is None else Owner.parse(row[0]),
        tenant=row[1],
        before=None if row[2] is None else moment(row[2]),
        reason=row[3],
        actor=row[4],
        at=moment(row[5]),
        revision=row[6],
    )


def heads(connection: Connection) -> dict[str, Head]:
    """Returns the ends of the chains."""
    rows = connection.execute("SELECT writer, number, hash FROM capability.audit_heads")
    return {writer: Head(number, end) for writer, number, end in rows}


def append(connection: Connection, events: Iterable[Event], writer: str) -> None:
    """Appends events to the chain of `writer`, which nobody else can do until the transaction ends."""
    # One who finds no head is alone with it all the same: the second one's insert waits for the first.
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"capability {writer}",))
    row = connection.execute(
        "SELECT number, hash FROM capability.audit_heads WHERE writer = %s", (writer,)
    ).fetchone()
    head = None if row is None else Head(*row)
    entries: list[Entry] = []
    for event in events:
        entry = link(event, writer, head)
        head = Head(entry.number, entry.hash)
        entries.append(entry)
    if head is None or not entries:
        return
    _insert_entries(connection, entries)
    connection.execute(
        "INSERT INTO capability.audit_heads (writer, number, hash) VALUES (%s, %s, %s)"
        " ON CONFLICT (writer) DO UPDATE SET number = excluded.number, hash = excluded.hash",
        (writer, head.number, head.hash),
    )


def streamed(connection: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of a query, in a transaction, without holding all of them."""
    with connection.cursor("streamed") as cursor:
        cursor.itersize = BATCH
        cursor.execute(query)
        yield from cursor


def dump_of(connection: Connection, revision: int, target: Target) -> Dump:
    """Returns all that is seen by a connection in a transaction, read as it is asked for."""
    count: int = (connection.execute(f"SELECT {_COUNT}").fetchone() or (0,))[0]
    return Dump(revision, count, heads(connection), _items(connection, target))


def _items(connection: Connection, target: Target) -> Iterator[Item]:
    # What reads may itself be in another store's transaction, which would take the error for its own.
    with target.translated():
        rules = connection.execute(f"SELECT {RULE} ORDER BY serial").fetchall()
        tokens = f"SELECT {COLUMNS}, t.serial FROM capability.tokens t ORDER BY t.serial"
        for row in streamed(connection, tokens):
            while rules and rules[0][-1] < row[-1]:
                yield rule(rules.pop(0))
            yield record(row)
        yield from map(rule, rules)
        yield from map(revocation, streamed(connection, f"SELECT {REVOCATION} ORDER BY revision, serial"))
        for row in streamed(connection, f"SELECT {ENTRY} ORDER BY writer, number"):
            yield Entry(*row)


def load_into(connection: Connection, dump: Dump) -> None:
    """Writes a dump into an empty store, in the transaction that the connection is in."""
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # the dump may come slowly
    connection.execute("LOCK TABLE capability.audit_heads IN SHARE ROW EXCLUSIVE MODE")
    (filled,) = connection.execute(
        f"SELECT {_COUNT} + (SELECT count(*) FROM capability.audit_heads)"
        " + (SELECT value FROM capability.revision)"
    ).fetchone() or (0,)
    if filled:
        raise StoreNotEmpty
    for _, items in groupby(checked(dump), key=type):
        while batch := [*islice(items, BATCH)]:
            try:
                _insert(connection, batch)
            except (errors.UniqueViolation, ValueError) as error:
                raise StoreDumpError("the dump holds the same thing twice") from error
    connection.cursor().executemany(
        "INSERT INTO capability.audit_heads (writer, number, hash) VALUES (%s, %s, %s)",
        [(writer, head.number, head.hash) for writer, head in dump.heads.items()],
    )
    connection.execute("UPDATE capability.revision SET value = %s", (dump.revision,))


def _insert(connection: Connection, items: Sequence[Item]) -> None:
    """Writes items that are all of one kind."""
    insert(connection, [each for each in items if isinstance(each, Record)])
    _insert_entries(connection, [each for each in items if isinstance(each, Entry)])
    connection.cursor().executemany(
        "INSERT INTO capability.revocations (id, reason, actor, at, revision, expires)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        [
            (each.id, each.reason, each.actor, micros(each.at), each.revision, micros(each.expires))
            for each in items
            if isinstance(each, Revocation)
        ],
    )
    connection.cursor().executemany(
        "INSERT INTO capability.rules (owner, tenant, up_to, before, reason, actor, at, revision)"
        " VALUES (%s, %s, (SELECT coalesce(max(serial), 0) FROM capability.tokens), %s, %s, %s, %s, %s)",
        [
            (
                None if each.owner is None else str(each.owner),
                each.tenant,
                micros(each.before),
                each.reason,
                each.actor,
                micros(each.at),
                each.revision,
            )
            for each in items
            if isinstance(each, Rule)
        ],
    )


def _insert_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    connection.cursor().executemany(
        "INSERT INTO capability.audit (writer, number, line, hash) VALUES (%s, %s, %s, %s)",
        [(each.writer, each.number, each.text, each.hash) for each in entries],
    )
