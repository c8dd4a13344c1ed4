"""What goes wrong beneath a guard is an outcome and never an allow; bounds hold for the whole of a call."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from capability import (
    BiscuitBuilder,
    CacheLimits,
    Guard,
    KeyPair,
    Limits,
    Outcome,
    RevocationStatus,
    StoreUnavailable,
)
from capability.authorization import Evaluation
from capability.store.follower import Follower
from capability.store.memory import MemoryStore

ROOT = KeyPair()
NOW = datetime(2030, 1, 1, tzinfo=UTC)
TEXT = BiscuitBuilder('user("alice")').build(ROOT.private_key).to_base64()


class Broken(MemoryStore):
    """Fails as no store should, when it is told to."""

    failure: type[BaseException] | None = None

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        if self.failure is not None:
            raise self.failure("secret dsn")
        return super().status(revocation_ids)

    def revision(self) -> int:
        if self.failure is not None:
            raise self.failure("secret dsn")
        return super().revision()


@pytest.mark.parametrize(
    "failure", [StoreUnavailable, OSError, ValueError, KeyError, RecursionError, MemoryError, AssertionError]
)
@pytest.mark.parametrize("seen", [0, 1, 4])
def test_whatever_a_source_raises_nothing_is_allowed(failure: type[Exception], seen: int) -> None:
    store = Broken()
    guard = Guard(ROOT.public_key, "allow if true", revocations=store)
    for _ in range(seen):
        assert guard.check(TEXT, operation="read").allowed
    store.failure = failure
    for _ in range(2):
        decision = guard.check(TEXT, operation="read")
        assert (decision.outcome, decision.code) == (Outcome.STORE_UNAVAILABLE, "store.unavailable")
        assert decision.subject == "alice"
        if failure is not StoreUnavailable:
            assert "secret" not in decision.to_json()
    store.failure = None
    assert guard.check(TEXT, operation="read").allowed


def test_an_interrupt_is_not_swallowed() -> None:
    store = Broken()
    guard = Guard(ROOT.public_key, "allow if true", revocations=store)
    store.failure = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        guard.check(TEXT)


@pytest.mark.parametrize("failure", [RecursionError, MemoryError, ValueError, OSError])
@pytest.mark.parametrize(
    "policy",
    [
        "allow if user($u), !$u.extern::f()",
        "deny if user($u), $u.extern::f(); allow if true",
        "right($u) <- user($u), $u.extern::f(); allow if true",
    ],
)
def test_whatever_an_extern_function_raises_is_an_execution_error(
    failure: type[Exception], policy: str
) -> None:
    def fail(_: object) -> bool:
        raise failure("on purpose")

    guard = Guard(ROOT.public_key, policy, extern_funcs={"f": fail})
    for _ in range(4):
        decision = guard.check(TEXT, operation="read")
        assert decision.outcome is Outcome.EXECUTION_ERROR
        assert decision.code.startswith("execution")
        assert guard.check(TEXT, operation=["read", "write"]).outcome is Outcome.EXECUTION_ERROR


@pytest.mark.parametrize("told", [None, "2030-01-01", True, [0.0], b"0"])
def test_a_clock_that_tells_no_time_is_a_type_error(told: Any) -> None:
    guard = Guard(ROOT.public_key, "allow if true", clock=lambda: told)
    with pytest.raises(TypeError, match="clock of a guard"):
        guard.check(TEXT)
    with pytest.raises(TypeError, match="clock of a guard"):
        guard.form(("a", int)).check(TEXT, 1)


def test_a_list_has_one_budget_of_steps() -> None:
    policy = "allow if operation($o), user($u)"
    one = Guard(ROOT.public_key, policy).check(TEXT, operation="a")
    limits = Limits(max_steps=one.steps * 3)
    guard = Guard(ROOT.public_key, policy, limits=limits)
    for _ in range(4):
        assert guard.check(TEXT, operation=["a", "b"]).allowed
        decision = guard.check(TEXT, operation=[f"o{number}" for number in range(100)])
        assert (decision.outcome, decision.code) == (Outcome.LIMIT_REACHED, "limit.steps")
        assert guard.check(TEXT, operation="a").allowed


def test_a_list_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is 10 ms later than the last: 1,000 requests take more than the second."""
    looks = itertools.count()
    defaults = (None, lambda: next(looks) / 100, ())
    monkeypatch.setattr(Evaluation.__init__, "__defaults__", defaults)
    guard = Guard(ROOT.public_key, "allow if operation($o)", limits=Limits(max_time=1.0))
    for _ in range(3):
        decision = guard.check(TEXT, operation=[f"o{number}" for number in range(1000)])
        assert decision.code == "limit.time"
        assert guard.check(TEXT, operation=["a", "b"]).allowed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_age_of_a_copy_is_told_as_it_is_now() -> None:
    store, clock = MemoryStore(), Clock()
    follower = Follower(store, max_stale=60.0, clock=clock)
    follower.poll()
    guard = Guard(ROOT.public_key, "allow if true", revocations=follower)
    for age in range(6):
        clock.now = float(age)
        assert guard.check(TEXT, operation="read").revocation_age == age
    assert guard.stats().fast == 4
    follower.poll()
    assert guard.check(TEXT, operation="read").revocation_age == 0


def many(count: int) -> str:
    checks = "; ".join(f'check if fact({n}), operation("read") or operation("list")' for n in range(count))
    facts = "; ".join(f"fact({n})" for n in range(count))
    return BiscuitBuilder(f'user("alice"); {facts}; {checks}').build(ROOT.private_key).to_base64()


def test_a_token_too_large_to_be_prepared_is_verified_and_derived_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = many(400)
    policy = "allow if user($u)"
    guard = Guard(ROOT.public_key, policy, limits=Limits(), clock=lambda: NOW)
    plain = Guard(ROOT.public_key, policy, limits=Limits(), clock=lambda: NOW, cache=CacheLimits(0))
    for _ in range(2):
        assert guard.check(text, operation="read").allowed
    before = guard.stats()
    assert before.fast == 0
    for operation in ("read", "write", "list"):
        known, fresh = guard.check(text, operation=operation), plain.check(text, operation=operation)
        assert {**known.to_dict(), "decision_id": ""} == {**fresh.to_dict(), "decision_id": ""}
    after = guard.stats()
    assert after.fast == 0
    assert guard._setup.known.get(text) is not None
    assert after.tokens.size > 400 * 400  # what is kept of it is counted
    guard.forget()
    assert guard.stats().tokens.entries == 0
    assert guard.check(text, operation="read").allowed


def test_a_kept_evaluation_belongs_to_its_keys_and_its_policy() -> None:
    text = many(400)
    guard = Guard(ROOT.public_key, "allow if user($u)", limits=Limits())
    for _ in range(3):
        assert guard.check(text, operation="read").allowed
    guard.replace(policy="deny if true")
    assert guard.check(text, operation="read").outcome is Outcome.DENIED
    guard.replace(keys=KeyPair().public_key)
    assert guard.check(text, operation="read").outcome is Outcome.INVALID_TOKEN


def test_a_kept_evaluation_is_revoked_like_any_token() -> None:
    text = many(400)
    store = MemoryStore()
    guard = Guard(ROOT.public_key, "allow if user($u)", limits=Limits(), revocations=store)
    for _ in range(3):
        assert guard.check(text, operation="read").allowed
    store.revoke([bytes.fromhex(guard.check(text, operation="read").revocation_ids[0])])
    decision = guard.check(text, operation="read")
    assert (decision.outcome, decision.subject) == (Outcome.REVOKED, "alice")
