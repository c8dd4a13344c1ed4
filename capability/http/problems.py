"""A no in HTTP: the status and the challenge of RFC 6750, and a problem document of RFC 9457.

A problem tells the client what it can do about it, and never more: not why a signature failed, not which
check or policy was in the way. That is in the decision, which the log keeps under the same `decision_id`.
docs/problems.md explains each type.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from capability.decision import Decision, Outcome
from capability.errors import AuthorizationError

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:cap:problem:"
INSTANCE_PREFIX: Final = "urn:cap:decision:"

_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_QUOTABLE: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request was refused, for its sender.

    `error` is the code of RFC 6750, None where there must be none; `required` are the operations that were
    needed; `retry_after` is in seconds.
    """

    name: str
    status: int
    title: str
    detail: str
    error: str | None = None
    required: tuple[str, ...] = ()
    decision_id: str | None = None
    revocation_age_ms: int | None = None
    retry_after: int | None = None

    @property
    def type(self) -> str:
        """The URI that names this kind of problem; it never changes."""
        return TYPE_PREFIX + self.name

    def to_dict(self) -> dict[str, Any]:
        """Returns the members of the problem document; what is not known is left out."""
        members: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "error": self.error,
            "required": list(self.required) or None,
            "decision_id": self.decision_id,
            "revocation_age_ms": self.revocation_age_ms,
        }
        if self.decision_id is not None:
            members["instance"] = INSTANCE_PREFIX + self.decision_id
        return {name: value for name, value in members.items() if value is not None}

    def body(self) -> bytes:
        """Returns the problem document."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":")).encode()

    def challenge(self, realm: str) -> str | None:
        """Returns the value of WWW-Authenticate (RFC 6750 section 3), None for a 503."""
        if self.status not in (400, 401, 403):
            return None
        parts = [f'Bearer realm="{realm}"']
        if self.error is not None:
            parts.append(f'error="{self.error}"')
            parts.append(f'error_description="{self.detail}"')
        scope = [word for word in self.required if _SCOPE_TOKEN.fullmatch(word)]
        if self.status == 403 and scope:
            parts.append(f'scope="{" ".join(scope)}"')
        return ", ".join(parts)

    def headers(self, realm: str) -> list[tuple[str, str]]:
        """Returns the headers of the answer but for Content-Length."""
        headers = [("Content-Type", MEDIA_TYPE), ("Cache-Control", "no-store")]
        challenge = self.challenge(realm)
        if challenge is not None:
            headers.append(("WWW-Authenticate", challenge))
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.retry_after)))
        return headers

    def fields(self, realm: str) -> list[tuple[bytes, bytes]]:
        """Returns the same headers in the form of ASGI: bytes, with names in lower case."""
        return [(name.lower().encode(), value.encode()) for name, value in self.headers(realm)]


NO_TOKEN: Final = Problem(
    name="token-missing",
    status=401,
    title="A token is needed",
    detail="send a token as Authorization: Bearer",
)

MALFORMED: Final = Problem(
    name="request-malformed",
    status=400,
    title="The request is malformed",
    detail="the request cannot be read in one way only",
    error="invalid_request",
)

_EXECUTION: Final = Problem(
    name="not-decidable",
    status=403,
    title="The request cannot be decided",
    detail="the rules do not fit this request",
    error="insufficient_scope",
)

OF_OUTCOME: Final = {
    Outcome.DENIED: Problem(
        name="denied",
        status=403,
        title="The token does not allow this",
        detail="the token does not allow this request",
        error="insufficient_scope",
    ),
    Outcome.EXPIRED: Problem(
        name="token-expired",
        status=401,
        title="The token has expired",
        detail="the token is not valid at this time",
        error="invalid_token",
    ),
    Outcome.REVOKED: Problem(
        name="token-revoked",
        status=401,
        title="The token was revoked",
        detail="the token was revoked",
        error="invalid_token",
    ),
    Outcome.INVALID_TOKEN: Problem(
        name="token-invalid",
        status=401,
        title="The token is not valid",
        detail="the token is not valid here",
        error="invalid_token",
    ),
    Outcome.EXECUTION_ERROR: _EXECUTION,
    Outcome.LIMIT_REACHED: Problem(
        name="limit-reached",
        status=503,
        title="Deciding took too much",
        detail="a limit was reached before there was a decision",
    ),
    Outcome.STORE_UNAVAILABLE: Problem(
        name="revocations-unavailable",
        status=503,
        title="Revocations cannot be looked up",
        detail="whether the token was revoked cannot be told now",
        retry_after=5,
    ),
}
"""What each no is in HTTP."""

PROBLEMS: Final = (NO_TOKEN, MALFORMED, *OF_OUTCOME.values())


def malformed(detail: str) -> Problem:
    """Returns the problem of a request that cannot be read; `detail` holds nothing that the client sent."""
    return replace(MALFORMED, detail=detail)


def problem_of(decision: Decision, required: Iterable[str] = ()) -> Problem:
    """Returns what a no is in HTTP; `required` are the operations that were needed.

    Raises ValueError for a decision that is a yes.
    """
    if decision.allowed:
        raise ValueError("an allowed request is no problem")
    age = decision.revocation_age
    problem = OF_OUTCOME[decision.outcome]
    return replace(
        problem,
        required=tuple(required) if problem.status == 403 else (),
        decision_id=decision.decision_id,
        revocation_age_ms=None if age is None else round(age * 1000),
    )


def problem_of_error(error: AuthorizationError, required: Iterable[str] = ()) -> Problem:
    """Returns what an error of `Guard.require` or of an authorizer is in HTTP."""
    if error.decision is None:
        return replace(OF_OUTCOME[Outcome.DENIED], required=tuple(required))
    return problem_of(error.decision, required)


def checked_realm(realm: str) -> str:
    """Returns `realm`; raises ValueError for what cannot stand in a header between quotes."""
    if _QUOTABLE.fullmatch(realm) is None:
        raise ValueError("a realm is printable ASCII without quotes and backslashes")
    return realm
