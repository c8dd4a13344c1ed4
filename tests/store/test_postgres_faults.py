"""What happens to a PostgreSQL server and its store, and that nothing is lost or allowed by it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from capability.errors import StoreError, StoreRolledBack, StoreSchemaError, StoreUnavailable
from capability.guard import Guard
from capability.keys import KeyPair
from capability.store import Owner, Record, create_store, open_store
from capability.store.audit import Event
from capability.store.follower import Follower
from capability.store.postgres import MIGRATIONS, PostgresStore, create, schema
from capability.tokens import BiscuitBuilder
from tests.servers import PATIENCE, PostgresServer, free_port, wait_until
from tests.store.contract import ANN, A, B, C, filled

PATIENT = "import pytest; from tests.servers import be_patient; be_patient(pytest.MonkeyPatch())\n"
DOCUMENT = Path(__file__).parent.parent.parent / "docs/store.md"


@pytest.fixture
def url(postgres: PostgresServer, database: str) -> str:
    """The URL of an empty store."""
    create(postgres.url(database))
    return postgres.url(database)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(url) as store:
        yield store


def python(program: str, *arguments: str, store: str) -> subprocess.Popen[str]:
    """Starts a program, which finds the store's URL in the environment."""
    return subprocess.Popen(
        [sys.executable, "-c", PATIENT + program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CAP_STORE": store, "PYTHONPATH": str(DOCUMENT.parent.parent)},
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def terminate_connections(postgres: PostgresServer, database: str) -> None:
    """Ends every session of a database, as an administrator or a firewall does."""
    postgres.execute(
        f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{database}'"
    )


# What is not a store, or cannot be reached


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda server: server.url("cap_none"), StoreUnavailable, "does not exist"),
        (lambda server: server.url("postgres", password="wrong-secret"), StoreUnavailable, "password"),
        (lambda server: server.url("postgres", user="nobody"), StoreUnavailable, "password"),
        (lambda server: server.url("postgres"), StoreSchemaError, "was not made"),
        (
            lambda server: f"postgresql://cap:{server.password}@127.0.0.1:{free_port()}/postgres",
            StoreUnavailable,
            "refused",
        ),
    ],
)
def test_what_cannot_be_opened_says_why(
    postgres: PostgresServer, change: Callable[[PostgresServer], str], kind: type[StoreError], words: str
) -> None:
    started = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        open_store(change(postgres))
    assert time.monotonic() - started < 30
    chain: BaseException | None = caught.value
    while chain is not None:
        assert postgres.password not in f"{chain} {chain!r}"
        assert "wrong-secret" not in f"{chain} {chain!r}"
        chain = chain.__cause__ or chain.__context__


def test_a_store_does_not_show_its_password(store: PostgresStore, postgres: PostgresServer) -> None:
    assert postgres.password not in repr(store)
    assert "127.0.0.1" in repr(store)


def test_opening_makes_nothing(postgres: PostgresServer, database: str) -> None:
    with pytest.raises(StoreSchemaError):
        open_store(postgres.url(database))
    assert postgres.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'capability'", database) == []


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE capability.notes (text text)", "CREATE TABLE capability.store (text text)"],
)
def test_another_program_s_schema_is_left_alone(
    postgres: PostgresServer, database: str, statement: str
) -> None:
    postgres.execute("CREATE SCHEMA capability", database)
    postgres.execute(statement, database)
    for call in (open_store, create_store):
        with pytest.raises(StoreSchemaError, match="another program"):
            call(postgres.url(database))
    query = "SELECT count(*) FROM pg_class WHERE relnamespace = 'capability'::regnamespace AND relkind = 'r'"
    assert postgres.execute(query, database) == [(1,)]


def test_a_newer_version(postgres: PostgresServer, database: str, url: str) -> None:
    postgres.execute(f"UPDATE capability.store SET version = {len(MIGRATIONS) + 1}", database)
    for call in (open_store, create_store):
        with pytest.raises(StoreSchemaError, match="version"):
            call(url)


def test_an_older_version_is_brought_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(url) as store:
        store.revoke([A])
    more = (*MIGRATIONS, ("CREATE TABLE capability.more (id bigint)",))
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    with open_store(url) as store:
        assert store.status([A]).revoked_id == A
    monkeypatch.undo()
    with pytest.raises(StoreSchemaError, match="version 2"):
        open_store(url)


def test_a_migration_that_fails_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = (*MIGRATIONS, ("CREATE TABLE capability.more (id bigint)", "SELECT 1 / 0"))
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    with pytest.raises((StoreError, ValueError)):
        open_store(url)
    monkeypatch.undo()
    with open_store(url) as store:
        assert store.revoke([A]) == 1


