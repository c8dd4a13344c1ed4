"""A verifier's own copy of what is revoked, which follows a store's feed.

Decisions then do no input or output. What that costs is time: a revocation holds here when the next poll has
brought it, and the age of the copy is known at every decision.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from capability.errors import StoreError, StoreUnavailable
from capability.revocation import RevocationStatus
from capability.store.index import RevocationIndex
from capability.store.protocol import Store, WakingStore


class Snapshot(NamedTuple):
    """What a follower knows at one moment; `ids` are a copy, `age` is in seconds."""

    ids: RevocationIndex
    revision: int
    age: float


class Follower:
    """Answers a guard from memory, and asks `store` for changes when `poll` is called.

    Once the copy is older than `max_stale` seconds, nothing is answered but StoreUnavailable, so a guard
    denies; None goes on for ever with what is known, which a person must choose. A store that went back to an
    older revision is refused, and so the copy grows old. As a context manager it polls by itself every
    `interval` seconds, and sooner when the store wakes it (`WakingStore`); leaving takes as long as that.

    >>> from capability.store.memory import MemoryStore
    >>> store = MemoryStore()
    >>> with Follower(store, max_stale=10) as follower:
    ...     revision = store.revoke([b"some id"])
    ...     reached = follower.wait_for(revision, timeout=5)
    >>> reached, follower.status([b"some id"]).revoked_id
    (True, b'some id')
    """

    in_memory = True
    """What it answers takes no input or output: see `Guard.blocking`."""

    def __init__(
        self,
        store: Store,
        *,
        max_stale: float | None,
        interval: float = 0.5,
        min_revision: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for bounds that are not positive. Nothing is known before the first poll."""
        if interval <= 0 or (max_stale is not None and max_stale <= 0):
            raise ValueError("max_stale and interval are positive numbers of seconds")
        self._store = store
        self._waking = store if isinstance(store, WakingStore) else None
        self._max_stale = max_stale
        self._interval = interval
        self._min_revision = min_revision
        self._clock = clock
        self._index = RevocationIndex()
        self._revision = 0
        self._read_at: float | None = None
        self._polling = threading.Lock()
        self._moved = threading.Condition()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failures = 0
        """Polls that failed so far."""

    def poll(self) -> int:
        """Brings the copy up to date and returns its revision; raises StoreError when that fails."""
        with self._polling:
            started = self._clock()  # before the question: the answer may be that old
            try:
                with self._store.feed(self._revision) as feed:
                    self._index.add(feed.ids)  # seen by nobody before all of it is read
                    with self._moved:
                        self._revision = feed.revision
                        self._read_at = started
                        self._moved.notify_all()
            except StoreError:
                self.failures += 1
                raise
            return feed.revision

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is known to be revoked, the revision, and its age."""
        revision, age = self.standing()
        return RevocationStatus(self._index.first(revocation_ids), revision, age)

    def revision(self) -> int:
        """Returns the revision of the copy; raises StoreUnavailable when it is too old to go by."""
        return self.standing()[0]

    def age(self) -> float:
        """Returns how old the copy is, in seconds; raises StoreUnavailable when it is too old to go by."""
        return self.standing()[1]

    def standing(self) -> tuple[int, float]:
        """Returns the revision and the age of the copy; raises StoreUnavailable when it is too old."""
        # In this order: a poll in between makes the age look greater than it is, never smaller.
        read_at, revision = self._read_at, self._revision
        if read_at is None:
            raise StoreUnavailable("nothing was read of the store of revocations yet")
        age = self._clock() - read_at
        if age < 0.0:
            age = 0.0
        if self._max_stale is not None and age > self._max_stale:
            raise StoreUnavailable(f"what is known of revocations is {age:.1f} s old")
        if revision < self._min_revision:
            raise StoreUnavailable(
                f"revision {self._min_revision} of the store was asked for, and {revision} is known"
            )
        return revision, age

    def snapshot(self) -> Snapshot:
        """Returns all that is known, once no poll is under way; raises StoreUnavailable as `standing`."""
        with self._polling:
            return Snapshot(self._index.copy(), *self.standing())

    def wait_for(self, revision: int, *, timeout: float) -> bool:
        """Waits until the copy has `revision`; returns whether it has after at most `timeout` seconds."""
        with self._moved:
            return self._moved.wait_for(lambda: self._revision >= revision, timeout)

    def __len__(self) -> int:
        return len(self._index)

    def __enter__(self) -> Self:
        self.poll()
        self._thread = threading.Thread(target=self._follow, name="cap-follower", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        while self._goes_on():
            try:
                self.poll()
            except StoreError:
                # Counted; the age tells, and past max_stale nothing is answered. A store that fails at once
                # must not be asked without a pause.
                self._stop.wait(self._interval)

    def _goes_on(self) -> bool:
        """Waits for something to pull, `interval` seconds at most; returns whether it is still wanted."""
        if self._waking is None:
            return not self._stop.wait(self._interval)
        try:
            self._waking.wait(self._revision, self._interval)
        except StoreError:
            return not self._stop.wait(self._interval)
        return not self._stop.is_set()
