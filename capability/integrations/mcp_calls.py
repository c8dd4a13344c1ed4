"""A tool call of the Model Context Protocol as facts, and a token that is good for one call.

A server states `tool("name")` and, for each argument that came, `tool_argument("name", value)`.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Unpack

from capability.builders import Fact
from capability.datalog.program import Predicate
from capability.datalog.terms import Term
from capability.datalog.values import from_term, to_term
from capability.integrations.narrowing import AnyToken, Narrowing, with_checks

META_KEY: Final = "capability/token"
"""Where a token stands in the `_meta` of a request, beside whatever the transport was opened with."""

SECONDS: Final = 60
"""For how long the token of a call lives unless something else is said."""


def tool_facts(name: str, arguments: Mapping[str, Any] | None) -> list[Fact]:
    """Returns what a tool call states; raises ValueError for an argument that no term can hold.

    A number with a fraction has no term: it is stated as its JSON, in a string, so that a check which
    compares it with a number fails. A whole one (5.0) is an integer, as tools take it for one.
    """
    return [
        Fact.of(Predicate("tool", (_term("the tool", name),))),
        *(
            Fact.of(Predicate("tool_argument", (_term("an argument's name", key), _term(key, value))))
            for key, value in (arguments or {}).items()
        ),
    ]


def call_token(
    token: AnyToken,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    **narrowing: Unpack[Narrowing],
) -> str:
    """Returns a token that is good for this very call: this tool, these arguments and no others.

    It lives for 60 seconds unless `expires` says something else. Needs no key and no network.
    """
    narrowing.setdefault("expires", SECONDS)
    values: dict[str, Any] = {"tool": name, "names": set(arguments or {})}
    checks = ["check all tool($t), $t == {tool}"]
    if arguments:
        checks.append("reject if tool_argument($n, $v), !{names}.contains($n)")
    else:
        checks.append("reject if tool_argument($n, $v)")
    for at, (key, value) in enumerate(arguments.items() if arguments else ()):
        checks.append(f"check if tool_argument({{key{at}x}}, {{value{at}x}})")
        values[f"key{at}x"], values[f"value{at}x"] = key, from_term(_term(key, value))
    return with_checks(token, narrowing, checks, values)


def _term(name: str, value: object) -> Term:
    try:
        return to_term(_plain(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the argument {name!r} cannot be stated: {error}") from error


def _plain(value: object) -> object:
    """Returns a value of JSON without fractions."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else json.dumps(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
