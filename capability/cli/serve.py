"""`cap serve`: the check beside a service in any language."""

import errno
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from capability.cli.failures import Exit, Failure, usage
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.moments import rfc_3339
from capability.cli.options import root_options, store_option
from capability.cli.output import Result, one_line, print_error_line
from capability.cli.stores import url_for_reading
from capability.configuration import NO_STORE
from capability.datalog.terms import DATE_MAX

if TYPE_CHECKING:
    from capability.keys import PublicKey
    from capability.keyset import KeySet
    from capability.sidecar.settings import Listener, RouteSettings, Settings
    from capability.store.signed import SignedRevocations

_NEVER: Final = "--store none"
"""How one says that nothing is ever revoked."""

TOO_OLD: Final = "the signed revocations are older than max_stale, which counts from when they were signed"
_ELSEWHERE: Final = "choose another address"
_PLACES: Final[Mapping[int | None, str]] = {
    errno.ENOENT: "make its folder first: see docs/proxies.md for one that a proxy may enter",
    errno.EADDRINUSE: "choose another address, or stop what listens there",
}
"""What to try where a socket cannot be opened."""

_HINT: Final = "see the example in docs/sidecar.md"


@command(
    "serve",
    "cap serve --public-key root.key.pub --listen tcp:8181",
    "cap serve --listen unix:/run/cap/cap.sock --behind nginx --policy policy.datalog --admin tcp:9901",
    "cap serve --revocations https://issuer.example/revoked.signed --revocations-key revoked.key.pub",
    "cap serve --check",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    envvar="CAP_LISTEN",
    show_envvar=True,
    help="Where the check listens: unix:/PATH, tcp:PORT or tcp:ADDRESS:PORT; repeatable.",
)
@click.option(
    "--behind",
    metavar="PROXY",
    envvar="CAP_BEHIND",
    show_envvar=True,
    help="Who asks there: envoy, nginx, traefik, caddy, haproxy, or plain.",
)
@click.option(
    "--admin",
    metavar="ADDRESS",
    envvar="CAP_ADMIN",
    show_envvar=True,
    help="Where /livez, /readyz, /metrics and /status are served.",
)
@click.option(
    "--api",
    metavar="ADDRESS",
    envvar="CAP_API",
    show_envvar=True,
    help="Where AuthZEN, introspection, revocation, token exchange and keys are served.",
)
@click.option(
    "--grpc",
    metavar="ADDRESS",
    envvar="CAP_GRPC",
    show_envvar=True,
    help="Where Envoy's ext_authz over gRPC is served.",
)
@click.option("--public", is_flag=True, help="Let other hosts connect to a tcp: address.")
@click.option(
    "--policy",
    metavar="DATALOG",
    help="Who is let in: text, or a file.  [env var: CAP_POLICY; default: methods are read, write, delete]",
)
@click.option("--application", "-a", help="Which application the requests are for.")
@root_options
@store_option
@click.option(
    "--revocations",
    metavar="FILE|URL",
    envvar="CAP_REVOCATIONS",
    show_envvar=True,
    help="Signed revocations to follow, alone or beside a store.",
)
@click.option(
    "--revocations-key",
    metavar="KEY|FILE",
    envvar="CAP_REVOCATIONS_KEY",
    show_envvar=True,
    help="The key that signs them, if it is not the issuer's.",
)
@click.option(
    "--revocations-name",
    metavar="NAME",
    envvar="CAP_REVOCATIONS_NAME",
    show_envvar=True,
    help="Which list of theirs is meant, if the key signs several.",
)
@click.option(
    "--max-stale",
    type=float,
    metavar="SECONDS",
    help="How old revocations may be.  [env var: CAP_MAX_STALE; default: 30 for a store, and what signed"
    " ones say themselves]",
)
@click.option(
    "--on-stale",
    metavar="deny|allow",
    envvar="CAP_ON_STALE",
    show_envvar=True,
    help="What holds once they are older.  [default: deny]",
)
@click.option(
    "--decisions",
    metavar="none|denied|all",
    envvar="CAP_DECISIONS",
    show_envvar=True,
    help="Which decisions are logged.  [default: denied]",
)
@click.option(
    "--log",
    metavar="FILE|stderr|store",
    envvar="CAP_LOG",
    show_envvar=True,
    help="Where to.  [default: stderr]",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    envvar="CAP_WORKERS",
    show_envvar=True,
    help="Processes that decide.  [default: 1]",
)
@click.option("--check", is_flag=True, help="Only say what would be served, and what is odd about it.")
@click.pass_obj
def serve(session: Session, /, check: bool, **flags: Any) -> Result:
    """Serve the check that proxies and applications ask on every request, until SIGTERM.

    What is said by [serve] of cap.toml holds where no option says otherwise. Without a policy a genuine
    token may do what its own checks let pass: GET, HEAD and OPTIONS are the operation read; POST, PUT and
    PATCH are write, DELETE is delete, and the path is the resource.

    Policies, keys and cap.toml are read again when they change, and on SIGHUP. What cannot be used is
    refused, and what held before goes on.
    """
    settings = _settings(session, flags)
    _check_packages(settings)
    if check:
        return _checked(settings)
    from capability.sidecar.configured import unrevoked
    from capability.sidecar.server import Server
    from capability.sidecar.settings import SettingsError

    warning = unrevoked(settings, _NEVER)
    if warning is not None:
        print_error_line("warning", warning)
    files = [] if session.config.file is None else [str(session.config.file)]
    server = Server(
        settings,
        reread=lambda: _reread(session, flags),
        files=files,
        warn=lambda warning: print_error_line("warning", one_line(warning)),
    )
    try:
        server.run(lambda addresses: print_error_line("serving", ", ".join(addresses)))
    except SettingsError as error:
        raise _refused(error) from error
    except OSError as error:
        raise usage(
            f"cannot serve: {error.strerror or error}", _PLACES.get(error.errno, _ELSEWHERE), "serve.address"
        ) from error
    return Result("", {})


