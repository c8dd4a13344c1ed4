"""What a guard asks about revoked tokens, and what every store answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from capability.errors import StoreUnavailable

__all__ = ["RevisedSource", "RevocationSource", "RevocationStatus", "StoreUnavailable", "key_mark"]


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


def key_mark(root_key: str) -> bytes:
    """Returns the id under which all tokens of a root key (`ed25519/...`) are revoked at once.

    It is no signature, so it is nobody's revocation id, and it is kept, fed and looked up like one: the
    guard asks about it beside the ids of the chain. It is made of the key that verified the token, and not of
    the key id in the token: nobody signs that, so whoever holds a token could leave it out.
    """
    return b"root-key:" + root_key.encode()
