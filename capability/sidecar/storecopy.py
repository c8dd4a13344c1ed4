"""The copy on disk of a followed store: its digests, its revision, and when it was last heard from."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from capability.errors import StoreUnavailable
from capability.revocation import DIGEST_SIZE, RevocationStatus
from capability.sidecar.kept import Folder
from capability.store.follower import Snapshot
from capability.store.index import Packed, RevocationIndex

MAX_BYTES: Final = 1 << 30
"""Bytes of digests that are kept: 64 million of them."""


class Remembered:
    """A store as it was when it was last heard from: by the wall clock at the start, and from there on.

    Where that clock is behind the time of the copy, nobody knows how old it is, and nothing is answered.
    """

    in_memory = True

    def __init__(
        self,
        index: RevocationIndex,
        revision: int,
        heard: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.index = index
        self.known_revision = revision
        self._clock = clock
        self._old = time.time() - heard
        self._since = clock()

    def standing(self) -> tuple[int, float]:
        """Returns the revision and the age; raises StoreUnavailable when that is not known."""
        if self._old < 0.0:
            raise StoreUnavailable("the clock is behind the time at which the store was last heard from")
        return self.known_revision, self._old + self._clock() - self._since

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that was revoked then; raises as `standing` does."""
        revision, age = self.standing()
        return RevocationStatus(self.index.first(revocation_ids), revision, age)

    def revision(self) -> int:
        """Returns the revision; raises as `standing` does."""
        return self.standing()[0]

    def age(self) -> float:
        """Returns the age in seconds; raises as `standing` does."""
        return self.standing()[1]

    def __len__(self) -> int:
        return len(self.index)


class StoreCopy:
    """Two files: what is revoked, written when it changed, and when the store was heard from since then."""

    def __init__(self, folder: Folder, url: str) -> None:
        place = without_password(url)
        self._ids = folder.slot("store", place, MAX_BYTES)
        self._heard = folder.slot("store.heard", place, DIGEST_SIZE * 8)
        self._kept: tuple[int, str] | None = None

    @property
    def writes(self) -> bool:
        """Whether this process writes it."""
        return self._ids.writes

    def recall(self) -> Remembered | None:
        """Returns what was kept; None where there is nothing that can be used."""
        ids = self._ids.read()
        if ids is None:
            return None
        if len(ids.content) % DIGEST_SIZE:
            self._ids.refused("it is damaged")
            return None
        later = self._heard.read()
        # of another copy than this one it would make what is old look young
        fits = later is not None and later.content == ids.digest.encode()
        heard = later.heard if later is not None and fits else ids.heard
        try:
            pieces = {ids.content[at : at + DIGEST_SIZE] for at in range(0, len(ids.content), DIGEST_SIZE)}
            index = RevocationIndex(Packed.of(sorted(pieces), DIGEST_SIZE, compact=False))
        except MemoryError:  # the store is followed without
            self._ids.refused("there is not enough memory")
            return None
        return Remembered(index, ids.revision, heard)

    def keep(self, now: Snapshot) -> None:
        """Writes what has changed since the last time."""
        heard = time.time() - now.age
        if self._kept is not None and self._kept[0] == now.revision:
            self._heard.keep(self._kept[1].encode(), now.revision, heard)
            return
        digest = self._ids.keep(now.ids.digests(), now.revision, heard)
        self._kept = None if digest is None else (now.revision, digest)


def without_password(url: str) -> str:
    """Returns the URL of a store without its password, which may change while the store stays the same."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1@", url)
