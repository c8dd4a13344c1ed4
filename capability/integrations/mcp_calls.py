"""A request of the Model Context Protocol as facts, and a token that is good for one request.

A server states `tool("name")` and, for each argument that came, `tool_argument("name", value)`; for prompts
`prompt` and `prompt_argument`; for resources `resource("uri")`; and `version("1.0")` where one is asked for.
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
"""For how long the token of a request lives unless something else is said."""


def tool_facts(name: str, arguments: Mapping[str, Any] | None) -> list[Fact]:
    """Returns what a tool call states; raises ValueError for an argument that no term can hold.

    A number with a fraction has no term: it is stated as its JSON, in a string, so that a check which
    compares it with a number fails. A whole one (5.0) is an integer, as tools take it for one.
    """
    return named_facts("tool", name, arguments)


def prompt_facts(name: str, arguments: Mapping[str, Any] | None) -> list[Fact]:
    """Returns what the getting of a prompt states, as `tool_facts`."""
    return named_facts("prompt", name, arguments)


def named_facts(kind: str, name: str, arguments: Mapping[str, Any] | None) -> list[Fact]:
    """Returns `kind(name)`, and `kind_argument(key, value)` for each argument; raises as `tool_facts`."""
    return [
        Fact.of(Predicate(kind, (_term(f"the {kind}", name),))),
        *(
            Fact.of(Predicate(f"{kind}_argument", (_term("an argument's name", key), _term(key, value))))
            for key, value in (arguments or {}).items()
        ),
    ]


def call_token(
    token: AnyToken,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    version: str | None = None,
    **narrowing: Unpack[Narrowing],
) -> str:
    """Returns a token that is good for this very call: this tool, these arguments and no others.

    It lives for 60 seconds unless `expires` says something else. Needs no key and no network.
    """
    return _token(token, *named_checks("tool", name, arguments), version, narrowing)


def prompt_token(
    token: AnyToken,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    version: str | None = None,
    **narrowing: Unpack[Narrowing],
) -> str:
    """Returns a token that is good for getting this prompt with these arguments, as `call_token`."""
    return _token(token, *named_checks("prompt", name, arguments), version, narrowing)


def resource_token(
    token: AnyToken, uri: str, *, version: str | None = None, **narrowing: Unpack[Narrowing]
) -> str:
    """Returns a token that is good for reading this resource, as `call_token`; for none that is below it."""
    checks = ["check all operation($o), $o == {read}", "check all resource($r), $r == {uri}"]
    return _token(token, checks, {"read": "read", "uri": uri}, version, narrowing)


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


def _token(
    token: AnyToken, checks: list[str], values: dict[str, Any], version: str | None, narrowing: Narrowing
) -> str:
    narrowing.setdefault("expires", SECONDS)
    asked = "reject if version($v)" if version is None else "check all version($v), $v == {version}"
    return with_checks(token, narrowing, [*checks, asked], {**values, "version": version})


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
