"""Ready-made checks that narrow a token: by application, operation, tenant, resource and time.

They are built as a program, not as text: nothing has to be escaped, and no parser has to be loaded.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from capability.datalog.immutable import immutable
from capability.datalog.parameters import Filled
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    Op,
    Predicate,
    Program,
    Query,
    Value,
)
from capability.datalog.terms import DATE, DATE_MAX, PARAMETER, STRING, VARIABLE, Term, make_set

NAMED: Final = ("application", "operation", "tenant", "resource", "time")
"""The kinds of facts that a Vocabulary names."""


@immutable
class Vocabulary:
    """The names of the facts by which an authorizer describes a request.

    Each has one term. An issuer whose authorizers use other words needs another vocabulary; a check on a
    fact that no authorizer states never holds.
    """

    application: str = "application"
    operation: str = "operation"
    tenant: str = "tenant"
    resource: str = "resource"
    time: str = "time"

    def __post_init__(self) -> None:
        for kind in NAMED:
            name = getattr(self, kind)
            if not isinstance(name, str) or not re.fullmatch(r"[^\W\d_][\w:]*", name):
                raise ValueError(f"{kind}={name!r} is not the name of a fact")


DEFAULT_VOCABULARY: Final = Vocabulary()

_REMEMBERED: Final = 256
"""How many checks of a kind, and restrictions, are kept: the same few are asked for again and again."""
_TIMES: Final = {"not_before": BinaryKind.GREATER_OR_EQUAL, "expires": BinaryKind.LESS_OR_EQUAL}
"""`check all time($t), $t <= 2026-12-01T00:00:00Z`, and `>=` for the beginning."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def restriction(
    *,
    applications: Iterable[str] | None = None,
    operations: Iterable[str] | None = None,
    tenants: Iterable[str] | None = None,
    resources: Iterable[str] | None = None,
    expires: timedelta | datetime | None = None,
    not_before: timedelta | datetime | None = None,
    now: datetime | None = None,
    vocabulary: Vocabulary = DEFAULT_VOCABULARY,
) -> Program:
    """Returns the checks that hold only for the given applications, operations, tenants, resources and times.

    None leaves a kind open. A resource stands for itself and all that is below it: "/orders" covers
    "/orders" and "/orders/7", not "/orders-old"; "/" covers every path. Services must resolve `..` and the
    like before they state the resource. A timedelta counts from `now`, the current time if None. Times are
    cut to the second that grants less.

    All are `check all`: with `check if` one fitting fact among several would do, and without any fact the
    check must fail. Raises ValueError for an empty list (nothing could ever be allowed), an empty name, a
    naive datetime, or a duration that leaves no lifetime, and TypeError for a lone string.
    """
    return filled_restriction(
        applications=applications,
        operations=operations,
        tenants=tenants,
        resources=resources,
        expires=expires,
        not_before=not_before,
        now=now,
        vocabulary=vocabulary,
    ).program


def filled_restriction(
    *,
    applications: Iterable[str] | None,
    operations: Iterable[str] | None,
    tenants: Iterable[str] | None,
    resources: Iterable[str] | None,
    expires: timedelta | datetime | None,
    not_before: timedelta | datetime | None,
    now: datetime | None,
    vocabulary: Vocabulary,
) -> Filled:
    """Returns and raises as `restriction`. The times, which always differ, are not in the checks yet."""
    terms = _window(expires, not_before, now)
    template = _template(
        vocabulary,
        None if applications is None else _strings("applications", applications),
        None if operations is None else _strings("operations", operations),
        None if tenants is None else _strings("tenants", tenants),
        None if resources is None else _strings("resources", resources),
        tuple(terms),
    )
    count = len(template.checks)
    return Filled(template, terms, ((), (), tuple(range(count - len(terms), count))))


@lru_cache(_REMEMBERED)
def _template(
    vocabulary: Vocabulary,
    applications: tuple[str, ...] | None,
    operations: tuple[str, ...] | None,
    tenants: tuple[str, ...] | None,
    resources: tuple[str, ...] | None,
    times: tuple[str, ...],
) -> Program:
    """Returns the checks, with a parameter for each of `times`."""
    checks: list[Check] = []
    for predicate, variable, values in (
        (vocabulary.application, "a", applications),
        (vocabulary.operation, "o", operations),
        (vocabulary.tenant, "t", tenants),
    ):
        if values is not None:
            checks.append(_one_of(predicate, variable, values))
    if resources is not None:
        checks.append(_below(vocabulary.resource, "r", resources))
    for name in times:
        checks.append(_time(vocabulary.time, name))
    return Program(checks=tuple(checks))


