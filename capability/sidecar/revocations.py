"""All that a worker decides by of revocations: a store, signed ones, both, or nothing.

Where there are both, a token that either of them names is revoked, and when one of them cannot tell, nothing
is allowed.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from capability.errors import StoreUnavailable
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.revocation import RevisedSource, RevocationSource
from capability.sidecar.feed import Both, Bounded, Feed
from capability.sidecar.kept import Folder
from capability.sidecar.keysource import MAX_BYTES, KeptKeys, KeySource, KeysUnavailable
from capability.sidecar.settings import OnStale, Settings
from capability.store import Store, open_store

if TYPE_CHECKING:
    from capability.sidecar.signedfeed import SignedFeed

STORE_MAX_STALE: Final = 30.0
"""Seconds for which a store's copy is gone by where nothing else is said. A signed list says that itself."""


LOOK: Final = 0.005
"""Seconds between two looks for a first answer."""


class Known(NamedTuple):
    """How much is known. Of two sources: the store's revision, all ids, the greater age."""

    revision: int | None
    entries: int
    age: float | None


class Revocations:
    """Follows what `settings` name, between `start` and `close`; `keys` are the root keys.

    `min_revision` is the highest one of signed revocations that this program has seen; `warn` is told why
    newer ones are not used. In `folder` what is known is kept on disk. Raises StoreError where a store to be
    asked on every request cannot be opened.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Callable[[], KeySet | PublicKey],
        *,
        min_revision: int = 0,
        folder: Folder | None = None,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._folder = folder
        self._store = _feed(settings, folder, warn)
        self._strict = _asked(settings)
        self.signed = _signed(settings, keys, min_revision, folder, warn)
        """The signed ones; None where none are named."""
        self._followed = tuple(each for each in (self._store, self.signed) if each is not None)

    @property
    def blocking(self) -> bool:
        """Whether a decision may wait for a store."""
        return self._strict is not None

    def start(self) -> None:
        """Begins to follow."""
        for each in self._followed:
            each.start()

    def hear(self, patience: float) -> None:
        """Waits until each source that is followed has answered or failed, for about `patience` seconds.

        Who asks as soon as it serves is then not refused only because nothing was looked at yet. Looks are
        counted, and not the time: in that of a process that was stopped its threads did nothing either.
        """
        for _ in range(math.ceil(patience / LOOK)):
            if all(each.answered for each in self._followed):
                return
            time.sleep(LOOK)

    def close(self) -> None:
        """Stops following, and closes the store."""
        for each in self._followed:
            each.close()
        if self._strict is not None:
            self._strict.close()

    def pull(self) -> None:
        """Brings the store's copy up to date: what was just revoked there is denied from then on."""
        if self._store is not None:
            self._store.pull()

    def look(self) -> None:
        """Has it looked soon for newer signed revocations."""
        if self.signed is not None:
            self.signed.look()

    def source(self, settings: Settings, on_stale: OnStale) -> RevocationSource | None:
        """Returns what a guard goes by; None where nothing is ever revoked."""
        found = self._sources(settings, on_stale)
        if len(found) < 2:
            return found[0] if found else None
        return Both(*found)

    def revised(self, settings: Settings) -> RevisedSource | None:
        """Returns what tells the revision that clients mean: the store's, else that of signed revocations.

        What `cap revoke` and `/revoke` tell is a store's, and each store counts for itself.
        """
        found = self._sources(settings, OnStale.DENY)
        return found[0] if found else None

    def reasons(self, settings: Settings) -> list[str]:
        """Returns why not every route can be decided by what is followed, one sentence each."""
        on_stale = OnStale.DENY
        if all(each.on_stale is OnStale.ALLOW for each in settings.routes):
            on_stale = OnStale.ALLOW
        reasons = []
        for feed, source in zip(self._followed, self._copies(settings, on_stale, 0.0), strict=True):
            try:
                source.standing()
            except StoreUnavailable as error:
                newer = None if self.signed is None or feed is not self.signed else self.signed.problem
                reasons.append(str(error) if newer is None else f"{error}: {newer}")
        return reasons

    def known(self) -> Known | None:
        """Returns how much is known; None where nothing is followed."""
        if not self._followed:
            return None
        ages = [each.age() for each in self._followed]
        return Known(
            self._followed[0].revision(),
            sum(len(each) for each in self._followed),
            None if None in ages else max(each for each in ages if each is not None),
        )

    def failures(self) -> Mapping[str, int]:
        """Returns how often each source did not answer, or was refused."""
        return {
            name: each.failures
            for name, each in (("store", self._store), ("signed", self.signed), ("state", self._folder))
            if each is not None
        }

    def status(self) -> Mapping[str, Any]:
        """Returns all of this for who looks after the sidecar."""
        known = self.known()
        return {
            "revocations": None if known is None else known._asdict(),
            "signed_revocations": None if self.signed is None else self.signed.status(),
        }

    def _sources(self, settings: Settings, on_stale: OnStale) -> list[Store | Bounded]:
        asked = [] if self._strict is None else [self._strict]
        return [*asked, *self._copies(settings, on_stale, settings.grace)]

    def _copies(self, settings: Settings, on_stale: OnStale, grace: float) -> list[Bounded]:
        """Returns what is followed, to be gone by until `grace` seconds past max_stale."""
        denies = on_stale is OnStale.DENY
        copies = []
        if self._store is not None:
            bound = (settings.max_stale or STORE_MAX_STALE) + grace
            copies.append(Bounded(self._store, bound if denies else None))
        if self.signed is not None:
            # whatever a route says, what is past its own end is not gone by: that is the issuer's word
            unbound = settings.max_stale is None or not denies
            copies.append(Bounded(self.signed, None if unbound else (settings.max_stale or 0.0) + grace))
        return copies