def test_programs_create_together(postgres: PostgresServer, database: str) -> None:
    program = (
        "import os, sys; from capability.store import create_store\n"
        "with create_store(os.environ['CAP_STORE']) as store: print(store.revoke([sys.argv[1].encode()]))\n"
    )
    workers = [python(program, name, store=postgres.url(database)) for name in "abc"]
    assert sorted(int(finish(worker)) for worker in workers) == [1, 2, 3]


def test_a_missing_table(postgres: PostgresServer, database: str, store: PostgresStore) -> None:
    postgres.execute("DROP TABLE capability.rules", database)
    with pytest.raises(StoreSchemaError, match="damaged"):
        store.status([A])


def test_a_lost_revision(postgres: PostgresServer, database: str, store: PostgresStore) -> None:
    postgres.execute("DELETE FROM capability.revision", database)
    for call in (store.revision, lambda: store.status([A]), lambda: store.revoke([A])):
        with pytest.raises(StoreSchemaError, match="revision"):
            call()


def test_words_with_a_zero_byte_are_refused_whole(store: PostgresStore) -> None:
    with pytest.raises(ValueError, match="PostgreSQL cannot keep"):
        store.revoke([A], reason="a\0b")
    assert store.revocations() == ()
    assert store.revoke([A]) == 1


# Roles


def test_the_roles_of_the_document(postgres: PostgresServer, database: str, url: str) -> None:
    _, _, rest = DOCUMENT.read_text("utf-8").partition("```sql\n")
    grants = rest.partition("```")[0]
    assert "cap_verifier" in grants
    for role in ("cap_admin", "cap_verifier"):
        postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'role-secret'")
    try:
        postgres.execute(grants, database)
        with PostgresStore(postgres.url(database, user="cap_admin", password="role-secret")) as admin:
            admin.revoke([A])
            filled(admin)
            assert admin.prune() >= 0
            assert admin.problems() == ()
        with PostgresStore(postgres.url(database, user="cap_verifier", password="role-secret")) as verifier:
            assert verifier.status([A]).revoked_id == A
            assert A in verifier.changes(0).ids
            verifier.wait(0, 0.01)
            for call in (lambda: verifier.revoke([C]), lambda: verifier.note([Event("key")])):
                with pytest.raises(StoreUnavailable, match="permission denied"):
                    call()
            assert verifier.status([C]).revoked_id is None
        with psycopg.connect(postgres.url(database, user="cap_admin", password="role-secret")) as connection:
            for statement in (
                "DELETE FROM capability.audit",
                "DROP TRIGGER audit_is_only_appended_to ON capability.audit",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
                connection.rollback()
    finally:
        for role in ("cap_admin", "cap_verifier"):
            postgres.execute(f"DROP OWNED BY {role}", database)
            postgres.execute(f"DROP ROLE {role}")


# The trail and the revision


def test_the_trail_is_only_appended_to(postgres: PostgresServer, database: str, store: PostgresStore) -> None:
    store.revoke([A])
    for statement in (
        "DELETE FROM capability.audit",
        "UPDATE capability.audit SET line = '{}'",
        "TRUNCATE capability.audit",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="only appended"):
            postgres.execute(statement, database)
    assert store.problems() == ()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM capability.audit WHERE number = 1",
        "DELETE FROM capability.audit WHERE number = 3",
        "UPDATE capability.audit SET line = replace(line, 'ann', 'bob') WHERE number = 2",
        "DELETE FROM capability.audit_heads",
    ],
)
def test_a_trail_that_was_tampered_with(
    postgres: PostgresServer, database: str, store: PostgresStore, statement: str
) -> None:
    for each in (A, B, C):
        store.revoke([each], actor="ann")
    postgres.execute("ALTER TABLE capability.audit DISABLE TRIGGER ALL", database)
    assert store.audit_problems() == ()
    assert len(store.problems()) == 1
    postgres.execute(statement, database)
    assert store.audit_problems() != ()


def test_an_older_copy_in_its_place_is_refused(
    postgres: PostgresServer, database: str, store: PostgresStore, url: str
) -> None:
    for each in (A, B):
        store.revoke([each])
    postgres.execute("DELETE FROM capability.revocations WHERE revision = 2", database)
    postgres.execute("UPDATE capability.revision SET value = 1", database)
    calls: list[Callable[[], Any]] = [
        lambda: store.status([B]),
        store.revision,
        store.revocations,
        lambda: store.changes(0),
        lambda: store.revoke([b"x"]),
    ]
    for call in calls:
        with pytest.raises(StoreRolledBack) as caught:
            call()
        assert (caught.value.seen, caught.value.found) == (2, 1)
    with pytest.raises(StoreRolledBack):
        PostgresStore(url, min_revision=2)


