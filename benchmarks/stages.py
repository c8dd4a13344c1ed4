"""Where the time of a token never seen goes, stage by stage, and what libsodium alone takes of it."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

import capability
from benchmarks.decisions import warm_guard
from benchmarks.measure import Row, seconds_a_call
from benchmarks.workload import AUTHORITY, Issuer, Requests, parameters
from capability import chain
from capability.wire import envelope as wire
from capability.wire.text import from_text

BLOCKS: Final = 3
_TOKENS: Final = 200


class _Sodium:
    """What libsodium alone does for a token: nobody who uses it can take less."""

    def __init__(self, issuer: Issuer) -> None:
        self._message = bytes(300)
        self._private, self._public = issuer.our_private, issuer.our_public
        self._signature, self._secret = self._private.sign(self._message), self._private.to_bytes()

    def verify(self, _: object) -> None:
        self._public.verify(self._message, self._signature)

    def sign(self, _: object) -> None:
        self._private.sign(self._message)

    def derive(self, _: object) -> object:
        return capability.PrivateKey.from_bytes(self._secret, capability.Algorithm.Ed25519).public_key

    def decide(self, _: object) -> None:
        """Does what a cold decision cannot do without."""
        for _block in range(BLOCKS):
            self.verify(_)
        self.derive(_)

    def make(self, _: object) -> None:
        """Does what minting and attenuating cannot do without."""
        self.derive(_)
        self.sign(_)


def rows() -> Iterator[Row]:
    """Yields libsodium's own times, the stages of a cold decision, and those of minting."""
    issuer = Issuer()
    sodium = _Sodium(issuer)
    for what, job in (
        ("one verification", sodium.verify),
        ("one signature", sodium.sign),
        ("one key derivation", sodium.derive),
    ):
        yield _row("stages", f"libsodium: {what}", seconds_a_call(job))
    yield from _cold(issuer, sodium)
    yield from _minting(issuer, sodium)


def _cold(issuer: Issuer, sodium: _Sodium) -> Iterator[Row]:
    root, requests = issuer.our_public, Requests()
    guard = warm_guard(issuer, issuer.tokens(1, BLOCKS))

    def check(text: str) -> object:
        operation, resource = requests.asked[0]
        return guard.check(text, application="orders", operation=operation, resource=resource).allowed

    stages: list[tuple[str, Callable[[str], object]]] = [
        ("the text read as an envelope", lambda text: wire.decode(from_text(text))),
        ("signatures verified", lambda text: chain.verify(wire.decode(from_text(text)), root)),
        ("blocks decoded", lambda text: capability.Biscuit.from_base64(text, root)),
        ("evaluated, and remembered", check),
    ]
    yield from _stages(f"cold, {BLOCKS} blocks", sodium.decide, stages, lambda: issuer.token(BLOCKS))


def _minting(issuer: Issuer, sodium: _Sodium) -> Iterator[Row]:
    numbers = iter(range(10**9))

    def builder(number: str) -> capability.BiscuitBuilder:
        return capability.BiscuitBuilder(AUTHORITY, parameters(AUTHORITY, int(number)))

    stages: list[tuple[str, Callable[[str], object]]] = [
        ("the source, seen before, filled in", builder),
        ("encoded and signed", lambda number: builder(number).build(issuer.our_private)),
        ("written as text", lambda number: builder(number).build(issuer.our_private).to_base64()),
    ]
    yield from _stages("mint", sodium.make, stages, lambda: str(next(numbers)))


def _stages(
    whole: str,
    sodium: Callable[[str], object],
    stages: list[tuple[str, Callable[[str], object]]],
    fresh: Callable[[], str],
) -> Iterator[Row]:
    """Yields what libsodium alone takes, and what each stage adds to the one before it.

    All are timed in turns, each call with an input of its own.
    """
    jobs = [sodium, *(stage for _, stage in stages)]
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(_TOKENS):
        for job, taken in zip(jobs, times, strict=True):
            text = fresh()
            started = time.perf_counter()
            job(text)
            taken.append(time.perf_counter() - started)
    alone, *until = map(statistics.median, times)
    yield _row("stages", f"{whole}: libsodium's part", alone)
    before = 0.0
    for (name, _), seconds in zip(stages, until, strict=True):
        yield _row("stages", f"{whole}: {name}", max(0.0, seconds - before))
        before = seconds
    yield _row("stages", f"{whole}: the whole", before)


def _row(case: str, what: str, seconds: float) -> Row:
    return Row(case, what, seconds, None, None)
