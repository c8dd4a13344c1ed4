"""The decision log: lines of JSON, written by a thread, so that no request waits for a disk.

Between a decision and the file is a queue that holds so many and no more. What does not fit is counted, and
where the operator wants so, nothing is allowed that could not be written down. No line holds a token or a
query.
"""

import itertools
import json
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from capability.decision import Decision, Outcome
from capability.sidecar.paths import shown
from capability.sidecar.profiles import Original
from capability.sidecar.settings import Logged, WhenFull

INTERVAL: Final = 0.2
"""Seconds between two writes."""
PIECE: Final = 4096
"""Bytes that are written at once, if lines are no longer: what a pipe takes whole, so that no worker's lines
come between another's.
"""
_MOST_LINES: Final = 32
CLOSING_TIME: Final = 2.0
"""Seconds that a log has to take what is waiting, when the process ends."""
_LOOK: Final = 0.1
"""Seconds of it between two looks whether that is done."""


def open_log(place: str) -> int:
    """Opens the file of a log to be appended to, readable by its owner and group; `stderr` is that.

    A pipe that nobody reads is an OSError; one whose reader stands still takes nothing, as a full disk.
    """
    if place == "stderr":
        return sys.stderr.fileno()
    return os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


class LineLog:
    """Writes decisions to `place`, from a thread of its own between `start` and `close`.

    INVARIANT: the file is written, swapped and closed by that thread alone, and without a buffer between:
    what a full disk cut off goes on where it ended, and no line comes twice.
    """

    def __init__(
        self,
        place: str,
        *,
        logged: Logged,
        capacity: int,
        when_full: WhenFull,
        dropped: Callable[[], None],
    ) -> None:
        self._place = place
        self.takes_allowed = logged is not Logged.DENIED
        self._capacity = capacity
        self._denies = when_full is WhenFull.DENY
        self._dropped = dropped
        self._waiting: deque[tuple[datetime, Decision, Original, str]] = deque()
        self._stop = threading.Event()
        self._reopen = threading.Event()
        self._file = -1
        self._piece = b""
        """The lines of the first `_begun` that wait; `_written` bytes of them are in the file."""
        self._written = 0
        self._begun = 0
        self._thread = threading.Thread(target=self._write_on, name="cap-decision-log", daemon=True)

    def start(self) -> None:
        """Opens the file, and begins to write; raises OSError."""
        self._file = open_log(self._place)
        self._thread.start()

    def reopen(self) -> None:
        """Has the file opened anew at once, where it was rotated; else that waits for something to write."""
        self._reopen.set()

    def close(self) -> None:
        """Writes what is waiting, in CLOSING_TIME at most, and stops."""
        self._stop.set()
        for _ in range(math.ceil(CLOSING_TIME / _LOOK)):  # the time of a process that was stopped is no time
            self._thread.join(_LOOK)
        for _ in range(len(self._waiting)):
            self._dropped()

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        """Takes a decision; False says that it was not taken and that no yes may leave without."""
        if decision.allowed and not self.takes_allowed:
            return True
        if len(self._waiting) >= self._capacity:
            self._dropped()
            return not self._denies
        self._waiting.append((datetime.now(UTC), decision, original, route))
        return True

    def _write_on(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._write()
        self._write()
        if self._place != "stderr":
            os.close(self._file)

    def _write(self) -> None:
        """Writes what is waiting, to a new file where the old one was moved away.

        What cannot be written stays, until the queue is full.
        """
        asked = self._reopen.is_set()
        self._reopen.clear()
        if asked and self._was_moved():
            self._swap()
        while self._waiting:
            if self._was_moved():  # looked at for each piece: none that begins later goes into the old file
                self._swap()
            if not self._piece:
                self._begin()
            try:
                while self._written < len(self._piece):
                    self._written += os.write(self._file, memoryview(self._piece)[self._written :])
            except OSError:
                return  # a full disk, or nobody who reads: the next time it goes on from here
            for _ in range(self._begun):
                self._waiting.popleft()
            self._piece, self._written, self._begun = b"", 0, 0

    def _begin(self) -> None:
        """Makes the next piece, of one line at least."""
        lines: list[bytes] = []
        size = 0
        for moment, decision, original, route in list(itertools.islice(self._waiting, _MOST_LINES)):
            text = json.dumps(line_of(moment, decision, original, route), separators=(",", ":"))
            line = text.encode() + b"\n"
            size += len(line)
            if lines and size > PIECE:
                break
            lines.append(line)
        self._piece, self._begun = b"".join(lines), len(lines)

    def _was_moved(self) -> bool:
        """True when what is at the log's path is another file, or none: it was rotated."""
        if self._place == "stderr":
            return False
        mine = os.fstat(self._file)
        try:
            there = os.stat(self._place)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino)

    def _swap(self) -> None:
        """Opens the file anew; the old one stays where that fails."""
        try:
            opened = open_log(self._place)
        except OSError:
            return
        os.close(self._file)
        self._file = opened
        # a line that the old file has half of is in the new one whole
        self._written = self._piece.rfind(b"\n", 0, self._written) + 1


def line_of(moment: datetime, decision: Decision, original: Original, route: str) -> dict[str, Any]:
    """Returns what is logged of a decision. For a yes that is what is known without working out why."""
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "decision_id": decision.decision_id,
        "outcome": decision.outcome.value,
        "route": route,
        "method": original.method,
        "host": original.host or None,
        "path": shown(original.target),
        "client": original.client,
        "subject": decision.subject,
        "revocation_ids": list(decision.revocation_ids),
        "revocation_revision": decision.revocation_revision,
        "revocation_age": decision.revocation_age,
    }
    if decision.outcome is not Outcome.ALLOWED:
        line |= {"code": decision.code, "reason": decision.reason}
    return line
