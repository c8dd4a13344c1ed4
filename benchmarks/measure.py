"""Times two jobs in turns, so that a machine that speeds up or slows down meanwhile weighs on both alike."""

import gc
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

Job: TypeAlias = Callable[[int], object]
"""Does its n-th piece of work; what a piece needs was made before."""

ROUNDS: Final = 31
ROUND_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: what was measured, and the bar it is held against.

    `ours` and `peer` are medians in `unit`; `figure` is the median of the paired ratios (or what else the
    case is about), `low` and `high` its quartiles. The figure may be at most `bar`, or at least so much.
    """

    case: str
    what: str
    ours: float | None
    peer: float | None
    figure: float | None
    bar: float | None = None
    at_least: bool = False
    low: float | None = None
    high: float | None = None
    unit: str = "s"
    beside: str = "biscuit-python"

    @property
    def held(self) -> bool | None:
        """Whether the figure keeps the bar; None where there is none."""
        if self.bar is None or self.figure is None:
            return None
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar


@dataclass(frozen=True, slots=True)
class Pairs:
    """Neighbouring timings of two jobs, in seconds a call."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Ours by the peer's, for each round."""
        return [mine / other for mine, other in zip(self.ours, self.peer, strict=True)]

    def row(self, case: str, what: str, bar: float | None = None, beside: str = "biscuit-python") -> Row:
        """Returns the line of the report that these timings make."""
        low, middle, high = statistics.quantiles(self.ratios, n=4)
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        return Row(case, what, ours, peer, middle, bar, low=low, high=high, beside=beside)


def calls_for(job: Job, seconds: float = ROUND_SECONDS) -> int:
    """Returns how many calls fill a round, so that the clock's own cost does not count."""
    job(0)
    calls = 1
    while True:
        taken = _timed(job, range(calls)) * calls
        if taken >= seconds / 4:
            return max(1, round(calls * seconds / taken))
        calls *= 4


def paired(ours: Job, peer: Job, *, rounds: int = ROUNDS, calls: tuple[int, int] | None = None) -> Pairs:
    """Returns timings of both jobs, taking turns: who goes first in a round alternates.

    Without `calls` (how many of each in a round) they are as many as fill a round.
    """
    our_calls, peer_calls = (calls_for(ours), calls_for(peer)) if calls is None else calls
    our_numbers, peer_numbers = itertools.count(), itertools.count()
    our_times: list[float] = []
    peer_times: list[float] = []
    gc.collect()
    for round_number in range(rounds):
        sides = [
            (ours, our_numbers, our_calls, our_times),
            (peer, peer_numbers, peer_calls, peer_times),
        ]
        for job, numbers, count, times in sides[:: -1 if round_number % 2 else 1]:
            times.append(_timed(job, list(itertools.islice(numbers, count))))
    return Pairs(tuple(our_times), tuple(peer_times))


def seconds_a_call(job: Job, *, rounds: int = 7, calls: int | None = None) -> float:
    """Returns the median of some rounds of one job alone."""
    count = calls_for(job) if calls is None else calls
    numbers = itertools.count()
    return statistics.median(_timed(job, list(itertools.islice(numbers, count))) for _ in range(rounds))


def _timed(job: Job, numbers: "range | list[int]") -> float:
    started = time.perf_counter()
    for number in numbers:
        job(number)
    return (time.perf_counter() - started) / len(numbers)
