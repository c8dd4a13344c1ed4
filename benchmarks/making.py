"""Tokens made: minted, and narrowed."""

from collections.abc import Iterator
from typing import Any, Final

import biscuit_auth

import capability
from benchmarks.measure import ROUNDS, Row, paired
from benchmarks.workload import AUTHORITY, BLOCKS, BY_APPLICATION, Issuer, filled, parameters

FRESH_CALLS: Final = 8
_APPLICATIONS: Final = ["orders", "invoices"]
_OPERATIONS: Final = ["read", "list", "write"]


def rows() -> Iterator[Row]:
    """Yields the lines about minting and narrowing."""
    issuer = Issuer()
    yield from _mint(issuer)
    for blocks in BLOCKS:
        yield from _attenuate(issuer, blocks)


def _mint(issuer: Issuer) -> Iterator[Row]:
    size = 4096
    values = [parameters(AUTHORITY, n) for n in range(size)]
    texts = [filled(AUTHORITY, n) for n in range(ROUNDS * FRESH_CALLS)]

    def ours(n: int) -> object:
        builder = capability.BiscuitBuilder(AUTHORITY, values[n % size])
        return builder.build(issuer.our_private).to_base64()

    def theirs(n: int) -> object:
        builder = biscuit_auth.BiscuitBuilder(AUTHORITY, values[n % size])
        return builder.build(issuer.peer_private).to_base64()

    def ours_fresh(n: int) -> object:
        return capability.BiscuitBuilder(texts[n]).build(issuer.our_private).to_base64()

    def theirs_fresh(n: int) -> object:
        return biscuit_auth.BiscuitBuilder(texts[n]).build(issuer.peer_private).to_base64()

    yield paired(ours, theirs).row("mint", "source seen before, new values", 1.0)
    fresh = paired(ours_fresh, theirs_fresh, calls=(FRESH_CALLS, FRESH_CALLS))
    yield fresh.row("mint", "source never seen (first sight)")


def _attenuate(issuer: Issuer, blocks: int) -> Iterator[Row]:
    size = 4096
    text = issuer.token(blocks)
    our_token, peer_token = issuer.parsed(text), issuer.parsed_by_peer(text)
    values = [parameters(BY_APPLICATION, n) for n in range(size)]
    fresh = [filled(BY_APPLICATION, n) for n in range(ROUNDS * FRESH_CALLS)]

    def sourced(n: int) -> object:
        return our_token.append(capability.BlockBuilder(BY_APPLICATION, values[n % size])).to_base64()

    def sourceless(n: int) -> object:
        return our_token.attenuate(
            applications=_APPLICATIONS, operations=_OPERATIONS, expires=values[n % size]["expires"]
        ).to_base64()

    def first_sight(n: int) -> object:
        return our_token.append(capability.BlockBuilder(fresh[n])).to_base64()

    def theirs(n: int) -> object:
        return _appended(peer_token, BY_APPLICATION, values[n % size])

    def theirs_fresh(n: int) -> object:
        return _appended(peer_token, fresh[n], {})

    what = f"a token of {blocks} block{'s' * (blocks > 1)}"
    yield paired(sourced, theirs).row("attenuate", f"{what}, source seen before, new values", 1.0)
    yield paired(sourceless, theirs).row("attenuate", f"{what}, no source", 1.0)
    if blocks == 3:
        fresh_pairs = paired(first_sight, theirs_fresh, calls=(FRESH_CALLS, FRESH_CALLS))
        yield fresh_pairs.row("attenuate", f"{what}, source never seen (first sight)")


def _appended(token: Any, source: str, values: dict[str, Any]) -> object:
    return token.append(biscuit_auth.BlockBuilder(source, values)).to_base64()
