"""The store in Redis keeps the contract, and loses nothing that it has acknowledged."""

from itertools import count
from pathlib import Path

import pytest

from capability.store import create_store
from capability.store.protocol import WakingStore
from tests.servers import RedisServer
from tests.store.contract import WakingContract

_numbers = count(1)


class TestRedisStore(WakingContract):
    @pytest.fixture(autouse=True)
    def server(self, redis_server: RedisServer) -> None:
        self._server = redis_server

    def make_store(self, tmp_path: Path) -> WakingStore:
        store = create_store(self._server.url(f"prefix=contract{next(_numbers)}:"))
        assert isinstance(store, WakingStore)
        return store
