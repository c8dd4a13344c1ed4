"""Bounds on evaluation, and the meter that enforces them."""

import time
from collections.abc import Callable, Hashable

from capability.datalog.errors import LimitExceeded, LimitKind
from capability.datalog.immutable import immutable


@immutable
class Limits:
    """Bounds on one evaluation: facts, rounds of rules, steps of work, and seconds (None: no deadline).

    A step is one candidate fact looked at in a join, one operation, or 64 bytes touched by one. Counting
    steps makes the outcome independent of the machine; the deadline is a second net.

    Raises TypeError for what is no number, and ValueError for a deadline that never comes.
    """

    max_facts: int = 10_000
    max_iterations: int = 1_000
    max_steps: int = 500_000
    max_time: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_facts", "max_iterations", "max_steps"):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"argument {name!r} must be an int, not {type(value).__name__}")
        if self.max_time is None:
            return
        if type(self.max_time) not in (int, float):
            kind = type(self.max_time).__name__
            hint = ": write delta.total_seconds()" if kind == "timedelta" else ""
            raise TypeError(f"argument 'max_time' must be a number of seconds, not {kind}{hint}")
        if self.max_time != self.max_time:
            raise ValueError("argument 'max_time' is no number, so it would never be over")


GUARD_LIMITS = Limits(max_steps=50_000, max_time=0.1)
"""What Guard, the command line and the sidecar use unless told otherwise."""


class Meter:
    """Counts the steps of one evaluation and raises LimitExceeded when they or the time run out."""

    CLOCK_INTERVAL = 256
    """Steps between two looks at the clock."""

    __slots__ = ("_charged", "_clock", "_deadline", "_next_stop", "limits", "steps")

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.steps = 0
        self._clock = clock
        self._deadline = None if limits.max_time is None else clock() + limits.max_time
        self._next_stop = limits.max_steps if self._deadline is None else 0
        self._charged: set[Hashable] = set()

    def fork(self) -> "Meter":
        """Returns a meter that goes on from these steps, with a deadline of its own."""
        fork = Meter(self.limits, self._clock)
        fork.steps = self.steps
        fork._charged = self._charged.copy()
        return fork

    def follow(self, other: "Meter") -> None:
        """Goes on where `other` is, a meter under the same limits: with its steps, until its deadline."""
        self.steps = other.steps
        self._deadline = other._deadline
        self._next_stop = other._next_stop

    def charge(self, steps: int) -> None:
        """Counts `steps`; raises LimitExceeded when a bound is passed."""
        self.steps += steps
        if self.steps > self._next_stop:
            self._look()

    def charge_once(self, what: Hashable, steps: int) -> None:
        """Counts `steps` when `what` is first asked for.

        For what a cache may hold already (an index, a compiled pattern): the steps must not tell.
        """
        if what not in self._charged:
            self._charged.add(what)
            self.charge(steps)

    def _look(self) -> None:
        if self.steps > self.limits.max_steps:
            raise LimitExceeded(LimitKind.STEPS, f"more than {self.limits.max_steps} steps")
        if self._deadline is not None and self._clock() > self._deadline:
            raise LimitExceeded(LimitKind.TIME, f"more than {self.limits.max_time} seconds")
        self._next_stop = min(self.limits.max_steps, self.steps + self.CLOCK_INTERVAL)
