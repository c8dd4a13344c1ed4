"""What a guard remembers: how much, of which requests, until when; and decisions that are told later."""

import copy
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest

from capability import (
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    CacheLimits,
    Decision,
    Fact,
    Guard,
    KeyPair,
    Limits,
    Outcome,
    RevocationStatus,
)
from capability.cache import Cache
from capability.datalog.limits import GUARD_LIMITS
from capability.store.memory import MemoryStore
from capability.wire.text import PREFIX

ROOT = KeyPair()
NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = 'allow if operation("read"); allow if operation(1), tenant(true) or operation(hex:0a); deny if true'
TOKEN = BiscuitBuilder('user("alice")').build(ROOT.private_key)
TEXT = TOKEN.to_base64()


PATIENT = replace(GUARD_LIMITS, max_time=None)
"""The limits of a guard but for the time: a machine that stalls for 0.1 s would change what is counted."""


def guard_of(policy: str = POLICY, **options: Any) -> Guard:
    return Guard(ROOT.public_key, policy, **{"clock": lambda: NOW, "limits": PATIENT, **options})


def warm(guard: Guard, token: str | bytes = TEXT, **request: Any) -> Guard:
    """Returns the guard when it decides `request` without the engine."""
    for _ in range(3):
        guard.check(token, **request)
    assert guard.stats().fast, "the engine still decides"
    return guard


def told(decision: Decision) -> dict[str, Any]:
    return {**decision.to_dict(), "decision_id": ""}


class Operation(StrEnum):
    READ = "read"


class Text(str):
    __slots__ = ()


