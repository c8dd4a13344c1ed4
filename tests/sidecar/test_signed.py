"""Signed revocations in `cap serve`: followed in a file or at a URL, refused where they are no good."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capability import KeyPair
from capability.revocation import RevocationStatus
from capability.sidecar.feed import Both, Feed
from capability.sidecar.signedfeed import SignedFeed
from capability.store import create_store
from capability.store.memory import MemoryStore
from capability.store.signed import export_delta, export_full
from tests.sidecar.processes import ROOT as PROJECT
from tests.sidecar.processes import Sidecar, sidecar, undisturbed, wait_until
from tests.sidecar.test_server import KEY, TCP, ids
from tests.sidecar.tokens import ROOT, mint

HOUR = timedelta(hours=1)
API = TCP + '[[serve.listen]]\naddress = "tcp:0"\nserves = "api"\n'
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Issuer:
    """A store of its own, and lists that are signed of it; each is put whole into the place of the last."""

    def __init__(self, folder: Path, key: KeyPair = ROOT) -> None:
        self.path = folder / "revoked.signed"
        self.store = MemoryStore()
        self._key = key

    def revoke(self, token: str) -> None:
        self.store.revoke(ids(token)[-1:])

    def signed(self, *, ago: float = 0, lasts: timedelta = HOUR, name: str = "") -> bytes:
        then = time.time() - ago
        return export_full(self.store, self._key.private_key, valid_for=lasts, name=name, clock=lambda: then)

    def put(self, content: bytes) -> bytes:
        beside = self.path.with_suffix(".new")
        beside.write_bytes(content)
        beside.replace(self.path)
        return content


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


def config(body: str = "", listeners: str = TCP, before: str = "") -> str:
    """Returns a cap.toml whose sidecar goes by the issuer's list."""
    named = (
        'revocations = "revoked.signed"\npoll = 0.02\n' if "revocations =" not in body else "poll = 0.02\n"
    )
    return f'public_key = "{KEY}"\n{before}[serve]\n{named}{body}\n{listeners}'


def failures(server: Sidecar, cause: str = "signed") -> float:
    metrics = server.ask(1, "/metrics")[2].decode()
    found = re.search(rf'cap_revocation_refresh_failures_total{{cause="{cause}"}} (.+)', metrics)
    assert found is not None
    return float(found[1])


def signed_status(server: Sidecar) -> Any:
    return json.loads(server.ask(1, "/status")[2])["signed_revocations"]


def is_said(server: Sidecar, problem: str) -> bool:
    return problem in (signed_status(server)["problem"] or "")


def has_failed_since(server: Sidecar, before: float) -> bool:
    return failures(server) > before


def ready(server: Sidecar) -> bool:
    return server.ask(1, "/readyz")[0] == 200


def test_a_new_list_holds_while_it_runs(tmp_path: Path, issuer: Issuer) -> None:
    token = mint()
    issuer.put(issuer.signed())
    with sidecar(tmp_path, config=config()) as server:
        assert wait_until(lambda: ready(server))
        assert server.ask(token=token)[0] == 200
        issuer.revoke(token)
        issuer.put(issuer.signed())
        assert wait_until(lambda: server.ask(token=token)[0] == 401)
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": "1"})[0] == 200
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": "2"})[0] == 503
        assert failures(server) == 0
        known = signed_status(server)["known"]
        assert (known["revision"], known["entries"]) == (1, 1)
        assert wait_until(lambda: b"cap_revocation_revision 1.0" in server.ask(1, "/metrics")[2])
        assert b"cap_revocation_entries 1.0" in server.ask(1, "/metrics")[2]
        # a delta goes on from what is known
        other = mint()
        issuer.revoke(other)
        issuer.put(export_delta(issuer.store, ROOT.private_key, since=1, valid_for=HOUR))
        assert wait_until(lambda: server.ask(token=other)[0] == 401)
        assert server.ask(token=token)[0] == 401


def test_what_was_altered_or_is_older_leaves_the_list_in_force(tmp_path: Path, issuer: Issuer) -> None:
    token = mint()
    older = issuer.signed(ago=60)
    issuer.revoke(token)
    good = issuer.put(issuer.signed())
    foreign = Issuer(tmp_path, KeyPair())
    with sidecar(tmp_path, config=config()) as server:
        assert wait_until(lambda: ready(server))
        refused = {
            "signed by a key": good[:-1] + bytes([good[-1] ^ 1]),
            "are of revision 0": older,
            "not signed by": foreign.signed(),
            "no signed revocations": b"nonsense nonsense nonsense nonsense",
            "is empty": b"",
        }
        for said, content in refused.items():
            before = failures(server)
            issuer.put(content)
            assert wait_until(partial(is_said, server, said)), said
            assert wait_until(partial(has_failed_since, server, before))
            assert server.ask(token=token)[0] == 401
            assert server.ask(token=mint())[0] == 200
            assert ready(server)
        issuer.path.unlink()
        assert wait_until(partial(is_said, server, "no such file"))
        warned = server.errors.read_text()
        for said in ("signed by a key", "of revision 0", "no signed revocations", "no such file"):
            assert re.search(rf"warning: the signed revocations are not taken, and what held.*{said}", warned)
        assert server.ask(token=mint())[0] == 200
        issuer.put(good)
        assert wait_until(lambda: signed_status(server)["problem"] is None)


