"""Requests: what a caller asks, as the facts that are stated for it, and their shape without the values.

A guard prepares a token for a shape, not for a request: names, types, and which facts come once.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY
from capability.builders import Fact
from capability.datalog.lifting import scalar
from capability.datalog.parameters import bind
from capability.datalog.program import Predicate
from capability.datalog.shapes import RequestFact
from capability.datalog.terms import BOOL, BYTES, INTEGER, KIND_NAMES, STRING, Term
from capability.datalog.values import to_term

Value: TypeAlias = str | int | bool | bytes | datetime
RequestValue: TypeAlias = Value | Sequence[Value] | Set[Value] | None
"""What a request says under one name: a value, several that must all be allowed, or nothing."""

TOKEN_TYPES: Final = (str, bytes)
"""What a token may come as: its text, or its bytes."""

MAX_REQUESTS: Final = 1024
"""How many requests the lists of one call may stand for."""

Types: TypeAlias = tuple[type, ...]
"""The Python types of a request's operation, application, resource and tenant; NoneType for what it lacks."""
KEYWORDS: Final = (
    DEFAULT_VOCABULARY.operation,
    DEFAULT_VOCABULARY.application,
    DEFAULT_VOCABULARY.resource,
    DEFAULT_VOCABULARY.tenant,
)

_KINDS: Final[Mapping[type, int]] = {str: STRING, int: INTEGER, bool: BOOL, bytes: BYTES}
"""Types of values that stay as they are."""
_MAX_GROUPS: Final = 24
_MAX_NAMES: Final = 1024
"""How many names and terms a shape may have, and how long its names may be together."""
_MAX_SHAPES: Final = 1024

_FACT_NAME: Final = re.compile(r"[A-Za-z0-9_:]+")
_TIME: Final = DEFAULT_VOCABULARY.time
_SINGLE: Final = frozenset(
    {
        DEFAULT_VOCABULARY.application,
        DEFAULT_VOCABULARY.operation,
        DEFAULT_VOCABULARY.tenant,
        DEFAULT_VOCABULARY.resource,
    }
)
"""Facts of which one request has one: with several, a `check if` would hold when any of them fits."""


def requests_of(named: Mapping[str, RequestValue], facts: Iterable[Fact]) -> list[tuple[Predicate, ...]]:
    """Returns the facts of each request that `named` stands for."""
    stated = _stated(facts)
    choices: list[list[Predicate]] = []
    for name, value in named.items():
        if value is None:
            continue
        if name == _TIME:
            raise TypeError("the time comes from the guard's clock; a request cannot state it")
        if _FACT_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of a fact")
        if any(fact.name == name for fact in stated):
            raise ValueError(f"{name} is stated twice, by keyword and in facts")
        choices.append([Predicate(name, (term,)) for term in _terms(name, value)])
    if math.prod(map(len, choices)) > MAX_REQUESTS:
        raise ValueError(f"the lists of values stand for more than {MAX_REQUESTS} requests")
    return [(*choice, *stated) for choice in itertools.product(*choices)]


def _terms(name: str, value: RequestValue) -> list[Term]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values:
        raise ValueError(f"{name} is an empty list: there is no request to decide")
    for single in values:
        if not isinstance(single, str | int | bool | bytes | datetime):
            raise TypeError(
                f"{name} must be str, int, bool, bytes or datetime, or a list of them,"
                f" not {type(single).__name__}"
            )
    return list(dict.fromkeys(to_term(single) for single in values))


def _stated(facts: Iterable[Fact]) -> tuple[Predicate, ...]:
    stated: list[Predicate] = []
    for fact in facts:
        if not isinstance(fact, Fact):
            raise TypeError(f"argument 'facts' must hold Facts, not {type(fact).__name__}")
        predicate = bind(fact.item, {}, {})
        if predicate.name == _TIME:
            raise ValueError("the time comes from the guard's clock; a request cannot state it")
        if predicate.name in _SINGLE and any(other.name == predicate.name for other in stated):
            raise ValueError(f"several {predicate.name} facts: ask once for each, with a list")
        stated.append(predicate)
    return tuple(dict.fromkeys(stated))


