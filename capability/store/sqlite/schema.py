"""What a file holds, and how one of an older version becomes one of this.

A file is ours when its `application_id` says so; its `user_version` counts the migrations it has had. Times
are microseconds since 1970, but for those of version 1.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from capability.errors import StoreSchemaError

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
    # 2: the registry, rules, the audit trail, and when a revocation may be dropped
    (
        "ALTER TABLE revocations ADD COLUMN expires INTEGER",
        "CREATE INDEX revocations_by_expiry ON revocations (expires) WHERE expires IS NOT NULL",
        "CREATE TABLE tokens ("
        " serial INTEGER PRIMARY KEY AUTOINCREMENT,"
        " id TEXT NOT NULL UNIQUE,"
        " root BLOB NOT NULL UNIQUE CHECK (typeof(root) = 'blob'),"
        " name TEXT, owner TEXT, tenant TEXT, root_key TEXT, key_id INTEGER, applications TEXT, scopes TEXT,"
        " created INTEGER NOT NULL, expires INTEGER, created_by TEXT, last_used INTEGER)",
        "CREATE INDEX tokens_by_owner ON tokens (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX tokens_by_tenant ON tokens (tenant) WHERE tenant IS NOT NULL",
        "CREATE INDEX tokens_by_name ON tokens (name) WHERE name IS NOT NULL",
        "CREATE INDEX tokens_by_expiry ON tokens (expires) WHERE expires IS NOT NULL",
        # A token without a restriction stands here once, with NULL.
        "CREATE TABLE token_applications ("
        " serial INTEGER NOT NULL REFERENCES tokens (serial), application TEXT)",
        "CREATE INDEX token_applications_by_name ON token_applications (application, serial)",
        "CREATE TABLE rules ("
        " serial INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT, tenant TEXT,"
        " up_to INTEGER NOT NULL, before INTEGER, reason TEXT, actor TEXT, at INTEGER NOT NULL,"
        " revision INTEGER NOT NULL, CHECK ((owner IS NULL) <> (tenant IS NULL)))",
        "CREATE INDEX rules_by_owner ON rules (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX rules_by_tenant ON rules (tenant) WHERE tenant IS NOT NULL",
        "CREATE TABLE audit ("
        " writer TEXT NOT NULL, number INTEGER NOT NULL, line TEXT NOT NULL, hash BLOB NOT NULL,"
        " PRIMARY KEY (writer, number)) WITHOUT ROWID",
        "CREATE TABLE audit_heads ("
        " writer TEXT PRIMARY KEY NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL)",
        "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit"
        " BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END",
        "CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit"
        " BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END",
    ),
)
"""What takes a file from one version to the next. Only ever appended to."""


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Returns the value of a pragma."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def migrate(connection: sqlite3.Connection, path: Path, *, blank_is_new: bool) -> None:
    """Checks that the file is ours, and applies the migrations that it lacks."""
    if version_of(connection, path, blank_is_new=blank_is_new) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first.
        version = version_of(connection, path, blank_is_new=blank_is_new)
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


def version_of(connection: sqlite3.Connection, path: Path, *, blank_is_new: bool) -> int:
    """Returns how many migrations a file has had; raises StoreSchemaError for one that is not ours."""
    with _one_moment(connection):
        application = pragma(connection, "application_id")
        version: int = pragma(connection, "user_version")
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
