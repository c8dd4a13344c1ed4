"""A narrower token for a token (RFC 8693): `cap attenuate`, done by a server for those who cannot do it.

What comes back allows what the token that was presented allows and what was asked for, both. No key is
needed for it and no right: whoever holds a token can narrow it. It is verified first, so that nobody is
handed a token that no service would take.

| parameter | narrows | as |
| --- | --- | --- |
| `scope` | operations | words with a space between |
| `audience`, repeatable | applications | their names |
| `resource`, repeatable | resources | each an absolute URI or a path: that one, and what is below it |
| `expires_in` (ours) | the time | whole seconds from now |
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from capability.errors import BiscuitSerializationError
from capability.guard import Guard
from capability.inspection import remaining
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.sidecar.messages import BadRequest
from capability.sidecar.oauth import Inactive, active, scope_of

TOKEN: Final = "/token"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
"""The one type of token that is taken and given: for access, and opaque to who asks."""

MAX_WORDS: Final = 64
MAX_LENGTH: Final = 256
"""How many words a scope has, and characters a name: what narrowed a token is remembered for a while, and
who asks chooses it.
"""

REPEATABLE: Final = frozenset({"audience", "resource"})

_SCOPE_WORD: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_RESOURCE: Final = re.compile(r"(?:/|[A-Za-z][A-Za-z0-9+.-]*:)[\x21\x22\x24-\x7e]*")
"""A path, or a URI with its scheme; neither has a fragment."""
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,9}")


class Refused(Exception):
    """No token is given; `error` is the code of RFC 6749 section 5.2, and the text is for the client."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for; None leaves a kind as it is."""

    subject_token: str
    operations: tuple[str, ...] | None
    applications: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    lifetime: timedelta | None


def wanted_of(fields: Sequence[tuple[str, str]]) -> Wanted:
    """Returns what a form asks for; raises Refused.

    As RFC 6749 has it, a parameter without a value is not there, and one that is not known means nothing.
    """
    given: dict[str, list[str]] = {}
    for name, value in fields:
        if value:
            given.setdefault(name, []).append(value)
    for name, values in given.items():
        if len(values) > 1 and name not in REPEATABLE:
            raise Refused("invalid_request", "a parameter is there twice")
    one = {name: values[0] for name, values in given.items()}
    if "grant_type" not in one:
        raise Refused("invalid_request", "there is no grant_type")
    if one["grant_type"] != GRANT_TYPE:
        raise Refused("unsupported_grant_type", f"the one grant_type is {GRANT_TYPE}")
    if "actor_token" in one or "actor_token_type" in one:
        raise Refused(
            "invalid_request", "an actor_token is not taken: a token is narrowed, for whoever holds it"
        )
    token = one.get("subject_token", "").strip()  # curl sends a file's last line with its end
    if not token:
        raise Refused("invalid_request", "there is no subject_token")
    if one.get("subject_token_type") != ACCESS_TOKEN:
        raise Refused("invalid_request", f"the one subject_token_type is {ACCESS_TOKEN}")
    if one.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise Refused("invalid_request", f"the one requested_token_type is {ACCESS_TOKEN}")
    wanted = Wanted(
        subject_token=token,
        operations=_operations(one.get("scope")),
        applications=_applications(given.get("audience")),
        resources=_resources(given.get("resource")),
        lifetime=_lifetime(one.get("expires_in")),
    )
    if not (wanted.operations or wanted.applications or wanted.resources or wanted.lifetime):
        raise Refused(
            "invalid_request", "nothing narrows the token: name scope, audience, resource or expires_in"
        )
    return wanted


