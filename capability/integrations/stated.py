"""A call with its name and arguments as facts, and checks that hold for that call alone.

A call of `refund(order=7)`, as a tool, is stated as `tool("refund")` and `tool_argument("order", 7)`.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from capability.builders import Fact
from capability.datalog.program import Predicate
from capability.datalog.terms import Term
from capability.datalog.values import from_term, to_term


def named_facts(kind: str, name: str, arguments: Mapping[str, Any] | None) -> list[Fact]:
    """Returns `kind(name)`, and `kind_argument(key, value)` for each argument.

    What has no term is stated as text: a number with a fraction as its JSON, so that a check which compares
    it with a number fails, and times without a zone, decimals and UUIDs. A whole number (5.0) is an integer.
    Raises ValueError for an argument that cannot be stated.
    """
    return [
        Fact.of(Predicate(kind, (_term(f"the {kind}", name),))),
        *(
            Fact.of(Predicate(f"{kind}_argument", (_term("an argument's name", key), _term(key, value))))
            for key, value in (arguments or {}).items()
        ),
    ]


def named_checks(
    kind: str, name: str, arguments: Mapping[str, Any] | None
) -> tuple[list[str], dict[str, Any]]:
    """Returns checks, and the values for their names, that hold for what `named_facts` states and no more."""
    values: dict[str, Any] = {"name": name, "names": set(arguments or {})}
    checks = [f"check all {kind}($t), $t == {{name}}"]
    if arguments:
        checks.append(f"reject if {kind}_argument($n, $v), !{{names}}.contains($n)")
    else:
        checks.append(f"reject if {kind}_argument($n, $v)")
    for at, (key, value) in enumerate(arguments.items() if arguments else ()):
        checks.append(f"check if {kind}_argument({{key{at}x}}, {{value{at}x}})")
        values[f"key{at}x"], values[f"value{at}x"] = key, from_term(_term(key, value))
    return checks, values


def _term(name: str, value: object) -> Term:
    try:
        return to_term(_plain(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the argument {name!r} cannot be stated: {error}") from error


def _plain(value: object) -> object:
    """Returns a value that has a term, where that can be told."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else json.dumps(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value
    return str(value) if isinstance(value, date | time | Decimal | UUID) else value