# Connections and servers that go away


def test_a_stale_connection_is_replaced(
    postgres: PostgresServer, database: str, store: PostgresStore
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: store.revoke([A]),
        store.revision,
        lambda: store.status([A]),
        store.records,
        lambda: store.register(Record(root=B)),
        lambda: store.note([Event("key")], writer="w"),
    ]
    for call in calls:
        terminate_connections(postgres, database)
        call()
    assert store.status([A]).revoked_id == A
    assert len(list(store.audit())) == 3
    assert store.problems() == ()


def test_a_server_that_stands_still_is_not_waited_for(
    postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyPair()
    token = BiscuitBuilder('user("ann")').build(keys.private_key)
    with PostgresStore(f"{url}?connect_timeout=2") as store:
        guard = Guard(keys.public_key, "allow if true", store)
        assert guard.check(token.to_base64()).outcome == "allowed"
        postgres.pause()
        try:
            with monkeypatch.context() as patch:
                patch.setattr("capability.store.postgres.connection.WAIT_SECONDS", 0.5)
                started = time.monotonic()
                assert guard.check(token.to_base64()).outcome == "store_unavailable"
                assert time.monotonic() - started < PATIENCE / 2, "0.5 s were to be waited"
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    store.revoke([A])
                assert time.monotonic() - started < PATIENCE / 2, "2 s were to be waited for a new connection"
        finally:
            postgres.resume()
        # A machine that is busy may not connect within 2 s either.
        wait_until(lambda: guard.check(token.to_base64()).outcome == "allowed")
        assert store.status([A]).revoked_id is None


def test_a_server_that_stands_still_in_a_change_is_given_up(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capability.store.postgres.connection.CHANGE_SECONDS", 0.5)
    monkeypatch.setattr("capability.store.postgres.bounded._CANCEL_SECONDS", PATIENCE)

    def stall(connection: Any, revision: int) -> None:
        connection.execute("SELECT pg_sleep(60)")

    for change in (store._connections.writing, store._connections.noting):
        work: Any = stall if change == store._connections.writing else lambda one: stall(one, 0)
        with pytest.raises(StoreUnavailable, match="has not answered in time"):
            change(work, idempotent=True)
    monkeypatch.undo()
    assert store.revoke([A]) == 1, "the one before still holds the lock"


def test_questions_are_prepared_but_not_through_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = "SELECT count(*) FROM pg_prepared_statements"
    # A statement is prepared for one connection, and a pool that has to wait for its first opens a second.
    monkeypatch.setattr("capability.store.postgres.connection.MAX_CONNECTIONS", 1)
    with PostgresStore(url) as direct:
        direct.status([A])
        ask = direct._connections.reading
        assert ask(lambda connection, _: connection.execute(prepared).fetchone()) == (2,)
    # What a proxy tells of itself is not the number of the process behind it.
    monkeypatch.setattr("psycopg.ConnectionInfo.backend_pid", 0)
    with PostgresStore(url) as behind:
        behind.status([A])
        ask = behind._connections.reading
        assert ask(lambda connection, _: connection.execute(prepared).fetchone()) == (0,)


def test_what_must_not_happen_twice_is_not_tried_twice(store: PostgresStore) -> None:
    tries = []

    def die(connection: Any, revision: int) -> None:
        tries.append(revision)
        if len(tries) < 3:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreUnavailable):
        store._connections.writing(die, idempotent=False)
    assert len(tries) == 1
    store._connections.writing(die, idempotent=True)
    assert len(tries) == 3


def test_a_loss_at_the_commit_says_that_nobody_knows(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = "SELECT value FROM capability.revision; COMMIT; SELECT pg_terminate_backend(pg_backend_pid())"
    monkeypatch.setattr("capability.store.postgres.connection._COMMIT", committed)
    with pytest.raises(StoreUnavailable, match="look whether it was made"):
        store.register(Record(root=A))
    monkeypatch.undo()
    assert store.registered(A) is not None


def fails_again(follower: Follower, before: int) -> bool:
    return follower.failures > before


def test_a_server_that_is_gone_and_back(postgres: PostgresServer, store: PostgresStore) -> None:
    store.revoke([A])
    with Follower(store, max_stale=None, interval=0.05) as follower:
        try:
            for stop in (postgres.kill, postgres.stop):
                stop()
                before = follower.failures
                for call in (store.revision, lambda: store.status([A]), lambda: store.revoke([B])):
                    started = time.monotonic()
                    with pytest.raises(StoreUnavailable, match="refused"):
                        call()
                    waited = time.monotonic() - started
                    assert waited < PATIENCE / 2, "it waited, though the server had said no"
                wait_until(partial(fails_again, follower, before))
                assert follower.status([A]).revoked_id == A
                postgres.start()
                assert store.status([A, C]).revoked_id == A
        finally:
            postgres.start()
        assert store.status([B]).revoked_id is None
        assert follower.wait_for(store.revoke([B]), timeout=60)
    assert store.problems() == ()


def test_a_server_that_goes_behind_a_look_at_it(
    postgres: PostgresServer, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = store._connections
    store.status([A])
    looks: list[None] = []
    probe = connections._probe

    def looked() -> None:
        looks.append(None)
        if len(looks) > 1:  # at the first look it was still there
            probe()

    monkeypatch.setattr(connections, "_probe", looked)
    connections._lost = True
    postgres.kill()
    started = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="refused"):
            store.status([A])
    finally:
        postgres.start()
    assert time.monotonic() - started < PATIENCE / 2, "it waited for a connection that nobody could make"
    assert store.status([A]).revoked_id is None


def test_closing_while_a_connection_is_asked_for(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    getconn = ConnectionPool.getconn

    def closed_meanwhile(pool: Any) -> Any:
        store.close()
        return getconn(pool)

    monkeypatch.setattr(ConnectionPool, "getconn", closed_meanwhile)
    with pytest.raises(StoreUnavailable, match="closed"):
        store.revision()


def test_a_follower_listens_again(postgres: PostgresServer, database: str, store: PostgresStore) -> None:
    store.wait(0, 0.01)
    terminate_connections(postgres, database)
    with pytest.raises(StoreUnavailable):
        store.wait(0, 5)
    revision = store.revoke([A])
    started = time.monotonic()
    store.wait(revision - 1, 60)
    timer = threading.Timer(0.1, lambda: store.revoke([B]))
    timer.start()
    store.wait(revision, 60)
    assert time.monotonic() - started < 30
    timer.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_connections_of_its_own(url: str) -> None:
    program = (
        "import os, threading; from capability.store import open_store\n"
        "store = open_store(os.environ['CAP_STORE']); store.revoke([b'parent']); store.wait(0, 0.01)\n"
        "thread = threading.Thread(target=store.wait, args=(3, 1.5)); thread.start()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    store.revoke([b'child']); store.wait(0, 0.01); store.close(); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert store.status([b'child']).revoked_id == b'child'\n"
        "assert store.revoke([b'more']) == 3; thread.join(); store.wait(2, 5); store.close()\n"
    )
    finish(python(program, store=url))


# Several at once


def test_two_admins_at_once_and_a_reader_that_sees_no_half(url: str) -> None:
    program = (
        "import os, sys; from capability.store import open_store\n"
        "store = open_store(os.environ['CAP_STORE'])\n"
        "for number in range(40):\n"
        "    name = f'{sys.argv[1]}.{number}.'\n"
        "    print(store.revoke([(name + half).encode() for half in ('0', '1')]))\n"
    )
    with PostgresStore(url) as reader:
        admins = [python(program, name, store=url) for name in "ab"]
        seen, known = 0, set[bytes]()
        while any(admin.poll() is None for admin in admins) or seen < 80:
            changes = reader.changes(seen)
            known.update(changes.ids)
            assert len(known) == 2 * changes.revision, "a part of a revocation"
            seen = changes.revision
            revoked = reader.revocations()
            assert len(revoked) % 2 == 0
            for admin in admins:
                assert admin.poll() in (None, 0)
        revisions = [[int(line) for line in finish(admin).split()] for admin in admins]
        assert sorted(revisions[0] + revisions[1]) == list(range(1, 81))
        assert all(each == sorted(each) for each in revisions)
        assert reader.audit_problems() == ()


def test_one_chain_may_have_several_writers(url: str) -> None:
    with PostgresStore(url) as store:

        def write(worker: int) -> None:
            for _ in range(10):
                store.note([Event("decision")] * 2, writer="shared")
                store.register(Record(root=os.urandom(8), owner=Owner("user", str(worker))))

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {name: head.number for name, head in store.heads().items()} == {"shared": 80, "store": 40}
        assert store.audit_problems() == ()
        assert store.revoke_all_of(ANN) == 0