def _settings(session: Session, flags: Mapping[str, Any]) -> "Settings":
    from capability.sidecar.settings import SettingsError

    try:
        return _read(session, flags)
    except SettingsError as error:
        raise _refused(error) from error


def _reread(session: Session, flags: Mapping[str, Any]) -> "Settings":
    """Returns what the files say now; raises SettingsError for whatever is wrong with them."""
    from capability.sidecar.settings import SettingsError

    try:
        return _read(session.anew(), flags)
    except Failure as error:
        raise SettingsError(error.message) from error


def _read(session: Session, flags: Mapping[str, Any]) -> "Settings":
    from capability.errors import ConfigurationError
    from capability.sidecar.configured import Flags, configured

    if flags["store"] not in (None, NO_STORE):
        url_for_reading(session, flags["store"])
    try:
        return configured(os.environ, session.config, session.prefixes, Flags(**flags))
    except ConfigurationError as error:
        raise usage(str(error), error.hint, error.code) from error


def _checked(settings: "Settings") -> Result:
    """Returns what would be served. Keys and policies are read as for serving, but nothing is opened."""
    from capability.sidecar.apiguards import build_api
    from capability.sidecar.configured import unrevoked
    from capability.sidecar.guards import build_routes
    from capability.sidecar.keysource import KeySource, KeysUnavailable
    from capability.sidecar.revocations import STORE_MAX_STALE
    from capability.sidecar.settings import SettingsError

    notes: list[str] = []

    def note(route: str, warning: str) -> None:
        notes.append(f"route {route}: {one_line(warning)}")

    try:
        assert settings.keys is not None
        source = KeySource(settings.keys)
        keys = source.read()
        routes = build_routes(
            settings.routes,
            keys,
            lambda on_stale: None,
            prefixes=settings.prefixes,
            warn=note,
        )
        build_api(settings, keys, None, warn=note)
        signed = _signed(settings, keys)
    except KeysUnavailable as error:
        raise Failure(
            Exit.TOKEN_OR_KEY, "key.format", str(error), "name a key, a key set, or their file"
        ) from error
    except SettingsError as error:
        raise _refused(error) from error
    lines = [_of_listener(each) for each in settings.listen]
    named = {each.name: each for each in settings.routes}
    # in the order in which they are looked at, which is not that of the file
    lines += [f"{each.host or 'any host'} {each.path}  {_of_route(named[each.name])}" for each in routes]
    if not any(each.host is None and each.path == "/" for each in settings.routes):
        lines.append("anything else  nobody is let in")
    fetched = f", fetched every {settings.keys_refresh:g} s" if source.is_remote else ""
    lines.append(f"keys  {keys!r}{fetched}")
    lines += _of_revocations(settings, signed)
    lines.append(_of_log(settings))
    if settings.workers > 1:
        lines.append(f"workers  {settings.workers}")
    if settings.telemetry:
        lines.append("traces  exported as the OTEL_* variables say")
    warning = unrevoked(settings, _NEVER)
    if warning is not None:
        notes.append(warning)
    if signed is not None and settings.max_stale is not None and signed[1].age() > settings.max_stale:
        notes.append(TOO_OLD)
    data = {
        "listen": [
            {
                "address": str(each.address),
                "mode": _mode(each),
                "serves": each.serves.value,
                "behind": each.behind,
                "paths": each.paths.value,
            }
            for each in settings.listen
        ],
        "routes": [
            {
                "name": each.name,
                "host": each.host,
                "path": each.path,
                "policy": each.policy or each.source,
                "application": each.application,
                "tenant": each.tenant,
                "on_stale": each.on_stale.value,
            }
            for each in settings.routes
        ],
        "keys": source.shown,
        "follow": settings.follow,
        "revocations": None
        if signed is None
        else {"place": signed[0], "revision": signed[1].revision(), "valid_until": signed[1].valid_until},
        "max_stale": settings.max_stale or (STORE_MAX_STALE if settings.store and settings.follow else None),
        "grace": settings.grace,
        "log": {
            "decisions": settings.decisions.value,
            "to": settings.log,
            "capacity": settings.log_capacity,
            "when_full": settings.when_full.value,
        },
        "workers": settings.workers,
        "telemetry": settings.telemetry,
        "warnings": notes,
    }
    return Result("\n".join(lines), data, notes=tuple(notes))


