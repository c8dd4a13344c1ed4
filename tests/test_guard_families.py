"""A token that was never seen is decided as those that are like it, and no other way than by the engine."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capability import BiscuitBuilder, CacheLimits, Guard, KeyPair, Outcome
from capability.datalog.limits import GUARD_LIMITS
from capability.store.memory import MemoryStore

ROOT = KeyPair()
NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = 'right("editor", "read"); allow if user($u), role($r), right($r, $o), operation($o)'


def token_of(user: str, role: str, days: int, resource: str) -> str:
    builder = BiscuitBuilder("user({user}); role({role})", {"user": user, "role": role})
    token = builder.build(ROOT.private_key)
    expires = NOW + timedelta(days=days)
    return token.attenuate(resources=[resource], expires=expires, now=NOW).to_base64()


def guard_of(**how: Any) -> Guard:
    # a machine that stalls for 0.1 s would teach the guard nothing
    limits = replace(GUARD_LIMITS, max_time=None)
    return Guard(ROOT.public_key, POLICY, clock=lambda: NOW + timedelta(days=2), limits=limits, **how)


def taught(**how: Any) -> Guard:
    guard = guard_of(**how)
    for number in range(4):
        guard.check(
            token_of(f"u{number}", "editor", 9, f"/r{number}"), operation="read", resource=f"/r{number}"
        )
    return guard


@pytest.mark.parametrize(
    ("token", "operation", "resource", "outcome", "fast"),
    [
        (("eve", "editor", 9, "/a"), "read", "/a/b", Outcome.ALLOWED, True),
        (("eve", "editor", 9, "/a"), "read", "/r3", Outcome.DENIED, True),
        (("eve", "editor", 9, "/a"), "write", "/a", Outcome.DENIED, True),
        (("eve", "editor", 1, "/a"), "read", "/a", Outcome.EXPIRED, True),
        (("eve", "editor", 2, "/a"), "read", "/a", Outcome.ALLOWED, True),
        (("eve", "editor", 1, "/a"), "read", "/b", Outcome.DENIED, True),
        (("eve", "viewer", 9, "/a"), "read", "/a", Outcome.DENIED, False),
        (("e" * 200, "editor", 9, "/a"), "read", "/a", Outcome.ALLOWED, False),
    ],
)
def test_first_sight(
    token: tuple[str, str, int, str], operation: str, resource: str, outcome: Outcome, fast: bool
) -> None:
    guard, text = taught(), token_of(*token)
    before = guard.stats().fast
    decision = guard.check(text, operation=operation, resource=resource)
    assert (guard.stats().fast > before) is fast
    expected = guard_of(cache=CacheLimits(0)).check(text, operation=operation, resource=resource)
    assert decision.outcome is expected.outcome is outcome
    assert (decision.reason, decision.failed_checks) == (expected.reason, expected.failed_checks)


def test_first_sight_asks_for_revocation_and_signatures() -> None:
    store = MemoryStore()
    guard = taught(revocations=store)
    text = token_of("eve", "editor", 9, "/a")
    other = Guard(KeyPair().public_key, POLICY, clock=lambda: NOW)
    assert other.check(text, operation="read", resource="/a").outcome is Outcome.INVALID_TOKEN
    ids = guard_of().check(text, operation="read", resource="/a").revocation_ids
    store.revoke([bytes.fromhex(ids[0])])
    assert guard.check(text, operation="read", resource="/a").outcome is Outcome.REVOKED


def test_what_was_learned_goes_with_the_policy() -> None:
    guard = taught()
    guard.replace(policy='allow if operation("write")')
    assert (
        guard.check(token_of("eve", "editor", 9, "/a"), operation="read", resource="/a").outcome
        is Outcome.DENIED
    )
