"""What a worker counts, in memory that all workers share.

Each worker has a row of its own, so no process waits for another; who reads adds the rows up. The threads of
a worker share a lock: without it two that count at once could count one. The thread of the event loop, which
answers most, counts its answers in places of its own, and without the lock: that would take it as long as all
the counting.
"""

import mmap
import threading
from bisect import bisect_left
from collections.abc import Mapping, MutableSequence
from typing import Final, Protocol

from capability.decision import Outcome

REASONS: Final = (*(outcome.value for outcome in Outcome), "no_token", "malformed", "no_route", "log_full")
"""Why an answer was what it was; the first is the only yes."""

BOUNDS: Final = (
    25e-6,
    50e-6,
    100e-6,
    250e-6,
    500e-6,
    1e-3,
    2.5e-3,
    5e-3,
    10e-3,
    25e-3,
    50e-3,
    100e-3,
    250e-3,
)
"""The upper bounds of the histogram's buckets, in seconds; the last bucket has none."""

EVENTS: Final = (
    "cache_hits",
    "cache_misses",
    "log_dropped",
    "spans_dropped",
    "refresh_failures_store",
    "refresh_failures_signed",
    "refresh_failures_keys",
    "refresh_failures_state",
    "connections_refused",
    "connections_late",
    "reloads",
    "reloads_failed",
)

GAUGES: Final = (
    "revocation_entries",
    "revocation_revision",
    "revocation_success_ms",
    "signed_revision",
    "ready",
    "policies",
)
"""What each worker last said of itself: times in milliseconds since 1970, `policies` as a hash of them."""

_NANOSECOND_BOUNDS: Final = tuple(round(bound * 1e9) for bound in BOUNDS)
_BUCKETS: Final = len(REASONS)
_TOTAL: Final = _BUCKETS + len(BOUNDS) + 1
_LOOP: Final = _TOTAL + 1
"""Where the places of the event loop's thread begin: as many as those before."""
_EVENTS: Final = 2 * _LOOP
_GAUGES: Final = _EVENTS + len(EVENTS)
_WIDTH: Final = _GAUGES + len(GAUGES)
_PLACES: Final = {reason: at for at, reason in enumerate(REASONS)}
_EVENT_PLACES: Final = {event: _EVENTS + at for at, event in enumerate(EVENTS)}
_GAUGE_PLACES: Final = {gauge: _GAUGES + at for at, gauge in enumerate(GAUGES)}


class Board:
    """The rows of all workers; made before they are."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * _WIDTH * 8)
        self._numbers = memoryview(self._memory).cast("Q")

    def row(self, worker: int) -> "Tally":
        """Returns what the worker of this number counts in; a worker that takes its place goes on with it."""
        return Tally(self._numbers[worker * _WIDTH : (worker + 1) * _WIDTH])

    def _sum(self, at: int) -> int:
        return sum(self._numbers[at::_WIDTH].tolist())

    def _answers(self, at: int) -> int:
        return self._sum(at) + self._sum(_LOOP + at)

    def decisions(self) -> dict[str, int]:
        """Returns how many answers there were, by reason."""
        return {reason: self._answers(at) for reason, at in _PLACES.items()}

    def durations(self) -> tuple[list[int], float]:
        """Returns how many answers took as long as each bucket says, not cumulated, and seconds in all."""
        counts = [self._answers(_BUCKETS + at) for at in range(len(BOUNDS) + 1)]
        return counts, self._answers(_TOTAL) / 1e9

    def events(self) -> Mapping[str, int]:
        """Returns how often each of EVENTS happened."""
        return {event: self._sum(at) for event, at in _EVENT_PLACES.items()}

    def said(self, gauge: str) -> frozenset[int]:
        """Returns all that workers said of one of GAUGES, but for nothing; also those that have ended."""
        return frozenset(self._numbers[_GAUGE_PLACES[gauge] :: _WIDTH].tolist()) - {0}

    def gauges(self) -> Mapping[str, int]:
        """Returns the least that any worker said of each of GAUGES: a fleet is as good as its last one."""
        return {gauge: min(self._numbers[at::_WIDTH].tolist()) for gauge, at in _GAUGE_PLACES.items()}


class Answers(Protocol):
    """Who counts answers."""

    def answered(self, reason: str, nanoseconds: int) -> None:
        """Counts an answer, for one of REASONS, and how long it took."""
        ...

    def answered_in_loop(self, reason: str, nanoseconds: int) -> None:
        """Counts as `answered` does, for one thread alone: that of the event loop."""
        ...


class Tally:
    """What one worker counts, in whichever of its threads."""

    __slots__ = ("_counting", "_numbers")

    def __init__(self, numbers: "MutableSequence[int] | memoryview[int]") -> None:
        self._numbers = numbers
        self._counting = threading.Lock()

    def answered(self, reason: str, nanoseconds: int) -> None:
        """Counts an answer and how long it took."""
        at, bucket = _PLACES[reason], _BUCKETS + bisect_left(_NANOSECOND_BOUNDS, nanoseconds)
        numbers = self._numbers
        with self._counting:
            numbers[at] += 1
            numbers[bucket] += 1
            numbers[_TOTAL] += nanoseconds

    def answered_in_loop(self, reason: str, nanoseconds: int) -> None:
        """Counts as `answered` does, for one thread alone: that of the event loop."""
        at, bucket = _LOOP + _PLACES[reason], _LOOP + _BUCKETS + bisect_left(_NANOSECOND_BOUNDS, nanoseconds)
        numbers = self._numbers
        numbers[at] += 1
        numbers[bucket] += 1
        numbers[_LOOP + _TOTAL] += nanoseconds

    def happened(self, event: str, count: int = 1) -> None:
        """Counts one of EVENTS."""
        at = _EVENT_PLACES[event]
        with self._counting:
            self._numbers[at] += count

    def says(self, gauge: str, value: int) -> None:
        """Notes one of GAUGES."""
        self._numbers[_GAUGE_PLACES[gauge]] = value
