"""What a guard remembers helps nobody who swaps something: a swapped token is refused or decided anew."""

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from capability import (
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    CacheLimits,
    Decision,
    Guard,
    KeyEntry,
    KeyPair,
    KeySet,
    Limits,
    Outcome,
    RevocationStatus,
    StoreUnavailable,
)
from capability import chain as chains
from capability.store.memory import MemoryStore
from capability.wire import envelope as wire
from capability.wire.envelope import Envelope, FinalSignature, NextSecret
from capability.wire.text import to_text
from tests.chains import PARTY, ROOT, TOKEN, external_payload, first_party, with_third_party

POLICY = "allow if true"
NO_CACHE = CacheLimits(max_tokens=0)
OTHER = KeyPair().private_key


def text_of(envelope: Envelope) -> str:
    return to_text(wire.encode(envelope))


def warmed(envelope: Envelope = TOKEN, policy: str = POLICY) -> Guard:
    """Returns a guard that has allowed `envelope` until it does so without the engine."""
    guard = Guard(ROOT.public_key, policy)
    for _ in range(4):
        assert guard.check(text_of(envelope), operation="read").allowed
    assert guard.stats().fast >= 1
    return guard


def with_block(envelope: Envelope, index: int, **changes: object) -> Envelope:
    blocks = list(envelope.blocks)
    blocks[index] = replace(blocks[index], **changes)  # type: ignore[arg-type]
    return replace(envelope, blocks=tuple(blocks))


_LATER = first_party(["f(1);", "f(2);", "f(3);"], ROOT, [KeyPair().private_key for _ in range(3)])
_EXTERNAL = with_third_party(first_party(["f(1);"]))
_SIGNED = _EXTERNAL.blocks[1].external
assert _SIGNED is not None
_FORGED = chains.sign_external(OTHER, external_payload("g(1);"), _EXTERNAL.blocks[0].signature)