def test_until_there_is_a_list_nothing_is_allowed(tmp_path: Path, issuer: Issuer) -> None:
    issuer.put(issuer.signed(ago=7200))  # it has ended
    open_route = '[[serve.route]]\npath = "/"\n[[serve.route]]\npath = "/open"\non_stale = "allow"\n'
    with sidecar(tmp_path, config=config(listeners=TCP + open_route)) as server:
        assert wait_until(lambda: b"ended" in server.ask(1, "/readyz")[2])
        assert server.ask(token=mint())[0] == 503
        assert server.ask(token=mint(), target="/open")[0] == 503
        issuer.put(issuer.signed())
        assert wait_until(lambda: ready(server))
        assert server.ask(token=mint())[0] == 200


def takes_one_that_ends_soon(server: Sidecar, issuer: Issuer) -> bool:
    """Returns whether the sidecar got to a list in the two seconds that it has left."""
    ends = int(time.time()) + 2
    issuer.put(issuer.signed(ago=10, lasts=timedelta(seconds=ends - int(time.time() - 10))))
    return wait_until(lambda: signed_status(server)["known"]["valid_until"] == ends, 2)


def test_its_age_counts_from_when_it_was_signed_and_its_end_for_every_route(
    tmp_path: Path, issuer: Issuer
) -> None:
    open_route = '[[serve.route]]\npath = "/"\n[[serve.route]]\npath = "/open"\non_stale = "allow"\n'
    issuer.put(issuer.signed(ago=1000))
    with sidecar(tmp_path, config=config("max_stale = 500", TCP + open_route)) as server:
        assert wait_until(lambda: server.ask(token=mint(), target="/open")[0] == 200)
        assert server.ask(token=mint())[0] == 503
        status, _, reasons = server.ask(1, "/readyz")
        assert (status, b"the list of signed revocations is 10" in reasons) == (503, True)
        assert any(takes_one_that_ends_soon(server, issuer) for _ in range(5))
        # then it is over: that is the issuer's word, and no route goes on
        assert wait_until(lambda: server.ask(token=mint(), target="/open")[0] == 503)
        assert server.ask(token=mint())[0] == 503
        assert wait_until(lambda: b"ended" in server.ask(1, "/readyz")[2])


def test_without_max_stale_a_list_is_gone_by_until_its_end(tmp_path: Path, issuer: Issuer) -> None:
    issuer.put(issuer.signed(ago=3000))
    with sidecar(tmp_path, config=config()) as server:
        assert wait_until(lambda: server.ask(token=mint())[0] == 200)


def test_a_list_of_a_key_of_its_own_and_of_a_name(tmp_path: Path) -> None:
    own = KeyPair()
    issuer = Issuer(tmp_path, own)
    token = mint()
    issuer.revoke(token)
    issuer.put(issuer.signed(name="acme"))
    flags = ("--revocations", "revoked.signed", "--revocations-key", repr(own.public_key))
    with sidecar(
        tmp_path, *flags, "--revocations-name", "acme", config=f'public_key = "{KEY}"\n[serve]\n{TCP}'
    ) as server:
        assert wait_until(lambda: server.ask(token=token)[0] == 401)
        assert server.ask(token=mint())[0] == 200
    environment = {"CAP_REVOCATIONS": "revoked.signed", "CAP_REVOCATIONS_KEY": repr(own.public_key)}
    with sidecar(tmp_path, environment={**environment, "CAP_REVOCATIONS_NAME": "other"}) as server:
        assert wait_until(partial(is_said, server, "'other' is meant"))
        assert server.ask(token=mint())[0] == 503


