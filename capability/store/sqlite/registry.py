"""The registry's SQL: records in and out, and which of them are meant or revoked."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from capability.errors import StoreSchemaError
from capability.store.moments import micros, moment
from capability.store.records import Owner, Record, Selection

RULED: Final = (
    "(EXISTS (SELECT 1 FROM rules r WHERE r.owner = t.owner AND t.serial <= r.up_to"
    " AND (r.before IS NULL OR t.created < r.before))"
    " OR EXISTS (SELECT 1 FROM rules r WHERE r.tenant = t.tenant AND t.serial <= r.up_to"
    " AND (r.before IS NULL OR t.created < r.before)))"
)
"""Whether a rule means the token `t`."""

REVOKED: Final = (
    "(EXISTS (SELECT 1 FROM revocations v WHERE v.id = t.root)"
    " OR EXISTS (SELECT 1 FROM revocations v WHERE v.id = CAST('root-key:' || t.root_key AS BLOB))"
    f" OR {RULED})"
)
"""Whether the token `t` is revoked, by its own id, its key's or a rule."""

COLUMNS: Final = (
    "t.id, t.root, t.name, t.owner, t.tenant, t.key_id, t.applications, t.scopes, t.created, t.expires,"
    " t.created_by, t.last_used, t.root_key"
)


def condition(selection: Selection) -> tuple[str, list[Any]]:
    """Returns what stands after WHERE for the tokens `t` that are meant, and its values."""
    parts: list[str] = ["1"]
    values: list[Any] = []

    def add(part: str, *more: Any) -> None:
        parts.append(part)
        values.extend(more)

    if selection.id is not None:
        add("t.id = ?", selection.id)
    if selection.name is not None:
        add("t.name = ?", selection.name)
    if selection.owner is not None:
        add("t.owner = ?", str(selection.owner))
    if selection.tenant is not None:
        add("t.tenant = ?", selection.tenant)
    if selection.application is not None:
        add(
            "t.serial IN (SELECT serial FROM token_applications WHERE application = ?"
            " UNION ALL SELECT serial FROM token_applications WHERE application IS NULL)",
            selection.application,
        )
    if selection.expires_after is not None:
        add("(t.expires IS NULL OR t.expires > ?)", micros(selection.expires_after))
    if selection.expires_before is not None:
        add("t.expires < ?", micros(selection.expires_before))
    if selection.revoked is not None:
        add(REVOKED if selection.revoked else f"NOT {REVOKED}")
    return " AND ".join(parts), values


def insert(connection: sqlite3.Connection, record: Record) -> None:
    """Adds a record. Raises ValueError when its id or its root is there already."""
    try:
        cursor = connection.execute(
            "INSERT INTO tokens (id, root, name, owner, tenant, key_id, applications, scopes, created,"
            " expires, created_by, root_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.root,
                record.name,
                None if record.owner is None else str(record.owner),
                record.tenant,
                record.key_id,
                _listed(record.applications),
                _listed(record.scopes),
                micros(record.created),
                micros(record.expires),
                record.created_by,
                record.root_key,
            ),
        )
    except sqlite3.IntegrityError as error:
        raise ValueError("the token is registered already") from error
    applications: Sequence[str | None] = (None,) if record.applications is None else record.applications
    connection.executemany(
        "INSERT INTO token_applications (serial, application) VALUES (?, ?)",
        [(cursor.lastrowid, each) for each in applications],
    )


def record(row: Sequence[Any]) -> Record:
    """Returns the record that a row of COLUMNS and REVOKED holds."""
    try:
        return Record(
            id=row[0],
            root=row[1],
            name=row[2],
            owner=None if row[3] is None else Owner.parse(row[3]),
            tenant=row[4],
            key_id=row[5],
            applications=_unlisted(row[6]),
            scopes=_unlisted(row[7]),
            created=moment(row[8]),
            expires=None if row[9] is None else moment(row[9]),
            created_by=row[10],
            last_used=None if row[11] is None else moment(row[11]),
            root_key=row[12],
            revoked=bool(row[13]),
        )
    except (ValueError, TypeError) as error:
        raise StoreSchemaError("the store holds a record that cannot be read") from error


def _listed(values: tuple[str, ...] | None) -> str | None:
    return None if values is None else json.dumps(values, ensure_ascii=False)


def _unlisted(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
