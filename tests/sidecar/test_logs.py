"""The decision log on a full disk and before a reader that stands still, and no output with a token in it."""

import contextlib
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from capability import BiscuitBuilder
from capability.sidecar import logs
from capability.sidecar.logs import LineLog
from capability.sidecar.profiles import Original
from capability.sidecar.settings import Logged, WhenFull
from capability.store import create_store
from tests.sidecar.processes import TIMEOUT, connect, sidecar, wait_until
from tests.sidecar.test_server import KEY, config, ids
from tests.sidecar.tokens import OTHER, ask, make_check, mint

PIECE = 20
"""Characters of a token that nobody says by chance."""


@contextlib.contextmanager
def line_log(place: str, *, capacity: int = 1000, when_full: WhenFull = WhenFull.DROP) -> Iterator[LineLog]:
    log = LineLog(place, logged=Logged.ALL, capacity=capacity, when_full=when_full, dropped=lambda: None)
    log.start()
    try:
        yield log
    finally:
        log.close()


def offer(log: LineLog, paths: list[str]) -> list[bool]:
    """Offers a decision about each path."""
    decisions = []

    class Kept:
        takes_allowed = True

        def offer(self, decision: object, original: Original, route: str) -> bool:
            decisions.append((decision, original))
            return True

    ask(make_check(log=Kept()), mint())
    decision, original = decisions[0]
    return [log.offer(decision, original._replace(target=path), "default") for path in paths]  # type: ignore[arg-type]


def test_what_a_full_disk_cut_off_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "INTERVAL", 0.01)
    free = itertools.cycle([7, 0, 150, 0, 0, 4000])
    write = os.write

    def short(file: int, data: memoryview) -> int:
        room = next(free)
        if not room:
            raise OSError(28, "No space left on device")
        return write(file, data[:room])

    monkeypatch.setattr(os, "write", short)
    file, paths = tmp_path / "log", [f"/{n}" for n in range(200)]
    with line_log(str(file)) as log:
        assert all(offer(log, paths))
        assert wait_until(lambda: file.read_text().count("\n") == len(paths))
    assert [json.loads(line)["path"] for line in file.read_text().splitlines()] == paths


def test_no_line_is_lost_or_torn_when_the_file_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "INTERVAL", 0.01)
    full = threading.Event()
    write = os.write

    def short(file: int, data: memoryview) -> int:
        if full.is_set():
            raise OSError(28, "No space left on device")
        full.set()
        return write(file, data[: len(data) // 2 + 50])

    monkeypatch.setattr(os, "write", short)
    file, old = tmp_path / "log", tmp_path / "old"
    paths = [f"/{n}" for n in range(6)]
    with line_log(str(file)) as log:
        offer(log, paths)
        assert wait_until(lambda: file.exists() and file.stat().st_size > 0)
        file.rename(old)
        monkeypatch.setattr(os, "write", write)
        log.reopen()
        assert wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
    whole = old.read_text().rpartition("\n")[0] + "\n" + file.read_text()
    assert [json.loads(line)["path"] for line in whole.splitlines() if line] == paths


def test_a_file_that_was_moved_away_is_opened_anew_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "INTERVAL", 0.01)
    file, old = tmp_path / "log", tmp_path / "old"
    with line_log(str(file)) as log:
        offer(log, ["/1"])
        assert wait_until(lambda: file.read_text().endswith("\n"))
        file.rename(old)
        offer(log, ["/2"])
        assert wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
        log.reopen()  # what was not moved is not begun again
        offer(log, ["/3"])
    written = [[json.loads(line)["path"] for line in each.read_text().splitlines()] for each in (old, file)]
    assert written == [["/1"], ["/2", "/3"]]


def test_a_reader_that_takes_nothing_keeps_neither_requests_nor_the_end_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with sidecar(
            tmp_path, config=config('log = "pipe"\ndecisions = "all"\nlog_capacity = 100\nwhen_full = "drop"')
        ) as server:
            token, slow = mint(), 0
            with contextlib.closing(connect(server.addresses[0])) as client:
                for _ in range(1500):
                    started = time.monotonic()
                    client.request(
                        "GET", "/orders/7" + "x" * 200, headers={"Authorization": f"Bearer {token}"}
                    )
                    answer = client.getresponse()
                    answer.read()
                    assert answer.status == 200
                    slow += time.monotonic() - started > 2
            assert slow < 10  # the machine may stand still now and then
            assert wait_until(
                lambda: metric(server.ask(1, "/metrics")[2], "cap_decision_log_dropped_total") > 0
            )
            assert server.stop() == 0
    finally:
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("when_full", "status"), [("drop", 200), ("deny", 503)])
def test_a_full_disk_drops_or_denies_as_configured(tmp_path: Path, when_full: str, status: int) -> None:
    body = f'log = "/dev/full"\ndecisions = "all"\nlog_capacity = 20\nwhen_full = "{when_full}"'
    with sidecar(tmp_path, config=config(body)) as server:
        token = mint()
        answers = [server.ask(token=token)[0] for _ in range(30)]
        assert answers == [200] * 20 + [status] * 10
        text = server.ask(1, "/metrics")[2]
        assert metric(text, "cap_decision_log_dropped_total") == 10
        assert server.stop() == 0


