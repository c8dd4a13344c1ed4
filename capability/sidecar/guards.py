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
from capability.sidecar.routes import DEFAULT_POLICY, HEADER, Route, Routes, header_names
from capability.sidecar.settings import OnStale, RouteSettings, SettingsError

_TOLD: Final = frozenset({HEADER, DEFAULT_VOCABULARY.tenant})
ANSWERS: Final = (f"{HEADER}($name, $value)", f"{DEFAULT_VOCABULARY.tenant}($tenant)")
_MAX_POLICY: Final = 1 << 20


def build_routes(
    settings: Sequence[RouteSettings],
    keys: KeySet | PublicKey,
    revocations: Callable[[OnStale], RevocationSource | None],
    *,
    clock: Callable[[], float] | None = None,
    warn: Callable[[str, str], None] = lambda route, warning: None,
) -> Routes:
    """Returns the routes with a guard each. `warn` is told what is odd about a route's policy.

    Raises SettingsError for a policy that cannot be used, with its file and the place in it.
    """
    routes = []
    for each in settings:
        program = _policy(each)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PolicyWarning)
            try:
                guard = Guard(keys, program, revocations(each.on_stale), clock, answers=ANSWERS)
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
            )
        )
    try:
        return Routes(routes)
    except ValueError as error:
        raise SettingsError(f"serve.route: {error}") from error


def _policy(route: RouteSettings) -> Program:
    """Returns the policy of a route, with what its settings state."""
    source = DEFAULT_POLICY
    if route.policy is not None:
        try:
            with open(route.policy, "rb") as file:
                content = file.read(_MAX_POLICY + 1)
            source = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is not UTF-8" if isinstance(error, ValueError) else str(error.strerror).lower()
            raise SettingsError(f"route {route.name}: cannot read {route.policy!r}: {reason}") from error
        if len(content) > _MAX_POLICY:
            raise SettingsError(f"route {route.name}: {route.policy!r} is larger than {_MAX_POLICY} bytes")
    try:
        program = parse_program(source)
    except DatalogError as error:
        where = "the built-in policy" if route.policy is None else Path(route.policy).name
        raise SettingsError(f"route {route.name}: {where}: {error}") from error
    return replace(program, facts=(*program.facts, *_stated(route)))


def _stated(route: RouteSettings) -> Iterable[Predicate]:
    words = DEFAULT_VOCABULARY
    for name, value in ((words.application, route.application), (words.tenant, route.tenant)):
        if value is not None:
            yield Predicate(name, ((STRING, value),))


def _heads(program: Program) -> Iterable[Predicate]:
    return (*program.facts, *(rule.head for rule in program.rules))
