"""From the start to the end of `cap serve`, under load: ends, reloads, workers and supervisors that die."""

import contextlib
import itertools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capability import KeyPair
from capability.sidecar.watching import INTERVAL
from tests.servers import free_port
from tests.sidecar.load import SOAK, connected, load, tcp
from tests.sidecar.processes import TIMEOUT, Sidecar, put, sidecar, wait_until
from tests.sidecar.serving import read_all, statuses
from tests.sidecar.test_server import KEY, TCP, config
from tests.sidecar.tokens import mint

ANSWERED = {200, "silent"}
"""What a client may have seen of a sidecar that ended in order."""

NEW = "Connection: close\r\n"
"""Each request on a connection of its own: the hardest case, since they wait to be accepted."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@pytest.fixture
def tenfold() -> int:
    """How often what may go wrong once in a while is tried."""
    return 10 if SOAK else 1


@pytest.mark.parametrize(
    ("kind", "workers", "headers"),
    [("tcp", 1, ""), ("tcp", 2, ""), ("tcp", 2, NEW), ("unix", 2, NEW)],
    ids=["alone", "kept", "new", "unix"],
)
def test_an_end_under_load_loses_no_request(
    tmp_path: Path, kind: str, workers: int, headers: str, tenfold: int
) -> None:
    address = "tcp:0" if kind == "tcp" else f"unix:{tmp_path}/cap.sock"
    listen = f'[[serve.listen]]\naddress = "{address}"\n'
    for _ in range(tenfold):
        with sidecar(tmp_path, config=config(f"workers = {workers}", listen)) as server:
            with load(server, mint(), 8, headers=headers) as counts:
                assert wait_until(lambda counts=counts: counts[200] > 200)  # type: ignore[misc]
                assert server.stop() == 0
            assert set(counts) <= ANSWERED


def test_an_end_that_all_processes_are_told_of_loses_no_request(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config("workers = 2")) as server:
        with load(server, mint(), 8, headers=NEW) as counts:
            assert wait_until(lambda: counts[200] > 200)
            for each in (*server.workers(), server.process.pid):
                os.kill(each, signal.SIGINT)
            assert server.process.wait(TIMEOUT) == 0
        assert set(counts) <= ANSWERED


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_who_was_connected_before_the_end_is_answered(tmp_path: Path, kind: str) -> None:
    address = "tcp:0" if kind == "tcp" else f"unix:{tmp_path}/cap.sock"
    listen = f'[[serve.listen]]\naddress = "{address}"\n'
    request = f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {mint()}\r\n\r\n".encode()
    with sidecar(tmp_path, config=config(listeners=listen)) as server, contextlib.ExitStack() as clients:
        server.signal(signal.SIGSTOP)
        waiting = [clients.enter_context(connected(server.addresses[0])) for _ in range(50)]
        for each in waiting:
            each.sendall(request)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        answers = [read_all(each) for each in waiting]
        assert [statuses(answer) for answer in answers] == [[200]] * 50
        assert server.process.wait(TIMEOUT) == 0


def test_reloads_under_load_drop_no_request(tmp_path: Path) -> None:
    policy = tmp_path / "policy.datalog"
    policy.write_text("allow if user($u);")
    with sidecar(
        tmp_path, config=config(listeners=TCP + '[[serve.route]]\npolicy = "policy.datalog"\n')
    ) as server:
        with load(server, mint()) as counts:
            for number in range(20):
                put(policy, f"generation({number}); allow if user($u), generation($n);")
                server.signal(signal.SIGHUP)
                before = counts[200]
                assert wait_until(lambda before=before: counts[200] > before + 50)  # type: ignore[misc]
        assert set(counts) == {200}
        assert wait_until(lambda: reloads(server) > 1)


def reloads(server: Sidecar) -> float:
    found = re.search(rb"^cap_reloads_total (.+)$", server.ask(1, "/metrics")[2], re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_storm_of_signals_is_a_few_reloads(tmp_path: Path) -> None:
    policy = tmp_path / "policy.datalog"
    policy.write_text("allow if user($u);")
    with sidecar(tmp_path, config=config('workers = 2\npolicy = "policy.datalog"')) as server:
        token = mint()
        with load(server, token) as counts:
            assert wait_until(lambda: counts[200] > 20)
            for _ in range(1000):
                server.signal(signal.SIGHUP)
                time.sleep(0.001)
            before = counts[200]
            assert wait_until(lambda: counts[200] > before + 50)
        assert set(counts) == {200}
        put(policy, "deny if true")
        server.signal(signal.SIGHUP)
        # each worker is asked: who is told last is not forgotten
        assert wait_until(lambda: all(server.ask(token=token)[0] == 403 for _ in range(20)))
        assert wait_until(lambda: reloads(server) >= 2)
        assert reloads(server) < 1000
        assert server.stop() == 0


@contextlib.contextmanager
def growing(file: Path, text: str) -> Iterator[list[float]]:
    """Writes a text piece by piece, over and over but never its end; yields when that was."""
    stop = threading.Event()
    times = [time.monotonic()]

    def write() -> None:
        size = 0
        while not stop.is_set():
            size = (size + 1) % len(text)
            file.write_text(text[:size])
            times.append(time.monotonic())
            stop.wait(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join()


def test_what_is_half_written_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "policy.datalog").write_text("deny if true")
    whole = config('policy = "policy.datalog"')
    # by itself a configuration that lets everybody in who has a token
    half = whole[: whole.index("policy")]
    with sidecar(tmp_path, config=whole) as server:
        while True:
            with growing(tmp_path / "cap.toml", half + "#" * 50) as times:
                is_taken = wait_until(lambda: server.ask(token=mint())[0] == 200, 3 * INTERVAL)
                written = [*times, time.monotonic()]
            put(tmp_path / "cap.toml", whole)
            if max(after - before for before, after in itertools.pairwise(written)) < INTERVAL:
                assert not is_taken
                break
            # the machine let the writer stand still, and what it had written was whole for all that one sees
            assert wait_until(lambda: server.ask(token=mint())[0] == 403)
        put(tmp_path / "cap.toml", half)
        assert wait_until(lambda: server.ask(token=mint())[0] == 200)


def test_a_worker_killed_under_load_costs_its_connections_and_no_more(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config("workers = 2")) as server:
        assert wait_until(lambda: len(server.workers()) == 2)
        before = set(server.workers())
        with load(server, mint(), 4) as counts:
            assert wait_until(lambda: counts[200] > 100)
            os.kill(min(before), signal.SIGKILL)
            assert wait_until(lambda: len(set(server.workers()) - before) == 1)
            served = counts[200]
            assert wait_until(lambda: counts[200] > served + 100)
        assert set(counts) <= {200, "lost", "cut", "silent"}
        assert counts.total() - counts[200] <= 4
        assert server.stop() == 0


def test_a_worker_that_replaces_another_goes_by_what_is_written_now(tmp_path: Path) -> None:
    token = mint()
    with sidecar(tmp_path, config=config("workers = 2")) as server:
        assert server.ask(token=token)[0] == 200
        put(tmp_path / "cap.toml", config("workers = 2", key=repr(KeyPair().public_key)))
        for each in server.workers():
            os.kill(each, signal.SIGKILL)
        # answered by one that began after the key was taken back
        assert server.ask(token=token)[0] == 401


def test_a_worker_that_cannot_be_replaced_yet_leaves_the_others_at_work(tmp_path: Path) -> None:
    token = mint()
    with sidecar(tmp_path, config=config("workers = 2")) as server:
        assert wait_until(lambda: len(server.workers()) == 2)
        put(tmp_path / "cap.toml", f'public_key = "{KEY}"\n[serve]\nno_such = 1\n')
        first, second = server.workers()
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: server.errors.read_text().count("error: ") >= 2)
        assert server.process.poll() is None
        assert server.ask(token=token)[0] == 200
        put(tmp_path / "cap.toml", config("workers = 2"))
        os.kill(second, signal.SIGKILL)
        assert server.ask(token=token)[0] == 200
        assert server.stop() == 0


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    listen = f'[[serve.listen]]\naddress = "tcp:{free_port()}"\n'
    with sidecar(tmp_path, config=config("workers = 2", listen)) as server:
        assert wait_until(lambda: len(server.workers()) == 2)
        workers = server.workers()
        with load(server, mint(), 8, headers=NEW) as counts:
            assert wait_until(lambda: counts[200] > 100)
            server.signal(signal.SIGKILL)
            assert wait_until(lambda: all(has_ended(each) for each in workers))
        assert set(counts) <= ANSWERED
        with socket.socket() as successor:
            successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            successor.bind(tcp(server.addresses[0]))


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_with_few_files_a_crowd_takes_none_that_others_need(tmp_path: Path) -> None:
    policy, token = tmp_path / "policy.datalog", mint()
    policy.write_text("allow if user($u);")
    few = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    with sidecar(tmp_path, config=config('policy = "policy.datalog"'), within=few) as server:
        crowd = [connected(server.addresses[0]) for _ in range(200)]
        try:
            assert wait_until(lambda: server.ask(1, "/readyz")[0] == 200)
            used = seconds_of_work(server.process.pid)
            started = time.monotonic()
            put(policy, "deny if true;")
            server.signal(signal.SIGHUP)
            assert wait_until(lambda: reloads(server) > 0)
            assert wait_until(lambda: time.monotonic() > started + 1)
            assert seconds_of_work(server.process.pid) - used < 0.5 * (time.monotonic() - started)
        finally:
            for each in crowd:
                each.close()
        assert wait_until(lambda: server.ask(token=token)[0] == 403)
        assert server.stop() == 0


def seconds_of_work(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_workers_that_can_never_work_end_all_at_the_start(tmp_path: Path) -> None:
    settings = config(f'workers = 8\npolicy = "policy.datalog"\nlog = "{tmp_path}"\ndecisions = "all"')
    (tmp_path / "policy.datalog").write_text("allow if user($u);")
    with sidecar(tmp_path, config=settings) as server:
        assert server.process.wait(TIMEOUT) == 2
        assert "the workers cannot start" in server.errors.read_text()
