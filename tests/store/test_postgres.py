"""The store in PostgreSQL keeps the contract, and outlives what happens to a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from capability.store import Store
from capability.store.postgres import PostgresStore, create
from tests.servers import PostgresServer
from tests.store.contract import WakingContract


class TestPostgresStore(WakingContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> Iterator[None]:
        self.server = postgres
        self.names: list[str] = []
        yield
        for name in self.names:
            postgres.drop_database(name)

    def make_store(self, tmp_path: Path) -> Store:
        name = self.server.new_database()
        self.names.append(name)
        create(self.server.url(name))
        return PostgresStore(self.server.url(name))
