"""A copy of the revocations in memory, which follows the store as it comes and goes.

A sidecar starts although its store does not answer yet; until it has, nothing is allowed.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, Protocol

from capability.errors import StoreError, StoreRolledBack, StoreUnavailable
from capability.revocation import RevocationSource, RevocationStatus, StandingSource
from capability.sidecar.kept import EVERY
from capability.store.follower import Follower
from capability.store.protocol import Store

if TYPE_CHECKING:
    from capability.sidecar.storecopy import Remembered, StoreCopy

RETRY: Final = 1.0
"""Seconds between attempts to open a store."""

ROLLED_BACK: Final = 5.0
"""Seconds until a store that went back is looked at again, which reads all of it."""


class Feed:
    """Opens a store by `open_store` and follows it from a thread of its own, until it is closed.

    `copies` is where what is known is kept on disk. Until the store answers, the copy that was left there is
    gone by; a store that is behind it is refused, of which `warn` is told.
    """

    told_as = "what is known of revocations"

    def __init__(
        self,
        open_store: Callable[[], Store],
        *,
        poll: float,
        copies: "StoreCopy | None" = None,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._open_store = open_store
        self._poll = poll
        self._copies = copies
        self._warn = warn
        self._before: Remembered | None = None
        """What an earlier process left; None once the store is followed."""
        self._moved_on = False
        """True when the store is known to have more than what was left."""
        self._told = False
        self._failures = 0
        self._follower: Follower | None = None
        self._closing = threading.Event()
        self._exits = ExitStack()
        self._thread = threading.Thread(target=self._run, name="cap-feed", daemon=True)

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
        self._moved_on = True  # what was left does not know where to
        follower = self._follower
        if follower is not None:
            with suppress(StoreError):
                follower.poll()

    @property
    def copy(self) -> "Follower | Remembered":
        """The copy; raises StoreUnavailable before there is one."""
        # in this order: the follower is there before what was left is let go
        before, follower = self._before, self._follower
        if follower is not None:
            return follower
        if before is None or self._moved_on:
            raise StoreUnavailable("the store of revocations has not answered yet")
        return before

    def age(self) -> float | None:
        """Returns how old the copy may be, in seconds; None before there is one."""
        with suppress(StoreUnavailable):
            return self.copy.age()
        return None

    def revision(self) -> int | None:
        """Returns the revision of the copy; None before there is one."""
        with suppress(StoreUnavailable):
            return self.copy.revision()
        return None

    @property
    def answered(self) -> bool:
        """Whether the store has answered, or failed to."""
        return self._follower is not None or self._failures > 0

    @property
    def failures(self) -> int:
        """How often the store did not answer."""
        return self._failures + (0 if self._follower is None else self._follower.failures)

    def __len__(self) -> int:
        with suppress(StoreUnavailable):
            return len(self.copy)
        return 0

    def _run(self) -> None:
        if self._copies is not None:
            self._before = self._copies.recall()
        follower = self._open()
        if follower is not None and self._copies is not None and self._copies.writes:
            self._keep(follower, self._copies)

    def _open(self) -> Follower | None:
        while not self._closing.is_set():
            try:
                with ExitStack() as opening:
                    store = opening.enter_context(self._open_store())
                    follower = opening.enter_context(Follower(store, max_stale=None, interval=self._poll))
                    self._compare(follower)
                    self._exits = opening.pop_all()
            except StoreRolledBack as error:
                self._went_back(error)
                self._failures += 1
                self._closing.wait(ROLLED_BACK)
            except StoreError:
                self._failures += 1
                self._closing.wait(RETRY)
            else:
                self._follower = follower
                self._before = None
                return follower
        return None

    def _compare(self, follower: Follower) -> None:
        """Raises StoreRolledBack for a store that is behind what was kept of it.

        So it is where it holds more at the same revision: it went back, and came here by another way. A
        guard looks a token up again at a new revision only.
        """
        before = self._before
        if before is None:
            return
        ids, revision, _ = follower.snapshot()
        if revision < before.known_revision or (
            revision == before.known_revision and not before.index.holds(ids)
        ):
            raise StoreRolledBack(before.known_revision, revision)

    def _went_back(self, error: StoreRolledBack) -> None:
        """Warns once that the store is not followed, and what to do where that is meant."""
        if self._told:
            return
        self._told = True
        why = str(error)
        if error.found == error.seen:
            why = f"at revision {error.found} it holds more than it did before"
        self._warn(
            f"the store is not followed: {why}, as the copy in the state folder says; "
            "if that is meant, remove the copy"
        )

    def _keep(self, follower: Follower, copies: "StoreCopy") -> None:
        """Keeps what is known, and when the store was heard from, until the end."""
        while True:
            copies.keep(follower.snapshot())
            if self._closing.is_set():
                return
            self._closing.wait(EVERY)


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
