"""A copy of the revocations in memory, which follows the store as it comes and goes.

A sidecar starts although its store does not answer yet; until it has, nothing is allowed.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Final, Protocol

from capability.errors import StoreError, StoreUnavailable
from capability.revocation import RevocationSource, RevocationStatus, StandingSource
from capability.store.follower import Follower
from capability.store.protocol import Store

RETRY: Final = 1.0
"""Seconds between attempts to open a store."""


class Feed:
    """Opens a store by `open_store` and follows it from a thread of its own, until it is closed."""

    told_as = "what is known of revocations"

    def __init__(self, open_store: Callable[[], Store], *, poll: float) -> None:
        self._open_store = open_store
        self._poll = poll
        self._failures = 0
        self._follower: Follower | None = None
        self._closing = threading.Event()
        self._exits = ExitStack()
        self._thread = threading.Thread(target=self._open, name="cap-feed", daemon=True)

    def start(self) -> None:
        """Begins to open the store, and returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stops following, and closes the store."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._exits.close()

    def pull(self) -> None:
        """Brings the copy up to date now. Where that fails it is counted, and the copy's age tells."""
        with suppress(StoreError):
            self.copy.poll()

    @property
    def copy(self) -> Follower:
        """The copy; raises StoreUnavailable before there is one."""
        if self._follower is None:
            raise StoreUnavailable("the store of revocations has not answered yet")
        return self._follower

    def age(self) -> float | None:
        """Returns how old the copy may be, in seconds; None before there is one."""
        return None if self._follower is None else self._follower.age()

    def revision(self) -> int | None:
        """Returns the revision of the copy; None before there is one."""
        return None if self._follower is None else self._follower.revision()

    @property
    def failures(self) -> int:
        """How often the store did not answer."""
        return self._failures + (0 if self._follower is None else self._follower.failures)

    def __len__(self) -> int:
        return 0 if self._follower is None else len(self._follower)

    def _open(self) -> None:
        while not self._closing.is_set():
            try:
                with ExitStack() as opening:
                    store = opening.enter_context(self._open_store())
                    follower = opening.enter_context(Follower(store, max_stale=None, interval=self._poll))
                    self._exits = opening.pop_all()
            except StoreError:
                self._failures += 1
                self._closing.wait(RETRY)
            else:
                self._follower = follower
                return


class Followed(Protocol):
    """What is followed. Its `copy` is what is known, and raises StoreUnavailable before there is any."""

    told_as: str
    """What it is called where it is too old."""

    @property
    def copy(self) -> StandingSource:
        """What is known."""
        ...


class Bounded:
    """A view of a feed that answers nothing once the copy is older than `max_stale` seconds.

    None goes on for ever with what is known: an operator writes that down for a route that must stay up.
    """

    def __init__(self, feed: Followed, max_stale: float | None) -> None:
        self._feed = feed
        self._max_stale = max_stale

    in_memory = True

    def standing(self) -> tuple[int, float]:
        """Returns the revision and the age of the copy; raises StoreUnavailable when it is too old."""
        standing = self._feed.copy.standing()
        if self._max_stale is not None and standing[1] > self._max_stale:
            raise self._too_old(standing[1])
        return standing

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns what the copy knows of these ids; raises StoreUnavailable when it is too old."""
        status = self._feed.copy.status(revocation_ids)
        if self._max_stale is not None and status.age > self._max_stale:
            raise self._too_old(status.age)
        return status

    def revision(self) -> int:
        """Returns the revision of the copy; raises StoreUnavailable when it is too old."""
        return self.standing()[0]

    def age(self) -> float:
        """Returns how old the copy may be, in seconds."""
        return self._feed.copy.age()

    def _too_old(self, age: float) -> StoreUnavailable:
        return StoreUnavailable(f"{self._feed.told_as} is {age:.1f} s old")


class Both:
    """Two sources, of which either may say that a token is revoked; where one cannot answer, none does.

    It has no revision: each of them has its own, so a guard asks both each time.
    """

    def __init__(self, first: RevocationSource, second: RevocationSource) -> None:
        self._first = first
        self._second = second
        self.in_memory = all(getattr(each, "in_memory", False) for each in (first, second))

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns what they know: the revision is that of the first, the age the greater one."""
        first, second = self._first.status(revocation_ids), self._second.status(revocation_ids)
        decides = first if first.revoked_id is not None else second
        return RevocationStatus(
            decides.revoked_id,
            first.revision,
            max(first.age, second.age),
            decides.reason,
        )
