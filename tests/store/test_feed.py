"""Processes that follow a store while others revoke all come to deny the same. CAP_FEED says how many ids."""

import os
from pathlib import Path

import pytest

from benchmarks.stores import VERIFIERS, followed
from tests.servers import PostgresServer

COUNT = int(os.environ.get("CAP_FEED", "3000"))


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that is not there yet."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.url(request.getfixturevalue("database"))
    if request.param == "redis":
        of_redis: str = request.getfixturevalue("redis_url")
        return of_redis
    return f"sqlite:///{tmp_path}/cap.db"


def test_every_process_comes_to_deny_all(url: str) -> None:
    delays, _ = followed(url, COUNT)
    assert len(delays) == VERIFIERS * COUNT // 100
    assert max(delays) < 30  # seconds: a verifier that hangs, and not a slow machine
