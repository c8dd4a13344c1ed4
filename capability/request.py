"""Requests: what a caller asks, as the facts that are stated for it."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from typing import Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY
from capability.builders import Fact
from capability.datalog.parameters import bind
from capability.datalog.program import Predicate
from capability.datalog.terms import Term
from capability.datalog.values import to_term

Value: TypeAlias = str | int | bool | bytes | datetime
RequestValue: TypeAlias = Value | Sequence[Value] | Set[Value] | None
"""What a request says under one name: a value, several that must all be allowed, or nothing."""

MAX_REQUESTS: Final = 1024
"""How many requests the lists of one call may stand for."""

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