def _signed(settings: "Settings", roots: "KeySet | PublicKey") -> "tuple[str, SignedRevocations] | None":
    """Returns where signed revocations are and what they say now; None where none are named.

    Raises StoreError for what would be refused, and KeysUnavailable.
    """
    if settings.revocations is None:
        return None
    from capability.sidecar.revocations import signers
    from capability.sidecar.signedfeed import place_of
    from capability.store.signed import SignedRevocations

    keys = signers(settings, lambda: roots)()
    place = place_of(settings.revocations, settings.poll, settings.revocations_refresh)
    return place.shown, SignedRevocations(place.read() or b"", keys, name=settings.revocations_name)


def _of_revocations(settings: "Settings", signed: "tuple[str, SignedRevocations] | None") -> list[str]:
    """Returns what is said of where revocations come from."""
    from capability.cli.signed import counted
    from capability.sidecar.revocations import STORE_MAX_STALE

    lines = []
    grace = f" ({settings.grace:g} s more while not ready)" if settings.grace else ""
    if settings.store is not None and settings.follow:
        lines.append(f"revocations  followed, {settings.max_stale or STORE_MAX_STALE:g} s old at most{grace}")
    elif settings.store is not None:
        lines.append("revocations  the store is asked on every request")
    if signed is not None:
        place, found = signed
        until = rfc_3339(datetime.fromtimestamp(min(found.valid_until, DATE_MAX), UTC))
        at_most = "" if settings.max_stale is None else f", {settings.max_stale:g} s old at most{grace}"
        lines.append(
            f"revocations  signed, in {place}: {counted(len(found))} at revision {found.revision()},"
            f" valid until {until}{at_most}"
        )
    return lines or ["revocations  none: nothing is ever revoked"]


def _of_listener(listener: "Listener") -> str:
    """Returns what is said of a listener: what is spoken there, and who may connect."""
    from capability.sidecar.addresses import Tcp

    parts = [listener.serves.value]
    if listener.serves.value == "check":
        parts.append(f"behind {listener.behind}")
    if listener.paths.value == "raw":
        parts.append("with ambiguous paths")
    mode = _mode(listener)
    if mode is not None:
        parts.append(f"mode {mode}")
    if isinstance(listener.address, Tcp) and not listener.address.is_loopback:
        parts.append("other hosts can connect")
    return f"{listener.address}  {', '.join(parts)}"


def _mode(listener: "Listener") -> str | None:
    """Returns who may connect to a socket file, as `chmod` writes it; None for other addresses."""
    from capability.sidecar.addresses import Unix

    return f"{listener.address.mode:04o}" if isinstance(listener.address, Unix) else None


def _of_route(route: "RouteSettings") -> str:
    """Returns by what requests are decided, what is stated for them, and whether old revocations will do."""
    policy = route.policy or "the built-in policy"
    parts = [policy if route.source is None else one_line(" ".join(route.source.split()))]
    parts += [
        f"{name} {one_line(value)}"
        for name, value in (("application", route.application), ("tenant", route.tenant))
        if value is not None
    ]
    if route.on_stale.value == "allow":
        parts.append("also by revocations that are too old")
    return ", ".join(parts)


def _of_log(settings: "Settings") -> str:
    """Returns which decisions are written where, and what happens to those that do not fit."""
    if settings.decisions.value == "none":
        return "log  none"
    which = "decisions that were denied" if settings.decisions.value == "denied" else "all decisions"
    full = "dropped and counted" if settings.when_full.value == "drop" else "denied"
    return f"log  {which}, to {settings.log}; what does not fit is {full}"


def _check_packages(settings: "Settings") -> None:
    """Raises Failure where a package is missing without which what is configured cannot be served."""
    from capability.sidecar.packages import missing, needed

    package = missing(needed(settings))
    if package is not None:
        raise usage(package.lack, package.hint, "sidecar.missing")


def _refused(error: Exception) -> Failure:
    return Failure(Exit.USAGE, "serve.settings", str(error), _HINT)