def exchanged(guard: Guard, keys: KeySet | PublicKey, wanted: Wanted) -> Mapping[str, Any]:
    """Returns the answer of RFC 8693 with the narrower token; raises Refused, and Undecided and Inactive.

    `guard` is that of `oauth.introspect`. Refused too is what the token's own checks rule out, as far as they
    can be read: nobody should wait for the first request to learn that nothing is left.
    """
    found = active(guard, keys, wanted.subject_token)
    token, left = found.token, found.left
    if token.sealed:
        raise Refused("invalid_request", "the token is sealed, so that nobody can narrow it")
    if not _all_within(wanted.operations, left.operations):
        raise Refused("invalid_scope", "the token does not allow all of this scope")
    if not _all_within(wanted.applications, left.applications):
        raise Refused("invalid_target", "the token is not for all of these audiences")
    if not _all_within(wanted.resources, left.resources, below="/"):
        raise Refused("invalid_target", "the token is not for all of these resources")
    now = datetime.now(UTC)
    narrow = token.attenuate(
        applications=wanted.applications,
        operations=wanted.operations,
        resources=wanted.resources,
        expires=wanted.lifetime,
        now=now,
    )
    try:
        text = found.prefix + narrow.to_base64()
    except BiscuitSerializationError as error:
        raise Refused("invalid_request", "the token is as large as tokens may be") from error
    left = remaining([block.program for block in narrow.blocks])
    answer: dict[str, Any] = {
        "access_token": text,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": None if left.expires is None else max(int((left.expires - now).total_seconds()), 0),
        "scope": scope_of(left.operations),
    }
    return {name: value for name, value in answer.items() if value is not None}


def refusal_of(error: Refused | Inactive | BadRequest) -> Mapping[str, str]:
    """Returns the error document of RFC 6749 section 5.2; the error is that of RFC 8693 section 2.2.2."""
    if isinstance(error, Refused):
        return {"error": error.error, "error_description": str(error)}
    if isinstance(error, BadRequest):
        return {"error": "invalid_request", "error_description": str(error)}
    return {
        "error": "invalid_request",
        "error_description": "the token is not valid here",
        "decision_id": error.decision.decision_id,
    }


def _operations(scope: str | None) -> tuple[str, ...] | None:
    if scope is None:
        return None
    words = scope.split(" ")
    if any(_SCOPE_WORD.fullmatch(word) is None for word in words):
        raise Refused("invalid_scope", "a scope is printable words with one space between")
    if len(words) > MAX_WORDS or not _are_short(words):
        raise Refused(
            "invalid_scope", f"a scope has at most {MAX_WORDS} words, of {MAX_LENGTH} characters each"
        )
    return tuple(dict.fromkeys(words))


def _applications(audiences: Sequence[str] | None) -> tuple[str, ...] | None:
    if audiences is None:
        return None
    if not all(each.isprintable() for each in audiences) or not _are_short(audiences):
        raise Refused(
            "invalid_target",
            f"an audience is an application's printable name of {MAX_LENGTH} characters at most",
        )
    return tuple(dict.fromkeys(audiences))


def _resources(resources: Sequence[str] | None) -> tuple[str, ...] | None:
    if resources is None:
        return None
    if any(_RESOURCE.fullmatch(each) is None for each in resources) or not _are_short(resources):
        raise Refused(
            "invalid_target",
            f"a resource is an absolute URI or a path of {MAX_LENGTH} characters at most, without a fragment",
        )
    return tuple(dict.fromkeys(resources))


def _are_short(values: Sequence[str]) -> bool:
    return all(len(each) <= MAX_LENGTH for each in values)


def _lifetime(seconds: str | None) -> timedelta | None:
    if seconds is None:
        return None
    if _SECONDS.fullmatch(seconds) is None:
        raise Refused("invalid_request", "expires_in is a whole number of seconds, 1 or more")
    return timedelta(seconds=int(seconds))


def _all_within(wanted: Sequence[str] | None, left: Sequence[str] | None, below: str = "") -> bool:
    """True when each of `wanted`, or what is below it, is within what is left; `*` ends an open one there."""
    if wanted is None or left is None:
        return True
    values = frozenset(left)
    beginnings = tuple(value[:-1] for value in left if value.endswith("*"))
    return all(each in values or f"{each}{below}".startswith(beginnings) for each in wanted)
