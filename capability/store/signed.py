"""Revocations in a signed file, for a verifier that cannot reach the store.

The issuer exports and signs (`export_full`, `export_delta`); the file travels by any way, for whoever carries
it can hold it back but not change it. How long it can be held back is what `valid_until` says: past that
nothing is answered, and a guard denies.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from capability.errors import SignedRevocationsError, StoreUnavailable
from capability.keys import PublicKey, Signer
from capability.keyset import KeySet
from capability.revocation import RevocationStatus, digest
from capability.store.index import Packed, RevocationIndex
from capability.store.protocol import Store
from capability.store.signed_parts import WIDTH, Part, follows, is_full, read, write

MAX_BYTES: Final = 256 * 1024 * 1024
"""What is read of a file unless more is allowed: room for 25 million ids."""

_PIECE: Final = 1 << 20

SKEW: Final = 60
"""How far an issuer's clock may be ahead, in seconds."""


def export_full(
    store: Store,
    signer: Signer,
    *,
    valid_for: timedelta,
    name: str = "",
    clock: Callable[[], float] = time.time,
) -> bytes:
    """Returns all that is revoked now, signed. `name` tells apart the lists of several stores of one signer.

    Raises StoreError, and ValueError for no positive time or a name of more than 255 bytes.
    """
    return _export(store, signer, None, valid_for, name, clock)


def export_delta(
    store: Store,
    signer: Signer,
    *,
    since: int,
    valid_for: timedelta,
    name: str = "",
    clock: Callable[[], float] = time.time,
) -> bytes:
    """Returns what was revoked after the revision `since`, signed; with nothing in it, it prolongs.

    `name` is that of the list which it goes on with.

    Raises StoreRolledBack when the store is behind `since`, else as `export_full` does.
    """
    return _export(store, signer, since, valid_for, name, clock)


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    revision: int
    issued: int
    valid_until: int
    index: RevocationIndex


