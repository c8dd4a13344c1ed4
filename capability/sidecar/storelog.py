"""The decision log that is the store's audit trail, with the times at which tokens were last used.

What is written there, when, and what becomes of what does not fit, is `capability.recording`'s.
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from capability.decision import Decision, Outcome
from capability.recording import Recorder
from capability.sidecar.paths import shown
from capability.sidecar.profiles import Original
from capability.sidecar.settings import Logged, WhenFull
from capability.store.audit import STORE_WRITER, Event
from capability.store.protocol import Store


class OpenedLate:
    """A store that is opened when something is first to be written, and again until that works.

    A sidecar starts although its store does not answer yet. Used by one thread at a time.
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._store: Store | None = None

    def note(self, events: Iterable[Event], *, writer: str = STORE_WRITER) -> None:
        """Appends events to the chain of `writer`; raises StoreError."""
        self._opened().note(events, writer=writer)

    def touch(self, uses: Mapping[bytes, datetime]) -> None:
        """Notes when tokens were last used; raises StoreError."""
        self._opened().touch(uses)

    def close(self) -> None:
        """Closes the store, if it was opened."""
        if self._store is not None:
            self._store.close()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store


class StoreLog:
    """Brings decisions to the trail of a store, from a thread of its own between `start` and `close`.

    Each worker has a chain of its own, so that none waits for another.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        worker: int,
        *,
        logged: Logged,
        capacity: int,
        when_full: WhenFull,
    ) -> None:
        self._store = OpenedLate(open_store)
        self._writer = f"serve:{socket.gethostname()}:{worker}"
        self._logged = logged
        self._capacity = capacity
        self._when_full = when_full
        self._recorder: Recorder | None = None

    takes_allowed = True  # of a token that is used the store keeps when it last was

    def start(self) -> None:
        """Begins to write."""
        self._recorder = Recorder(
            self._store,
            decisions=self._logged.value,
            capacity=self._capacity,
            when_full=self._when_full.value,
            writer=self._writer,
        )

    def reopen(self) -> None:
        """Does nothing: nobody rotates a store."""

    def close(self) -> None:
        """Writes what is waiting, if the store takes it, and stops."""
        if self._recorder is not None:
            self._recorder.close()
        self._store.close()

    @property
    def dropped(self) -> int:
        """How many decisions were not taken."""
        return 0 if self._recorder is None else self._recorder.stats().dropped

    def offer(self, decision: Decision, original: Original, route: str) -> bool:
        """Takes a decision; False says that it was not taken and that no yes may leave without."""
        assert self._recorder is not None
        root = None
        if decision.outcome is Outcome.ALLOWED:
            root = bytes.fromhex(decision.revocation_ids[0])
        details = {
            "route": route,
            "method": original.method,
            "host": original.host or None,
            "path": shown(original.target),
            "client": original.client,
        }
        return self._recorder.offer(decision, root, details) is decision
