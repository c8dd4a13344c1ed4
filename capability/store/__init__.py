"""Where revocations are kept.

`open_store(url)` and `create_store(url)` are the ways in. A backend, and what it needs, is imported only
when a URL names it.

    memory:               this process only, gone with it
    sqlite:///cap.db      a file, relative to the working directory
    sqlite:////var/cap.db a file, by its absolute path
    redis://host/0        a Redis or Valkey server (rediss: with TLS); needs capability-tokens[redis]
    postgresql://u@h/cap  a database of a server (postgres:// too); needs capability-tokens[postgres]
"""

from typing import TYPE_CHECKING

from capability.errors import StoreUnavailable, StoreURLError
from capability.store.dump import Dump
from capability.store.protocol import Store
from capability.store.records import Changes, Owner, Record, Revocation, Rule, Selection

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from capability.store.redis.address import Address

__all__ = [
    "Changes",
    "Dump",
    "Owner",
    "Record",
    "Revocation",
    "Rule",
    "Selection",
    "Store",
    "check_url",
    "create_store",
    "open_store",
    "sqlite_path",
]

FORMS = "use memory:, sqlite:///PATH, postgresql://USER@HOST/DATABASE or redis://HOST/NUMBER"


def open_store(url: str) -> Store:
    """Opens the store that `url` names, which must exist.

    That is what a verifier wants: were a missing file made on the fly, then a mistyped path or a volume
    that is not mounted would read as "nothing is revoked".

    Raises StoreURLError for another kind of URL, StoreUnavailable when there is no such store or it cannot
    be opened, and StoreSchemaError when what is there is no store of ours.
    """
    if url == "memory:":
        from capability.store.memory import MemoryStore

        return MemoryStore()
    if _is_postgres(url):
        opened: Store = _postgres().PostgresStore(url)
        return opened
    if _is_redis(url):
        in_redis: Store = _redis().RedisStore(_redis_address(url))
        return in_redis
    path = sqlite_path(url)
    from capability.store.sqlite import SQLiteStore

    return SQLiteStore(path)


def create_store(url: str) -> Store:
    """Opens the store that `url` names and makes an empty one first where there is none.

    The folder of the file, or the database of the server, must exist. Raises what `open_store` raises.
    """
    if _is_postgres(url):
        _postgres().create(url)
    elif _is_redis(url):
        _redis().create(_redis_address(url))
    elif url != "memory:":
        path = sqlite_path(url)
        from capability.store.sqlite import create

        create(path)
    return open_store(url)


def check_url(url: str) -> None:
    """Raises StoreURLError for what cannot be the URL of a store; whether there is one is not asked."""
    if _is_postgres(url):
        _postgres().Target(url)
    elif _is_redis(url):
        _redis_address(url)
    elif url != "memory:":
        sqlite_path(url)


def sqlite_path(url: str) -> "Path":
    """Returns the file that a `sqlite:///` URL names; raises StoreURLError for any other URL."""
    from pathlib import Path

    scheme, separator, rest = url.partition(":")
    if not separator or scheme != "sqlite":
        # Only the scheme is shown, and only if it may be one: what follows may hold a password.
        shown = repr(scheme) if len(scheme) <= 20 and scheme.isalnum() else "that"
        raise StoreURLError(f"no store is reached by {shown}: {FORMS}")
    if not rest.startswith("///"):
        raise StoreURLError(f"a sqlite URL has three slashes before its path: {FORMS}")
    path = rest[3:]
    if not path or path.endswith("/"):
        raise StoreURLError(f"the sqlite URL names no file: {FORMS}")
    if path == ":memory:":
        raise StoreURLError("a store in memory is memory:, not sqlite:///:memory:")
    if set(path) & set("?#\0"):
        raise StoreURLError("a sqlite URL has no parameters: only a path follows sqlite:///")
    return Path(path)


def _is_postgres(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def _postgres() -> "ModuleType":
    try:
        from capability.store import postgres
    except ImportError as error:
        raise StoreUnavailable(
            "a store in PostgreSQL needs psycopg, which capability-tokens[postgres] brings",
            code="store.unavailable.postgres",
        ) from error
    return postgres


def _is_redis(url: str) -> bool:
    return url.partition(":")[0] in ("redis", "rediss", "redis+unix", "valkey", "valkeys", "valkey+unix")


def _redis_address(url: str) -> "Address":
    from capability.store.redis.address import Address

    return Address.parse(url)


def _redis() -> "ModuleType":
    try:
        from capability.store.redis import store
    except ImportError as error:
        raise StoreUnavailable(
            "a store in Redis needs the package redis, which capability-tokens[redis] brings",
            code="store.unavailable.redis",
        ) from error
    return store
