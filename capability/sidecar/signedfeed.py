"""Signed revocations that a sidecar follows: in a file that is replaced, or at a URL.

Whoever carries them can hold them back, and change nothing. So what counts is their own time of signing: a
server that answers every question with the same list does not make it younger.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from capability.errors import SignedRevocationsError, StoreError, StoreUnavailable
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.sidecar.feed import RETRY
from capability.sidecar.fetch import FetchFailed, fetch, shown
from capability.sidecar.kept import Slot
from capability.sidecar.keysource import KeysUnavailable
from capability.store.signed import MAX_BYTES, SignedRevocations, read_file
from capability.store.signed_parts import is_full, read

REFUSED_AGAIN: Final = 5.0
"""Seconds after which a file that was refused is read again: a key may have come, or its time."""

_LAST_WAIT: Final = 1.0
"""Seconds for which closing waits for a server that is just being asked."""


class SignedFeed:
    """Takes what is signed at `place`, a file or a URL, from a thread of its own, until it is closed.

    A file is looked at every `poll` seconds, a URL every `refresh`. What is refused changes nothing: it is
    counted, `problem` says why, and `warn` is told once of each reason. `keys` is asked for each list that
    comes, and returns those that may sign, or raises KeysUnavailable. `min_revision` is one that was seen
    before. In `kept` each full list is kept on disk, and the one that lies there is begun with.
    """

    told_as = "the list of signed revocations"

    def __init__(
        self,
        place: str,
        keys: Callable[[], KeySet | PublicKey],
        *,
        name: str | None = None,
        poll: float,
        refresh: float,
        min_revision: int = 0,
        kept: Slot | None = None,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._kept = kept
        self._recalled = kept is None
        self._place = place_of(place, poll, refresh, lambda: self._closing.is_set())
        self._keys = keys
        self._name = name
        self._min_revision = min_revision
        self._warn = warn
        self._source: SignedRevocations | None = None
        self._revision: int | None = None
        self._retry_at = 0.0
        self._unreachable = False
        self._kind = ""
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="cap-signed", daemon=True)
        self.failures = 0
        """How often nothing could be read, or was refused."""
        self.answered = False
        """Whether the place was looked at."""
        self.problem: str | None = None
        """Why what was found last was not taken; None when it was."""

    def start(self) -> None:
        """Begins to read, and returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stops. A server that takes its time is not waited for: nothing of it is wanted any more."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_LAST_WAIT)

    def look(self) -> None:
        """Has it looked for something newer now."""
        self._wake.set()

    @property
    def copy(self) -> SignedRevocations:
        """What is known; raises StoreUnavailable before there is something."""
        if self._source is None:
            raise StoreUnavailable("no signed revocations were read yet")
        return self._source

    def age(self) -> float | None:
        """Returns how long ago what is known was signed, in seconds; None before there is something."""
        return None if self._source is None else max(time.time() - self._source.issued, 0.0)

    def revision(self) -> int | None:
        """Returns the revision of what is known, also past its end; None before there is something."""
        return self._revision

    def status(self) -> Mapping[str, Any]:
        """Returns what there is to know about them."""
        source = self._source
        known = None
        if source is not None:
            known = {
                "name": source.name,
                "revision": self._revision,
                "entries": len(source),
                "issued": source.issued,
                "valid_until": source.valid_until,
            }
        return {
            "place": self._place.shown,
            "known": known,
            "failures": self.failures,
            "problem": self.problem,
        }

    def __len__(self) -> int:
        return 0 if self._source is None else len(self._source)

    def _follow(self) -> None:
        while not self._closing.is_set():
            self._once()
            self._wake.wait(self._pause())
            self._wake.clear()

    def _pause(self) -> float:
        return min(self._place.pause, RETRY) if self._unreachable else self._place.pause

    def _once(self) -> None:
        retries = self.problem is not None and time.monotonic() >= self._retry_at
        if not (self._place.moved() or retries):
            return
        try:
            keys = self._keys()  # before anything is fetched that nobody could read without
            self._recall(keys)
            data = self._place.read()
            if data is not None:
                self._take(data, keys)
                self._place.taken()
                if self._kept is not None and is_full(data):
                    self._kept.keep(data, self._revision or 0, time.time())
        except (StoreError, KeysUnavailable, MemoryError) as error:
            self._unreachable = isinstance(error, StoreUnavailable | KeysUnavailable)
            self._retry_at = time.monotonic() + (RETRY if self._unreachable else REFUSED_AGAIN)
            self.failures += 1
            self._has_problem(getattr(error, "code", ""), str(error) or type(error).__name__)
        else:
            self._unreachable = False
            self.problem = None
        self.answered = True

    def _recall(self, keys: KeySet | PublicKey) -> None:
        """Begins with the copy on disk, once. What is over still tells the revision that was seen."""
        copy = None if self._recalled or self._kept is None else self._kept.read()
        self._recalled = True
        if copy is None or self._kept is None:
            return
        try:
            seen = read(copy.content, keys, now=time.time())[-1].revision
            self._min_revision = max(self._min_revision, seen)
            self._take(copy.content, keys)
        except SignedRevocationsError as error:
            self._kept.refused(str(error))

    def _has_problem(self, kind: str, problem: str) -> None:
        if self.problem is None or kind != self._kind:  # the words may hold a time, and differ each time
            meanwhile = "so nothing is allowed" if self._source is None else "and what held goes on"
            self._warn(f"the signed revocations are not taken, {meanwhile}: {problem}")
        self._kind, self.problem = kind, problem

    def _take(self, data: bytes, keys: KeySet | PublicKey) -> None:
        if self._source is None:
            source = SignedRevocations(data, keys, name=self._name, min_revision=self._min_revision)
            self._revision = source.revision()
            self._source = source
        else:
            self._source.trust(keys)
            self._revision = self._source.update(data)


