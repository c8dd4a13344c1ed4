"""A connection that does not wait for ever for a server that says nothing.

A machine that has vanished is noticed by TCP. A server that stands still on a machine that lives (stopped,
without its disk) is not: the system goes on to acknowledge for it, and only whoever waits can give up.
"""

import time
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.1
"""How often one who waits looks at the time."""

_CANCEL_SECONDS: Final = 1.0


class NoAnswer(psycopg.OperationalError):
    """The server has said nothing for as long as somebody was ready to wait. The connection is closed."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """Waits `patience` seconds for each answer, at most; None waits for ever."""

    patience: float | None = None

    def wait(self, gen: PQGen[T], interval: float = _LOOK_SECONDS, timeout: float | None = None) -> T:
        """Returns what `gen` comes to; raises NoAnswer past the patience, and closes the connection.

        It is `psycopg.Connection.wait`, which all that a connection does goes through.
        """
        more = {} if timeout is None else {"timeout": timeout}  # psycopg 3.2 knows none
        if self.patience is None:
            return super().wait(gen, interval, **more)
        try:
            return super().wait(_until(gen, time.monotonic() + self.patience), interval, **more)
        except NoAnswer:
            # A server that lives must not go on with what nobody waits for, and keep others waiting for it.
            # What an older libpq does to say so has no limit of time.
            if psycopg.capabilities.has_cancel_safe():
                with suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_SECONDS)
            self.close()  # what it says later answers no question
            raise


def _until(gen: PQGen[T], end: float) -> PQGen[T]:
    """Returns `gen`, which fails once it has nothing to read at the time `end`."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready == Ready.NONE and time.monotonic() > end:
                raise NoAnswer("the server has not answered in time")
            wanted = gen.send(ready)
    except StopIteration as ended:
        result: T = ended.value
        return result
