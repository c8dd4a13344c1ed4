"""Signed revocations: what is written reads back, what is not whole and genuine is refused, an end is one."""

import os
import random
import struct
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capability import Algorithm, BiscuitBuilder, Guard, KeyEntry, KeyPair, KeySet, Outcome
from capability.errors import SignedRevocationsError, StoreError, StoreRolledBack, StoreUnavailable
from capability.revocation import RevisedSource, digest
from capability.store.index import Packed
from capability.store.memory import MemoryStore
from capability.store.signed import SKEW, SignedRevocations, export_delta, export_full
from capability.store.signed_file import FileWatcher
from capability.store.signed_parts import WIDTH, Part, read, write

KEY = KeyPair()
DAY = timedelta(days=1)
NUMBERS = st.integers(0, 2**63 - 1)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.revoke([b"first"])
    return store


def full(store: MemoryStore, clock: Clock) -> bytes:
    return export_full(store, KEY.private_key, valid_for=DAY, clock=clock)


def delta(store: MemoryStore, clock: Clock, since: int) -> bytes:
    return export_delta(store, KEY.private_key, since=since, valid_for=DAY, clock=clock)


def packed(ids: set[bytes]) -> Packed:
    return Packed.of(sorted({digest(each)[:WIDTH] for each in ids}), WIDTH, compact=True)


@pytest.mark.parametrize("algorithm", Algorithm)
@given(
    st.sets(st.binary(min_size=1, max_size=4), max_size=60),
    st.none() | st.integers(0, 5),
    st.integers(5, 2**63 - 1),
    st.integers(0, 2**62),
    st.integers(1, 2**62 - 1),
    st.text(max_size=60),
)
def test_what_is_written_reads_back(
    algorithm: Algorithm, ids: set[bytes], base: int | None, revision: int, issued: int, lasts: int, name: str
) -> None:
    key = KeyPair(algorithm)
    part = Part(name, base, revision, issued, issued + lasts, packed(ids))
    data = write(part, key.private_key)
    (again,) = read(data, key.public_key, now=0)
    assert (again.name, again.base, again.revision, again.issued, again.valid_until) == (
        *(name, base, revision, issued),
        issued + lasts,
    )
    assert list(again.digests) == list(part.digests)
    assert write(again, key.private_key) == data


def test_ids_that_crowd_one_place_are_written_and_found() -> None:
    crowded = [bytes([7]) + number.to_bytes(WIDTH - 1, "big") for number in range(1_000)]
    part = Part("", None, 1, 1, 2, Packed.of(crowded, WIDTH, compact=True))
    (again,) = read(write(part, KEY.private_key), KEY.public_key, now=0)
    assert list(again.digests) == crowded
    assert all(each in again.digests for each in crowded)


def test_every_flipped_bit_is_refused(store: MemoryStore, clock: Clock) -> None:
    store.revoke([os.urandom(64) for _ in range(20)])
    data = full(store, clock)
    SignedRevocations(data, KEY.public_key, clock=clock)
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            with pytest.raises(SignedRevocationsError):
                SignedRevocations(bytes(flipped), KEY.public_key, clock=clock)


def test_every_truncation_is_refused(store: MemoryStore, clock: Clock) -> None:
    data = full(store, clock)
    store.revoke([b"second"])
    both = data + delta(store, clock, 1)
    for length in range(len(both)):
        if length == len(data):  # where a part ends, what is there is whole
            continue
        with pytest.raises(SignedRevocationsError):
            SignedRevocations(both[:length], KEY.public_key, clock=clock)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