@dataclass(frozen=True, slots=True, eq=False)
class RequestShape:
    """What requests of one kind state, without the values; the same object for the same facts.

    `types` are those of the values: for a fact that may come several times, a tuple of rows.
    """

    facts: tuple[RequestFact, ...]
    types: tuple[type, ...] = field(repr=False)

    def predicates(self, values: Sequence[Any]) -> tuple[Predicate, ...]:
        """Returns the facts that `values` stand for, as tests of this shape have found them right."""
        left = iter(values)
        stated: list[Predicate] = []
        for fact in self.facts:
            if not fact.kinds:
                next(left)
            elif fact.several:
                stated += [
                    Predicate(fact.name, tuple(zip(fact.kinds, row, strict=True))) for row in next(left)
                ]
            else:
                stated.append(Predicate(fact.name, tuple((kind, next(left)) for kind in fact.kinds)))
        return tuple(dict.fromkeys(stated))

    def normal(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Returns `values` with subclasses of the types made plain.

        Raises TypeError for a value of another type and ValueError for one that has no term.
        """
        left = iter(values)
        found: list[Any] = []
        for fact in self.facts:
            if fact.several:
                rows = next(left)
                if not isinstance(rows, list | tuple):
                    raise TypeError(f"{fact.name} must be a list of tuples, not {type(rows).__name__}")
                found.append(tuple(_row(fact, row) for row in rows))
            else:
                found += _row(fact, tuple(next(left) for _ in fact.kinds))
        return tuple(found)


@lru_cache(maxsize=_MAX_SHAPES)
def shape_of(facts: tuple[RequestFact, ...]) -> RequestShape:
    """Returns the shape of requests that state these facts."""
    plain = {kind: type_ for type_, kind in _KINDS.items()}
    types: list[type] = []
    for fact in facts:
        types += [tuple] if fact.several else [plain.get(kind, int) for kind in fact.kinds]
    return RequestShape(facts, tuple(types))


@lru_cache(maxsize=_MAX_SHAPES)
def keyword_shape(types: Types) -> RequestShape | None:
    """Returns the shape of requests by KEYWORDS alone, None for types that are not taken as they are."""
    facts = []
    for name, type_ in zip(KEYWORDS, types, strict=True):
        if type_ is not type(None) and type_ not in _KINDS:
            return None
        facts.append(RequestFact(name, () if type_ is type(None) else (_KINDS[type_],)))
    return shape_of(tuple(facts))


def taken_apart(request: Sequence[Predicate], single: int) -> tuple[RequestShape, tuple[Any, ...]] | None:
    """Returns the shape and the values of a request whose first `single` facts come once each.

    None where there is no shape for it: with terms that are sets, arrays, maps or null, or too many names.
    """
    if any(not scalar(kind) for fact in request for kind, _ in fact.terms):
        return None
    facts = [RequestFact(fact.name, _kinds(fact)) for fact in request[:single]]
    values: list[Any] = [value for fact in request[:single] for _, value in fact.terms]
    groups: dict[RequestFact, list[tuple[Any, ...]]] = {}
    for fact in request[single:]:
        group = groups.setdefault(RequestFact(fact.name, _kinds(fact), several=True), [])
        group.append(tuple(value for _, value in fact.terms))
    for several in sorted(groups, key=lambda fact: (fact.name, fact.kinds)):
        facts.append(several)
        values.append(tuple(groups[several]))
    if len(facts) > _MAX_GROUPS or sum(len(fact.name) + len(fact.kinds) for fact in facts) > _MAX_NAMES:
        return None
    return shape_of(tuple(facts)), tuple(values)


def declared(
    facts: Iterable[tuple[str | type, ...]], several: Iterable[tuple[str | type, ...]]
) -> RequestShape:
    """Returns the shape of requests that state each of `facts` once, and of `several` any number.

    Raises TypeError and ValueError for what cannot be declared.
    """
    found = [_declared(fact, several=False) for fact in facts]
    found += [_declared(fact, several=True) for fact in several]
    names = [(fact.name, len(fact.kinds)) for fact in found]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise ValueError(f"{name[0]} is declared twice")
    if len(found) > _MAX_GROUPS:
        raise ValueError(f"a form has at most {_MAX_GROUPS} facts")
    return shape_of(tuple(found))


def _declared(fact: tuple[str | type, ...], *, several: bool) -> RequestFact:
    if not isinstance(fact, tuple) or len(fact) < 2 or not isinstance(fact[0], str):
        raise TypeError(f"a fact is declared as (name, type, ...), not as {fact!r}")
    name, types = fact[0], fact[1:]
    if name == _TIME:
        raise ValueError("the time comes from the guard's clock; a request cannot state it")
    if _FACT_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a fact")
    if several and name in _SINGLE:
        raise ValueError(f"a request has one {name}: declare it as such")
    if len(name) > 64 or len(types) > 16:
        raise ValueError(f"{name[:64]} is too long to declare")
    kinds = []
    for type_ in types:
        if not isinstance(type_, type) or type_ not in _KINDS:
            raise TypeError(f"a term of {name} is declared as str, int, bool or bytes, not as {type_!r}")
        kinds.append(_KINDS[type_])
    return RequestFact(name, tuple(kinds), several)


def _row(fact: RequestFact, row: object) -> tuple[Any, ...]:
    if not isinstance(row, tuple) or len(row) != len(fact.kinds):
        raise TypeError(f"{fact.name} takes {len(fact.kinds)} terms, as a tuple")
    values = []
    for kind, value in zip(fact.kinds, row, strict=True):
        found = to_term(value) if isinstance(value, str | int | bytes) else (0, None)
        if found[0] != kind:
            raise TypeError(f"a term of {fact.name} must be {KIND_NAMES[kind]}, not {type(value).__name__}")
        values.append(found[1])
    return tuple(values)


def _kinds(fact: Predicate) -> tuple[int, ...]:
    return tuple(kind for kind, _ in fact.terms)
