"""What a token is narrowed to before it is handed on, in the words that all integrations take."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict

from capability.builders import BlockBuilder
from capability.tokens import Biscuit, UnverifiedBiscuit

AnyToken: TypeAlias = str | Biscuit | UnverifiedBiscuit
TokenSource: TypeAlias = AnyToken | Callable[[], AnyToken]
"""A token, or a function that is asked for it each time, as where tokens are renewed."""


class Narrowing(TypedDict, total=False):
    """Each word that is there narrows: to one value, or to any of several. `expires` may be in seconds.

    `source` is any Datalog, `parameters` are the values for its `{names}`.
    """

    operation: str | Sequence[str]
    application: str | Sequence[str]
    resource: str | Sequence[str]
    tenant: str | Sequence[str]
    expires: float | timedelta | datetime
    source: str
    parameters: Mapping[str, Any]


WORDS = frozenset(Narrowing.__annotations__)


def read(token: AnyToken) -> Biscuit | UnverifiedBiscuit:
    """Returns the token of a text, or the token itself; raises BiscuitValidationError for no token."""
    return UnverifiedBiscuit.from_base64(token) if isinstance(token, str) else token


def narrowed(token: AnyToken, narrowing: Narrowing) -> Biscuit | UnverifiedBiscuit:
    """Returns a token that allows what `token` allows and what `narrowing` names; the same for nothing.

    Raises TypeError for a word that nobody knows (it would narrow nothing), ValueError as
    `capability.attenuation.restriction`, and SealedError.
    """
    unknown = sorted(set(narrowing) - WORDS)
    if unknown:
        raise TypeError(f"a token is narrowed by {', '.join(sorted(WORDS))}; there is no {unknown[0]!r}")
    known = read(token)
    if not narrowing:
        return known
    expires = narrowing.get("expires")
    return known.attenuate(
        operations=_several(narrowing.get("operation")),
        applications=_several(narrowing.get("application")),
        resources=_several(narrowing.get("resource")),
        tenants=_several(narrowing.get("tenant")),
        expires=timedelta(seconds=expires) if isinstance(expires, int | float) else expires,
        source=narrowing.get("source"),
        parameters=narrowing.get("parameters"),
    )


def with_checks(
    token: AnyToken, narrowing: Narrowing, checks: Sequence[str], values: Mapping[str, Any]
) -> str:
    """Returns the text of a token that is narrowed as `narrowed` does and by `checks` with `values`."""
    block = BlockBuilder()
    for check in checks:
        names = {name: value for name, value in values.items() if f"{{{name}}}" in check}
        block.add_code(check, names)
    known = read(token).append(block)
    return narrowed(known, narrowing).to_base64()


def _several(value: str | Sequence[str] | None) -> Sequence[str] | None:
    return [value] if isinstance(value, str) else value
