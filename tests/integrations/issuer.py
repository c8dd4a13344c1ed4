"""An issuer, its tokens and its revocations, as all integrations are tested with."""

from collections.abc import Sequence
from datetime import UTC, datetime

from capability import Biscuit, BiscuitBuilder, Guard, KeyPair, RevocationStatus, StoreUnavailable
from capability.store.memory import MemoryStore

POLICY = "allow if user($user), operation($operation), right($operation)"
RIGHTS = 'user("alice"); right("read"); right("write"); right("refund");'
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Revocations:
    """A source that may be down, and that a guard takes for one that waits."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.down = False

    def status(self, revocation_ids: Sequence[bytes]) -> RevocationStatus:
        if self.down:
            raise StoreUnavailable("the disk is gone")
        return self.store.status(revocation_ids)


class Issuer:
    """A root key, a guard for it, and alice's token."""

    def __init__(self, policy: str = POLICY, rights: str = RIGHTS) -> None:
        self.root = KeyPair()
        self.revocations = Revocations()
        self.guard = Guard(self.root.public_key, policy, self.revocations)
        self.alice = BiscuitBuilder(rights).build(self.root.private_key)

    def token(self) -> str:
        """Returns a token of alice's that nobody else has."""
        return self.alice.to_base64()

    def narrowed(self, source: str | None = None, **words: Sequence[str]) -> str:
        return self.alice.attenuate(source=source, **words).to_base64()  # type: ignore[arg-type]

    def expired(self) -> str:
        return self.alice.attenuate(expires=LONG_AGO, now=LONG_AGO).to_base64()

    def foreign(self) -> str:
        """Returns a token of another issuer."""
        return BiscuitBuilder(RIGHTS).build(KeyPair().private_key).to_base64()

    def revoke(self, token: Biscuit) -> None:
        self.revocations.store.revoke(token.canonical_revocation_ids[-1:])
