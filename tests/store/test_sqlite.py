"""The store in a SQLite file keeps the contract, across processes, forks, crashes and damage."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from capability.errors import StoreRolledBack, StoreSchemaError, StoreUnavailable
from capability.store import Record, Selection
from capability.store.audit import Event
from capability.store.follower import Follower
from capability.store.protocol import WakingStore
from capability.store.sqlite import APPLICATION_ID, MIGRATIONS, SQLiteStore, create, schema
from tests.store.contract import NOON, A, B, C, WakingContract


class TestSQLiteStore(WakingContract):
    def make_store(self, tmp_path: Path) -> WakingStore:
        create(tmp_path / "cap.db")
        return SQLiteStore(tmp_path / "cap.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cap.db"
    create(path)
    return path


PATIENT = """
from capability.store.sqlite import SQLiteStore, connection, create
connection.BUSY_SECONDS = 60.0
SQLiteStore.__init__.__kwdefaults__["timeout"] = 60.0
"""
"""Lets a program wait for other writers on a machine that is busy with other tests."""


def python(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PATIENT + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return output


def test_who_follows_is_woken_by_another_process(path: Path) -> None:
    program = (
        "import sys; from capability.store import sqlite as s; s.SQLiteStore(sys.argv[1]).revoke([b'a'])"
    )
    with SQLiteStore(path) as store, Follower(store, max_stale=None, interval=60) as follower:
        finish(python(program, path))
        assert follower.wait_for(1, timeout=30)
        store.close()  # ends the follower's wait too


# What the file is


def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    """So are the write-ahead log and its index. A mode that somebody chose stays."""
    path = tmp_path / "cap.db"
    before = os.umask(0)
    try:
        create(path)
        with SQLiteStore(path) as store:
            store.revoke([A])
            assert {
                each.name: oct(each.stat().st_mode & 0o777) for each in tmp_path.iterdir()
            } == dict.fromkeys(("cap.db", "cap.db-wal", "cap.db-shm"), "0o600")
    finally:
        os.umask(before)
    path.chmod(0o640)
    create(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_file_says_what_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "journal_mode", "integrity_check")
        }
    finally:
        connection.close()
    assert pragmas == {
        "application_id": APPLICATION_ID,
        "user_version": len(MIGRATIONS),
        "journal_mode": "wal",
        "integrity_check": "ok",
    }


def test_the_connection_is_careful(path: Path) -> None:
    with SQLiteStore(path) as store, store._connection.reading() as database:
        assert database.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("PRAGMA trusted_schema").fetchone() == (0,)


def test_what_is_revoked_stays_revoked(path: Path) -> None:
    with SQLiteStore(path) as store:
        store.revoke([A], reason="lost")
    create(path)
    with SQLiteStore(path) as store:
        assert store.status([A]).revoked_id == A
        assert store.revoke([B]) == 2


# Several processes


def test_processes_write_together(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from capability.store.sqlite import SQLiteStore\n"
        "store = SQLiteStore(Path(sys.argv[1]))\n"
        "for number in range(25):\n"
        "    print(store.revoke([f'{sys.argv[2]}.{number}'.encode()]))\n"
    )
    workers = [python(program, path, name) for name in "abc"]
    revisions = [[int(line) for line in finish(worker).split()] for worker in workers]
    for each in revisions:
        assert each == sorted(set(each))
    assert sorted(revision for each in revisions for revision in each) == list(range(1, 76))
    with SQLiteStore(path) as store:
        assert store.status([A]).revision == 75


def test_processes_create_together(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from capability.store.sqlite import SQLiteStore, create\n"
        "path = Path(sys.argv[1]); create(path); SQLiteStore(path).revoke([sys.argv[2].encode()])\n"
    )
    for round_ in range(3):
        path = tmp_path / f"{round_}.db"
        for worker in [python(program, path, name) for name in "abcd"]:
            finish(worker)
        with SQLiteStore(path) as store:
            assert sorted(each.revision for each in store.revocations()) == [1, 2, 3, 4]


def test_another_process_creates_between_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cap.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # so that a reader does not keep the other waiting
    read = schema.pragma

    def read_and_be_overtaken(connection: sqlite3.Connection, name: str) -> object:
        value = read(connection, name)
        if name == "application_id":
            monkeypatch.undo()
            create(path)
        return value

    monkeypatch.setattr(schema, "pragma", read_and_be_overtaken)
    create(path)
    with SQLiteStore(path) as store:
        assert list(store.revocations()) == []


def test_a_write_elsewhere_is_seen_at_once(path: Path) -> None:
    with SQLiteStore(path) as reader, SQLiteStore(path) as writer:
        assert reader.status([A]).revoked_id is None
        writer.revoke([A])
        assert reader.status([A]).revoked_id == A
        assert reader.status([A]).revision == 1


def test_a_killed_writer_leaves_nothing_half_done(path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from capability.store.sqlite import SQLiteStore\n"
        "with SQLiteStore(Path(sys.argv[1]))._connection.writing() as database:\n"
        "    database.execute(\"INSERT INTO revocations VALUES (x'01', NULL, NULL, '', 1, NULL)\")\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    python(program, path).communicate(timeout=60)
    with SQLiteStore(path) as store:
        assert store.revocations() == ()
        assert store.revoke([A]) == 1


def test_a_locked_store_is_unavailable(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with SQLiteStore(path, timeout=0.05) as store:
            with pytest.raises(StoreUnavailable, match="locked"):
                store.revoke([A])
            # Readers are not held up by a writer.
            assert store.status([A]).revoked_id is None
            other.execute("ROLLBACK")
            assert store.revoke([A]) == 1
    finally:
        other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_a_connection_of_its_own(path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from capability.store.sqlite import SQLiteStore\n"
        "store = SQLiteStore(Path(sys.argv[1])); store.revoke([b'parent'])\n"
        "before = store._connection._database\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    store.revoke([b'child']); os._exit(0 if store._connection._database is not before else 9)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert store.status([b'child']).revoked_id == b'child'\n"
        "assert store.revoke([b'more']) == 3\n"
    )
    finish(python(program, path))


# A file that goes away, or that is not ours


def test_a_deleted_file_is_noticed(path: Path) -> None:
    with SQLiteStore(path) as store:
        store.status([A])
        for file in path.parent.iterdir():
            file.unlink()
        with pytest.raises(StoreUnavailable):
            store.status([A])
        with pytest.raises(StoreUnavailable):
            store.revoke([A])


def test_a_replaced_file_is_noticed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    create(other)
    with SQLiteStore(other) as store:
        store.revoke([A])
    with SQLiteStore(path) as store:
        assert store.status([A]).revoked_id is None
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.replace(other, path)
        assert store.status([A]).revoked_id == A


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no store"):
        SQLiteStore(tmp_path / "cap.db")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no folder"):
        create(tmp_path / "none" / "cap.db")
    with pytest.raises(StoreUnavailable):
        SQLiteStore(tmp_path / "none" / "cap.db")


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    for call in (SQLiteStore, create):
        with pytest.raises(StoreUnavailable):
            call(tmp_path)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for call in (SQLiteStore, create):
        with pytest.raises(StoreUnavailable):
            call(tmp_path / "file" / "cap.db")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_a_file_that_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cap.db"
        create(path)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:  # who may write anywhere
                os.seteuid(65534)
            with pytest.raises(StoreUnavailable), SQLiteStore(path) as store:
                store.revoke([A])
        finally:
            if root:
                os.seteuid(0)
            path.parent.chmod(0o755)


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to have a header" * 40])
def test_not_a_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cap.db"
    path.write_bytes(content)
    with pytest.raises(StoreSchemaError):
        SQLiteStore(path)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "cap.db").touch()
    create(tmp_path / "cap.db")
    with SQLiteStore(tmp_path / "cap.db") as store:
        assert store.revoke([A]) == 1


@pytest.mark.parametrize("pragma", ["user_version = 0", "user_version = 7", "application_id = 5"])
def test_another_program_s_database(tmp_path: Path, pragma: str) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.execute(f"PRAGMA {pragma}")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    for call in (SQLiteStore, create):
        with pytest.raises(StoreSchemaError, match="not a store"):
            call(path)
    assert path.read_bytes() == before


def test_a_newer_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.commit()
    connection.close()
    for call in (SQLiteStore, create):
        with pytest.raises(StoreSchemaError, match="version"):
            call(path)


def test_an_older_version_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "cap.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.commit()
    connection.close()
    with SQLiteStore(path) as store:
        assert store.revoke([A]) == 1


@pytest.mark.parametrize("table", ["revision", "revocations"])
def test_a_missing_table(path: Path, table: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"DROP TABLE {table}")
    connection.commit()
    connection.close()
    with pytest.raises(StoreSchemaError), SQLiteStore(path) as store:
        store.status([A])


def test_a_lost_revision(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM revision")
    connection.commit()
    connection.close()
    with pytest.raises(StoreSchemaError), SQLiteStore(path) as store:
        store.status([A])


def test_a_damaged_page(path: Path) -> None:
    with SQLiteStore(path) as store:
        store.revoke([number.to_bytes(64, "big") for number in range(1, 400)])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreSchemaError), SQLiteStore(path) as store:
        store.status([(5).to_bytes(64, "big")])


def test_a_copy_is_a_store(path: Path, tmp_path: Path) -> None:
    with SQLiteStore(path) as store:
        store.revoke([A])
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    with SQLiteStore(copy) as store:
        assert store.status([A]).revoked_id == A


# Versions, revisions and the trail


def version_1(path: Path) -> None:
    """Writes the file that the first version of the schema made, with one revocation."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO revocations (id, reason, actor, at, revision) VALUES (?, ?, ?, ?, ?)",
            (A, "lost", "ann", "2026-03-01T12:00:00+00:00", 1),
        )
        connection.execute("UPDATE revision SET value = 1")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def test_a_file_of_version_1_is_brought_up_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "cap.db"
    version_1(path)
    with SQLiteStore(path) as store:
        assert store.status([A]).revoked_id == A
        (only,) = store.revocations()
        assert (only.reason, only.actor, only.at, only.revision) == ("lost", "ann", NOON, 1)
        assert only.expires is None
        store.register(Record(root=B, name="new"))
        assert store.revoke_selected(Selection(name="new")) == 2
        assert store.prune(now=NOON + timedelta(days=9999)) == 0
        assert store.audit_problems() == ()


