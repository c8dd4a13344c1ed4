"""The copies that `cap serve` keeps on disk: a start without the sources, and sources that went back."""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from capability import KeyPair
from capability.errors import StoreUnavailable
from capability.keyset import KeySet
from capability.sidecar.feed import Feed
from capability.sidecar.kept import Folder
from capability.sidecar.storecopy import MAX_BYTES, Remembered, StoreCopy, without_password
from capability.store import Store, create_store
from capability.store.follower import Snapshot
from capability.store.index import RevocationIndex
from tests.sidecar.processes import Sidecar, sidecar, wait_until
from tests.sidecar.test_server import KEY, TCP, ids, web_keys
from tests.sidecar.test_signed import Issuer, failures, is_said, ready, web
from tests.sidecar.tokens import ROOT, mint

ROUTES = '[[serve.route]]\npath = "/"\n[[serve.route]]\npath = "/open"\non_stale = "allow"\n'


class Kept:
    """A store of one revoked token, and a sidecar that keeps its copies in `state`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "cap.db"
        self.url = f"sqlite:///{self.path}"
        self.state = folder / "state"
        named = f'store = "{self.url}"\nstate = "state"\npoll = 0.02'
        self.config = f'public_key = "{KEY}"\n[serve]\n{named}\n{TCP}{ROUTES}'
        self.token = self.revoke()

    def revoke(self) -> str:
        """Revokes a new token, and returns it."""
        token = mint()
        with create_store(self.url) as store:
            store.revoke(ids(token)[:1])
        return token

    @contextmanager
    def serving(self, more: str = "") -> Iterator[Sidecar]:
        config = self.config.replace("[serve]\n", f"[serve]\n{more}")
        with sidecar(self.folder, config=config) as server:
            yield server
            assert server.stop() == 0

    def ran(self) -> "Kept":
        """Returns this after a sidecar has followed the store, and ended."""
        with self.serving() as server:
            assert wait_until(lambda: server.ask(token=self.token)[0] == 401)
        return self

    def lost(self) -> "Kept":
        """Returns this with a store that is gone."""
        for each in self.folder.glob("cap.db*"):
            each.unlink()
        return self

    def heard(self, move: float) -> None:
        """Has the copy say that the store was heard from `move` seconds later than it was."""
        slot = Folder(str(self.state), writes=True, warn=pytest.fail).slot("store", self.url, MAX_BYTES)
        copy = slot.read()
        assert copy is not None
        (self.state / "store.heard").unlink(missing_ok=True)
        slot.keep(copy.content, copy.revision, time.time() + move)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def warned(server: Sidecar, words: str) -> bool:
    return words in server.errors.read_text()


def test_a_start_without_the_store_goes_by_the_copy_until_it_answers(kept: Kept) -> None:
    with kept.serving("workers = 2\n") as server:
        assert wait_until(lambda: server.ask(token=kept.token)[0] == 401)
        second = kept.revoke()
        # both workers know, of which one keeps it
        assert wait_until(lambda: b"cap_revocation_revision 2.0" in server.ask(1, "/metrics")[2])
        assert server.ask(token=second)[0] == 401
    assert stat.S_IMODE((kept.state / "store").stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.state.stat().st_mode) == 0o700
    away = kept.folder / "away.db"
    kept.path.rename(away)
    with kept.serving() as server:
        assert ready(server)
        for revoked in (kept.token, second):
            assert server.ask(token=revoked)[0] == 401
        assert server.ask(token=mint())[0] == 200
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": "2"})[0] == 200
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": "3"})[0] == 503
        away.rename(kept.path)
        third = kept.revoke()
        assert wait_until(lambda: server.ask(token=third)[0] == 401)
        assert server.ask(token=second)[0] == 401


@pytest.mark.parametrize(("moved", "where_open"), [(-100.0, 200), (1000.0, 503)])
def test_a_copy_that_is_too_old_or_of_a_time_to_come(kept: Kept, moved: float, where_open: int) -> None:
    kept.ran().lost().heard(moved)
    with kept.serving() as server:
        assert server.ask(token=mint())[0] == 503
        assert not ready(server)
        assert server.ask(token=mint(), target="/open")[0] == where_open
        assert server.ask(token=kept.token, target="/open")[0] != 200


def test_grace_counts_past_max_stale(kept: Kept) -> None:
    kept.ran().lost().heard(-100)
    with kept.serving("max_stale = 50\ngrace = 500\n") as server:
        assert server.ask(token=mint())[0] == 200
        assert not ready(server)


@pytest.mark.parametrize("moved", [0.0, 1000.0])
def test_a_store_that_went_back_is_refused(kept: Kept, moved: float) -> None:
    backup = shutil.copy(kept.path, kept.folder / "backup.db")
    second = kept.revoke()
    with kept.serving() as server:
        assert wait_until(lambda: server.ask(token=second)[0] == 401)
    kept.lost().heard(moved)
    shutil.copy(backup, kept.path)
    with kept.serving() as server:
        assert wait_until(lambda: warned(server, "revision 1, and had revision 2 before"))
        assert server.ask(token=second)[0] == (503 if moved else 401)
        assert server.ask(token=mint())[0] == (503 if moved else 200)
        assert wait_until(lambda: failures(server, "store") > 0)
    with kept.serving() as server:  # nor did the first one take what it refused
        assert wait_until(lambda: warned(server, "revision 1, and had revision 2 before"))
    (kept.state / "store").unlink()
    with kept.serving() as server:  # that is meant, says who removes the copy
        assert wait_until(lambda: server.ask(token=second)[0] == 200)


def test_a_store_with_other_ids_at_the_same_revision_went_back(kept: Kept) -> None:
    kept.ran().lost()
    other = kept.revoke()
    with kept.serving() as server:
        assert wait_until(lambda: warned(server, "at revision 1 it holds more than it did before"))
        assert server.ask(token=kept.token)[0] == 401
        kept.revoke()  # past it, it is a store like any
        assert wait_until(lambda: server.ask(token=other)[0] == 401)


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-16])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flip, "it is damaged"),
        (shorten, "it is damaged"),
        (empty, "it is damaged"),
        (link, "too many levels of symbolic links"),
        (pipe, "it is no file"),
        (lambda path: path.chmod(0o620), "it can be written by others than its owner"),
        (lambda path: path.parent.chmod(0o770), "its folder can be written by others than its owner"),
        (lambda path: path.write_bytes(bytes(5000)), "it is too long"),
    ],
)
def test_a_copy_that_is_damaged_or_that_others_can_write_is_no_copy(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    warnings: list[str] = []
    folder = Folder(str(tmp_path / "state"), writes=True, warn=warnings.append)
    slot = folder.slot("store", "redis://host/1", 64)
    slot.keep(bytes(64), 1, 0.0)
    assert slot.read() is not None
    spoil(tmp_path / "state" / "store")
    assert (slot.read(), slot.read()) == (None, None)
    assert [each.partition(" is not used: ")[2] for each in warnings] == [said]
    assert folder.failures == 2


@pytest.mark.parametrize("spoil", [flip, lambda path: path.parent.chmod(0o777)])
def test_a_start_does_not_go_by_what_others_may_have_written(
    kept: Kept, spoil: Callable[[Path], None]
) -> None:
    spoil(kept.ran().lost().state / "store")
    with kept.serving() as server:
        assert warned(server, "state/store' is not used: ")
        assert server.ask(token=mint())[0] == 503
        assert wait_until(lambda: failures(server, "state") > 0)


@pytest.mark.parametrize("state", ["missing/state", "others", "cap.db"])
def test_a_folder_that_cannot_be_used_is_no_outage(kept: Kept, state: str) -> None:
    (kept.folder / "others").mkdir()
    (kept.folder / "others").chmod(0o777)
    kept.config = kept.config.replace('"state"', f'"{state}"')
    with kept.serving() as server:
        assert wait_until(lambda: warned(server, "cannot be written: "))
        assert server.ask(token=mint())[0] == 200
        assert server.ask(token=kept.token)[0] == 401
        assert wait_until(lambda: failures(server, "state") > 0)
        assert server.errors.read_text().count("cannot be written: ") == 1
    assert not list((kept.folder / "others").iterdir())


def test_a_copy_of_another_store_is_not_used(tmp_path: Path) -> None:
    left(tmp_path)
    folder = Folder(str(tmp_path / "state"), writes=False, warn=pytest.fail)
    assert StoreCopy(folder, "redis://host/2").recall() is None
    assert StoreCopy(folder, "redis://host/1").recall() is not None


def test_lists_and_keys_of_an_issuer_that_is_down(tmp_path: Path) -> None:
    issuer, signer, state = Issuer(tmp_path, own := KeyPair()), KeySet.from_keys({1: own.public_key}), "state"
    token, keys, signers = mint(), [KeySet.from_keys({1: ROOT.public_key}).to_json()], [signer.to_json()]
    older = issuer.signed(ago=60)
    issuer.revoke(token)
    with web() as (source, url), web_keys(keys) as keys_url, web_keys(signers) as signers_url:
        config = (
            f'[serve]\nkeys = "{keys_url}"\nrevocations = "{url}"\nrevocations_key = "{signers_url}"\n'
            f'revocations_refresh = 0.05\nstate = "{state}"\n{TCP}'
        )
        source.content = issuer.signed()
        with sidecar(tmp_path, config=config) as server:
            assert wait_until(lambda: server.ask(token=token)[0] == 401)
            assert wait_until((tmp_path / state / "revocations").exists)
            assert server.stop() == 0
        assert {each.stat().st_mode & 0o777 for each in (tmp_path / state).iterdir()} == {0o600}
        source.content, keys[0], signers[0] = b"", "", ""
        with sidecar(tmp_path, config=config) as server:
            assert wait_until(lambda: server.ask(token=token)[0] == 401)
            assert server.ask(token=mint())[0] == 200
            assert ready(server)
            assert warned(server, "the keys are not taken, and what held goes on")
            keys[0], signers[0], source.content = KeySet.from_keys({1: ROOT.public_key}).to_json(), "", older
            signers[0] = signer.to_json()
            assert wait_until(partial(is_said, server, "are of revision 0, and 1 was seen before"))
            assert server.ask(token=token)[0] == 401
            assert server.stop() == 0
        # keys that were withdrawn meanwhile are gone by until their issuer says so
        source.content, keys[0] = issuer.signed(), KeySet.from_keys({1: KeyPair().public_key}).to_json()
        with sidecar(tmp_path, config=config) as server:
            assert wait_until(lambda: server.ask(token=mint())[0] == 401)


def test_a_list_that_is_over_still_tells_what_was_seen(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    older = issuer.signed()
    issuer.revoke(mint())
    config = (
        f'public_key = "{KEY}"\n[serve]\nrevocations = "{issuer.path}"\nstate = "state"\npoll = 0.02\n{TCP}'
    )
    over = issuer.signed(ago=60, lasts=timedelta(seconds=30))
    folder = Folder(str(tmp_path / "state"), writes=True, warn=pytest.fail)
    folder.slot("revocations", f"{issuer.path} ", 1 << 20).keep(over, 1, time.time())
    issuer.put(older)
    with sidecar(tmp_path, config=config) as server:
        assert wait_until(partial(is_said, server, "are of revision 0, and 1 was seen before"))
        assert warned(server, "state/revocations' is not used: the revocations ended")
        assert server.ask(token=mint())[0] == 503
        issuer.put(issuer.signed())
        assert wait_until(lambda: server.ask(token=mint())[0] == 200)


def left(folder: Path) -> StoreCopy:
    """Returns copies of which one says that b"known" was revoked."""
    index = RevocationIndex()
    index.add([b"known"])
    copies = StoreCopy(Folder(str(folder / "state"), writes=True, warn=pytest.fail), "redis://host/1")
    copies.keep(Snapshot(index, 3, 0.0))
    return copies


def test_what_was_left_is_not_gone_by_once_the_store_has_more(tmp_path: Path) -> None:
    def down() -> Store:
        raise StoreUnavailable("down")

    feed = Feed(down, poll=0.1, copies=left(tmp_path))
    feed.start()
    try:
        assert wait_until(lambda: feed.answered)
        assert feed.copy.status([b"known"]).revoked_id == b"known"
        assert (feed.revision(), len(feed)) == (3, 1)
        feed.pull()  # as after a revocation, which the store took
        with pytest.raises(StoreUnavailable):
            assert feed.copy
        assert (feed.revision(), feed.age(), len(feed)) == (None, None, 0)
    finally:
        feed.close()


def test_when_it_was_heard_from_is_of_one_copy_only(tmp_path: Path) -> None:
    copies, index = left(tmp_path), RevocationIndex()
    copies.keep(Snapshot(index, 3, -1000.0))  # heard later: the ids are as they were
    later = (tmp_path / "state" / "store.heard").read_bytes()
    found = copies.recall()
    assert found is not None
    with pytest.raises(StoreUnavailable):
        found.standing()
    copies.keep(Snapshot(index, 4, 500.0))
    (tmp_path / "state" / "store.heard").write_bytes(later)
    again = copies.recall()
    assert again is not None
    assert (again.revision(), len(again), again.age() >= 500) == (4, 0, True)


def test_its_age_goes_on(tmp_path: Path) -> None:
    now = [7.0]
    found = Remembered(RevocationIndex(), 1, time.time() - 10, clock=lambda: now[0])
    before = found.age()
    now[0] += 5
    assert (before >= 10, found.age()) == (True, before + 5)


def test_a_new_password_is_no_new_store() -> None:
    assert without_password("redis://a:b@host/1") == without_password("redis://a:c@host/1")
    assert without_password("postgresql://a:b@host/x") == "postgresql://a@host/x"
    assert without_password("sqlite:///a:b@c") == "sqlite:///a:b@c"


@pytest.mark.parametrize(
    ("revision", "heard"), [("7", "NaN"), ("7", "-Infinity"), ("Infinity", "1"), ("[" * 100_000, "1")]
)
def test_a_copy_whose_numbers_are_none_is_no_copy(tmp_path: Path, revision: str, heard: str) -> None:
    said: list[str] = []
    slot = Folder(str(tmp_path / "copies"), writes=True, warn=said.append).slot("store", "place", 1 << 20)
    assert slot.keep(b"", 7, 1.0) is not None
    assert slot.read() is not None
    file = tmp_path / "copies" / "store"
    head = file.read_bytes().partition(b"\n")[2]
    body = head.replace(b'"revision": 7', f'"revision": {revision}'.encode())
    body = body.replace(b'"heard": 1.0', f'"heard": {heard}'.encode())
    assert body != head
    file.write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)
    assert slot.read() is None
    assert len(said) == 1
    assert "damaged" in said[0]
