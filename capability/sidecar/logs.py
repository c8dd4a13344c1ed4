"""The decision log: lines of JSON, written by a thread, so that no request waits for a disk.

Between a decision and the file is a queue that holds so many and no more. What does not fit is counted, and
where the operator wants so, nothing is allowed that could not be written down. No line holds a token or a
query.
"""

import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from capability.decision import Decision, Outcome
from capability.sidecar.profiles import Original
from capability.sidecar.settings import Logged, WhenFull

INTERVAL: Final = 0.2
"""Seconds between two writes."""


def open_log(place: str) -> TextIO:
    """Opens the file of a log to be appended to, readable by its owner and group; `stderr` is that."""
    if place == "stderr":
        return sys.stderr
    import os

    handle = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    return open(handle, "a", encoding="utf-8")


class LineLog:
    """Writes decisions to `place`, from a thread of its own between `start` and `close`."""

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
        self._logged = logged
        self._capacity = capacity
        self._denies = when_full is WhenFull.DENY
        self._dropped = dropped
        self._waiting: deque[tuple[datetime, Decision, Original, str]] = deque()
        self._stop = threading.Event()
        self._file: TextIO | None = None
        self._thread = threading.Thread(target=self._write_on, name="cap-decision-log", daemon=True)

    def start(self) -> None:
        """Opens the file, and begins to write; raises OSError."""
        self._file = open_log(self._place)
        self._thread.start()

    def reopen(self) -> None:
        """Opens the file anew, after it was rotated; keeps the old one if that fails."""
        if self._place == "stderr" or self._file is None:
            return
        try:
            opened = open_log(self._place)
        except OSError:
            return
        old, self._file = self._file, opened
        old.close()

    def close(self) -> None:
        """Writes what is waiting, and stops."""
        self._stop.set()
        self._thread.join()
        if self._file is not None and self._file is not sys.stderr:
            self._file.close()

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        """Takes a decision; False says that it was not taken and that no yes may leave without."""
        if self._logged is Logged.DENIED and decision.outcome is Outcome.ALLOWED:
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

    def _write(self) -> None:
        """Writes what is waiting. What cannot be written stays, until the queue is full."""
        lines = []
        taken = list(self._waiting)
        for moment, decision, original, route in taken:
            lines.append(json.dumps(line_of(moment, decision, original, route), separators=(",", ":")) + "\n")
        if not lines or self._file is None:
            return
        try:
            self._file.write("".join(lines))
            self._file.flush()
        except (OSError, ValueError):
            return  # a full disk, or a file that is being replaced: the queue keeps it for the next time
        for _ in taken:
            self._waiting.popleft()


def line_of(moment: datetime, decision: Decision, original: Original, route: str) -> dict[str, Any]:
    """Returns what is logged of a decision. For a yes that is what is known without working out why."""
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "decision_id": decision.decision_id,
        "outcome": decision.outcome.value,
        "route": route,
        "method": original.method,
        "host": original.host,
        "path": original.target.partition("?")[0],
        "client": original.client,
        "subject": decision.subject,
        "revocation_ids": list(decision.revocation_ids),
        "revocation_revision": decision.revocation_revision,
        "revocation_age": decision.revocation_age,
    }
    if decision.outcome is not Outcome.ALLOWED:
        line |= {"code": decision.code, "reason": decision.reason}
    return line
