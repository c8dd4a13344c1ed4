"""A copy that follows a store: what it holds, how old it is, and when it refuses to answer."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capability import BiscuitBuilder, Guard, KeyPair, Outcome
from capability.errors import StoreRolledBack, StoreUnavailable
from capability.revocation import RevocationIds, digest
from capability.store import Owner, Record
from capability.store.follower import Follower
from capability.store.index import MERGE_FROM, Packed, RevocationIndex
from capability.store.memory import MemoryStore
from capability.store.sqlite import SQLiteStore, create
from tests.servers import wait_until


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.sets(st.binary(min_size=1, max_size=3), max_size=40), max_size=6))
def test_an_index_holds_what_was_added_and_nothing_else(batches: list[set[bytes]]) -> None:
    index, held = RevocationIndex(), set[bytes]()
    for batch in batches:
        index.add(batch)
        held |= batch
        assert len(index) == len(held)
    for number in range(256):
        for each in (bytes([number]), bytes([number, 0])):
            assert (each in index) == (each in held)
    assert all(each in index for each in held)


def test_an_index_that_has_merged() -> None:
    ids = [number.to_bytes(64, "big") for number in range(3 * MERGE_FROM)]
    index = RevocationIndex()
    for start in range(0, len(ids), 1_000):
        index.add(ids[start : start + 1_000])
    index.add(ids[:10])
    assert len(index) == len(ids)
    assert all(each in index for each in ids)
    assert not any(number.to_bytes(64, "big") in index for number in range(len(ids), 2 * len(ids)))
    assert index.first([b"x", ids[5], ids[1]]) == ids[5]
    assert index.first([b"x"]) is None


@pytest.mark.parametrize("count", [65_535, 65_536, 100_000])
def test_an_index_takes_at_most_20_bytes_an_id(count: int) -> None:
    index = RevocationIndex()
    index.add(number.to_bytes(64, "big") for number in range(count))
    assert len(index) == count
    assert index.nbytes() / count <= 20


@given(st.sets(st.binary(min_size=1, max_size=3), max_size=40), st.integers(9, 16), st.booleans())
def test_what_is_packed_is_there_in_order(ids: set[bytes], width: int, compact: bool) -> None:
    digests = sorted({digest(each)[:width] for each in ids})
    packed = Packed.of(digests, width, compact=compact)
    assert list(packed) == digests
    assert sum(packed.counts()) == len(packed) == len(digests)
    assert all(each in packed for each in digests)
    index = RevocationIndex(packed)
    for each in [*ids, b"what is not there", b""]:
        assert (index.first((each,)) == each) == (each in ids)
        assert index.first(RevocationIds((b"nor this", each))) == index.first((each,))


def test_a_follower_says_what_its_store_says() -> None:
    store, clock = MemoryStore(), Clock()
    store.register(Record(root=b"root", owner=Owner("user", "ann")))
    follower = Follower(store, max_stale=10, clock=clock)
    with pytest.raises(StoreUnavailable, match="nothing was read"):
        follower.status([b"x"])
    assert follower.poll() == 0
    store.revoke([b"x"])
    assert follower.status([b"x"]).revoked_id is None
    assert follower.poll() == 1
    store.revoke_all_of(Owner("user", "ann"))
    assert follower.poll() == 2
    assert follower.status([b"a", b"x"]).revoked_id == b"x"
    assert follower.status([b"root"]).revoked_id == b"root"
    assert follower.revision() == 2
    assert len(follower) == 2


def test_what_is_too_old_is_not_answered() -> None:
    store, clock = MemoryStore(), Clock()
    strict = Follower(store, max_stale=10, clock=clock)
    lenient = Follower(store, max_stale=None, clock=clock)
    for each in (strict, lenient):
        each.poll()
    clock.now += 10
    assert strict.status([b"x"]).age == 10
    clock.now += 0.5
    for call in (strict.revision, lambda: strict.status([b"x"])):
        with pytest.raises(StoreUnavailable, match=r"10\.5 s old"):
            call()
    assert lenient.status([b"x"]).age == 10.5
    strict.poll()
    assert strict.status([b"x"]).age == 0


def test_a_guard_denies_when_its_copy_is_too_old() -> None:
    root, store, clock = KeyPair(), MemoryStore(), Clock()
    follower = Follower(store, max_stale=10, clock=clock)
    follower.poll()
    guard = Guard(root.public_key, "allow if true", follower)
    text = BiscuitBuilder("a(1)").build(root.private_key).to_base64()
    for _ in range(4):  # until the warm path answers
        assert guard.check(text).allowed
    clock.now += 11
    assert guard.check(text).outcome is Outcome.STORE_UNAVAILABLE


def test_a_revision_that_was_asked_for() -> None:
    store = MemoryStore()
    follower = Follower(store, max_stale=10, min_revision=1)
    follower.poll()
    with pytest.raises(StoreUnavailable, match="revision 1"):
        follower.revision()
    store.revoke([b"x"])
    follower.poll()
    assert follower.revision() == 1


def test_a_store_that_went_back_is_not_followed(tmp_path: Path) -> None:
    path, copy = tmp_path / "cap.db", tmp_path / "copy.db"
    create(path)
    shutil.copy(path, copy)
    with SQLiteStore(path) as store:
        store.revoke([b"x"])
    with SQLiteStore(path) as store:
        follower = Follower(store, max_stale=10)
        follower.poll()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.replace(copy, path)
        with pytest.raises(StoreRolledBack):
            follower.poll()
        assert follower.failures == 1
        assert follower.status([b"x"]).revoked_id == b"x"


def test_it_polls_by_itself_until_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "cap.db"
    create(path)
    with SQLiteStore(path) as reader, SQLiteStore(path) as writer:
        with Follower(reader, max_stale=30, interval=0.01) as follower:
            revision = writer.revoke([b"x"])
            assert follower.wait_for(revision, timeout=30)
            assert follower.status([b"x"]).revoked_id == b"x"
            assert not follower.wait_for(revision + 1, timeout=0.01)
        assert all(thread.name != "cap-follower" for thread in threading.enumerate())


class Sleepless(MemoryStore):
    """A store that cannot wake anybody, and says so at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def wait(self, revision: int, timeout: float) -> None:
        self.asked += 1
        raise StoreUnavailable("nobody is told")


def test_a_store_that_cannot_wake_is_polled() -> None:
    started = time.monotonic()
    with Sleepless() as store, Follower(store, max_stale=30, interval=0.05) as follower:
        assert follower.wait_for(store.revoke([b"x"]), timeout=30)
        store.close()
        wait_until(lambda: follower.failures >= 3)
        assert store.asked <= (time.monotonic() - started) / 0.05 + 1, "asked without a pause"


@pytest.mark.parametrize("bounds", [{"max_stale": 0}, {"max_stale": -1}, {"max_stale": 1, "interval": 0}])
def test_bounds_that_cannot_be(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Follower(MemoryStore(), **bounds)  # type: ignore[arg-type]
