"""Decisions: of a text seen before, of a parsed token, of a derived token, of one never seen."""

from collections.abc import Iterator
from typing import Any, Final

import biscuit_auth

import capability
from benchmarks.measure import ROUNDS, Pairs, Row, paired
from benchmarks.workload import (
    BLOCKS,
    GUARD_LIMITS,
    POLICY,
    REQUEST,
    Issuer,
    Peer,
    Requests,
    generous_limits,
    must_allow,
)

WARM_TOKENS: Final = 16
COLD_CALLS: Final = 8
SEEN_BEFORE: Final = 3
"""After how many checks a text is warm: one verifies, one compiles, one shows that it did."""


def rows() -> Iterator[Row]:
    """Yields the lines about decisions."""
    issuer, requests = Issuer(), Requests()
    for blocks in BLOCKS:
        yield from _known(issuer, requests, blocks)
    for blocks in BLOCKS:
        yield from _parsed(issuer, requests, blocks)
    for blocks in (2, *BLOCKS[1:]):
        yield _derived(issuer, requests, blocks)
    for blocks in BLOCKS:
        yield _cold(issuer, requests, blocks)


def warm_guard(issuer: Issuer, texts: list[str], policy: str = POLICY) -> capability.Guard:
    """Returns a guard that has seen the texts."""
    guard = capability.Guard(issuer.our_public, policy, limits=GUARD_LIMITS)
    for text in texts:
        must_allow(
            [
                guard.check(text, application="orders", operation="read", resource="/orders/0")
                for _ in range(SEEN_BEFORE)
            ]
        )
    return guard


def _known(issuer: Issuer, requests: Requests, blocks: int) -> Iterator[Row]:
    texts = issuer.tokens(WARM_TOKENS, blocks)
    parsed = [issuer.parsed_by_peer(text) for text in texts]
    guard, peer = warm_guard(issuer, texts), Peer(issuer)

    def ours(n: int) -> object:
        operation, resource = asked[n % size]
        return guard.check(
            texts[n % WARM_TOKENS], application="orders", operation=operation, resource=resource
        ).allowed

    def whole(n: int) -> object:
        return peer.check(texts[n % WARM_TOKENS], values[n % size])

    def prepared(n: int) -> object:
        return peer.authorize(parsed[n % WARM_TOKENS], values[n % size])

    asked, values, size = requests.asked, requests.values, len(requests.asked)
    what = _blocks(blocks)
    yield paired(ours, whole).row("warm", what, 1 / 50)
    yield paired(ours, prepared).row("prepared", what, 1 / 5)
    fast = guard.stats().fast
    ours(0)
    if guard.stats().fast == fast:
        raise AssertionError("what was timed as warm was not decided from the cache")


def _parsed(issuer: Issuer, requests: Requests, blocks: int) -> Iterator[Row]:
    texts = issuer.tokens(WARM_TOKENS, blocks)
    ours_parsed = [issuer.parsed(text) for text in texts]
    peer_parsed = [issuer.parsed_by_peer(text) for text in texts]
    peer = Peer(issuer)
    values, size = requests.values, len(requests.values)
    source = REQUEST + POLICY

    def ours(n: int) -> object:
        builder = capability.AuthorizerBuilder(source, values[n % size])
        return builder.build(ours_parsed[n % WARM_TOKENS]).authorize()

    def theirs(n: int) -> object:
        return peer.authorize(peer_parsed[n % WARM_TOKENS], values[n % size])

    for n in range(SEEN_BEFORE * WARM_TOKENS):
        ours(n)
    yield paired(ours, theirs).row("drop-in", _blocks(blocks), 1.0)
    if blocks != 3:
        return

    limits = capability.AuthorizerBuilder().limits()
    limits.max_facts = 5_000

    def ours_limited(n: int) -> object:
        builder = capability.AuthorizerBuilder(source, values[n % size])
        builder.set_limits(limits)
        return builder.build(ours_parsed[n % WARM_TOKENS]).authorize()

    def ours_whole(n: int) -> object:
        token = capability.Biscuit.from_base64(texts[n % WARM_TOKENS], issuer.our_public)
        return capability.AuthorizerBuilder(source, values[n % size]).build(token).authorize()

    def theirs_whole(n: int) -> object:
        return peer.check(texts[n % WARM_TOKENS], values[n % size])

    base: Any = biscuit_auth.AuthorizerBuilder(POLICY)
    generous = generous_limits()

    def theirs_merged(n: int) -> object:
        builder: Any = biscuit_auth.AuthorizerBuilder(REQUEST, values[n % size])
        builder.merge(base)
        builder.set_limits(generous)
        return builder.build(peer_parsed[n % WARM_TOKENS]).authorize()

    yield paired(ours_limited, theirs).row("drop-in", "3 blocks, limits set by the caller")
    yield paired(ours_whole, theirs_whole).row("drop-in", "3 blocks, token parsed each time")
    yield paired(ours, theirs_merged).row("drop-in", "3 blocks, the peer's policy parsed once and merged")


def _derived(issuer: Issuer, requests: Requests, blocks: int) -> Row:
    parents = issuer.tokens(WARM_TOKENS, blocks - 1)
    guard, peer = warm_guard(issuer, parents), Peer(issuer)
    children = [issuer.child(parents[n % WARM_TOKENS]) for n in range(ROUNDS * COLD_CALLS)]
    return _once(guard, peer, children, requests).row("derived", f"{_blocks(blocks)}, the last one new", 0.6)


def _cold(issuer: Issuer, requests: Requests, blocks: int) -> Row:
    guard = warm_guard(issuer, issuer.tokens(1, blocks))
    texts = issuer.tokens(ROUNDS * COLD_CALLS, blocks)
    return _once(guard, Peer(issuer), texts, requests).row(
        "cold", _blocks(blocks), 1.25 if blocks == 3 else None
    )


def _once(guard: capability.Guard, peer: Peer, texts: list[str], requests: Requests) -> Pairs:
    """Returns the timings of one check for each text."""

    def ours(n: int) -> object:
        operation, resource = requests.asked[n]
        return guard.check(texts[n], application="orders", operation=operation, resource=resource).allowed

    def theirs(n: int) -> object:
        return peer.check(texts[n], requests.values[n])

    pairs = paired(ours, theirs, calls=(COLD_CALLS, COLD_CALLS))
    must_allow([guard.check(texts[-1], application="orders", operation="read", resource="/orders/0")])
    return pairs


def _blocks(count: int) -> str:
    return f"{count} block{'s' * (count > 1)}"
