"""What goes wrong with a Redis server: each a clear error, nothing acknowledged is lost, never "not revoked".

CAP_KILLS says how often the server is killed.
"""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from capability.errors import StoreError, StoreRolledBack, StoreSchemaError, StoreUnavailable
from capability.store import Owner, Record, Selection, Store, create_store, open_store
from capability.store.follower import Follower
from capability.store.redis import registry
from capability.store.redis import store as store_module
from tests.servers import RedisServer, start_redis, wait_until

KILLS = int(os.environ.get("CAP_KILLS", "2"))
ANN = Owner("user", "ann")

WRITER = """
import sys
from capability.errors import StoreError
from capability.store import Owner, Record, open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    number += 1
    root = f"{sys.argv[2]}.{number}".encode()
    try:
        store.register(Record(root=root, owner=Owner("user", root.decode())))
        if number % 2:
            revision = store.revoke([root, root + b".below"], actor="killed")
        else:
            revision = store.revoke_all_of(Owner("user", root.decode()))
    except StoreError:
        break
    print(root.decode(), revision, flush=True)
"""


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may kill and configure."""
    server = start_redis()
    yield server
    server.remove()


def refused(call: Callable[[], object], error: type[StoreError], match: str) -> None:
    with pytest.raises(error, match=match):
        call()


def test_no_acknowledged_revocation_is_lost_when_the_server_is_killed(own_server: RedisServer) -> None:
    url = own_server.url()
    create_store(url).close()
    chance = random.Random(4)
    acknowledged: list[tuple[bytes, int]] = []
    with open_store(url) as verifier:
        for turn in range(KILLS):
            writers = [
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, url, f"{turn}.{each}"], stdout=subprocess.PIPE, text=True
                )
                for each in range(2)
            ]
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            lines = []
            if turn == KILLS - 1:  # once at least in the midst of what is acknowledged
                lines += [writer.stdout.readline() for writer in writers if writer.stdout is not None]
            time.sleep(chance.random() * 0.2)
            own_server.kill()
            for writer in writers:
                assert writer.stdout is not None
                lines += writer.stdout.readlines()  # `communicate` would lose what was read already
                writer.stdout.close()
                writer.wait(timeout=60)
            for line in lines:
                root, at = line.split()
                acknowledged.append((root.encode(), int(at)))
            refused(lambda: verifier.status([b"x"]), StoreUnavailable, "cannot be used")
            refused(verifier.revision, StoreUnavailable, "cannot be used")
            own_server.start()
            # The same object goes on by itself, on new connections.
            assert verifier.problems() == ()
            now = verifier.revision()
            for identifier, revision in acknowledged:
                assert verifier.status([identifier]).revoked_id == identifier
                assert revision <= now
            whole = {each.id for each in verifier.revocations()}
            for identifier in whole:
                above = identifier.removesuffix(b".below")
                assert {above, above + b".below"} <= whole
    assert acknowledged


def test_a_follower_goes_on_when_its_server_is_back(own_server: RedisServer) -> None:
    with create_store(own_server.url()) as store, Follower(store, max_stale=60, interval=0.05) as follower:
        assert follower.wait_for(store.revoke([b"a"]), timeout=60)
        own_server.kill()
        refused(lambda: store.revoke([b"b"]), StoreUnavailable, "cannot be used")
        own_server.start()
        assert follower.wait_for(store.revoke([b"b"]), timeout=60)
        assert follower.status([b"b"]).revoked_id == b"b"


def test_a_server_that_lost_everything_is_an_error(own_server: RedisServer) -> None:
    url = own_server.url()
    with create_store(url) as store:
        store.revoke([b"a"])
        own_server.execute("FLUSHALL")
        for ask in (lambda: store.status([b"a"]), store.revision, lambda: store.changes(0)):
            refused(ask, StoreUnavailable, "no store")
        refused(lambda: store.revoke([b"b"]), StoreUnavailable, "no store")
        refused(lambda: open_store(url), StoreUnavailable, "no store")
        with create_store(url) as another:
            another.revoke([b"b"])
            for ask in (lambda: store.status([b"a"]), store.revision, lambda: store.changes(0)):
                refused(ask, StoreSchemaError, "another store")


def test_a_server_that_went_back_is_refused(own_server: RedisServer) -> None:
    with create_store(own_server.url()) as store:
        store.revoke([b"a"])
        own_server.kill()
        kept = own_server.folder.with_suffix(".old")
        shutil.copytree(own_server.folder, kept)
        own_server.start()
        store.revoke([b"b"])
        own_server.kill()
        shutil.rmtree(own_server.folder)
        kept.rename(own_server.folder)
        own_server.start()
        for ask in (
            lambda: store.status([b"b"]),
            store.revision,
            lambda: store.changes(0),
            lambda: store.revoke([b"c"]),
        ):
            refused(ask, StoreRolledBack, "revision 1, and had revision 2")
        with open_store(own_server.url()) as fresh:
            refused(lambda: fresh.changes(2), StoreRolledBack, "had revision 2")


@pytest.mark.parametrize(
    "key", ["revoked", "feed", "rules", "acts", "records", "roots", "ids", "sizes", "heads"]
)
def test_a_key_that_is_gone_or_not_ours_is_damage(
    redis_server: RedisServer, redis_url: str, key: str
) -> None:
    with create_store(redis_url) as store:
        store.register(Record(root=b"a", owner=ANN))
        store.revoke_all_of(ANN)
        store.revoke([b"b"])
        redis_server.execute("RENAME", f"cap:{key}", "elsewhere")
        for put in (None, ("SET", f"cap:{key}", "1"), ("HSET", f"cap:{key}", "1", "1", "2", "2", "3", "3")):
            if put is not None:
                redis_server.execute("DEL", f"cap:{key}")
                redis_server.execute(*put)
            for ask in (
                lambda: store.status([b"c"]),
                lambda: store.changes(0),
                lambda: store.revoke([b"c"]),
                lambda: open_store(redis_url),
            ):
                with pytest.raises(StoreSchemaError):
                    ask()
            assert len(store.problems()) == 1
        redis_server.execute("RENAME", "elsewhere", f"cap:{key}")
        assert store.status([b"a"]).revoked_id == b"a"
        assert store.problems() == ()


def test_an_index_that_is_gone_does_not_spare_anyone(redis_server: RedisServer, redis_url: str) -> None:
    with create_store(redis_url) as store:
        store.register(Record(root=b"a", owner=ANN, name="x"))
        redis_server.execute("DEL", "cap:by:owner:user:ann", "cap:by:name:x")
        refused(lambda: store.revoke_all_of(ANN), StoreSchemaError, "index")
        refused(lambda: store.revoke_selected(Selection(name="x")), StoreSchemaError, "index")
        refused(lambda: store.records(Selection(owner=ANN)), StoreSchemaError, "index")
        assert store.revision() == 0


def test_the_keys_of_another_program_are_left_alone(redis_server: RedisServer, redis_url: str) -> None:
    for put in (
        ("HSET", "cap:meta", "theirs", "1"),
        ("SET", "cap:meta", "theirs"),
        ("HSET", "cap:meta", "application", "theirs"),
        ("SET", "cap:revoked", "theirs"),
    ):
        redis_server.execute("FLUSHALL")
        redis_server.execute(*put)
        refused(lambda: create_store(redis_url), StoreSchemaError, "not those|something else")
        with pytest.raises(StoreError):
            open_store(redis_url)
        assert redis_server.execute("DBSIZE") == 1


def test_a_newer_store_is_refused(redis_server: RedisServer, redis_url: str) -> None:
    create_store(redis_url).close()
    redis_server.execute("HSET", "cap:meta", "version", "99")
    for ask in (open_store, create_store):
        with pytest.raises(StoreSchemaError, match="version 99"):
            ask(redis_url)


def test_what_would_lose_revocations_is_refused(own_server: RedisServer) -> None:
    url = own_server.url()
    with create_store(url) as store:
        revision = store.revoke([b"a"])
        for name, value, otherwise, said in (
            ("appendonly", "no", "yes", "does not keep"),
            ("appendfsync", "no", "always", "leaves it"),
            ("maxmemory-policy", "allkeys-lru", "noeviction", "throws keys away"),
        ):
            own_server.execute("CONFIG", "SET", name, value)
            for ask in (
                lambda: store.revoke([b"b"]),
                lambda: store.register(Record(root=b"c")),
                lambda: open_store(url),
                lambda: create_store(url),
            ):
                refused(ask, StoreUnavailable, said)
            assert store.revision() == revision
            if name != "maxmemory-policy":
                with open_store(own_server.url("durability=memory")) as careless:
                    revision = careless.revoke([name.encode()])
            own_server.execute("CONFIG", "SET", name, otherwise)


def test_a_lazy_disk_is_waited_for_or_it_is_said(own_server: RedisServer) -> None:
    with create_store(own_server.url()) as store:
        own_server.execute("CONFIG", "SET", "appendfsync", "everysec")
        if own_server.version() < (7, 2):
            refused(lambda: store.revoke([b"a"]), StoreUnavailable, "the change was made")
        else:
            assert store.revoke([b"a"]) == 1
            own_server.kill()
            own_server.start()
        assert store.status([b"a"]).revoked_id == b"a"


def test_a_full_server_refuses_and_loses_nothing(own_server: RedisServer) -> None:
    with create_store(own_server.url()) as store:
        store.revoke([b"a"])
        used = own_server.execute("INFO", "memory")["used_memory"]
        # Half: what a connection takes is given back in between, and would make room.
        own_server.execute("CONFIG", "SET", "maxmemory", used // 2)
        refused(lambda: store.revoke([os.urandom(64) for _ in range(100)]), StoreUnavailable, "no memory")
        assert store.status([b"a"]).revoked_id == b"a"
        assert (store.revision(), len(store.revocations())) == (1, 1)
        own_server.execute("CONFIG", "SET", "maxmemory", 0)
        assert store.revoke([b"b"]) == 2
        assert store.problems() == ()


def test_wrong_passwords_and_missing_rights_are_said(own_server: RedisServer) -> None:
    url = own_server.url()
    with create_store(url) as store:
        store.revoke([b"a"])
    rights = ("on", ">s3cret", "resetkeys", "~cap:*", "-@all", "+@read", "+@scripting", "+@connection")
    own_server.execute("ACL", "SETUSER", "reader", *rights)
    own_server.execute("ACL", "SETUSER", "elsewhere", *rights, "resetkeys", "~other:*")
    for login, said in (("reader:wrong-one@", "refuses the user"), ("elsewhere:s3cret@", "may not do")):
        with pytest.raises(StoreUnavailable, match=said) as caught:
            open_store(own_server.url(login=login))
        assert "wrong-one" not in str(caught.value) + repr(caught.value.__cause__)
        assert "s3cret" not in str(caught.value)
    # It may not ask for the settings either, and so cannot promise anything; to read it needs no promise.
    with open_store(own_server.url(login="reader:s3cret@")) as reader:
        assert "s3cret" not in repr(reader) + repr(vars(reader))
        assert reader.status([b"a"]).revoked_id == b"a"
        assert reader.changes(0).ids == (b"a",)
        reader.wait(0, 0.05)  # type: ignore[attr-defined]
        refused(lambda: reader.revoke([b"b"]), StoreUnavailable, "may not do")
        assert reader.revision() == 1
    # Half of the rights must not make half of a change.
    own_server.execute("ACL", "SETUSER", "reader", "+hset", "+config|get")
    with open_store(own_server.url(login="reader:s3cret@")) as reader:
        refused(lambda: reader.revoke([b"b"]), StoreUnavailable, "may not do")
        refused(lambda: reader.register(Record(root=b"b")), StoreUnavailable, "may not do")
        assert reader.problems() == ()
        own_server.execute("ACL", "SETUSER", "reader", "+@write")
        assert reader.revoke([b"b"]) == 2


def test_a_replica_answers_and_takes_no_changes(own_server: RedisServer) -> None:
    own_server.execute("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    replica = start_redis("--replicaof", f"127.0.0.1 {own_server.port}")
    try:
        with create_store(own_server.url()) as store:
            revision = store.revoke([b"a"])

            def copied() -> bool:
                with suppress(StoreUnavailable), open_store(replica.url()) as copy:
                    return copy.status([b"a"]).revision == revision
                return False

            wait_until(copied)
            with open_store(replica.url()) as copy:
                assert copy.status([b"a"]).revoked_id == b"a"
                refused(lambda: copy.revoke([b"b"]), StoreUnavailable, "replica")
    finally:
        replica.remove()


def test_a_server_that_does_not_answer_is_unavailable(own_server: RedisServer) -> None:
    create_store(own_server.url()).close()
    opened: list[Store] = []

    def answers() -> bool:  # a machine that is busy may take longer than that
        with suppress(StoreUnavailable):
            if not opened:
                opened.append(open_store(own_server.url(timeout=0.3)))
            return opened[0].status([b"a"]).revoked_id is None
        return False

    wait_until(answers)
    with opened[0] as store:
        own_server.pause()
        refused(lambda: store.status([b"a"]), StoreUnavailable, "did not answer within 0.3 s")
        own_server.resume()
        wait_until(answers)


def test_connections_that_were_cut_are_made_again(redis_server: RedisServer, redis_url: str) -> None:
    with create_store(redis_url) as store:
        for number in range(3):
            redis_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert store.revoke([bytes([number + 1])]) == number + 1
            redis_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert store.status([bytes([number + 1])]).revision == number + 1


def test_a_socket_is_a_way_in(tmp_path: Path) -> None:
    server = start_redis("--unixsocket", str(tmp_path / "a socket"))
    try:
        with create_store(f"redis+unix://{tmp_path}/a%20socket?prefix=%7Bcap%7D:&timeout=60") as store:
            assert store.revoke([b"a"]) == 1
        assert server.execute("EXISTS", "{cap}:meta") == 1
    finally:
        server.remove()


def test_threads_that_ask_for_the_revision_see_no_rollback(redis_url: str) -> None:
    with create_store(redis_url) as store:
        done = threading.Event()
        wrong: list[StoreError] = []

        def ask() -> None:
            while not done.is_set():
                try:
                    store.revision()
                except StoreError as error:
                    wrong.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(60):
            store.revoke([bytes([number + 1])])
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_script_that_was_forgotten_is_sent_again(redis_server: RedisServer, redis_url: str) -> None:
    with create_store(redis_url) as store:
        redis_server.execute("SCRIPT", "FLUSH")
        assert store.revoke([b"a"]) == 1
        redis_server.execute("SCRIPT", "FLUSH")
        assert store.status([b"a"]).revoked_id == b"a"


def test_a_reader_never_sees_half_of_a_revocation(redis_url: str) -> None:
    """Two admins revoke at once, of records too, while others read."""
    pairs = [(f"{n}".encode(), f"{n}.below".encode()) for n in range(60)]
    done = threading.Event()
    broken: list[object] = []

    def read() -> None:
        with open_store(redis_url) as reader:
            known: set[bytes] = set()
            at = 0
            while not done.is_set():
                changes = reader.changes(at)
                known.update(changes.ids)
                if any((above in known) != (below in known) for above, below in pairs):
                    broken.append(changes)
                if len(known) != 2 * changes.revision or changes.revision < at:
                    broken.append(changes)
                at = changes.revision

    def write(part: list[tuple[bytes, bytes]]) -> None:
        with open_store(redis_url) as admin:
            for pair in part:
                admin.revoke(pair)

    with create_store(redis_url) as store:
        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(pairs[each::2],)) for each in range(2)]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert not broken
        assert store.revision() == 60
        assert store.problems() == ()


def test_pages_are_put_together(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one script reads: of records, of the feed, of a rule and of the trail."""
    for module in (registry, store_module):
        monkeypatch.setattr(module, "PAGE", 10)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with create_store(redis_url) as store:
        roots = [number.to_bytes(2, "big") for number in range(1, 52)]
        for number, root in enumerate(roots):
            store.register(
                Record(
                    root=root,
                    owner=ANN,
                    applications=("orders",) if number % 2 else None,
                    created=start,
                    expires=start + timedelta(days=number + 1),
                )
            )
        assert [each.root for each in store.records()] == roots
        assert [each.root for each in store.records(Selection(owner=ANN, application="orders"))] == roots
        assert len(store.records(Selection(expires_before=start + timedelta(days=3)))) == 2
        store.revoke([bytes([9]) + root for root in roots])
        store.revoke_all_of(ANN)
        changes = store.changes(0)
        assert len(changes.ids) == 2 * len(roots)
        assert store.changes(1).ids == tuple(roots)
        assert len(store.revocations()) == len(roots)
        assert len([*store.audit()]) == len(roots) + 2
        assert store.problems() == ()


def test_a_load_that_fails_leaves_no_keys(redis_server: RedisServer, redis_url: str) -> None:
    with create_store(redis_url) as store, create_store(f"{redis_url}&prefix=b:") as other:
        store.register(Record(root=b"a", owner=ANN))
        store.revoke([b"a"])
        other.revoke([b"b"])
        before = redis_server.execute("DBSIZE")
        with store.dump() as dump, pytest.raises(StoreError):
            other.load(dump)
        assert redis_server.execute("DBSIZE") == before


def test_without_the_package_the_error_names_it() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from capability.store import open_store, check_url\n"
        "from capability.errors import StoreUnavailable\n"
        "check_url('redis://localhost')\n"
        "try: open_store('redis://localhost')\n"
        "except StoreUnavailable as error: assert 'capability-tokens[redis]' in str(error)\n"
        "else: raise SystemExit('opened')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
