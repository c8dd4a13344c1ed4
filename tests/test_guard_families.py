"""A token that was never seen is decided as those that are like it, and no other way than by the engine."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capability import BiscuitBuilder, BlockBuilder, CacheLimits, Guard, KeyPair, Outcome
from capability.datalog import residual
from capability.datalog.limits import GUARD_LIMITS
from capability.datalog.shapes import Code, Shape
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


OTHERS = (KeyPair(), KeyPair())
JOINED = """
owner("alice", "/a"); owner("bob", "/b");
allow if vouched($u), user($u), operation("read") trusting authority, {other};
deny if resource("/x"), tag($x, $x); allow if user($u), owner($u, $r), resource($r);
allow if tag($x, $y), operation($x), resource($y)
"""


@pytest.mark.parametrize(
    ("first", "second", "resource"),
    [
        pytest.param('user("alice")', 'user("bob")', "/a", id="another joins"),
        pytest.param('user("mallory")', 'user("alice")', "/a", id="another is joined"),
        pytest.param('user("alice"); user("bob")', 'user("alice"); user("alice")', "/b", id="fewer facts"),
        pytest.param('tag("read", "/r")', 'tag("/r", "read")', "/r", id="swapped"),
        pytest.param('tag("a", "b")', 'tag("a", "a")', "/x", id="equal to one another"),
        pytest.param('tag("read", "/r")', 'tag("read", {"/r"})', "/r", id="a set"),
        pytest.param('tag("read", "/r")', "tag(1, 2)", "/r", id="integers"),
        pytest.param(
            'user("alice"); check if user("alice")', 'user("bob"); check if user("alice")', "/b", id="check"
        ),
        pytest.param('user("alice")', 'user("alic")', "/a", id="a part of it"),
        pytest.param('user("alice"); n("a")', 'user("n"); alice("a")', "/a", id="other names"),
    ],
)
def test_constants_that_decide(first: str, second: str, resource: str) -> None:
    guard, fresh = (_joined(cache) for cache in (CacheLimits(), CacheLimits(0)))
    for source in (first, first, first, second, first, second):
        # each time another token
        token = BiscuitBuilder(source).build(ROOT.private_key).to_base64()
        for _ in range(2):
            found, expected = (
                each.check(token, operation="read", resource=resource) for each in (guard, fresh)
            )
            assert {**found.to_dict(), "decision_id": ""} == {**expected.to_dict(), "decision_id": ""}


def test_the_same_words_of_another_signer_are_not_the_same() -> None:
    guard = _joined(CacheLimits())
    for signers in ((0, 0), (0, 1), (0, None), (1, 0), (0, 0)):
        outcomes = []
        for signer in signers:
            block = BlockBuilder(
                "vouched($u) <- user($u) trusting authority; vouched({user})", {"user": "eve"}
            )
            token = BiscuitBuilder('user("eve")').build(ROOT.private_key)
            if signer is None:
                token = token.append(block)
            else:
                signed = token.third_party_request().create_block(OTHERS[signer].private_key, block)
                token = token.append_third_party(OTHERS[signer].public_key, signed)
            outcomes.append(guard.check(token.to_base64(), operation="read", resource="/").allowed)
        assert outcomes == [signer == 0 for signer in signers]


def _joined(cache: CacheLimits) -> Guard:
    return Guard(
        ROOT.public_key,
        JOINED,
        None,
        lambda: NOW,
        replace(GUARD_LIMITS, max_time=None),
        cache,
        scope_parameters={"other": OTHERS[0].public_key},
    )


def test_what_was_learned_goes_with_the_policy() -> None:
    guard = taught()
    guard.replace(policy='allow if operation("write")')
    assert (
        guard.check(token_of("eve", "editor", 9, "/a"), operation="read", resource="/a").outcome
        is Outcome.DENIED
    )


def test_what_is_learned_of_shapes_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capability.datalog.families._MAX_SIZE", 200_000)
    monkeypatch.setattr("capability.datalog.residual._MAX_SOURCE", 4_000)
    compiled: list[Shape] = []
    generate = residual._generate

    def counting(shape: Shape) -> Code | None:
        compiled.append(shape)
        return generate(shape)

    monkeypatch.setattr("capability.datalog.residual._generate", counting)
    policy = 'allow if operation("read"); deny if true'
    guard = Guard(ROOT.public_key, policy, None, lambda: NOW, replace(GUARD_LIMITS, max_time=None))
    base = BiscuitBuilder('user("alice")').build(ROOT.private_key)
    learned, families = guard._setup.residuals, guard._setup.residuals._families
    for number in range(120):
        narrow = f'check if operation($o), p{number}($o) or operation("read");' * 3
        token = base.append(
            BlockBuilder(f'user("{"x" * 3_000}{number}"); check if user($u), operation("read"); {narrow}')
        )
        text = token.to_base64()
        for _ in range(3):
            assert guard.check(text, operation="read").allowed
        assert families._size <= 200_000
        assert sum(len(each.families) for each in families._structures.values()) == families._count
        assert learned._source == sum(len(code.source) for code in learned._codes.values() if code)
        assert learned._source <= 4_000
    # the first 64 at once, then each when it was seen a few times
    assert len(compiled) <= 64 + 120
    counted = len(compiled)
    assert families._count < 120
    assert guard.check(text, operation="read").allowed
    assert len(compiled) == counted
