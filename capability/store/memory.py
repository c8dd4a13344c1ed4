"""A store in this process's memory: for tests, and for services that are fed revocations another way."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

from capability.errors import StoreUnavailable
from capability.revocation import RevocationStatus
from capability.store.protocol import Revocation, check_words, checked_ids, checked_time


class MemoryStore:
    """Keeps revocations in a dictionary. It starts empty, so by itself it makes nothing stay revoked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revoked: dict[bytes, Revocation] = {}
        self._revision = 0
        self._open = True

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns the first of `revocation_ids` that is revoked, if any, and the revision."""
        ids = checked_ids(revocation_ids)
        with self._lock:
            self._check_open()
            revoked = next((each for each in ids if each in self._revoked), None)
            return RevocationStatus(revoked, self._revision)

    def revision(self) -> int:
        """Returns the revision; every revocation that has returned is in it."""
        self._check_open()
        return self._revision

    def revoke(
        self,
        revocation_ids: Sequence[bytes],
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes every id and returns the revision, from which on they are revoked."""
        ids = checked_ids(revocation_ids)
        check_words(reason, actor)
        moment = checked_time(at or datetime.now(UTC)).astimezone(UTC)
        with self._lock:
            self._check_open()
            added = [each for each in ids if each not in self._revoked]
            for each in added:
                self._revoked[each] = Revocation(each, reason, actor, moment, self._revision + 1)
            if added:
                self._revision += 1
            return self._revision

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revocations in the order they were made."""
        with self._lock:
            self._check_open()
            return tuple(self._revoked.values())

    def close(self) -> None:
        """Forgets nothing, but answers no more."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
