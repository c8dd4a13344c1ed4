"""A writer that is killed at any moment loses nothing that it was told is done. CAP_KILLS says how often."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from capability.errors import StoreUnavailable
from capability.store import Store, create_store, open_store
from capability.store.sqlite import SQLiteStore, create
from tests.servers import PostgresServer

KILLS = int(os.environ.get("CAP_KILLS", "8"))

WRITER = """
import os, sys
from capability.store import Owner, Record, open_store
store = open_store(os.environ["CAP_STORE"])
print("ready", flush=True)
number = 0
while True:
    number += 1
    root = f"{sys.argv[1]}.{number}".encode()
    store.register(Record(root=root, owner=Owner("user", f"{sys.argv[1]}.{number}")))
    if number % 2:
        revision = store.revoke([root, root + b".below"], actor="killed")
    else:
        revision = store.revoke_all_of(Owner("user", f"{sys.argv[1]}.{number}"))
    print(root.decode(), revision, flush=True)
"""


class Writer:
    """A process that revokes as fast as it can, and what it was told is done."""

    def __init__(self, url: str, name: str) -> None:
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a writer says whose server was killed
            text=True,
            env={**os.environ, "CAP_STORE": url},
        )

    def ready(self) -> None:
        """Waits until it has begun."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def busy(self) -> None:
        """Waits until something was acknowledged."""
        assert self._process.stdout is not None
        self._said.append(self._process.stdout.readline())

    def killed(self) -> list[tuple[bytes, int]]:
        """Kills it; returns the ids that it was told are revoked, and from which revision on."""
        self._process.kill()
        with self._process as process:
            assert process.stdout is not None
            self._said += process.stdout.readlines()  # `communicate` would lose what was read already
        lines = [line.split() for line in self._said if line.endswith("\n")]
        return [(identifier.encode(), int(revision)) for identifier, revision in lines]


def check_acknowledged(store: Store, acknowledged: list[tuple[bytes, int]]) -> None:
    """Asserts that a store has all that was acknowledged."""
    revision_now = store.revision()
    for identifier, revision in acknowledged:
        assert store.status([identifier]).revoked_id == identifier
        assert revision <= revision_now


def check(store: Store, acknowledged: list[tuple[bytes, int]]) -> None:
    """Asserts that a store is whole and has all that was acknowledged."""
    assert store.problems() == ()
    check_acknowledged(store, acknowledged)
    whole = {each.id for each in store.revocations()}
    for identifier in whole:  # both ids of a revocation, or none
        assert identifier.removesuffix(b".below") in whole
        assert identifier.removesuffix(b".below") + b".below" in whole


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store."""
    url = f"sqlite:///{tmp_path}/cap.db"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(request.getfixturevalue("database"))
    create_store(url).close()
    return url


def test_no_acknowledged_revocation_is_lost_to_a_kill(url: str) -> None:
    chance = random.Random(4)
    acknowledged: list[tuple[bytes, int]] = []
    for turn in range(KILLS):
        writer = Writer(url, str(turn))
        writer.ready()
        if turn == KILLS - 1:  # the others may be killed in their first revocation
            writer.busy()
        time.sleep(chance.random() * 0.1)
        new = writer.killed()
        acknowledged += new
        with open_store(url) as store:
            if turn % 10 == 9 or turn == KILLS - 1:
                check(store, acknowledged)
            else:
                check_acknowledged(store, new)
    assert acknowledged


def test_no_acknowledged_revocation_is_lost_to_a_kill_of_the_server(
    postgres: PostgresServer, database: str
) -> None:
    url = postgres.url(database)
    create_store(url).close()
    chance = random.Random(5)
    acknowledged: list[tuple[bytes, int]] = []
    kills = max(KILLS // 4, 2)
    for turn in range(kills):
        writers = [Writer(url, f"{turn}.{name}") for name in "ab"]
        for writer in writers:
            writer.ready()
        if turn == kills - 1:
            writers[0].busy()
        time.sleep(0.05 + chance.random() * 0.1)
        postgres.kill()
        new = [each for writer in writers for each in writer.killed()]
        acknowledged += new
        postgres.start()
        with open_store(url) as store:
            if turn % 10 == 9 or turn == kills - 1:
                check(store, acknowledged)
            else:
                check_acknowledged(store, new)
    assert acknowledged


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cap.db"
    create(path)
    with SQLiteStore(path) as store:
        store.revoke([b"first"])
        with closing(sqlite3.connect(path)) as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
        database = store._connection._database
        assert database is not None
        database.conn.execute(f"PRAGMA max_page_count = {pages}")  # as if the disk ended here
        with pytest.raises(StoreUnavailable, match="full"):
            store.revoke([number.to_bytes(64, "big") for number in range(1, 5_000)])
        assert [each.id for each in store.revocations()] == [b"first"]
        assert store.revision() == 1
        assert store.revoke([b"second"]) == 2
        assert store.problems() == ()