class SignedRevocations:
    """What signed files say is revoked. A guard takes it as its `revocations`.

    `keys` are those that may sign: a key of its own for this, or the root keys. Where one key signs for
    several stores, `name` says which list is meant; where it is None the first one counts, whichever it is.
    `update` takes newer files, and refuses without forgetting what it has: what is older by revision or time,
    a delta that begins elsewhere, what is expired or of a time to come, another key's, another list, or
    altered. Nothing is answered once the last one is past its `valid_until`.

    >>> from capability.keys import KeyPair
    >>> from capability.store.memory import MemoryStore
    >>> store, key = MemoryStore(), KeyPair()
    >>> revision = store.revoke([b"some id"])
    >>> data = export_full(store, key.private_key, valid_for=timedelta(days=1))
    >>> SignedRevocations(data, key.public_key).status([b"some id"]).revoked_id
    b'some id'
    """

    in_memory = True
    """What it answers takes no input or output: see `Guard.blocking`."""

    def __init__(
        self,
        data: bytes,
        keys: PublicKey | KeySet,
        *,
        name: str | None = None,
        min_revision: int = 0,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises SignedRevocationsError for data that is refused.

        `min_revision` is one that was seen before: a process that has just started knows of none. `clock`
        tells seconds since 1970.
        """
        self._keys = keys
        self._name = name
        self._min_revision = min_revision
        self._max_bytes = max_bytes
        self._clock = clock
        self._path: Path | None = None
        self._updating = threading.Lock()
        self._known: _Known | None = None
        self._known = self._taken(data)

    @classmethod
    def load(
        cls,
        path: str | Path,
        keys: PublicKey | KeySet,
        *,
        name: str | None = None,
        min_revision: int = 0,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Returns what a file says; what `update` takes is written to it.

        Raises StoreUnavailable for a file that cannot be read, else as the constructor does.
        """
        path = Path(path).absolute()
        data = read_file(path, max_bytes)
        loaded = cls(data, keys, name=name, min_revision=min_revision, max_bytes=max_bytes, clock=clock)
        loaded._path = path
        return loaded

    @property
    def path(self) -> Path | None:
        """The file that this was loaded from."""
        return self._path

    @property
    def name(self) -> str:
        """Which list this is."""
        return self._current.name

    @property
    def issued(self) -> int:
        """When what is known was signed, in seconds since 1970."""
        return self._current.issued

    @property
    def valid_until(self) -> int:
        """From when on nothing is answered, in seconds since 1970."""
        return self._current.valid_until

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any; the age is since it was signed."""
        known, now = self._checked()
        return RevocationStatus(
            known.index.first(revocation_ids), known.revision, max(now - known.issued, 0.0)
        )

    def revision(self) -> int:
        """Returns the revision; raises StoreUnavailable past `valid_until`, as `status` does."""
        return self._checked()[0].revision

    def age(self) -> float:
        """Returns how long ago this was signed, in seconds; raises StoreUnavailable as `status` does."""
        return self.standing()[1]

    def standing(self) -> tuple[int, float]:
        """Returns the revision, and how long ago this was signed; raises as `status` does."""
        known, now = self._checked()
        return known.revision, max(now - known.issued, 0.0)

    def trust(self, keys: PublicKey | KeySet) -> None:
        """Has these keys sign what comes from now on; what is known stays in force until it ends."""
        self._keys = keys

    def update(self, data: bytes) -> int:
        """Takes a newer list, or a delta that begins at the revision here; returns the revision then.

        Raises SignedRevocationsError for what is refused, which changes nothing. Where this was loaded from a
        file, that is replaced as a whole, or not at all; StoreUnavailable says that it was not, and then what
        is new is in force here, until the process ends.
        """
        with self._updating:
            self._known = known = self._taken(data)
            if self._path is not None:
                kept = data if is_full(data) else read_file(self._path, self._max_bytes) + data
                _replace(self._path, kept)
        return known.revision

    def reload(self) -> int:
        """Takes what is in the file now, where something else replaces it; as `update` does."""
        if self._path is None:
            raise ValueError("these revocations were not loaded from a file")
        with self._updating:
            self._known = known = self._taken(read_file(self._path, self._max_bytes))
        return known.revision

    def __len__(self) -> int:
        return len(self._current.index)

    def __repr__(self) -> str:
        return f"<SignedRevocations of revision {self._current.revision}>"

    @property
    def _current(self) -> _Known:
        assert self._known is not None  # the constructor has none only while it reads
        return self._known

    def _checked(self) -> tuple[_Known, float]:
        known, now = self._current, self._clock()
        if now >= known.valid_until:
            raise StoreUnavailable(f"the signed revocations ended {now - known.valid_until:.0f} s ago")
        if now < known.issued - SKEW:
            raise StoreUnavailable("the clock is behind the time at which the revocations were signed")
        return known, now

    def _taken(self, data: bytes) -> _Known:
        """Returns what would be known after `data`; raises SignedRevocationsError where that is refused."""
        if len(data) > self._max_bytes:
            raise _too_large(self._max_bytes)
        now, before = self._clock(), self._known
        parts = read(data, self._keys, now=now)
        first, last = parts[0], parts[-1]
        wanted = self._name if before is None else before.name
        if wanted is not None and last.name != wanted:
            raise SignedRevocationsError(
                f"the revocations are the list {last.name!r}, and {wanted!r} is meant",
                code="revocations.name",
            )
        if now < last.issued - SKEW:
            raise SignedRevocationsError(
                f"the revocations were signed {last.issued - now:.0f} s from now", code="revocations.early"
            )
        if now >= last.valid_until:
            raise SignedRevocationsError(
                f"the revocations ended {now - last.valid_until:.0f} s ago", code="revocations.expired"
            )
        newest = self._min_revision if before is None else max(before.revision, self._min_revision)
        if last.revision < newest:
            raise SignedRevocationsError(
                f"the revocations are of revision {last.revision}, and {newest} was seen before",
                code="revocations.rollback",
            )
        if before is not None and last.issued < before.issued:
            raise SignedRevocationsError(
                f"the revocations were signed {before.issued - last.issued} s before those that are known",
                code="revocations.rollback",
            )
        if (
            before is not None
            and last.revision == before.revision
            and not all(before.index.covers(part.digests) for part in parts)
        ):
            # a guard looks a token up again at a new revision only
            raise SignedRevocationsError(
                f"the revocations are of revision {last.revision} and hold more than those that are known: "
                "they are of another store",
                code="revocations.rollback",
            )
        if first.base is None:
            index, rest = RevocationIndex(first.digests), parts[1:]
        elif before is None:
            raise SignedRevocationsError(
                f"a delta from revision {first.base}, and nothing is known yet", code="revocations.base"
            )
        elif not follows(first, before.revision, before.issued):
            raise SignedRevocationsError(
                f"a delta from revision {first.base}, and {before.revision} is known", code="revocations.base"
            )
        else:
            index, rest = before.index.copy(), parts
        for part in rest:
            index.add_digests(part.digests)
        return _Known(last.name, last.revision, last.issued, last.valid_until, index)


def _export(
    store: Store,
    signer: Signer,
    since: int | None,
    valid_for: timedelta,
    name: str,
    clock: Callable[[], float],
) -> bytes:
    # The time before the question: what is revoked in between may be missing.
    issued = int(clock())
    with store.feed(since or 0) as feed:
        digests = Packed.of(sorted({digest(each)[:WIDTH] for each in feed.ids}), WIDTH, compact=True)
    valid_until = issued + int(valid_for.total_seconds())
    return write(Part(name, since, feed.revision, issued, valid_until, digests), signer)


def read_file(path: Path, max_bytes: int) -> bytes:
    """Returns what a file holds; raises StoreUnavailable, and SignedRevocationsError for a longer one."""
    pieces: list[bytes] = []
    left = max_bytes + 1
    try:
        with open(path, "rb") as file:
            # in pieces: a read of all that is allowed would ask for the room before there is anything in it
            while left and (piece := file.read(min(left, _PIECE))):
                pieces.append(piece)
                left -= len(piece)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise StoreUnavailable(
            f"the signed revocations in {str(path)!r} cannot be read: {reason}",
            code="store.unavailable.signed",
        ) from error
    if not left:
        raise _too_large(max_bytes)
    return b"".join(pieces)


def _replace(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, also when the machine stops meanwhile."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), os.stat(path).st_mode & 0o777)
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise StoreUnavailable(f"the signed revocations were not kept in {str(path)!r}: {reason}") from error


def _too_large(max_bytes: int) -> SignedRevocationsError:
    return SignedRevocationsError(f"the file holds more than {max_bytes} bytes", code="revocations.size")
