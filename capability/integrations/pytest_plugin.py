"""pytest fixtures that mint: an issuer of the test's own, with a store in memory.

    def test_reading(cap_guard, cap_mint, client):
        app.guard = cap_guard('allow if user($u), operation("read")')
        assert client.get("/items/7", headers=cap_mint.headers('user("ann")')).status_code == 200
        assert client.get("/items/7", headers=cap_mint.headers('user("ann")', expires=-60)).status_code == 401

pytest finds it by itself where the package is installed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack

import pytest

if TYPE_CHECKING:
    from capability.guard import Guard
    from capability.integrations.narrowing import Narrowing
    from capability.keys import KeyPair
    from capability.store.memory import MemoryStore
    from capability.tokens import Biscuit


class Mint:
    """Mints tokens of `cap_root`, each another one, narrowed by the words of all integrations.

    `expires` may be negative here: so many seconds ago, for a token that has expired.
    """

    def __init__(self, root: "KeyPair", store: "MemoryStore") -> None:
        self._root = root
        self._store = store

    def __call__(
        self,
        source: str = 'user("alice")',
        parameters: Mapping[str, Any] | None = None,
        /,
        **narrowing: "Unpack[Narrowing]",
    ) -> str:
        """Returns the text of a token with the authority block `source`, narrowed."""
        from capability.integrations.narrowing import narrowed

        return narrowed(self.token(source, parameters), _past(narrowing)).to_base64()

    def token(self, source: str = 'user("alice")', parameters: Mapping[str, Any] | None = None) -> "Biscuit":
        """Returns a token with the authority block `source`."""
        from capability.tokens import BiscuitBuilder

        return BiscuitBuilder(source, parameters).build(self._root.private_key)

    def headers(
        self,
        source: str = 'user("alice")',
        parameters: Mapping[str, Any] | None = None,
        /,
        **narrowing: "Unpack[Narrowing]",
    ) -> dict[str, str]:
        """Returns the headers of a request with a token that is minted as by a call."""
        return {"Authorization": f"Bearer {self(source, parameters, **narrowing)}"}

    def revoke(self, text: str) -> int:
        """Revokes a token and what was narrowed from it; returns the revision of `cap_store`."""
        from capability.tokens import Biscuit

        token = Biscuit.from_base64(text, self._root.public_key)
        return self._store.revoke(token.canonical_revocation_ids[-1:])


def _past(narrowing: "Narrowing") -> "Narrowing":
    expires = narrowing.get("expires")
    if isinstance(expires, int | float) and expires <= 0:
        return {**narrowing, "expires": datetime.now(UTC) + timedelta(seconds=expires)}
    return narrowing


@pytest.fixture
def cap_root() -> "KeyPair":
    """The root key of an issuer that lives as long as the test."""
    from capability.keys import KeyPair

    return KeyPair()


@pytest.fixture
def cap_store() -> "MemoryStore":
    """An empty store, in which tokens can be revoked."""
    from capability.store.memory import MemoryStore

    return MemoryStore()


@pytest.fixture
def cap_mint(cap_root: "KeyPair", cap_store: "MemoryStore") -> Mint:
    """Mints, narrows and revokes tokens of `cap_root`."""
    return Mint(cap_root, cap_store)


@pytest.fixture
def cap_guard(cap_root: "KeyPair", cap_store: "MemoryStore") -> "Callable[..., Guard]":
    """Makes guards for `cap_root` and `cap_store`: `cap_guard(policy, **other_arguments_of_Guard)`."""
    from capability.guard import Guard

    def make(policy: str = "allow if user($user)", **more: Any) -> Guard:
        return Guard(cap_root.public_key, policy, cap_store, **more)

    return make