SWAPS: dict[str, tuple[Envelope, Envelope]] = {
    "another payload of the authority": (TOKEN, with_block(TOKEN, 0, payload=_LATER.blocks[0].payload)),
    "another payload at the end": (TOKEN, with_block(TOKEN, 2, payload=_LATER.blocks[2].payload)),
    "another next key": (TOKEN, with_block(TOKEN, 1, next_key=OTHER.public_key)),
    "another version": (TOKEN, with_block(TOKEN, 1, version=1)),
    "another signature": (TOKEN, with_block(TOKEN, 1, signature=_LATER.blocks[1].signature)),
    "another proof": (TOKEN, replace(TOKEN, proof=NextSecret(OTHER.to_bytes()))),
    "a forged seal": (TOKEN, replace(TOKEN, proof=FinalSignature(OTHER.sign(b"no")))),
    "a signature for a seal": (TOKEN, replace(TOKEN, proof=FinalSignature(TOKEN.blocks[2].signature))),
    "a truncated chain": (TOKEN, replace(TOKEN, blocks=TOKEN.blocks[:2])),
    "the authority alone": (TOKEN, replace(TOKEN, blocks=TOKEN.blocks[:1])),
    "a block twice": (TOKEN, replace(TOKEN, blocks=(*TOKEN.blocks, TOKEN.blocks[2]))),
    "blocks in another order": (TOKEN, replace(TOKEN, blocks=(TOKEN.blocks[0], *TOKEN.blocks[:0:-1]))),
    "another token's block": (TOKEN, replace(TOKEN, blocks=(*TOKEN.blocks[:2], _LATER.blocks[2]))),
    "no third party": (_EXTERNAL, with_block(_EXTERNAL, 1, external=None)),
    "another third party": (_EXTERNAL, with_block(_EXTERNAL, 1, external=_FORGED)),
    "another third party's key": (
        _EXTERNAL,
        with_block(_EXTERNAL, 1, external=replace(_SIGNED, public_key=OTHER.public_key)),
    ),
    "a third party for a first party's block": (
        TOKEN,
        with_block(
            TOKEN, 2, external=chains.sign_external(PARTY, b"x", TOKEN.blocks[1].signature), version=1
        ),
    ),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_swap_is_refused_however_well_known_the_token_is(swap: str) -> None:
    known, swapped = SWAPS[swap]
    guard = warmed(known)
    for _ in range(3):
        decision = guard.check(text_of(swapped), operation="read")
        assert decision.outcome is Outcome.INVALID_TOKEN
    assert guard.check(text_of(known), operation="read").allowed


def test_a_token_of_another_root_key_is_refused() -> None:
    guard = warmed()
    forged = first_party(["f(1);"], OTHER)
    assert guard.check(text_of(forged), operation="read").outcome is Outcome.INVALID_TOKEN
    assert guard.check(text_of(replace(TOKEN, root_key_id=7)), operation="read").allowed  # nobody signs it


def test_the_key_id_of_a_known_token_chooses_the_key_anew() -> None:
    keys = KeySet([KeyEntry(ROOT.public_key, 1), KeyEntry(OTHER.public_key, 2)])
    guard = Guard(keys, POLICY)
    for _ in range(4):
        assert guard.check(text_of(replace(TOKEN, root_key_id=1)), operation="read").allowed
    for key_id in (2, 3, None):
        decision = guard.check(text_of(replace(TOKEN, root_key_id=key_id)), operation="read")
        assert decision.outcome is Outcome.INVALID_TOKEN


def test_the_sealed_twin_is_decided_like_the_open_token_and_a_longer_one_anew() -> None:
    token = BiscuitBuilder('user("a")').build(ROOT)
    guard = Guard(ROOT.public_key, POLICY)
    for _ in range(4):
        assert guard.check(token.to_base64(), operation="read").allowed
    assert guard.check(token.seal().to_base64(), operation="read").allowed
    narrower = token.append(BlockBuilder('check if operation("write")'))
    assert not guard.check(narrower.to_base64(), operation="read").allowed
    assert guard.check(narrower.to_base64(), operation="write").allowed


def test_keys_that_leave_and_policies_that_change_take_what_was_known_with_them() -> None:
    guard = warmed()
    guard.replace(keys=OTHER.public_key)
    assert guard.check(text_of(TOKEN), operation="read").outcome is Outcome.INVALID_TOKEN
    guard.replace(keys=ROOT.public_key, policy='allow if operation("write")')
    assert not guard.check(text_of(TOKEN), operation="read").allowed
    assert guard.check(text_of(TOKEN), operation="write").allowed is False  # its own check says read


def test_a_key_that_retires_and_a_token_that_expires_end_while_they_are_remembered() -> None:
    clock = [1_900_000_000.0]
    retires = datetime.fromtimestamp(clock[0] + 20, UTC)
    keys = KeySet([KeyEntry(ROOT.public_key, None, None, retires)])
    token = BiscuitBuilder('user("a")').build(ROOT)
    short = token.attenuate(expires=timedelta(seconds=10), now=datetime.fromtimestamp(clock[0], UTC))
    guard = Guard(keys, POLICY, clock=lambda: clock[0])
    for _ in range(4):
        assert guard.check(token.to_base64()).allowed
        assert guard.check(short.to_base64()).allowed
    clock[0] += 11
    assert guard.check(short.to_base64()).outcome is Outcome.EXPIRED
    assert guard.check(token.to_base64()).allowed
    clock[0] += 10
    assert guard.check(token.to_base64()).code == "key.retired"


class Unrevised:
    """A source without a revision, which can be made to revoke or to fail."""

    revoked: bytes | None = None
    down = False

    def status(self, revocation_ids: object) -> RevocationStatus:
        if self.down:
            raise StoreUnavailable("down")
        assert isinstance(revocation_ids, tuple)
        return RevocationStatus(self.revoked if self.revoked in revocation_ids else None, 1)


def test_revocation_is_asked_of_a_known_token_on_every_call() -> None:
    token = BiscuitBuilder('user("a")').build(ROOT)
    source, store = Unrevised(), MemoryStore()
    guards = [Guard(ROOT.public_key, POLICY, source), Guard(ROOT.public_key, POLICY, store)]
    for guard in guards:
        for _ in range(4):
            assert guard.check(token.to_base64()).allowed
        assert guard.stats().fast
    source.down = True
    assert guards[0].check(token.to_base64()).outcome is Outcome.STORE_UNAVAILABLE
    source.down = False
    assert guards[0].check(token.to_base64()).allowed
    source.revoked = token.canonical_revocation_ids[0]
    store.revoke(token.canonical_revocation_ids[:1])
    for guard in guards:
        decision = guard.check(token.to_base64())
        assert decision.outcome is Outcome.REVOKED
        assert decision.revoked_id == token.canonical_revocation_ids[0].hex()
    store.close()
    assert guards[1].check(token.to_base64()).outcome is Outcome.STORE_UNAVAILABLE


def test_no_thread_sees_an_allow_after_a_revocation_has_returned() -> None:
    store = MemoryStore()
    guard = Guard(ROOT.public_key, POLICY, store)
    tokens = [BiscuitBuilder(f"user({n})").build(ROOT) for n in range(20)]
    texts = [token.to_base64() for token in tokens]
    gone = [False] * len(tokens)
    wrong: list[int] = []
    stop = threading.Event()

    def ask(seed: int) -> None:
        pick = random.Random(seed)
        while not stop.is_set():
            n = pick.randrange(len(tokens))
            revoked = gone[n]
            if guard.check(texts[n], operation="read").allowed and revoked:
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for n, token in enumerate(tokens):
        for _ in range(3):
            guard.check(texts[n], operation="read")
        store.revoke(token.canonical_revocation_ids)
        gone[n] = True
        guard.replace(policy=POLICY)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


BLOCKS = (
    'check all operation($o), {"read", "write"}.contains($o)',
    'check if operation("read") or resource($r), $r.starts_with("/a")',
    "check if time($t), $t < 2031-01-01T00:00:00Z",
    "reject if tenant($t), $t == 3",
    'check if application($a), $a.matches("or.*")',
    "check if 1 / $n > 0, tenant($n)",
    'role("writer")',
    'may($o) <- operation($o); check if may("read")',
    "p($x) <- q($x); q($x) <- p($x), operation($x)",
    'check if resource($r), $r == "/a" || $r.starts_with("/a/")',
)
POLICIES = (
    'right("reader", "read"); can($o) <- role($r), right($r, $o); allow if operation($o), can($o)',
    'deny if operation("drop"); allow if user($u), resource($r); allow if tenant($t), $t > 1',
    'allow if operation("read"), user($u) or role("admin"), application($a)',
)
REQUESTS: tuple[dict[str, str | int | bool], ...] = (
    {},
    {"operation": "read"},
    {"operation": "write", "application": "orders", "resource": "/a/b"},
    {"operation": "drop", "tenant": 3},
    {"tenant": 0},
    {"tenant": True, "resource": "/é", "operation": "read"},
    {"operation": "read", "application": "orders", "resource": "/a", "tenant": 2},
    {"operation": "x" * 2000, "resource": "/a/"},
)


def told(decision: Decision) -> dict[str, object]:
    found = decision.to_dict()
    del found["decision_id"]
    return found


@pytest.mark.parametrize("limits", [Limits(), Limits(max_steps=60), Limits(max_facts=7)], ids=repr)
def test_a_guard_that_remembers_decides_as_one_that_does_not(limits: Limits) -> None:
    pick = random.Random(20)
    moment = datetime(2030, 6, 1, tzinfo=UTC)
    outcomes = set()

    def guard_of(policy: str, cache: CacheLimits) -> Guard:
        return Guard(ROOT.public_key, policy, clock=lambda: moment, limits=limits, cache=cache)

    for policy in POLICIES:
        remembers, forgets = guard_of(policy, CacheLimits()), guard_of(policy, NO_CACHE)
        for _ in range(40):
            token: Biscuit = BiscuitBuilder('user("alice"); role("reader")').build(ROOT)
            for source in pick.sample(BLOCKS, pick.randrange(4)):
                token = token.append(BlockBuilder(source))
            for request in pick.sample(REQUESTS, 3):
                expected = told(ask(forgets, token, request))
                for _ in range(4):
                    decision = ask(remembers, token, request)
                    outcome = decision.outcome
                    assert told(decision) == expected
                    assert decision.outcome is outcome
                outcomes.add(expected["outcome"])
        assert forgets.stats().fast == 0
    assert {"allowed", "denied"} <= outcomes or limits != Limits()
    assert limits == Limits() or "limit_reached" in outcomes


def ask(guard: Guard, token: Biscuit, request: dict[str, str | int | bool]) -> Decision:
    check: Callable[..., Decision] = guard.check
    return check(token.to_base64(), **request)