@example(b"", True)
@example(b"\xff" * 60, True)
def test_any_bytes_are_refused(data: bytes, framed: bool) -> None:
    with pytest.raises(SignedRevocationsError):
        SignedRevocations((b"caprev\0\1\0\x40" if framed else b"") + data, KEY.public_key)


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_any_signed_bytes_are_read_or_refused(body: bytes) -> None:
    """Whoever holds the key may still write nonsense: an error of ours, in bounded memory, and no other."""
    message = b"\0CAPABILITY\0REVOCATIONS\0" + struct.pack(">HB", 1, 0) + sha256(body).digest()
    signature = KEY.private_key.sign(message)
    data = struct.pack(">6sHBBQ", b"caprev", 1, 0, len(signature), len(body)) + signature + body
    with suppress(SignedRevocationsError):
        read(data, KEY.public_key, now=0)


def test_a_source_says_what_the_store_said(store: MemoryStore, clock: Clock) -> None:
    ids = [os.urandom(64) for _ in range(5_000)]
    store.revoke(ids)
    source = SignedRevocations(full(store, clock), KEY.public_key, clock=clock)
    assert isinstance(source, RevisedSource)
    assert (len(source), source.revision()) == (5_001, 2)
    clock.now += 5
    for each in ids:
        status = source.status([b"unknown", each])
        assert (status.revoked_id, status.revision, status.age) == (each, 2, 5)
    assert not any(source.status([os.urandom(64)]).revoked_id for _ in range(5_000))


def test_deltas_follow_one_another(store: MemoryStore, clock: Clock) -> None:
    source = SignedRevocations(full(store, clock), KEY.public_key, clock=clock)
    chance = random.Random(4)
    held = [b"first"]
    for _ in range(30):
        clock.now += 1
        fresh = [chance.randbytes(64) for _ in range(chance.randrange(400))]
        before = source.revision()
        if fresh:
            store.revoke(fresh)
        assert source.update(delta(store, clock, before)) == store.revision()
        held += fresh
    assert len(source) == len(held)
    assert all(source.status([each]).revoked_id for each in held)


def test_what_expired_may_be_missing_from_the_next_list_of_a_revision(
    store: MemoryStore, clock: Clock
) -> None:
    """Pruning is no revocation, so the revision stays. A list that was pruned is no other store's."""
    ids = [os.urandom(64) for _ in range(100)]
    store.revoke(ids[:50], expires=datetime.fromtimestamp(clock.now, UTC))
    store.revoke(ids[50:])
    source = SignedRevocations(full(store, clock), KEY.public_key, clock=clock)
    clock.now += 10
    assert source.update(full(store, clock)) == 3
    assert store.prune(now=datetime.fromtimestamp(clock.now, UTC) + 2 * DAY) == 50
    assert source.update(full(store, clock)) == 3
    assert len(source) == 51
    assert all(source.status([each]).revoked_id for each in ids[50:])


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("older revision", "rollback"),
        ("older time", "rollback"),
        ("other ids of the same revision", "rollback"),
        ("delta of another base", "base"),
        ("another key", "signature"),
        ("expired", "expired"),
        ("to come", "early"),
        ("truncated", "format"),
        ("too large", "size"),
    ],
)
def test_what_is_refused_changes_nothing(
    store: MemoryStore, clock: Clock, what: str, code: str, tmp_path: Path
) -> None:
    older = full(store, clock)
    store.revoke([b"second"])
    clock.now += 10
    path = tmp_path / "revoked"
    path.write_bytes(full(store, clock))
    kept = path.read_bytes()
    source = SignedRevocations.load(path, KEY.public_key, clock=clock, max_bytes=1_000)
    store.revoke([b"third"])
    store.revoke([b"fourth"])
    other = MemoryStore()
    for each in (b"second", b"third"):
        other.revoke([each])
    late, early = Clock(), Clock()
    late.now, early.now = clock.now + SKEW + 2, clock.now - 1
    data = {
        "older revision": older,
        "older time": full(store, early),
        "other ids of the same revision": full(other, clock),
        "delta of another base": delta(store, clock, 3),
        "another key": export_full(store, KeyPair().private_key, valid_for=DAY, clock=clock),
        "expired": export_full(store, KEY.private_key, valid_for=timedelta(seconds=1), clock=clock),
        "to come": full(store, late),
        "truncated": full(store, clock)[:-1],
        "too large": full(store, clock) + bytes(1_000),
    }[what]
    if what == "expired":
        clock.now += 1
    with pytest.raises(SignedRevocationsError) as refused:
        source.update(data)
    assert refused.value.code == f"revocations.{code}"
    assert source.revision() == 2
    assert source.status([b"second"]).revoked_id == b"second"
    assert source.status([b"third"]).revoked_id is None
    assert path.read_bytes() == kept
    assert [each.name for each in tmp_path.iterdir()] == ["revoked"]


