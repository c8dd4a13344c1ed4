"""What `cap serve --check` says: who may ask where, by what that would be decided, and what is odd."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from capability.cli.failures import Exit, Failure
from capability.cli.moments import rfc_3339
from capability.cli.output import Result, one_line
from capability.datalog.terms import DATE_MAX

if TYPE_CHECKING:
    from capability.keys import PublicKey
    from capability.keyset import KeySet
    from capability.sidecar.settings import Listener, RouteSettings, Settings
    from capability.store.signed import SignedRevocations

TOO_OLD: Final = "the signed revocations are older than max_stale, which counts from when they were signed"


def explained(settings: "Settings", never: str) -> Result:
    """Returns what would be served. Keys and policies are read as for serving, but nothing is opened.

    `never` is how one says that nothing is ever revoked. Raises Failure, SettingsError and StoreError.
    """
    from capability.sidecar.apiguards import build_api
    from capability.sidecar.configured import unrevoked
    from capability.sidecar.guards import build_routes
    from capability.sidecar.kept import Folder
    from capability.sidecar.keysource import KeySource, KeysUnavailable
    from capability.sidecar.revocations import STORE_MAX_STALE

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
    lines = [_of_listener(each) for each in settings.listen]
    named = {each.name: each for each in settings.routes}
    # in the order in which they are looked at, which is not that of the file
    lines += [f"{each.host or 'any host'} {each.path}  {_of_route(named[each.name])}" for each in routes]
    if not any(each.host is None and each.path == "/" for each in settings.routes):
        lines.append("anything else  nobody is let in")
    fetched = f", fetched every {settings.keys_refresh:g} s" if source.is_remote else ""
    lines.append(f"keys  {keys!r}{fetched}")
    lines += _of_revocations(settings, signed)
    if settings.state is not None:
        lines.append(f"copies  kept in {settings.state}")
        problem = Folder(settings.state, writes=False, warn=notes.append).problem()
        notes += [] if problem is None else [problem]
    lines.append(_of_log(settings))
    if settings.workers > 1:
        lines.append(f"workers  {settings.workers}")
    if settings.telemetry:
        lines.append("traces  exported as the OTEL_* variables say")
    warning = unrevoked(settings, never)
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
        "state": settings.state,
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
