"""What a guard asks about revoked tokens, and what every store answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2s
from typing import Final, Protocol, runtime_checkable

from capability.errors import StoreUnavailable

__all__ = [
    "DIGEST_SIZE",
    "AgedSource",
    "RevisedSource",
    "RevocationIds",
    "RevocationSource",
    "RevocationStatus",
    "StandingSource",
    "StoreUnavailable",
    "digest",
    "empty_digest",
    "key_mark",
]

DIGEST_SIZE: Final = 16
"""Bytes of an id's digest: BLAKE2s (RFC 7693), without a key, made for this length."""

empty_digest: Final = blake2s(digest_size=DIGEST_SIZE).copy
"""Returns the state of a digest before anything went in: copied, since making it costs half of a digest."""


@dataclass(frozen=True, slots=True)
class RevocationStatus:
    """The answer to one look-up.

    `revoked_id` is the first id of the chain that is revoked, or None. `revision` grows with every change of
    the source. `age` is how old the data may be, in seconds (0.0: read from the source itself). `reason` is
    set where the source refuses a token for something else than a revocation.
    """

    revoked_id: bytes | None
    revision: int
    age: float = 0.0
    reason: str | None = None


@runtime_checkable
class RevocationSource(Protocol):
    """Anything that knows which revocation ids are revoked."""

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns whether any of `revocation_ids` (canonical, authority first) is revoked.

        Raises StoreUnavailable when that cannot be told; the caller must then not allow.
        """
        ...


@runtime_checkable
class RevisedSource(RevocationSource, Protocol):
    """A source that can tell cheaply whether anything has changed."""

    def revision(self) -> int:
        """Returns the revision, which `status` would name now; raises StoreUnavailable as it does.

        A guard that found an id not revoked at this revision need not look it up again.
        """
        ...


@runtime_checkable
class AgedSource(RevisedSource, Protocol):
    """A source that answers from a copy: its revision may stay while what it knows grows old."""

    def age(self) -> float:
        """Returns how old the copy is now, in seconds; raises StoreUnavailable as `status` does."""
        ...


@runtime_checkable
class StandingSource(AgedSource, Protocol):
    """A source that tells both at once, for a guard that asks on every decision."""

    def standing(self) -> tuple[int, float]:
        """Returns the revision and the age of the copy now; raises StoreUnavailable as `status` does."""
        ...


class RevocationIds(tuple[bytes, ...]):
    """The ids by which one token can be revoked, with their digests: computed at first use, then kept.

    A source that holds digests is asked about the same token again whenever anything was revoked, and
    hashing an id takes as long as finding it. It is a tuple like any other to all other sources.
    """

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """The digest of each id, in order."""
        return tuple(map(digest, self))


def digest(revocation_id: bytes) -> bytes:
    """Returns the digest of an id, under which those hold it that keep little of it.

    128 bits, so that nobody finds an id to be revoked that takes another's with it. BLAKE2s is the cheapest
    hash of the standard library that is sound: an Ed25519 id is one block of it.
    """
    state = empty_digest()
    state.update(revocation_id)
    return state.digest()


def key_mark(root_key: str) -> bytes:
    """Returns the id under which all tokens of a root key (`ed25519/...`) are revoked at once.

    It is no signature, so it is nobody's revocation id, and it is kept, fed and looked up like one: the
    guard asks about it beside the ids of the chain. It is made of the key that verified the token, and not of
    the key id in the token: nobody signs that, so whoever holds a token could leave it out.
    """
    return b"root-key:" + root_key.encode()