def _feed(settings: Settings, folder: Folder | None, warn: Callable[[str], None]) -> Feed | None:
    url = settings.store
    if url is None or not settings.follow:
        return None
    copies = None
    if folder is not None:
        from capability.sidecar.storecopy import StoreCopy

        copies = StoreCopy(folder, url)
    return Feed(lambda: open_store(url), poll=settings.poll, copies=copies, warn=warn)


def _asked(settings: Settings) -> Store | None:
    return None if settings.store is None or settings.follow else open_store(settings.store)


def _signed(
    settings: Settings,
    keys: Callable[[], KeySet | PublicKey],
    min_revision: int,
    folder: Folder | None,
    warn: Callable[[str], None],
) -> "SignedFeed | None":
    if settings.revocations is None:
        return None
    from capability.sidecar.signedfeed import SignedFeed
    from capability.store.signed import MAX_BYTES as LONGEST_LIST

    place = f"{settings.revocations} {settings.revocations_name or ''}"
    return SignedFeed(
        settings.revocations,
        signers(settings, keys, folder),
        name=settings.revocations_name,
        poll=settings.poll,
        refresh=settings.revocations_refresh,
        min_revision=min_revision,
        kept=None if folder is None else folder.slot("revocations", place, LONGEST_LIST),
        warn=warn,
    )


def signers(
    settings: Settings, keys: Callable[[], KeySet | PublicKey], folder: Folder | None = None
) -> Callable[[], KeySet | PublicKey]:
    """Returns what reads the keys that may sign revocations: of their own, or else the root keys.

    Where they are fetched they are kept in `folder`, for a start without their server.
    """
    own = settings.revocations_key
    if own is None:
        return keys
    source = KeySource(own)
    if folder is None or not source.is_remote:
        return source.read
    kept, read_before = KeptKeys(folder.slot("signers", own, MAX_BYTES)), False

    def read() -> KeySet | PublicKey:
        nonlocal read_before
        try:
            found = source.read()
        except KeysUnavailable:
            old = None if read_before else kept.recall()
            if old is None:
                raise
            return old.keys
        read_before = True
        kept.keep(found)
        return found

    return read
