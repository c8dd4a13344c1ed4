"""From the settings to routes that can decide: policies read, reviewed and compiled, before any request."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from capability.attenuation import DEFAULT_VOCABULARY
from capability.datalog.errors import DatalogError
from capability.datalog.parser import parse_program
from capability.datalog.printer import print_program
from capability.datalog.program import Predicate, Program
from capability.datalog.terms import STRING
from capability.guard import Guard
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.policy_review import PolicyWarning
from capability.revocation import RevocationSource
from capability.sidecar.messages import BadRequest
from capability.sidecar.needs import needs_of
from capability.sidecar.paths import Paths, Targets
from capability.sidecar.routes import DEFAULT_POLICY, HEADER, Route, Routes, bare_host, header_names
from capability.sidecar.settings import OnStale, RouteSettings, SettingsError

_TOLD: Final = frozenset({HEADER, DEFAULT_VOCABULARY.tenant})
ANSWERS: Final = (f"{HEADER}($name, $value)", f"{DEFAULT_VOCABULARY.tenant}($tenant)")
_MAX_POLICY: Final = 1 << 20
"""Bytes of a policy's file."""


def build_routes(
    settings: Sequence[RouteSettings],
    keys: KeySet | PublicKey,
    revocations: Callable[[OnStale], RevocationSource | None],
    *,
    clock: Callable[[], float] | None = None,
    prefixes: Iterable[str] = (),
    warn: Callable[[str, str], None] = lambda route, warning: None,
) -> Routes:
    """Returns the routes with a guard each. `warn` is told what is odd about a route's policy.

    Raises SettingsError for a policy that cannot be used, with its file and the place in it.
    """
    routes = []
    for each in settings:
        _check_place(each)
        otherwise = each.source or DEFAULT_POLICY
        program = read_policy(each.name, each.policy, otherwise, each.application, each.tenant)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PolicyWarning)
            try:
                guard = Guard(
                    keys, program, revocations(each.on_stale), clock, answers=ANSWERS, prefixes=prefixes
                )
                headers = header_names(program)
            except (DatalogError, ValueError) as error:
                raise SettingsError(f"route {each.name}: {error}") from error
        for warning in caught:
            warn(each.name, str(warning.message))
        routes.append(
            Route(
                guard=guard,
                name=each.name,
                host=each.host,
                path=each.path,
                headers=headers,
                tells=any(head.name in _TOLD for head in _heads(program)),
                source=print_program(program),
                needs=needs_of(program),
            )
        )
    try:
        return Routes(routes)
    except ValueError as error:
        raise SettingsError(f"serve.route: {error}") from error


def _check_place(route: RouteSettings) -> None:
    """Raises SettingsError for a host or path that no request has: another policy would decide for it."""
    if route.host is not None and not _is_host(route.host):
        raise SettingsError(
            f"route {route.name}: no request has the host {route.host[:60]!r}; "
            "write it as api.example.com or [::1], without a port and without *"
        )
    if not _is_path(route.path):
        raise SettingsError(
            f"route {route.name}: no request has the path {route.path[:60]!r}; "
            "write it as /orders, which is for all below it too"
        )


def _is_host(text: str) -> bool:
    try:
        return bare_host(text) == text != ""
    except BadRequest:
        return False


def _is_path(text: str) -> bool:
    try:
        return "*" not in text and Targets(Paths.STRICT).read(text).path == text
    except BadRequest:
        return False


def read_policy(
    name: str, path: str | None, otherwise: str, application: str | None = None, tenant: str | None = None
) -> Program:
    """Returns the policy in a file, else `otherwise`, with what the settings state; raises SettingsError."""
    source = otherwise
    if path is not None:
        try:
            with open(path, "rb") as file:
                content = file.read(_MAX_POLICY + 1)
            source = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is not UTF-8" if isinstance(error, ValueError) else str(error.strerror).lower()
            raise SettingsError(f"route {name}: cannot read {path!r}: {reason}") from error
        if len(content) > _MAX_POLICY:
            raise SettingsError(f"route {name}: {path!r} is larger than {_MAX_POLICY} bytes")
    try:
        program = parse_program(source)
    except DatalogError as error:
        where = "the policy" if path is None else Path(path).name
        raise SettingsError(f"route {name}: {where}: {error}") from error
    words = DEFAULT_VOCABULARY
    stated = tuple(
        Predicate(word, ((STRING, value),))
        for word, value in ((words.application, application), (words.tenant, tenant))
        if value is not None
    )
    return replace(program, facts=(*program.facts, *stated))


def _heads(program: Program) -> Iterable[Predicate]:
    return (*program.facts, *(rule.head for rule in program.rules))