class Liar:
    """Says that it is a str, as some proxies do."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str

    def isascii(self) -> bool:
        return True

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("read")


@pytest.mark.parametrize(
    ("request_", "fast"),
    [
        ({}, True),
        ({"operation": "read"}, True),
        ({"operation": "é", "resource": "/" * 4000}, True),
        ({"operation": "/" * 4097}, False),
        ({"operation": 1, "tenant": True}, True),
        ({"operation": True, "tenant": 1}, True),
        ({"operation": 2**63 - 1}, True),
        ({"operation": b"\n"}, True),
        ({"operation": NOW}, True),
        ({"operation": Operation.READ}, True),
        ({"operation": Text("read")}, True),
        ({"operation": ["read"]}, True),
        ({"operation": ["read", "write"]}, False),
        ({"operation": "read", "region": "eu"}, True),
        ({"operation": "read", "facts": [Fact("a(1)"), Fact("a(2)"), Fact('a("b", true)')]}, True),
        ({"operation": "read", "facts": [Fact("a([1])")]}, False),
        ({"operation": "read", "facts": []}, True),
    ],
)
def test_what_is_decided_without_the_engine_is_decided_alike(request_: dict[str, Any], fast: bool) -> None:
    guard = guard_of()
    for similar in (
        {"operation": "read"},
        {"operation": 1, "tenant": True},
        {"operation": True, "tenant": 1},
    ):
        warm(guard, **similar)
    before = guard.stats().fast
    expected = told(guard_of(cache=CacheLimits(0)).check(TEXT, **request_))
    for _ in range(4):
        assert told(guard.check(TEXT, **request_)) == expected
    assert (guard.stats().fast > before) is fast


def test_a_value_is_what_it_is_not_what_it_says() -> None:
    guard = warm(guard_of(), operation="read")
    before = guard.stats().fast
    with pytest.raises((TypeError, ValueError, AttributeError)):
        guard.check(TEXT, operation=Liar())  # type: ignore[arg-type]
    assert guard.stats().fast == before


@pytest.mark.parametrize("value", ["\ud800", 2**63, -(2**63) - 1])
def test_a_value_that_fits_no_term_is_refused_though_its_form_is_known(value: str | int) -> None:
    guard = guard_of()
    warm(guard, operation="read")
    warm(guard, operation=1)
    with pytest.raises(ValueError):  # noqa: PT011
        guard.check(TEXT, operation=value)


def test_each_spelling_of_a_token_is_remembered_for_itself() -> None:
    guard = guard_of()
    spellings = (TEXT, PREFIX + TEXT, TEXT.rstrip("="), TOKEN.to_bytes())
    assert len(set(spellings)) == len(spellings)
    for token in spellings:
        assert [guard.check(token, operation="read").allowed for _ in range(4)] == [True] * 4
    assert guard.stats().tokens.entries == len(spellings)
    assert guard.check(TEXT.encode(), operation="read").outcome is Outcome.INVALID_TOKEN


def test_a_text_of_any_length_is_refused_before_it_is_decoded() -> None:
    for token in ("A" * 10**6, TEXT * 10**4):
        assert guard_of().check(token, operation="read").code == "format.size"


def test_stats_are_exact() -> None:
    store = MemoryStore()
    guard = guard_of(revocations=store)
    for operation in ["read"] * 5 + ["write"] * 2:
        guard.check(TEXT, operation=operation)
    guard.check("nonsense", operation="read")
    stats = guard.stats()
    assert {outcome: count for outcome, count in stats.outcomes.items() if count} == {
        Outcome.ALLOWED: 5,
        Outcome.DENIED: 2,
        Outcome.INVALID_TOKEN: 1,
    }
    assert stats.fast == 5
    assert (stats.tokens.entries, stats.tokens.hits, stats.tokens.misses) == (1, 6, 2)
    assert (stats.chains.entries, stats.decoded.entries) == (1, 1)
    assert min(stats.signature_time, stats.revocation_time, stats.evaluation_time) > 0
    guard.forget()
    stats = guard.stats()
    assert (stats.tokens.entries, stats.chains.entries, stats.decoded.entries) == (0, 0, 0)
    assert (stats.tokens.size, stats.chains.size, stats.decoded.size) == (0, 0, 0)
    assert guard.check(TEXT, operation="read").allowed
    assert guard.stats().fast == 5


@pytest.mark.parametrize("most", [-1, 0, 1])
def test_caching_can_be_switched_off(most: int) -> None:
    guard = guard_of(cache=CacheLimits(max_tokens=most))
    for _ in range(4):
        assert guard.check(TEXT, operation="read").allowed
    stats = guard.stats()
    assert stats.fast == 0
    assert (stats.tokens.entries, stats.chains.entries, stats.decoded.entries) == (0, 0, 0)
    cache: Cache[str, int] = Cache(most, 100)
    cache.put("a", 1, 1)
    assert cache.get("a") is None


def test_what_is_remembered_is_bounded_in_entries_and_bytes() -> None:
    bounds = CacheLimits(max_tokens=10, max_token_size=20_000, max_read_size=20_000)
    guard = guard_of(cache=bounds)
    for number in range(60):
        token = BiscuitBuilder(f"n({number})").build(ROOT.private_key)
        for _ in range(3):
            assert guard.check(token.to_base64(), operation="read").allowed
        stats = guard.stats()
        for found in (stats.tokens, stats.chains, stats.decoded):
            assert found.entries <= found.max_entries
            assert found.size <= found.max_size
    assert stats.tokens.max_entries == 10
    assert stats.tokens.max_size == stats.decoded.max_size == 20_000
    assert stats.fast == 3 * 60 - 2  # the first token teaches what the others are like


def test_forms_of_request_are_bounded() -> None:
    guard = guard_of()
    values: tuple[Any, ...] = ("read", 1, True, b"x")
    expected = guard_of(cache=CacheLimits(0))
    for _ in range(3):
        for operation in values:
            for resource in values:
                request = {"operation": operation, "resource": resource}
                assert told(guard.check(TEXT, **request)) == told(expected.check(TEXT, **request))
    # of 16 forms 8 were prepared in the first round, and decided at once in the two others
    assert guard.stats().fast == 8 * 2


class Counting(MemoryStore):
    """Counts how often it is asked."""

    asked = 0

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        self.asked += 1
        return super().status(revocation_ids)


def test_a_source_with_a_revision_is_asked_again_only_when_that_changes() -> None:
    store = Counting()
    guard = warm(guard_of(revocations=store), operation="read")
    asked = store.asked
    for _ in range(5):
        assert guard.check(TEXT, operation="read").revocation_revision == 0
    assert store.asked == asked
    store.revoke([b"\1" * 64])
    for _ in range(5):
        assert guard.check(TEXT, operation="read").revocation_revision == 1
    assert store.asked == asked + 1
    store.close()
    assert guard.check(TEXT, operation="read").outcome is Outcome.STORE_UNAVAILABLE


def test_the_clock_is_asked_on_every_call() -> None:
    clock: list[Any] = [NOW]
    token = TOKEN.attenuate(
        not_before=NOW + timedelta(hours=1), expires=NOW + timedelta(hours=2), now=NOW
    ).to_base64()
    guard = warm(guard_of(clock=lambda: clock[0]), token, operation="read")
    for hours, outcome in ((0, "denied"), (1, "allowed"), (2, "allowed"), (2.001, "expired"), (1, "allowed")):
        moment = NOW + timedelta(hours=hours)
        for form in (moment, moment.timestamp(), int(moment.timestamp())):
            clock[0] = form
            assert guard.check(token, operation="read").outcome == outcome
    for wrong in (-1.0, float("nan"), 1e15):
        clock[0] = wrong
        with pytest.raises(ValueError, match="clock"):
            guard.check(token, operation="read")


def deferred(**options: Any) -> tuple[Guard, Decision, dict[str, Any]]:
    """Returns a guard, a decision of it that has not been read, and what it has to tell."""
    store = MemoryStore()
    guard = warm(guard_of(revocations=store, **options), operation="read")
    expected = told(guard_of(revocations=store, cache=CacheLimits(0)).check(TEXT, operation="write"))
    guard.check(TEXT, operation="write")
    return guard, guard.check(TEXT, operation="write"), expected


@pytest.mark.parametrize(
    "read",
    [
        repr,
        Decision.to_json,
        copy.copy,
        copy.deepcopy,
        lambda decision: pickle.loads(pickle.dumps(decision)),
        lambda decision: decision == decision,
        hash,
        lambda decision: decision.failed_checks,
    ],
)
def test_a_decision_may_be_read_in_any_way(read: Callable[[Decision], object]) -> None:
    _, decision, expected = deferred()
    result = read(decision)
    assert told(decision) == expected
    identifier = decision.decision_id
    assert decision.decision_id == identifier
    if isinstance(result, Decision):
        assert result == decision
    if isinstance(result, str):
        assert identifier in result
    with pytest.raises(AttributeError):
        decision.nothing  # noqa: B018


def test_a_decision_tells_what_was_decided_then() -> None:
    changes: tuple[Callable[[Guard], object], ...] = (
        lambda guard: guard.replace(policy="allow if true"),
        lambda guard: guard.replace(keys=KeyPair().public_key),
        lambda guard: guard.forget(),
    )
    for change in changes:
        guard, decision, expected = deferred()
        change(guard)
        assert told(decision) == expected
    store = MemoryStore()
    guard = warm(guard_of(revocations=store), operation="read")
    decision = guard.check(TEXT, operation="read")
    store.revoke(TOKEN.canonical_revocation_ids)
    assert decision.allowed
    assert (decision.code, decision.revoked_id, decision.revocation_revision) == ("allowed", None, 0)
    assert guard.check(TEXT, operation="read").outcome is Outcome.REVOKED
    store.close()
    assert guard.check(TEXT, operation="read").outcome is Outcome.STORE_UNAVAILABLE


def test_a_decision_in_time_is_explained_without_a_deadline() -> None:
    limits = Limits(max_time=1e-9)
    guard = guard_of(limits=Limits())
    warm(guard, operation="read")
    guard._decider.limits = limits
    decision = guard.check(TEXT, operation="read")
    assert (decision.outcome, decision.code, decision.limits) == (Outcome.ALLOWED, "allowed", limits)


def test_extern_functions_are_called_when_it_is_decided_and_not_when_it_is_read() -> None:
    calls: list[object] = []

    def call(value: object) -> bool:
        calls.append(value)
        return True

    guard = guard_of("allow if user($u), $u.extern::f()", extern_funcs={"f": call})
    for number in range(1, 5):
        decision = guard.check(TEXT)
        assert len(calls) == number
        assert decision.code == "allowed"
        assert len(calls) == number


def test_replacements_at_the_same_time_are_all_in_force() -> None:
    """One thread replaces the policy, one the keys; none undoes what the other did."""
    other = KeyPair()
    text = BiscuitBuilder('user("alice")').build(other.private_key).to_base64()
    for _ in range(50):
        guard = guard_of("allow if true")
        start = threading.Barrier(2)

        def change(guard: Guard = guard, start: threading.Barrier = start, **replacement: Any) -> None:
            start.wait()
            guard.replace(**replacement)

        changes: tuple[dict[str, Any], ...] = ({"keys": other.public_key}, {"policy": "deny if true"})
        threads = [threading.Thread(target=change, kwargs=replacement) for replacement in changes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert guard.check(TEXT).outcome is Outcome.INVALID_TOKEN
        assert guard.check(text).outcome is Outcome.DENIED


def test_a_token_that_states_the_time_or_the_request_is_decided_alike() -> None:
    sources = (
        "time(2020-01-01T00:00:00Z); check all time($t), $t > 2025-01-01T00:00:00Z",
        'operation("read"); check all operation($o), $o == "read"',
        'operation($u) <- user($u); check if operation("alice")',
    )
    for source in sources:
        for token in (BiscuitBuilder(source).build(ROOT.private_key), TOKEN.append(BlockBuilder(source))):
            assert_alike(token)


def assert_alike(token: Biscuit) -> None:
    guard, expected = guard_of(), guard_of(cache=CacheLimits(0))
    for operation in ("read", "write", "alice", None):
        for _ in range(4):
            decision = guard.check(token.to_base64(), operation=operation)
            assert told(decision) == told(expected.check(token.to_base64(), operation=operation))
    assert guard.stats().fast