def test_processes_migrate_together(tmp_path: Path) -> None:
    path = tmp_path / "cap.db"
    version_1(path)
    program = (
        "import sys; from pathlib import Path; from capability.store.sqlite import SQLiteStore\n"
        "print(SQLiteStore(Path(sys.argv[1])).revoke([sys.argv[2].encode()]))\n"
    )
    workers = [python(program, path, name) for name in "abcd"]
    assert sorted(int(finish(worker)) for worker in workers) == [2, 3, 4, 5]


def test_the_revision_is_read_again_only_when_someone_wrote(path: Path) -> None:
    with SQLiteStore(path) as reader, SQLiteStore(path) as writer:
        statements: list[str] = []
        assert reader.revision() == 0
        assert reader._connection._database is not None
        reader._connection._database.conn.set_trace_callback(statements.append)
        assert reader.revision() == 0
        assert statements == ["PRAGMA data_version"]
        writer.revoke([A])
        assert reader.revision() == 1
        assert writer.revision() == 1


def test_an_older_copy_in_its_place_is_refused(path: Path, tmp_path: Path) -> None:
    with SQLiteStore(path) as store:
        store.revoke([A])
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    with SQLiteStore(path) as store:
        store.revoke([B])
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.replace(copy, path)
        for call in (
            lambda: store.status([B]),
            store.revision,
            store.revocations,
            lambda: store.changes(0),
            lambda: store.revoke([b"x"]),
        ):
            with pytest.raises(StoreRolledBack) as caught:
                call()
            assert (caught.value.seen, caught.value.found) == (2, 1)
    with pytest.raises(StoreRolledBack):
        SQLiteStore(path, min_revision=2)
    with SQLiteStore(path, min_revision=1) as store:
        assert store.revision() == 1


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER audit_is_not_changed")
        connection.execute("DROP TRIGGER audit_is_not_shortened")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_the_trail_is_only_appended_to(path: Path) -> None:
    with SQLiteStore(path) as store:
        store.revoke([A])
    with closing(sqlite3.connect(path)) as connection:
        for statement in ("DELETE FROM audit", "UPDATE audit SET line = '{}'"):
            with pytest.raises(sqlite3.IntegrityError, match="only appended"):
                connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit WHERE number = 1",
        "DELETE FROM audit WHERE number = 2",
        "DELETE FROM audit WHERE number = 3",
        "DELETE FROM audit",
        "UPDATE audit SET line = replace(line, 'ann', 'bob') WHERE number = 2",
        "UPDATE audit SET line = replace(line, 'ann', 'bob') WHERE number = 3",
        "UPDATE audit SET hash = zeroblob(32) WHERE number = 1",
        "UPDATE audit SET number = number + 10",
        "UPDATE audit SET writer = 'other' WHERE number = 3",
        "DELETE FROM audit_heads",
        "UPDATE audit_heads SET number = 2",
    ],
)
def test_a_trail_that_was_tampered_with(path: Path, statement: str) -> None:
    with SQLiteStore(path) as store:
        for each in (A, B, C):
            store.revoke([each], actor="ann")
        assert store.audit_problems() == ()
        tamper(path, statement)
        assert store.audit_problems() != ()


def test_a_long_trail_is_read_in_pages(path: Path) -> None:
    with SQLiteStore(path) as store:
        store.note((Event("decision", outcome="denied") for _ in range(2_500)), writer="api")
        store.revoke([A])
        assert [each.number for each in store.audit(writer="api")] == list(range(1, 2_501))
        assert len(list(store.audit())) == 2_501
