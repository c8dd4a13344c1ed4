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
from capability.store.sqlite import SQLiteStore, create

KILLS = int(os.environ.get("CAP_KILLS", "8"))

WRITER = """
import sys
from pathlib import Path
from capability.store import Owner, Record
from capability.store.sqlite import SQLiteStore
store = SQLiteStore(Path(sys.argv[1]))
print("ready", flush=True)
number = 0
while True:
    number += 1
    root = f"{sys.argv[2]}.{number}".encode()
    store.register(Record(root=root, owner=Owner("user", f"{sys.argv[2]}.{number}")))
    if number % 2:
        revision = store.revoke([root, root + b".below"], actor="killed")
    else:
        revision = store.revoke_all_of(Owner("user", f"{sys.argv[2]}.{number}"))
    print(root.decode(), revision, flush=True)
"""


def test_no_acknowledged_revocation_is_lost_to_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "cap.db"
    create(path)
    chance = random.Random(4)
    acknowledged: list[tuple[bytes, int]] = []
    for turn in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(turn)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.random() * 0.1)
        process.kill()
        said, _ = process.communicate(timeout=60)
        for line in said.splitlines(keepends=True):
            if line.endswith("\n"):
                root, at = line.split()
                acknowledged.append((root.encode(), int(at)))
        with SQLiteStore(path) as store:
            assert store.problems() == ()
            revision_now = store.revision()
            for identifier, revision in acknowledged:
                assert store.status([identifier]).revoked_id == identifier
                assert revision <= revision_now
            whole = {each.id for each in store.revocations()}
            for identifier in whole:  # both ids of a revocation, or none
                assert identifier.removesuffix(b".below") in whole
                assert identifier.removesuffix(b".below") + b".below" in whole
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