def test_beside_a_store_either_revokes(tmp_path: Path, issuer: Issuer) -> None:
    issuer.put(issuer.signed())
    url = f"sqlite:///{tmp_path}/cap.db"
    in_store, in_list, by_api = mint(), mint(), mint()
    caller = mint('user("root"); right("cap", "revoke")')
    with create_store(url) as store, sidecar(tmp_path, config=config(f'store = "{url}"', API)) as server:
        assert wait_until(lambda: ready(server))
        for token in (in_store, in_list):
            assert server.ask(token=token)[0] == 200
        store.revoke(ids(in_store)[:1])
        assert wait_until(lambda: server.ask(token=in_store)[0] == 401)
        issuer.revoke(in_list)
        issuer.put(issuer.signed())
        assert wait_until(lambda: server.ask(token=in_list)[0] == 401)
        # what can be written is the store, and the revision that is told is the store's
        body = f"token={by_api}".encode()
        status, headers, _ = server.ask(2, "/revoke", token=caller, method="POST", headers=FORM, body=body)
        assert (status, headers["x-cap-revision"]) == (200, "2")
        assert server.ask(token=by_api)[0] == 401
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": "2"})[0] == 200
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": "3"})[0] == 503
        assert wait_until(lambda: b"cap_revocation_entries 3.0" in server.ask(1, "/metrics")[2])


@pytest.mark.parametrize("follow", ["true", "false"])
def test_beside_a_store_neither_may_be_missing(tmp_path: Path, issuer: Issuer, follow: str) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    body = f'store = "{url}"\nfollow = {follow}'
    with create_store(url) as store, sidecar(tmp_path, config=config(body)) as server:
        assert wait_until(lambda: b"signed" in server.ask(1, "/readyz")[2])
        assert server.ask(token=mint())[0] == 503
        issuer.put(issuer.signed())
        assert wait_until(lambda: server.ask(token=mint())[0] == 200)
        token = mint()
        store.revoke(ids(token)[:1])
        assert wait_until(lambda: server.ask(token=token)[0] == 401)


def test_nothing_can_be_revoked_in_a_list(tmp_path: Path, issuer: Issuer) -> None:
    issuer.put(issuer.signed())
    token, caller = mint(), mint('user("root"); right("cap", "revoke")')
    with sidecar(tmp_path, config=config(listeners=API)) as server:
        assert wait_until(lambda: ready(server))
        body = f"token={token}".encode()
        status, _, answer = server.ask(2, "/revoke", token=caller, method="POST", headers=FORM, body=body)
        assert (status, json.loads(answer)["type"]) == (501, "urn:cap:problem:not-configured")
        assert server.ask(token=token)[0] == 200


def test_a_worker_that_takes_the_place_of_another_knows_what_that_had_seen(
    tmp_path: Path, issuer: Issuer
) -> None:
    older = issuer.signed()
    token = mint()
    issuer.revoke(token)
    issuer.put(issuer.signed())
    with sidecar(tmp_path, config=config("workers = 2")) as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        assert wait_until(lambda: b"cap_ready 1.0" in server.ask(1, "/metrics")[2])
        before = children.read_text().split()
        issuer.put(older)
        for each in before:
            os.kill(int(each), signal.SIGKILL)
        assert wait_until(lambda: len(set(children.read_text().split()) - set(before)) == 2)
        assert wait_until(lambda: b"revision 0" in server.ask(1, "/readyz")[2])
        assert server.ask(token=token)[0] == 503


class Server(ThreadingHTTPServer):
    """Serves one list, with an ETag; `said` counts the statuses, and `holds` keeps everybody waiting."""

    daemon_threads = True

    def __init__(self) -> None:
        self.content = b""
        self.tag: str | None = '"1"'
        self.said: list[int] = []
        self.holds = threading.Event()
        self.goes_on = threading.Event()
        super().__init__(("127.0.0.1", 0), _Answers)


class _Answers(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if server.holds.is_set():
            server.goes_on.wait()
        content, tag = server.content, server.tag
        status = 304 if tag is not None and self.headers["If-None-Match"] == tag else 200 if content else 503
        server.said.append(status)
        self.send_response(status)
        if tag is not None:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def web() -> Iterator[tuple[Server, str]]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}/revoked.signed?key=hidden"
        finally:
            server.goes_on.set()
            server.shutdown()
            thread.join()


def test_a_list_is_fetched_and_only_what_is_new(tmp_path: Path, issuer: Issuer) -> None:
    token = mint()
    with web() as (source, url):
        body = f'revocations = "{url}"\nrevocations_refresh = 0.05'
        with sidecar(tmp_path, config=config(body)) as server:
            assert wait_until(lambda: b"503 service unavailable" in server.ask(1, "/readyz")[2])
            source.content = issuer.signed()
            assert wait_until(lambda: ready(server))
            assert wait_until(lambda: 304 in source.said)
            assert server.ask(token=token)[0] == 200
            issuer.revoke(token)
            source.content, source.tag = issuer.signed(), '"2"'
            assert wait_until(lambda: server.ask(token=token)[0] == 401)
            # of what is refused the tag is not kept: it is fetched and counted each time
            source.content, source.tag = source.content[:-1], '"3"'
            assert wait_until(lambda: failures(server) > 2)
            assert server.ask(token=token)[0] == 401
            found = server.ask(1, "/status")[2].decode()
            assert "hidden" not in found + server.errors.read_text()
            assert "/revoked.signed" in found


