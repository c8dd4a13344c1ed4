"""What every store offers, whatever keeps its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, Self, runtime_checkable

from capability.revocation import RevocationSource


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revoked id: why, by whom, when (UTC), and the revision of the store that brought it."""

    id: bytes
    reason: str | None
    actor: str | None
    at: datetime
    revision: int


@runtime_checkable
class Store(RevocationSource, Protocol):
    """Keeps the revoked ids. Ids are canonical: `Biscuit.canonical_revocation_ids` computes them.

    Safe to share between threads. A failure of any method is a StoreError, never silence: an id that a
    store could not look up must not pass for one that is not revoked.
    """

    def revoke(
        self,
        revocation_ids: Sequence[bytes],
        *,
        reason: str | None = None,
        actor: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Revokes every id, all or none, and returns the store's revision, from which on they are revoked.

        The first word stands: what is known of an id that was revoked before is left as it is, and the
        revision grows only when something was added. `at` is aware (now, if None).
        Raises ValueError for an empty id, a naive time, or words that are not valid Unicode.
        """
        ...

    def revocations(self) -> tuple[Revocation, ...]:
        """Returns all revocations in the order they were made."""
        ...

    def close(self) -> None:
        """Lets go of files and connections. Nothing can be asked afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def checked_ids(revocation_ids: Sequence[bytes]) -> tuple[bytes, ...]:
    """Returns the ids once each, in order. Text is refused: a hex id would be looked up and never found."""
    for revocation_id in revocation_ids:
        if not isinstance(revocation_id, bytes):
            raise TypeError(f"a revocation id is bytes, not {type(revocation_id).__name__}")
        if not revocation_id:
            raise ValueError("a revocation id is not empty")
    return tuple(dict.fromkeys(revocation_ids))


def check_words(*words: str | None) -> None:
    """Raises ValueError for text that cannot be written as UTF-8, as an argument of a command may be."""
    for each in words:
        try:
            (each or "").encode()
        except UnicodeEncodeError as error:
            raise ValueError("the reason or the actor of a revocation is not valid Unicode") from error


def checked_time(at: datetime) -> datetime:
    """Returns `at` if it is aware; raises ValueError for a naive time, which means no one moment."""
    if at.tzinfo is None:
        raise ValueError("the time of a revocation needs a time zone")
    return at
