"""A request of the Model Context Protocol as facts, and a token that is good for one request.

A server states `tool("name")` and, for each argument that came, `tool_argument("name", value)`; for prompts
`prompt` and `prompt_argument`; for resources `resource("uri")`; and `version("1.0")` where one is asked for.
"""

from collections.abc import Mapping
from typing import Any, Final, Unpack

from capability.builders import Fact
from capability.integrations.narrowing import AnyToken, Narrowing, with_checks
from capability.integrations.stated import named_checks, named_facts

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


def _token(
    token: AnyToken, checks: list[str], values: dict[str, Any], version: str | None, narrowing: Narrowing
) -> str:
    narrowing.setdefault("expires", SECONDS)
    asked = "reject if version($v)" if version is None else "check all version($v), $v == {version}"
    return with_checks(token, narrowing, [*checks, asked], {**values, "version": version})