@lru_cache(_REMEMBERED)
def _one_of(predicate: str, variable: str, values: tuple[str, ...]) -> Check:
    """`check all application($a), {"orders", "invoices"}.contains($a)`"""
    allowed = make_set((STRING, value) for value in values)
    return _check_all(
        predicate, variable, (Value(allowed), Value((VARIABLE, variable)), Binary(BinaryKind.CONTAINS))
    )


@lru_cache(_REMEMBERED)
def _below(predicate: str, variable: str, resources: tuple[str, ...]) -> Check:
    """`check all resource($r), $r == "/orders" || $r.starts_with("/orders/")`"""
    alternatives: list[tuple[Op, ...]] = []
    for resource in dict.fromkeys(resource.removesuffix("/") for resource in resources):
        if resource:
            alternatives.append(_compare(variable, BinaryKind.EQUAL, (STRING, resource)))
        alternatives.append(_compare(variable, BinaryKind.PREFIX, (STRING, resource + "/")))
    ops, *others = alternatives
    for other in others:
        ops = (*ops, Closure((), other), Binary(BinaryKind.LAZY_OR))
    return _check_all(predicate, variable, ops)


def _window(
    expires: timedelta | datetime | None,
    not_before: timedelta | datetime | None,
    now: datetime | None,
) -> dict[str, Term]:
    """Returns the times in seconds, by the names that they have in `_TIMES` and in its order."""
    if isinstance(expires, timedelta) and expires <= timedelta(0):
        raise ValueError("expires must be after now")
    if isinstance(not_before, timedelta) and not_before < timedelta(0):
        raise ValueError("not_before must not be before now")
    origin = datetime.now(UTC) if now is None else _aware("now", now)
    terms: dict[str, Term] = {}
    start = None if not_before is None else _seconds("not_before", not_before, origin, round_up=1)
    if start is not None:
        terms["not_before"] = (DATE, start)
    if expires is not None:
        end = _seconds("expires", expires, origin, round_up=0)
        if start is not None and end < start:
            raise ValueError("expires must not be before not_before")
        terms["expires"] = (DATE, end)
    return terms


@lru_cache(_REMEMBERED)
def _time(predicate: str, name: str) -> Check:
    return _check_all(predicate, "t", _compare("t", _TIMES[name], (PARAMETER, name)))


def _compare(variable: str, operator: BinaryKind, term: Term) -> tuple[Op, ...]:
    return (Value((VARIABLE, variable)), Value(term), Binary(operator))


def _check_all(predicate: str, variable: str, ops: tuple[Op, ...]) -> Check:
    body = (Predicate(predicate, ((VARIABLE, variable),)),)
    return Check(CheckKind.ALL, (Query(body, (Expression(ops),)),))


def _strings(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str | bytes):
        raise TypeError(f"{name} is a list of strings; write [...] around a single one")
    strings = tuple(values)
    if not strings:
        raise ValueError(f"{name} is empty, so nothing could ever be allowed; leave it out to keep it open")
    for value in strings:
        if not isinstance(value, str):
            raise TypeError(f"{name} holds strings, not {type(value).__name__}")
        if not value:
            raise ValueError(f"{name} holds an empty string")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} holds text that is not valid Unicode") from error
    return strings


def _seconds(name: str, value: timedelta | datetime, origin: datetime, *, round_up: int) -> int:
    """Returns seconds since 1970; a fraction of a second counts for `round_up` seconds."""
    if isinstance(value, timedelta):
        try:
            instant = origin + value
        except OverflowError as error:
            raise ValueError(f"{name} is too far away") from error
    elif isinstance(value, datetime):
        instant = _aware(name, value)
    else:
        raise TypeError(f"{name} must be a datetime or a timedelta, not {type(value).__name__}")
    whole, fraction = divmod(instant - _EPOCH, timedelta(seconds=1))
    seconds = whole + (round_up if fraction else 0)
    if not 0 <= seconds <= DATE_MAX:
        raise ValueError(f"{name} must be in the years 1970 to 9999")
    return seconds


def _aware(name: str, value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise ValueError(f"{name} needs a time zone")
    return value