class Place(Protocol):
    """Where signed revocations are; looked at every `pause` seconds, and `shown` to those who may know."""

    pause: float
    shown: str

    def moved(self) -> bool:
        """Returns whether there may be something else than what was read last."""
        ...

    def read(self) -> bytes | None:
        """Returns what is there, None where that is what was taken; raises StoreError."""
        ...

    def taken(self) -> None:
        """Notes that what was read last is in force."""
        ...


def place_of(place: str, poll: float, refresh: float, stopped: Callable[[], bool] = lambda: False) -> Place:
    """Returns the place that a path or a URL names."""
    return _Remote(place, refresh, stopped) if "://" in place else _File(place, poll)


class _File:
    def __init__(self, path: str, pause: float) -> None:
        self._path = Path(path)
        self._mark: tuple[int, ...] | None = ()  # no file's
        self.pause = pause
        self.shown = path

    def moved(self) -> bool:
        return self._found() != self._mark

    def read(self) -> bytes | None:
        self._mark = self._found()  # before: who replaces the file meanwhile makes another mark
        return read_file(self._path, MAX_BYTES)

    def taken(self) -> None:
        """Does nothing: a file is read when it was replaced."""

    def _found(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


class _Remote:
    def __init__(self, url: str, pause: float, stopped: Callable[[], bool]) -> None:
        self._url = url
        self._stopped = stopped
        self._read: tuple[bytes, str | None] = (b"", None)
        self._taken: tuple[bytes, str | None] = (b"", None)
        self.pause = pause
        self.shown = shown(url)

    def moved(self) -> bool:
        return True

    def read(self) -> bytes | None:
        known, known_tag = self._taken
        try:
            content, tag = fetch(self._url, MAX_BYTES, tag=known_tag, stopped=self._stopped)
        except FetchFailed as error:
            raise StoreUnavailable(
                f"the signed revocations at {self.shown!r} cannot be read: {error}",
                code="store.unavailable.signed",
            ) from error
        if content is None:
            return None
        self._read = sha256(content).digest(), tag
        return None if self._read[0] == known else content

    def taken(self) -> None:
        self._taken = self._read
