"""What a token is (RFC 7662), and the end of one (RFC 7009).

Both are asked by somebody who shows a capability token of their own. What is revoked is what was presented:
the last block of the token, so that this token dies and what was narrowed from it, and never the token that
it was narrowed from. Whoever means all of a chain has `cap revoke`, or presents the token at its beginning.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from capability.decision import Decision, Outcome
from capability.errors import CapabilityError, StoreError
from capability.guard import Guard
from capability.inspection import Remaining, certain_expiry, remaining
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.prefixes import split_prefix
from capability.sidecar.messages import BadRequest
from capability.store.protocol import Store
from capability.tokens import Biscuit

INTROSPECT: Final = "/introspect"
REVOKE: Final = "/revoke"
EVALUATE_OPERATION: Final = "evaluate"
INTROSPECT_OPERATION: Final = "introspect"
REVOKE_OPERATION: Final = "revoke"
APPLICATION: Final = "cap"
"""What callers of this listener ask for leave of, as `application(...)`."""

CALLERS_POLICY: Final = """
allow if application($app), operation($operation), right($app, $operation);
allow if operation("revoke"), own_token(true);
"""
"""Who may ask: by `right("cap", "introspect")` (or "revoke", "evaluate") in a token's authority block.

A token may end itself, as far as its own checks let it do `revoke` with `cap`.
"""

INACTIVE: Final[Mapping[str, Any]] = {"active": False}
"""All that is said of whatever is no good, for whatever reason."""

_REASON: Final = "revoked by its holder or an administrator over HTTP (RFC 7009)"
_GENUINE: Final = frozenset({Outcome.ALLOWED, Outcome.DENIED})
_UNKNOWN: Final = frozenset({Outcome.STORE_UNAVAILABLE, Outcome.LIMIT_REACHED})


def presented(form: Mapping[str, str]) -> str:
    """Returns the token that a form is about; raises BadRequest where there is none."""
    token = form.get("token", "")
    if not token:
        raise BadRequest("request.form", "the form has no token")
    return token


class Undecided(Exception):
    """Whether a token is good cannot be told now."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


class Inactive(Exception):
    """A token is no good, for whatever reason; the decision has it, unless that is the time alone."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


class Active(NamedTuple):
    """A token that is good, behind its prefix; `left` is what can be read of what it still allows."""

    prefix: str
    token: Biscuit
    decision: Decision
    left: Remaining


def active(guard: Guard, keys: KeySet | PublicKey, text: str) -> Active:
    """Returns a token that is genuine, not revoked, and valid now; raises Undecided and Inactive.

    `guard` looks at signatures, revocations and the time; its policy lets everything genuine in. What a token
    was narrowed to is no reason to be inactive: that depends on what is asked of it.
    """
    decision = guard.check(text)
    if decision.outcome in _UNKNOWN:
        raise Undecided(decision)
    token = verified(guard, keys, text) if decision.outcome in _GENUINE else None
    if token is None:
        raise Inactive(decision)
    left = remaining([block.program for block in token.blocks])
    now = decision.decided_at
    if (left.expires is not None and now > left.expires) or (
        left.not_before is not None and now < left.not_before
    ):
        raise Inactive(decision)
    return Active(split_prefix(text, guard.prefixes)[0], token, decision, left)


def introspect(guard: Guard, keys: KeySet | PublicKey, text: str) -> Mapping[str, Any]:
    """Returns what RFC 7662 says of a token; `guard` is as for `active`. Raises Undecided."""
    try:
        _, token, decision, left = active(guard, keys, text)
    except Inactive:
        return INACTIVE
    ids = [each.hex() for each in token.canonical_revocation_ids]
    found: dict[str, Any] = {
        "active": True,
        "token_type": "Bearer",
        "sub": decision.subject,
        "exp": None if left.expires is None else int(left.expires.timestamp()),
        "nbf": None if left.not_before is None else int(left.not_before.timestamp()),
        "jti": ids[-1],
        "scope": scope_of(left.operations),
        "aud": None if left.applications is None else list(left.applications),
        "cap_resources": None if left.resources is None else list(left.resources),
        "cap_tenants": None if left.tenants is None else list(left.tenants),
        "cap_key_id": decision.key_id,
        "cap_revocation_ids": ids,
        "cap_revocation_age": decision.revocation_age,
    }
    return {name: value for name, value in found.items() if value is not None}


class Revoker:
    """Ends tokens in a store, which is opened when the first one is to be, and anew after it failed."""

    def __init__(self, open_store: Callable[[], Store], revoked: Callable[[], None]) -> None:
        """`revoked` is called once a token is ended, before anybody is told."""
        self._open_store = open_store
        self._revoked = revoked
        self._opening = threading.Lock()
        self._store: Store | None = None

    def revoke(self, token: Biscuit, actor: str | None) -> int:
        """Revokes the last block of a token; returns the revision from then on. Raises StoreError."""
        expires = certain_expiry([block.program for block in token.blocks])
        store = self._opened()
        try:
            revision = store.revoke(
                token.canonical_revocation_ids[-1:], reason=_REASON, actor=actor, expires=expires
            )
        except StoreError:
            self.close()
            raise
        self._revoked()
        return revision

    def close(self) -> None:
        """Lets go of the store."""
        with self._opening:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _opened(self) -> Store:
        with self._opening:
            if self._store is None:
                self._store = self._open_store()
            return self._store


def verified(guard: Guard, keys: KeySet | PublicKey, text: str) -> Biscuit | None:
    """Returns the token that a text is, behind a prefix that the guard takes; None where it is not ours."""
    try:
        return Biscuit.from_base64(split_prefix(text, guard.prefixes)[1], keys)
    except CapabilityError:
        return None


def scope_of(operations: Sequence[str] | None) -> str | None:
    """Returns operations as a scope; None where there is no limit, or one that no scope can say."""
    if operations is None or any(not each or " " in each or not each.isprintable() for each in operations):
        return None
    return " ".join(operations)