def test_a_server_that_stands_still_keeps_no_request_waiting(tmp_path: Path, issuer: Issuer) -> None:
    with web() as (source, url):
        source.content = issuer.signed()
        body = f'revocations = "{url}"\nrevocations_refresh = 0.05\ndrain_time = 1'

        def ends_soon() -> bool:
            source.holds.clear()
            with sidecar(tmp_path, config=config(body)) as server:
                assert wait_until(lambda: ready(server))
                source.holds.set()
                asked = len(source.said)
                for _ in range(20):
                    assert server.ask(token=mint())[0] == 200
                assert len(source.said) <= asked + 1
                began = time.monotonic()
                assert server.stop() == 0
                return time.monotonic() - began < 5

        assert undisturbed(ends_soon)


def check(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAP_")}
    return subprocess.run(
        [sys.executable, "-m", "capability.cli", "serve", "--check", "--public-key", KEY, *flags],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(PROJECT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_would_be_gone_by_is_explained(tmp_path: Path, issuer: Issuer) -> None:
    issuer.revoke(mint())
    good = issuer.put(issuer.signed(ago=90))
    done = check(tmp_path, "--revocations", "revoked.signed")
    assert done.returncode == 0, done.stderr
    assert "revocations  signed, in revoked.signed: 1 id at revision 1, valid until 20" in done.stdout
    assert "nothing is ever revoked" not in done.stdout + done.stderr
    done = check(tmp_path, "--revocations", "revoked.signed", "--max-stale", "30", "--json")
    assert json.loads(done.stdout)["revocations"]["revision"] == 1
    assert any("older than max_stale" in each for each in json.loads(done.stdout)["warnings"])
    (tmp_path / "cut").write_bytes(good[:-1])
    for flags, code, said in (
        (("--revocations", "cut"), 5, "ends within a part"),
        (("--revocations", "missing"), 5, "no such file"),
        (("--revocations", "revoked.signed", "--revocations-key", "./missing.pub"), 3, "missing.pub"),
        (("--revocations", "http://issuer.example/revoked"), 2, "https"),
    ):
        done = check(tmp_path, *flags)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


@contextlib.contextmanager
def following(make: Callable[[], Feed | SignedFeed]) -> Iterator[Feed | SignedFeed]:
    feed = make()
    feed.start()
    try:
        assert wait_until(lambda: feed.revision() is not None)
        yield feed
    finally:
        feed.close()


def test_a_list_takes_no_more_memory_than_a_store_s_copy(tmp_path: Path, issuer: Issuer) -> None:
    many = [number.to_bytes(64) for number in range(100_000)]
    issuer.store.revoke(many)
    issuer.put(issuer.signed())
    held = []
    for make in (
        lambda: Feed(lambda: issuer.store, poll=0.1),
        lambda: SignedFeed(str(issuer.path), lambda: ROOT.public_key, poll=0.1, refresh=60),
    ):
        tracemalloc.start()
        try:
            with following(make) as feed:
                assert len(feed) == len(many)
                held.append(settled())
        finally:
            tracemalloc.stop()
    (of_store, on_the_way_from_store), (of_list, on_the_way) = held
    assert of_list <= of_store
    assert of_list < 15 * len(many)
    assert on_the_way < min(on_the_way_from_store, 40 * len(many))


def settled() -> tuple[int, int]:
    """Returns how many bytes are held, but for those of a thread that is just at work, and were at most."""
    looks = []
    for _ in range(10):
        time.sleep(0.02)
        looks.append(tracemalloc.get_traced_memory())
    return min(held for held, _ in looks), max(most for _, most in looks)


class Says:
    """A source that always says the same."""

    def __init__(self, *said: Any, in_memory: bool = True) -> None:
        self.said = RevocationStatus(*said)
        self.in_memory = in_memory

    def status(self, revocation_ids: object) -> RevocationStatus:
        return self.said


def test_of_two_either_revokes_and_the_older_one_tells_the_age() -> None:
    clear, revoked = Says(None, 7, 1.0), Says(b"a", 3, 20.0)
    for both in (Both(clear, revoked), Both(revoked, clear)):
        assert both.status([b"a"]).revoked_id == b"a"
        assert both.status([b"a"]).age == 20.0
        assert both.in_memory
    assert Both(clear, revoked).status([b"a"]).revision == 7
    assert not Both(clear, Says(None, 1, in_memory=False)).in_memory
