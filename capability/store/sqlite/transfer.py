"""Rows in and out of a store's file: revocations, rules, and all of them at once."""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from capability.errors import StoreDumpError, StoreNotEmpty, StoreSchemaError
from capability.store.audit import Entry, Head
from capability.store.dump import Dump, Item, checked
from capability.store.moments import micros, moment
from capability.store.records import Owner, Revocation, Rule
from capability.store.sqlite.connection import translated
from capability.store.sqlite.registry import COLUMNS, REVOKED, insert, record

REVOCATION: Final = "id, reason, actor, at, revision, expires FROM revocations"
RULE: Final = "owner, tenant, before, reason, actor, at, revision, up_to FROM rules"
"""The columns of a row, and the table."""

_COUNT: Final = " + ".join(
    f"(SELECT count(*) FROM {table})" for table in ("tokens", "rules", "revocations", "audit")
)


def revocation(row: Sequence[Any]) -> Revocation:
    """Returns the revocation that a row holds."""
    try:
        at = datetime.fromisoformat(row[3])
    except (TypeError, ValueError) as error:
        raise StoreSchemaError("the store holds a revocation without a readable time") from error
    expires = None if row[5] is None else moment(row[5])
    return Revocation(row[0], row[1], row[2], at, row[4], expires)


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


def dump_of(connection: sqlite3.Connection, path: Path) -> Dump:
    """Returns all that is seen by a connection in a transaction, read as it is asked for."""
    heads = connection.execute("SELECT writer, number, hash FROM audit_heads").fetchall()
    return Dump(
        revision=connection.execute("SELECT value FROM revision").fetchone()[0],
        count=connection.execute(f"SELECT {_COUNT}").fetchone()[0],
        heads={writer: Head(number, end) for writer, number, end in heads},
        items=_items(connection, path),
    )


def _items(connection: sqlite3.Connection, path: Path) -> Iterator[Item]:
    # What reads may itself be in another store's transaction, which would take the error for its own.
    with translated(path):
        rules = connection.execute(f"SELECT {RULE} ORDER BY serial").fetchall()
        rows = connection.execute(f"SELECT {COLUMNS}, {REVOKED}, t.serial FROM tokens t ORDER BY t.serial")
        for row in rows:
            while rules and rules[0][-1] < row[-1]:
                yield rule(rules.pop(0))
            yield record(row)
        yield from map(rule, rules)
        yield from map(revocation, connection.execute(f"SELECT {REVOCATION} ORDER BY revision, rowid"))
        for row in connection.execute("SELECT writer, number, line, hash FROM audit ORDER BY writer, number"):
            yield Entry(*row)


def load_into(connection: sqlite3.Connection, dump: Dump) -> None:
    """Writes a dump into an empty store, in the transaction that the connection is in."""
    (filled,) = connection.execute(
        f"SELECT {_COUNT} + (SELECT count(*) FROM audit_heads) + (SELECT value FROM revision)"
    ).fetchone()
    if filled:
        raise StoreNotEmpty
    for item in checked(dump):
        try:
            _insert(connection, item)
        except (sqlite3.IntegrityError, ValueError) as error:
            raise StoreDumpError("the dump holds the same thing twice") from error
    connection.executemany(
        "INSERT INTO audit_heads (writer, number, hash) VALUES (?, ?, ?)",
        [(writer, head.number, head.hash) for writer, head in dump.heads.items()],
    )
    connection.execute("UPDATE revision SET value = ?", (dump.revision,))


def _insert(connection: sqlite3.Connection, item: Item) -> None:
    if isinstance(item, Entry):
        connection.execute(
            "INSERT INTO audit (writer, number, line, hash) VALUES (?, ?, ?, ?)",
            (item.writer, item.number, item.text, item.hash),
        )
    elif isinstance(item, Revocation):
        connection.execute(
            "INSERT INTO revocations (id, reason, actor, at, revision, expires) VALUES (?, ?, ?, ?, ?, ?)",
            (item.id, item.reason, item.actor, item.at.isoformat(), item.revision, micros(item.expires)),
        )
    elif isinstance(item, Rule):
        connection.execute(
            "INSERT INTO rules (owner, tenant, up_to, before, reason, actor, at, revision)"
            " VALUES (?, ?, (SELECT coalesce(max(serial), 0) FROM tokens), ?, ?, ?, ?, ?)",
            (
                None if item.owner is None else str(item.owner),
                item.tenant,
                micros(item.before),
                item.reason,
                item.actor,
                micros(item.at),
                item.revision,
            ),
        )
    else:
        insert(connection, item)
        if item.last_used is not None:
            connection.execute(
                "UPDATE tokens SET last_used = ? WHERE root = ?", (micros(item.last_used), item.root)
            )