def metric(text: bytes, name: str) -> float:
    """Returns the value of a metric without labels."""
    return next(float(line.split()[1]) for line in text.decode().splitlines() if line.startswith(f"{name} "))


def test_no_output_holds_a_token(tmp_path: Path) -> None:
    good, revoked, narrow = mint(), mint('user("bob")'), mint(operations=["write"])
    expired = mint(expires=datetime.now(UTC) + timedelta(seconds=1))
    foreign = BiscuitBuilder('user("eve")').build(OTHER.private_key).to_base64()
    broken = good[:-8] + "AAAAAAAA"
    planted = [f"planted-secret-{name}-" + "q7" * 10 for name in ("query", "header", "garbage", "path-token")]
    tokens = [good, revoked, narrow, expired, foreign, broken]
    url = f"sqlite:///{tmp_path}/cap.db"
    with create_store(url) as store:
        store.revoke(ids(revoked)[:1])
    said: list[bytes] = []
    body = f'store = "{url}"\nlog = "decisions.jsonl"\ndecisions = "all"\nworkers = 2'
    with sidecar(tmp_path, config=config(body)) as server:
        assert wait_until(lambda: server.ask(token=good)[0] == 200)
        assert wait_until(lambda: server.ask(token=expired)[0] == 401)
        for token in tokens:
            for headers in ({}, {"X-API-Key": token}, {"X-Cap-Min-Revision": token}, {"Cookie": planted[1]}):
                for target in ("/orders", f"/orders?access_token={planted[0]}", f"/share/{token}?t={token}"):
                    status, answered, problem = server.ask(target=target, token=token, headers=headers)
                    said += [str(status).encode(), repr(answered).encode(), problem]
            said.append(server.ask(headers={"Authorization": f"Basic {token}"})[2])
            said.append(server.ask(headers={"Authorization": f"Bearer {token} {token}"})[2])
            said.append(repr(server.ask(headers={"X-Cap-Subject": token, "X_Cap_Subject": token})).encode())
            said.append(raw(server.addresses[0], f"{token} / HTTP/1.1\r\n{planted[2]}\r\n\r\n".encode()))
            said.append(
                raw(server.addresses[0], b"GET / HTTP/1.1\r\nA: " + token.encode() * 100 + b"\r\n\r\n")
            )
        said += [server.ask(1, page)[2] for page in ("/metrics", "/status", "/readyz", "/livez", f"/{good}")]
        assert server.stop() == 0
    log = (tmp_path / "decisions.jsonl").read_bytes()
    # a worker that has not heard from the store yet says so
    assert {json.loads(line)["outcome"] for line in log.splitlines()} - {"store_unavailable"} == {
        *("allowed", "denied", "expired", "invalid_token", "revoked"),
    }
    output = b"\n".join([*said, log, server.errors.read_bytes()])
    for token in tokens:
        text = token.encode()
        pieces = [text[at : at + PIECE] for at in range(len(text) - PIECE + 1)]
        assert not [piece for piece in pieces if piece in output]
    assert not [each for each in planted if each.encode() in output]
    assert KEY.encode() not in log


def raw(address: str, sent: bytes) -> bytes:
    """Returns what comes back for bytes that may be no request."""
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=TIMEOUT) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return client.recv(65_536)
    return b""
