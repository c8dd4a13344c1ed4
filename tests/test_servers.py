"""The servers that tests start: they answer, they can be killed, and they leave nothing behind."""

import psycopg
import pytest

from tests.servers import PostgresServer


def test_a_server_comes_back_after_a_kill_with_what_it_held(postgres: PostgresServer, database: str) -> None:
    postgres.execute("CREATE TABLE kept AS SELECT 7 AS value", database)
    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        postgres.execute("SELECT 1")
    postgres.start()
    assert postgres.execute("SELECT value FROM kept", database) == [(7,)]
    assert postgres.execute("SHOW fsync") == [("on",)]
