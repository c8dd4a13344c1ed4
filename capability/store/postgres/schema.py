"""What a database holds, and how one of an older version becomes one of this.

All of it is in the schema `capability`; the one row of `capability.store` says that the schema is ours and
how many migrations it has had. Times are microseconds since 1970. Text is compared byte by byte, as "C" does,
so that neither a locale nor its next version changes an order that an index relies on.
"""

from typing import Final

from psycopg import errors

from capability.errors import StoreSchemaError
from capability.store.postgres.bounded import Connection

APPLICATION: Final = "capability-tokens"
"""What `capability.store` says: tells our schema from another one of this name."""

CHANNEL: Final = "capability_revision"
"""Where each new revision is announced."""

_LOCK: Final = 0x63617073
"""The advisory lock of who makes or migrates a store: `caps` in ASCII."""

_UNGUARDED: Final = "RAISE EXCEPTION 'the audit trail is only appended to'"

MIGRATIONS: Final = (
    # 1
    (
        "CREATE TABLE capability.store (one boolean PRIMARY KEY CHECK (one), application text NOT NULL,"
        " version integer NOT NULL)",
        f"INSERT INTO capability.store VALUES (true, '{APPLICATION}', 0)",
        "CREATE TABLE capability.revision (one boolean PRIMARY KEY CHECK (one), value bigint NOT NULL)",
        "INSERT INTO capability.revision VALUES (true, 0)",
        "CREATE TABLE capability.revocations ("
        ' id bytea PRIMARY KEY, reason text COLLATE "C", actor text COLLATE "C", at bigint NOT NULL,'
        " revision bigint NOT NULL, expires bigint, serial bigint GENERATED ALWAYS AS IDENTITY)",
        "CREATE INDEX revocations_by_revision ON capability.revocations (revision, serial)",
        "CREATE INDEX revocations_by_expiry ON capability.revocations (expires) WHERE expires IS NOT NULL",
        "CREATE TABLE capability.tokens ("
        " serial bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        ' id text COLLATE "C" NOT NULL UNIQUE, root bytea NOT NULL UNIQUE,'
        ' name text COLLATE "C", owner text COLLATE "C", tenant text COLLATE "C",'
        ' root_key text COLLATE "C", key_id bigint, applications text[], scopes text[],'
        " created bigint NOT NULL, expires bigint, created_by text, last_used bigint)",
        "CREATE INDEX tokens_by_owner ON capability.tokens (owner, serial) WHERE owner IS NOT NULL",
        "CREATE INDEX tokens_by_tenant ON capability.tokens (tenant, serial) WHERE tenant IS NOT NULL",
        "CREATE INDEX tokens_by_name ON capability.tokens (name) WHERE name IS NOT NULL",
        "CREATE INDEX tokens_by_expiry ON capability.tokens (expires) WHERE expires IS NOT NULL",
        # A token without a restriction stands here once, with NULL.
        "CREATE TABLE capability.token_applications ("
        " serial bigint NOT NULL REFERENCES capability.tokens (serial),"
        ' application text COLLATE "C")',
        "CREATE INDEX token_applications_by_name ON capability.token_applications (application, serial)",
        "CREATE TABLE capability.rules ("
        " serial bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        ' owner text COLLATE "C", tenant text COLLATE "C", up_to bigint NOT NULL, before bigint,'
        ' reason text COLLATE "C", actor text COLLATE "C", at bigint NOT NULL, revision bigint NOT NULL,'
        " CHECK ((owner IS NULL) <> (tenant IS NULL)))",
        "CREATE INDEX rules_by_owner ON capability.rules (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX rules_by_tenant ON capability.rules (tenant) WHERE tenant IS NOT NULL",
        "CREATE INDEX rules_by_revision ON capability.rules (revision)",
        "CREATE TABLE capability.audit ("
        ' writer text COLLATE "C" NOT NULL, number bigint NOT NULL, line text NOT NULL, hash bytea NOT NULL,'
        " PRIMARY KEY (writer, number))",
        "CREATE TABLE capability.audit_heads ("
        ' writer text COLLATE "C" PRIMARY KEY, number bigint NOT NULL, hash bytea NOT NULL)',
        "CREATE FUNCTION capability.refuse() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN {_UNGUARDED}; END $$",
        "CREATE TRIGGER audit_is_only_appended_to BEFORE UPDATE OR DELETE OR TRUNCATE ON capability.audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION capability.refuse()",
    ),
)
"""What takes a schema from one version to the next. Only ever appended to."""


def migrate(connection: Connection, place: str, *, absent_is_new: bool) -> None:
    """Checks that the schema is ours, and applies the migrations that it lacks, all or none."""
    if version_of(connection, place, absent_is_new=absent_is_new) == len(MIGRATIONS):
        return
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
    # Another program may have been first.
    version = version_of(connection, place, absent_is_new=absent_is_new)
    try:
        if not version and not _has_schema(connection):
            _check_encoding(connection, place)
            connection.execute("CREATE SCHEMA capability")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("UPDATE capability.store SET version = %s", (len(MIGRATIONS),))
        connection.execute("COMMIT")
    except errors.InsufficientPrivilege as error:
        raise StoreSchemaError(
            f"{place} has version {version}; this program needs {len(MIGRATIONS)},"
            " which this role may not make"
        ) from error


def version_of(connection: Connection, place: str, *, absent_is_new: bool) -> int:
    """Returns how many migrations a schema has had; raises StoreSchemaError for one that is not ours."""
    # One statement, which sees one moment.
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE c.relname = 'store') FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'capability'"
    ).fetchone()
    tables, ours = row or (0, 0)
    if ours:
        try:
            found = connection.execute("SELECT application, version FROM capability.store").fetchall()
        except errors.UndefinedColumn:
            found = []
        if len(found) == 1 and found[0][0] == APPLICATION:
            version: int = found[0][1]
            if version > len(MIGRATIONS):
                raise StoreSchemaError(f"{place} has version {version}; this program knows {len(MIGRATIONS)}")
            return version
    if tables:
        raise StoreSchemaError(f"{place} is none: its schema capability belongs to another program")
    if not absent_is_new:
        raise StoreSchemaError(f"{place} was not made yet")
    return 0


def _has_schema(connection: Connection) -> bool:
    """Tells whether somebody made the schema for us, so that this role need not."""
    query = "SELECT 1 FROM pg_namespace WHERE nspname = 'capability'"
    return connection.execute(query).fetchone() is not None


def _check_encoding(connection: Connection, place: str) -> None:
    row = connection.execute("SHOW server_encoding").fetchone()
    if row is None or row[0] != "UTF8":
        raise StoreSchemaError(f"{place} cannot be made: its database does not keep text as UTF-8")
