"""What `cap serve` does, as it is written in cap.toml.

    [serve]
    keys = "https://issuer.example/.well-known/biscuit-web-keys"   # or a file; default: as for every command
    store = "postgresql://..."       # default: as for every command
    follow = true                    # false: ask the store on every request (strict)
    revocations = "https://issuer.example/revoked.signed"   # or a file; default: as for every command
    revocations_key = "revoked.pub"  # who signs that; the root keys if it is not said
    revocations_name = "acme"        # which list of that signer is meant, if it signs several
    revocations_refresh = 30         # seconds between fetches of a URL
    state = "/var/lib/cap/copies"    # a folder for copies of what is followed; default: none are kept
    max_stale = 30                   # seconds
    grace = 60                       # seconds past max_stale in which it goes on, not ready; default: 0
    on_stale = "deny"                # or "allow": go on with what is known
    application = "orders"           # stated for every request
    headers = ["x-tenant"]           # stated as http_header(name, value)
    realm = "cap"
    api_key = false                  # true: X-API-Key holds a token too
    workers = 1
    drain_time = 10                  # seconds
    decisions = "denied"             # which ones are logged: none, denied, all
    log = "stderr"                   # or a file, or "store": its audit trail, and last uses
    log_capacity = 10000             # how many may wait to be written
    when_full = "drop"               # or "deny": what happens when the log cannot keep up
    telemetry = false                # true: OpenTelemetry traces, as the OTEL_* variables say

    [serve.api]                      # for listeners that serve the api
    url = "https://pdp.example"      # where clients reach it, for /.well-known/authzen-configuration
    policy = "api.datalog"           # decides evaluations; default: the policy of all routes
    application = "orders"           # stated for every evaluation
    tenant = "acme"
    callers = "callers.datalog"      # who may introspect and revoke; default: by right("cap", ...)
    authenticate = false             # true: evaluations need a caller's token too
    explain = true                   # false: nobody is told why, whatever they ask

    [[serve.listen]]
    address = "unix:/run/cap/cap.sock"
    behind = "nginx"
    mode = "0660"
    paths = "strict"

    [[serve.listen]]
    address = "tcp:127.0.0.1:9901"
    serves = "admin"                 # check (the default), api, admin, grpc

    [[serve.route]]
    host = "api.example.com"
    path = "/orders"
    policy = "orders.datalog"
    application = "orders"
    on_stale = "allow"

Relative paths are relative to the file that holds them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from capability.configuration import is_public_key_text
from capability.http.problems import checked_realm
from capability.sidecar.addresses import Tcp, Unix, parse_address
from capability.sidecar.paths import Paths
from capability.sidecar.profiles import PROFILES
from capability.sidecar.settings import (
    APISettings,
    Listener,
    OnStale,
    RouteSettings,
    Serves,
    Settings,
    SettingsError,
)

DEFAULT_ADDRESS: Final = "unix:/run/cap/cap.sock"

NO_FILES: Final = ("stderr", "store")
"""The words for the decision log that name no file."""

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=StrEnum)


def read_settings(table: Mapping[str, Any], base: Path, *, public: bool = False) -> Settings:
    """Returns the settings of a `[serve]` table whose file is in `base`; raises SettingsError.

    A listener that others than this host can reach is refused unless `public` says that it is meant.
    """
    known = _Table(
        "serve", table, (*_NAMES, "listen", "route", "policy", "application", "tenant", "on_stale")
    )
    listeners = tuple(_listener(each, public) for each in known.tables("listen", _LISTENER_NAMES))
    default = RouteSettings(
        name="default",
        policy=known.path("policy", base),
        application=known.text("application"),
        tenant=known.text("tenant"),
        on_stale=known.word("on_stale", OnStale.DENY),
    )
    routes = tuple(_route(each, base, default) for each in known.tables("route", _ROUTE_NAMES))
    unsaid = Settings(
        listen=listeners or (Listener(address=parse_address(DEFAULT_ADDRESS)),), routes=routes or (default,)
    )
    log = known.text("log") or unsaid.log
    settings = replace(
        unsaid,
        api=_api(known.table("api", _API_NAMES), base),
        keys=known.place("keys", base),
        keys_refresh=known.seconds("keys_refresh", unsaid.keys_refresh),
        store=known.text("store"),
        follow=known.flag("follow", unsaid.follow),
        poll=known.seconds("poll", unsaid.poll),
        revocations=known.place("revocations", base),
        revocations_key=known.place("revocations_key", base),
        revocations_name=known.text("revocations_name"),
        revocations_refresh=known.seconds("revocations_refresh", unsaid.revocations_refresh),
        state=known.path("state", base),
        max_stale=known.seconds_if_any("max_stale"),
        grace=known.seconds("grace", unsaid.grace),
        headers=tuple(_header(each) for each in known.texts("headers")),
        realm=known.text("realm") or unsaid.realm,
        api_key=known.flag("api_key", unsaid.api_key),
        workers=known.number("workers", unsaid.workers, 256),
        drain_time=known.seconds("drain_time", unsaid.drain_time),
        decisions=known.word("decisions", unsaid.decisions),
        log=log if log in NO_FILES else str(base / log),
        log_capacity=known.number("log_capacity", unsaid.log_capacity, 10_000_000),
        when_full=known.word("when_full", unsaid.when_full),
        telemetry=known.flag("telemetry", unsaid.telemetry),
    )
    _check(settings)
    return settings


def _listener(table: "_Table", public: bool) -> Listener:
    mode = table.text("mode") or "0660"
    if re.fullmatch(r"0?[0-7]{3}", mode) is None:
        raise SettingsError(f"{table.name}.mode is written as 0660")
    try:
        address = parse_address(table.required("address"), int(mode, 8))
    except ValueError as error:
        raise SettingsError(f"{table.name}: {error}") from error
    if isinstance(address, Tcp) and not address.is_loopback and not (public or table.flag("public", False)):
        raise SettingsError(
            f"{table.name}: {address} can be reached by other hosts: if that is meant, write public = true"
        )
    behind = table.text("behind") or "plain"
    if behind not in PROFILES:
        raise SettingsError(f"{table.name}.behind is one of {', '.join(PROFILES)}, not {behind[:40]!r}")
    return Listener(
        address=address,
        serves=table.word("serves", Serves.CHECK),
        behind=behind,
        paths=table.word("paths", Paths.STRICT),
    )


def _route(table: "_Table", base: Path, default: RouteSettings) -> RouteSettings:
    path = table.text("path") or "/"
    if not path.startswith("/"):
        raise SettingsError(f"{table.name}.path starts with a /")
    host = table.text("host")
    return RouteSettings(
        name=table.text("name") or f"{host or ''}{path}",
        host=None if host is None else host.lower(),
        path=path,
        policy=table.path("policy", base) or default.policy,
        application=table.text("application") or default.application,
        tenant=table.text("tenant") or default.tenant,
        on_stale=table.word("on_stale", default.on_stale),
    )


def _header(name: str) -> str:
    """Returns the name of a header that is to be stated; facts may be logged, so none that holds a token."""
    lower = name.lower()
    if re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+", lower) is None:
        raise SettingsError(f"serve.headers: {name[:40]!r} is no name of a header")
    if lower.replace("_", "-") in ("authorization", "x-api-key"):
        raise SettingsError(f"serve.headers: {name} holds the token, which is never stated")
    return lower


def _api(table: "_Table", base: Path) -> APISettings:
    url = table.text("url")
    if url is not None and re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", url) is None:
        raise SettingsError("serve.api.url is an http:// or https:// URL, without a query")
    return APISettings(
        url=url,
        policy=table.path("policy", base),
        application=table.text("application"),
        tenant=table.text("tenant"),
        callers=table.path("callers", base),
        authenticate=table.flag("authenticate", False),
        explain=table.flag("explain", True),
    )


def _check(settings: Settings) -> None:
    """Raises SettingsError for what no single setting shows."""
    try:
        checked_realm(settings.realm)
    except ValueError as error:
        raise SettingsError(f"serve.realm: {error}") from error
    addresses = [str(each.address) for each in settings.listen if str(each.address)[-2:] != ":0"]
    for kind, values in (("address", addresses), ("route", [each.name for each in settings.routes])):
        twice = next((each for each in values if values.count(each) > 1), None)
        if twice is not None:
            raise SettingsError(f"serve: the {kind} {twice[:60]!r} is there twice")
    for each in settings.listen:
        if each.serves is Serves.GRPC and isinstance(each.address, Unix) and settings.workers > 1:
            raise SettingsError(f"{each.address}: a gRPC listener of several workers has a tcp: address")
    if not settings.follow and settings.grace:
        raise SettingsError("serve.grace: without follow nothing is known that could be gone on with")
    if not settings.follow and any(each.on_stale is OnStale.ALLOW for each in settings.routes):
        raise SettingsError("serve.on_stale: without follow nothing is known that could be gone on with")


class _Table:
    """A table of the file; what it holds is taken out with its type, and what nobody knows is refused."""

    def __init__(self, name: str, values: object, known: Sequence[str]) -> None:
        if not isinstance(values, Mapping):
            raise SettingsError(f"{name} is a table")
        for each in values:
            if each not in known:
                from difflib import get_close_matches

                close = get_close_matches(str(each).replace("-", "_"), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(known)}"
                raise SettingsError(f"{name}: there is no setting {str(each)[:40]!r}; {hint}")
        self.name = name
        self._values = values

    def _get(self, name: str, fits: Callable[[Any], bool], what: str, default: _T) -> Any | _T:
        value = self._values.get(name)
        if value is None:
            return default
        if not fits(value):
            raise SettingsError(f"{self.name}.{name} is {what}")
        return value

    def text(self, name: str) -> str | None:
        return self._get(
            name, lambda value: isinstance(value, str) and value != "" and "\0" not in value, "a text", None
        )

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise SettingsError(f"{self.name} has no {name}")
        return value

    def texts(self, name: str) -> Sequence[str]:
        found: Sequence[str] = self._get(
            name,
            lambda value: isinstance(value, list) and all(isinstance(each, str) and each for each in value),
            "a list of texts",
            (),
        )
        return found

    def flag(self, name: str, default: bool) -> bool:
        return bool(self._get(name, lambda value: isinstance(value, bool), "true or false", default))

    def number(self, name: str, default: int, most: int) -> int:
        return int(
            self._get(name, lambda value: type(value) is int and 1 <= value <= most, f"1 to {most}", default)
        )

    def seconds(self, name: str, default: float) -> float:
        found = self.seconds_if_any(name)
        return default if found is None else found

    def seconds_if_any(self, name: str) -> float | None:
        found = self._get(
            name,
            lambda value: type(value) in (int, float) and 0 < value < 1e9,
            "a positive number of seconds",
            None,
        )
        return None if found is None else float(found)

    def word(self, name: str, default: _Word) -> _Word:
        """Returns one of the words that `default` is one of."""
        words = type(default)
        value = self._values.get(name, default.value)
        try:
            return words(value)
        except ValueError as error:
            raise SettingsError(
                f"{self.name}.{name} is one of {', '.join(each.value for each in words)}"
            ) from error

    def path(self, name: str, base: Path) -> str | None:
        value = self.text(name)
        return None if value is None else str(base / value)

    def place(self, name: str, base: Path) -> str | None:
        """Returns the text of a key or a URL as it is, and a path as that of a file."""
        value = self.text(name)
        return value if value is None or "://" in value or is_public_key_text(value) else str(base / value)

    def table(self, name: str, known: Sequence[str]) -> "_Table":
        return _Table(f"{self.name}.{name}", self._values.get(name, {}), known)

    def tables(self, name: str, known: Sequence[str]) -> list["_Table"]:
        values = self._values.get(name, [])
        if not isinstance(values, list):
            raise SettingsError(f"{self.name}.{name} is written as [[{self.name}.{name}]]")
        return [_Table(f"{self.name}.{name} {at}", each, known) for at, each in enumerate(values, 1)]


_SAID_ELSEWHERE: Final = ("listen", "routes", "prefixes", "never_revoked")
_NAMES: Final = tuple(each.name for each in fields(Settings) if each.name not in _SAID_ELSEWHERE)
_API_NAMES: Final = tuple(each.name for each in fields(APISettings))
_LISTENER_NAMES: Final = ("address", "serves", "behind", "paths", "mode", "public")
_ROUTE_NAMES: Final = ("name", "host", "path", "policy", "application", "tenant", "on_stale")
