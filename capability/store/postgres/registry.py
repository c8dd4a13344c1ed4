"""The registry's SQL: records in and out, and which of them are meant or revoked."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from psycopg import errors

from capability.errors import StoreSchemaError
from capability.store.moments import micros, moment
from capability.store.postgres.bounded import Connection
from capability.store.records import Owner, Record, Selection

RULED: Final = (
    "(EXISTS (SELECT 1 FROM capability.rules r WHERE r.owner = t.owner AND t.serial <= r.up_to"
    " AND (r.before IS NULL OR t.created < r.before))"
    " OR EXISTS (SELECT 1 FROM capability.rules r WHERE r.tenant = t.tenant AND t.serial <= r.up_to"
    " AND (r.before IS NULL OR t.created < r.before)))"
)
"""Whether a rule means the token `t`."""

REVOKED: Final = (
    "(EXISTS (SELECT 1 FROM capability.revocations v WHERE v.id = t.root)"
    " OR EXISTS (SELECT 1 FROM capability.revocations v"
    " WHERE v.id = convert_to('root-key:' || t.root_key, 'UTF8'))"
    f" OR {RULED})"
)
"""Whether the token `t` is revoked, by its own id, its key's or a rule."""

COLUMNS: Final = (
    "t.id, t.root, t.name, t.owner, t.tenant, t.key_id, t.applications, t.scopes, t.created, t.expires,"
    f" t.created_by, t.last_used, t.root_key, {REVOKED}"
)

_INSERT: Final = (
    "WITH t AS (INSERT INTO capability.tokens (id, root, name, owner, tenant, key_id, applications, scopes,"
    " created, expires, created_by, root_key, last_used)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING serial)"
    " INSERT INTO capability.token_applications (serial, application)"
    " SELECT serial, application FROM t, unnest(%s::text[]) application"
)


def condition(selection: Selection) -> tuple[str, list[Any]]:
    """Returns what stands after WHERE for the tokens `t` that are meant, and its values."""
    parts: list[str] = ["true"]
    values: list[Any] = []

    def add(part: str, *more: Any) -> None:
        parts.append(part)
        values.extend(more)

    if selection.id is not None:
        add("t.id = %s", selection.id)
    if selection.name is not None:
        add("t.name = %s", selection.name)
    if selection.owner is not None:
        add("t.owner = %s", str(selection.owner))
    if selection.tenant is not None:
        add("t.tenant = %s", selection.tenant)
    if selection.application is not None:
        add(
            "t.serial IN (SELECT serial FROM capability.token_applications WHERE application = %s"
            " UNION ALL SELECT serial FROM capability.token_applications WHERE application IS NULL)",
            selection.application,
        )
    if selection.expires_after is not None:
        add("(t.expires IS NULL OR t.expires > %s)", micros(selection.expires_after))
    if selection.expires_before is not None:
        add("t.expires < %s", micros(selection.expires_before))
    if selection.revoked is not None:
        add(REVOKED if selection.revoked else f"NOT {REVOKED}")
    return " AND ".join(parts), values


def insert(connection: Connection, records: Iterable[Record]) -> None:
    """Adds records in this order. Raises ValueError when an id or a root is there already."""
    try:
        connection.cursor().executemany(_INSERT, [_values(each) for each in records])
    except errors.UniqueViolation as error:
        raise ValueError("the token is registered already") from error


def record(row: Sequence[Any]) -> Record:
    """Returns the record that a row of COLUMNS holds."""
    try:
        return Record(
            id=row[0],
            root=row[1],
            name=row[2],
            owner=None if row[3] is None else Owner.parse(row[3]),
            tenant=row[4],
            key_id=row[5],
            applications=None if row[6] is None else tuple(row[6]),
            scopes=None if row[7] is None else tuple(row[7]),
            created=moment(row[8]),
            expires=None if row[9] is None else moment(row[9]),
            created_by=row[10],
            last_used=None if row[11] is None else moment(row[11]),
            root_key=row[12],
            revoked=bool(row[13]),
        )
    except (ValueError, TypeError) as error:
        raise StoreSchemaError("the store holds a record that cannot be read") from error


def _values(record: Record) -> tuple[Any, ...]:
    return (
        record.id,
        record.root,
        record.name,
        None if record.owner is None else str(record.owner),
        record.tenant,
        record.key_id,
        None if record.applications is None else [*record.applications],
        None if record.scopes is None else [*record.scopes],
        micros(record.created),
        micros(record.expires),
        record.created_by,
        record.root_key,
        micros(record.last_used),
        [None] if record.applications is None else [*record.applications],
    )
