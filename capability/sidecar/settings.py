"""What `cap serve` does: its listeners, its routes, and what they decide by."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from capability.sidecar.addresses import Inherited, Tcp, Unix
from capability.sidecar.paths import Paths


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it."""


class Serves(StrEnum):
    """What a listener is for."""

    CHECK = "check"
    API = "api"
    ADMIN = "admin"
    GRPC = "grpc"


class OnStale(StrEnum):
    """What holds when the revocations are older than they may be."""

    DENY = "deny"
    ALLOW = "allow"


class Logged(StrEnum):
    """Which decisions are logged."""

    NONE = "none"
    DENIED = "denied"
    ALL = "all"


class WhenFull(StrEnum):
    """What happens to a decision that the log cannot take."""

    DROP = "drop"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One socket, and what is spoken there."""

    address: Unix | Tcp | Inherited
    serves: Serves = Serves.CHECK
    behind: str = "plain"
    paths: Paths = Paths.STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """A policy (a file; None: the built-in one) and the requests that it is for.

    `source` is the policy itself, where it was given in place of a file, outside of cap.toml.
    """

    name: str
    host: str | None = None
    path: str = "/"
    policy: str | None = None
    application: str | None = None
    tenant: str | None = None
    on_stale: OnStale = OnStale.DENY
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class APISettings:
    """What listeners of the API depend on; `policy` and `callers` are files, None: see `build_api`."""

    url: str | None = None
    policy: str | None = None
    application: str | None = None
    tenant: str | None = None
    callers: str | None = None
    authenticate: bool = False
    explain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it; times are in seconds. None: as for every command of `cap`.

    `prefixes` may stand before a token's text; they are no setting of [serve] but of all commands.
    """

    listen: tuple[Listener, ...]
    routes: tuple[RouteSettings, ...]
    api: APISettings = APISettings()
    prefixes: tuple[str, ...] = ()
    keys: str | None = None
    keys_refresh: float = 300.0
    store: str | None = None
    never_revoked: bool = False
    follow: bool = True
    poll: float = 0.5
    revocations: str | None = None
    revocations_key: str | None = None
    revocations_name: str | None = None
    revocations_refresh: float = 30.0
    state: str | None = None
    max_stale: float | None = None
    grace: float = 0.0
    headers: tuple[str, ...] = ()
    realm: str = "cap"
    api_key: bool = False
    workers: int = 1
    drain_time: float = 10.0
    decisions: Logged = Logged.DENIED
    log: str = "stderr"
    log_capacity: int = 10_000
    when_full: WhenFull = WhenFull.DROP
    telemetry: bool = False


FIXED: Final = (
    "listen",
    "store",
    "follow",
    "poll",
    "revocations",
    "revocations_key",
    "revocations_name",
    "revocations_refresh",
    "state",
    "workers",
    "decisions",
    "log",
    "log_capacity",
    "when_full",
    "telemetry",
)
"""What a process keeps from its start to its end: its sockets, threads and files are made of it."""
