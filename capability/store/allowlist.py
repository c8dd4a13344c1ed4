"""A guard that takes registered tokens only."""

from collections.abc import Sequence

from capability.revocation import RevocationStatus
from capability.store.protocol import Store


class AllowList:
    """Answers a guard for `store`, and refuses every token whose root is not registered there.

    So a token that somebody minted with a stolen root key is worth nothing until it is also registered. A
    record is never taken out of a store, so what passed once stays registered.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        """Returns what the store answers, or that the root, the first of the ids, is not registered."""
        status = self._store.status(revocation_ids)
        if status.revoked_id is None and revocation_ids and self._store.registered(revocation_ids[0]) is None:
            return RevocationStatus(revocation_ids[0], status.revision, status.age, "it is not registered")
        return status

    def revision(self) -> int:
        """Returns the store's revision."""
        return self._store.revision()