def test_what_is_taken_is_kept_in_the_file(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    path.write_bytes(full(store, clock))
    source = SignedRevocations.load(path, KEY.public_key, clock=clock)
    for number in range(3):
        since = store.revision()
        store.revoke([b"more %d" % number])
        source.update(delta(store, clock, since))
    again = SignedRevocations.load(path, KEY.public_key, clock=clock)
    assert again.revision() == 4
    assert again.status([b"more 2"]).revoked_id == b"more 2"
    newest = full(store, clock)
    source.update(newest)
    assert path.read_bytes() == newest


def test_a_file_that_somebody_else_replaces(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    older = full(store, clock)
    path.write_bytes(older)
    source = SignedRevocations.load(path, KEY.public_key, clock=clock)
    store.revoke([b"second"])
    path.write_bytes(full(store, clock))
    assert source.reload() == 2
    path.write_bytes(older)
    with pytest.raises(SignedRevocationsError, match="revision 1"):
        source.reload()
    path.unlink()
    with pytest.raises(StoreUnavailable, match="no such file"):
        source.reload()
    assert source.status([b"second"]).revoked_id == b"second"
    with pytest.raises(StoreUnavailable):
        SignedRevocations.load(path, KEY.public_key)


def test_a_folder_that_cannot_be_written_to(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "revoked"
    path.write_bytes(full(store, clock))
    source = SignedRevocations.load(path, KEY.public_key, clock=clock)
    store.revoke([b"second"])
    path.unlink()
    folder.rmdir()
    with pytest.raises(StoreUnavailable, match="were not kept"):
        source.update(full(store, clock))
    assert source.status([b"second"]).revoked_id == b"second"  # in force all the same


def test_a_guard_denies_past_the_end(store: MemoryStore, clock: Clock) -> None:
    root = KeyPair()
    source = SignedRevocations(full(store, clock), KEY.public_key, clock=clock)
    guard = Guard(root.public_key, "allow if true", source, clock=clock)
    token = BiscuitBuilder("a(1)").build(root.private_key)
    text = token.to_base64()
    for _ in range(4):  # until the warm path answers
        assert guard.check(text).allowed
    clock.now += DAY.total_seconds()
    assert guard.check(text).outcome is Outcome.STORE_UNAVAILABLE
    store.revoke(token.canonical_revocation_ids)
    source.update(full(store, clock))
    assert guard.check(text).outcome is Outcome.REVOKED
    clock.now -= 2 * SKEW  # somebody turns the clock back
    assert guard.check(text).outcome is Outcome.STORE_UNAVAILABLE


def test_a_revision_that_was_seen_before(store: MemoryStore, clock: Clock) -> None:
    with pytest.raises(SignedRevocationsError, match="2 was seen before"):
        SignedRevocations(full(store, clock), KEY.public_key, clock=clock, min_revision=2)


def test_keys_of_a_set_sign_until_they_retire(store: MemoryStore, clock: Clock) -> None:
    data = full(store, clock)
    ends = datetime.fromtimestamp(clock.now + 1, UTC)
    keys = KeySet([KeyEntry(KeyPair().public_key, 1), KeyEntry(KEY.public_key, 2, expires_at=ends)])
    source = SignedRevocations(data, keys, clock=clock)
    clock.now += 1
    with pytest.raises(SignedRevocationsError) as refused:
        source.update(data)
    assert refused.value.code == "revocations.signature"


def test_a_signature_is_good_for_nothing_else() -> None:
    """A root key that signs revocations as well signs no block by it: no payload begins like that."""
    part = Part("", None, 1, 1, 2, packed({b"x"}))
    seen: list[bytes] = []

    class Spy:
        public_key = KEY.public_key

        def sign(self, message: bytes) -> bytes:
            seen.append(message)
            return KEY.private_key.sign(message)

    write(part, Spy())
    (message,) = seen
    assert message.startswith(b"\0CAPABILITY\0REVOCATIONS\0\0\1\0")
    assert len(message) == 24 + 3 + 32


def test_exports_that_cannot_be(store: MemoryStore, clock: Clock) -> None:
    with pytest.raises(ValueError, match="ends after it begins"):
        export_full(store, KEY.private_key, valid_for=timedelta(0))
    with pytest.raises(StoreRolledBack):
        delta(store, clock, 2)
    with pytest.raises(ValueError, match="compact"):
        write(Part("", None, 1, 1, 2, Packed.of([], 16, compact=False)), KEY.private_key)
    with pytest.raises(ValueError, match="out of range"):
        write(Part("", None, 2**63, 1, 2, packed(set())), KEY.private_key)
    with pytest.raises(ValueError, match="not loaded from a file"):
        SignedRevocations(full(store, clock), KEY.public_key, clock=clock).reload()
    assert issubclass(SignedRevocationsError, StoreError)


def test_a_list_of_another_store_is_refused(store: MemoryStore, clock: Clock) -> None:
    other = MemoryStore()
    for number in range(5):
        other.revoke([bytes([number + 1])])
    one = export_full(store, KEY.private_key, valid_for=DAY, name="one", clock=clock)
    two = export_full(other, KEY.private_key, valid_for=DAY, name="two", clock=clock)
    unnamed = full(other, clock)
    source = SignedRevocations(one, KEY.public_key, clock=clock)
    assert source.name == "one"
    for data in (two, unnamed):
        with pytest.raises(SignedRevocationsError, match="'one' is meant") as refused:
            source.update(data)
        assert refused.value.code == "revocations.name"
        with pytest.raises(SignedRevocationsError, match="'one' is meant"):
            SignedRevocations(data, KEY.public_key, name="one", clock=clock)
    store.revoke([b"second"])
    assert source.update(export_full(store, KEY.private_key, valid_for=DAY, name="one", clock=clock)) == 2
    with pytest.raises(ValueError, match="255 bytes"):
        export_full(store, KEY.private_key, valid_for=DAY, name="n" * 256)


def test_a_watcher_takes_what_is_put_in_the_place_of_a_file(store: MemoryStore, tmp_path: Path) -> None:
    path, key = tmp_path / "list", KEY.private_key
    path.write_bytes(export_full(store, key, valid_for=DAY))
    source = SignedRevocations.load(path, KEY.public_key)
    watcher = FileWatcher(source, interval=0.01)
    watcher.look()
    store.revoke([b"second"])
    (tmp_path / "new").write_bytes(export_full(store, key, valid_for=DAY))
    with watcher:
        os.replace(tmp_path / "new", path)
        until = time.monotonic() + 30
        while source.revision() < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert source.status([b"second"]).revoked_id == b"second"
    path.write_bytes(b"damaged")
    with pytest.raises(SignedRevocationsError):
        watcher.look()
    watcher.look()  # not the same one twice
    path.unlink()
    watcher.look()
    assert (watcher.failures, source.revision()) == (1, 2)
    with pytest.raises(ValueError, match="not loaded from a file"):
        FileWatcher(SignedRevocations(export_full(store, key, valid_for=DAY), KEY.public_key))
