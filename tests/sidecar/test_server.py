"""`cap serve` as a process: workers, reloads, revocations that come and go, and an orderly end."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from capability import Biscuit, KeyPair
from capability.keyset import KeySet
from capability.store import Record, create_store
from tests.sidecar.load import tcp
from tests.sidecar.processes import ROOT as PROJECT
from tests.sidecar.processes import TIMEOUT, connect, put, sidecar, wait_until
from tests.sidecar.tokens import ROOT, mint

KEY = repr(ROOT.public_key)
TCP = '[[serve.listen]]\naddress = "tcp:0"\n[[serve.listen]]\naddress = "tcp:0"\nserves = "admin"\n'


def config(body: str = "", listeners: str = TCP, key: str = KEY) -> str:
    """Returns a cap.toml whose [serve] holds `body`."""
    return f'public_key = "{key}"\n[serve]\n{body}\n{listeners}'


def ids(token: str) -> list[bytes]:
    return list(Biscuit.from_base64(token, ROOT.public_key).canonical_revocation_ids)


def dropped(metrics: bytes) -> float:
    found = re.search(rb"^cap_decision_log_dropped_total (.+)$", metrics, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_it_decides_behind_a_unix_socket_that_others_cannot_open(tmp_path: Path) -> None:
    path = tmp_path / "cap.sock"
    with sidecar(tmp_path, "--public-key", KEY, "--listen", f"unix:{path}") as server:
        assert server.ask(token=mint())[0] == 200
        assert server.ask()[0] == 401
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert server.stop() == 0
    assert not path.exists()


def test_a_socket_that_nobody_serves_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "cap.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with sidecar(tmp_path, "--public-key", KEY, "--listen", f"unix:{path}") as server:
        other = subprocess.run(
            [
                sys.executable,
                "-m",
                "capability.cli",
                "serve",
                "--public-key",
                KEY,
                "--listen",
                f"unix:{path}",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert other.returncode == 2
        assert "somebody listens" in other.stderr
        assert server.ask(token=mint())[0] == 200


def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cap.sock"
    with sidecar(tmp_path, "--public-key", KEY, "--listen", f"unix:{path}") as server:
        path.unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(str(path))
        assert server.stop() == 0
    assert path.exists()
    successor.close()


def test_several_workers_decide_and_count_together(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config("workers = 2")) as server:
        for _ in range(40):
            assert server.ask(token=mint())[0] == 200
        metrics = server.ask(1, "/metrics")[2].decode()
    assert 'cap_decisions_total{reason="allowed",result="allow"} 40.0' in metrics


def test_a_policy_that_changes_holds_without_a_request_lost(tmp_path: Path) -> None:
    policy = tmp_path / "policy.datalog"
    policy.write_text("allow if true")
    statuses: list[int] = []
    stop = threading.Event()
    with sidecar(tmp_path, config=config('policy = "policy.datalog"')) as server:
        token = mint()

        def ask_on() -> None:
            while not stop.is_set():
                statuses.append(server.ask(token=token)[0])

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            assert wait_until(lambda: 200 in statuses)
            put(policy, "deny if true")
            server.signal(signal.SIGHUP)
            assert wait_until(lambda: 403 in statuses)
            put(policy, "allow if")  # is no policy: the old one goes on
            assert wait_until(lambda: json.loads(server.ask(1, "/status")[2])["problem"] is not None)
            assert server.ask(token=token)[0] == 403
            assert b"cap_reloads_failed_total 1.0" in server.ask(1, "/metrics")[2]
            put(policy, "allow if user($u)")  # seen without a signal
            assert wait_until(lambda: server.ask(token=token)[0] == 200)
        finally:
            stop.set()
            asking.join()
    assert set(statuses) == {200, 403}


def test_a_bad_configuration_keeps_the_old_one(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config()) as server:
        put(tmp_path / "cap.toml", config("no_such = 1"))
        assert wait_until(lambda: "no_such" in (json.loads(server.ask(1, "/status")[2])["problem"] or ""))
        assert server.ask(token=mint())[0] == 200
        assert "what held goes on: serve: there is no setting 'no_such'" in server.errors.read_text()


def test_without_its_keys_it_says_why_nothing_is_allowed(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config(key="root.key.pub")) as server:
        assert server.ask(token=mint())[0] == 503
        said = server.errors.read_text()
        assert "warning: the keys are not taken, so nothing is allowed" in said
        assert "root.key.pub" in said


def test_what_needs_a_restart_is_told_and_the_rest_holds(tmp_path: Path) -> None:
    listeners = TCP + '[[serve.listen]]\naddress = "tcp:0"\nserves = "api"\n'
    with sidecar(tmp_path, config=config('realm = "a"', listeners)) as server:

        def status() -> dict[str, object]:
            found: dict[str, object] = json.loads(server.ask(1, "/status")[2])
            return found

        assert status()["needs_restart"] == []
        # without the listener of the api there would be nothing for it to answer by
        put(tmp_path / "cap.toml", config('realm = "b"\nlog = "log"\ndecisions = "all"'))
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: status()["needs_restart"] == ["listen", "decisions", "log"])
        assert 'realm="b"' in server.ask()[1]["www-authenticate"]
        assert server.ask(2, "/.well-known/biscuit-web-keys")[0] == 200
        put(tmp_path / "cap.toml", config('realm = "c"', listeners))
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: status()["needs_restart"] == [])
        assert 'realm="c"' in server.ask()[1]["www-authenticate"]


def test_what_has_begun_is_answered_when_it_ends(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config()) as server:
        connection = connect(server.addresses[0])
        connection.connect()
        # of a body, which may take longer than headers may
        begun = f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {mint()}\r\nContent-Length: 6\r\n\r\nhal"
        connection.sock.sendall(begun.encode())
        server.signal(signal.SIGTERM)
        assert wait_until(lambda: takes_nobody_else(server.addresses[0]))
        connection.sock.sendall(b"ves")
        answer = connection.sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        connection.close()
        assert server.process.wait(TIMEOUT) == 0


def takes_nobody_else(address: str) -> bool:
    try:
        # what begins a connection may be dropped, before the socket is closed
        socket.create_connection(tcp(address), timeout=0.2).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_revocation_reaches_the_sidecar(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    with (
        create_store(url) as store,
        sidecar(tmp_path, config=config(f'store = "{url}"\npoll = 0.05')) as server,
    ):
        token = mint()
        assert wait_until(lambda: server.ask(token=token)[0] == 200)
        revision = store.revoke(ids(token)[:1])
        assert wait_until(lambda: server.ask(token=token)[0] == 401)
        wanted = {"X-Cap-Min-Revision": str(revision)}
        assert server.ask(token=mint(), headers=wanted)[0] == 200
        assert server.ask(token=mint(), headers={"X-Cap-Min-Revision": str(revision + 1)})[0] == 503


@pytest.mark.parametrize("workers", [1, 2])
def test_who_asks_as_soon_as_it_serves_is_not_refused(tmp_path: Path, workers: int) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    create_store(url).close()
    with sidecar(tmp_path, config=config(f'store = "{url}"\nworkers = {workers}')) as server:
        assert [server.ask(token=mint())[0] for _ in range(5)] == [200] * 5
        assert wait_until(lambda: server.ask(1, "/readyz")[0] == 200)


def test_a_strict_sidecar_asks_the_store_on_every_request(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    with (
        create_store(url) as store,
        sidecar(tmp_path, config=config(f'store = "{url}"\nfollow = false')) as server,
    ):
        token = mint()
        for _ in range(3):
            assert server.ask(token=token)[0] == 200
        store.revoke(ids(token)[:1])
        assert server.ask(token=token)[0] == 401


def test_without_the_store_it_is_not_ready_and_recovers_by_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    open_route = '[[serve.route]]\npath = "/"\n[[serve.route]]\npath = "/open"\non_stale = "allow"\n'
    settings = config(f'store = "{url}"\npoll = 0.05\nmax_stale = 0.5', TCP + open_route)
    with sidecar(tmp_path, config=settings) as server:
        token = mint()
        status, _, reasons = server.ask(1, "/readyz")
        assert (status, b"has not answered" in reasons) == (503, True)
        assert server.ask(token=token)[0] == 503
        assert server.ask(token=token, target="/open")[0] == 503  # nothing is known yet, so not even here
        assert server.ask(1, "/livez")[0] == 200
        create_store(url).close()
        assert wait_until(lambda: server.ask(1, "/readyz")[0] == 200)
        assert wait_until(lambda: server.ask(token=token)[0] == 200)
        (tmp_path / "cap.db").rename(tmp_path / "away.db")
        for more in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                (tmp_path / f"cap.db{more}").rename(tmp_path / f"away.db{more}")
        assert wait_until(lambda: server.ask(token=token)[0] == 503)
        assert server.ask(token=token, target="/open")[0] == 200
        assert wait_until(lambda: server.ask(1, "/readyz")[0] == 503)


def test_within_the_grace_it_goes_on_and_is_not_ready(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    create_store(url).close()
    settings = config(f'store = "{url}"\npoll = 0.05\nmax_stale = 0.3\ngrace = 600')
    with sidecar(tmp_path, config=settings) as server:
        (tmp_path / "cap.db").rename(tmp_path / "away.db")
        assert wait_until(lambda: server.ask(1, "/readyz")[0] == 503)
        assert wait_until(lambda: b"s old" in server.ask(1, "/readyz")[2])
        assert server.ask(token=mint())[0] == 200
        put(tmp_path / "cap.toml", settings.replace("grace = 600", "grace = 0.1"))
        assert wait_until(lambda: server.ask(token=mint())[0] == 503)


@contextlib.contextmanager
def web_keys(answers: list[str]) -> Iterator[str]:
    """Serves the first of `answers` as an issuer's web keys."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers[0].encode()
            self.send_response(200 if body else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/.well-known/biscuit-web-keys"
        finally:
            server.shutdown()
            thread.join()


def test_keys_are_fetched_and_fetched_again(tmp_path: Path) -> None:
    mine, other = (KeySet.from_keys({1: key.public_key}).to_json() for key in (ROOT, KeyPair()))
    answers = [""]
    with web_keys(answers) as url:
        settings = f'[serve]\nkeys = "{url}"\nkeys_refresh = 0.1\n{TCP}'
        with sidecar(tmp_path, config=settings) as server:
            assert server.ask(token=mint())[0] == 503
            assert server.ask(1, "/readyz")[0] == 503
            answers[0] = mine
            assert wait_until(lambda: server.ask(token=mint())[0] == 200)
            answers[0] = "nonsense"
            assert wait_until(lambda: "keys" in (json.loads(server.ask(1, "/status")[2])["problem"] or ""))
            assert server.ask(token=mint())[0] == 200
            answers[0] = mine
            assert wait_until(lambda: json.loads(server.ask(1, "/status")[2])["problem"] is None)
            told = server.errors.read_text().splitlines()
            told = [line for line in told if "and what held goes on" in line]
            # nor does it matter if an answer was late once
            assert len([line for line in told if "cannot be read" not in line]) == 1
            answers[0] = other
            assert wait_until(lambda: server.ask(token=mint())[0] == 401)


def test_systemd_may_hand_the_socket_over(tmp_path: Path) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    program = (
        "import os,sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
        "os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.executable, [sys.executable, '-m', 'capability.cli', 'serve', '--listen', 'fd:check'])"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "CAP_PUBLIC_KEY": KEY,
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "check",
        "HOME": str(tmp_path),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(listener.fileno())],
        pass_fds=[listener.fileno()],
        env=environment,
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    listener.close()
    try:

        def allowed() -> bool:
            with contextlib.closing(connect(f"tcp:127.0.0.1:{port}")) as connection:
                connection.request("GET", "/", headers={"Authorization": f"Bearer {mint()}"})
                return connection.getresponse().status == 200

        assert wait_until(allowed)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def test_the_decision_log_tells_what_was_denied_and_never_a_token(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    with sidecar(tmp_path, config=config('log = "decisions.jsonl"')) as server:
        denied = mint(operations=["write"])
        assert server.ask(token=denied, target="/orders?secret=1")[0] == 403
        assert server.ask(token=mint())[0] == 200
        assert wait_until(lambda: log.read_text().endswith("\n"))
        log.rename(tmp_path / "rotated.jsonl")
        server.signal(signal.SIGHUP)
        assert wait_until(log.exists)
        assert server.ask(token=denied)[0] == 403
        assert wait_until(lambda: log.read_text().endswith("\n"))
    lines = [json.loads(each) for each in (tmp_path / "rotated.jsonl").read_text().splitlines()]
    assert [(each["outcome"], each["path"], each["subject"]) for each in lines] == [
        ("denied", "/orders", "ann")
    ]
    assert lines[0]["revocation_ids"] == [each.hex() for each in ids(denied)]
    written = (tmp_path / "rotated.jsonl").read_text() + log.read_text() + server.errors.read_text()
    assert denied not in written
    assert "secret" not in written


def test_the_store_s_trail_has_decisions_and_last_uses(tmp_path: Path) -> None:
    url, allowed, denied = f"sqlite:///{tmp_path}/cap.db", mint(), mint(operations=["write"])
    body = f'store = "{url}"\nlog = "store"\ndecisions = "all"\nworkers = 2\n'
    with create_store(url) as store:
        store.register(Record(root=ids(allowed)[0]))
        with sidecar(tmp_path, config=config(body)) as server:
            assert wait_until(lambda: server.ask(token=allowed)[0] == 200)
            status = 503
            while status == 503:  # of a worker that has not heard from the store yet
                status, headers, _ = server.ask(token=denied, target="/orders?secret=1", method="HEAD")
            assert status == 403
            assert server.stop() == 0
        entries = [each for each in store.audit() if each.writer.startswith("serve:")]
        said = {each.data["decision"]: each.data for each in entries}[headers["x-cap-decision-id"]]
        assert (said["action"], said["outcome"], said["subject"]) == ("decision", "denied", "ann")
        assert (said["path"], said["method"], said["client"]) == ("/orders", "HEAD", "127.0.0.1")
        assert said["revocation_ids"] == [each.hex() for each in ids(denied)]
        assert {each.data["outcome"] for each in entries} >= {"allowed", "denied"}
        record = store.registered(ids(allowed)[0])
        assert record is not None
        assert record.last_used is not None
        assert store.audit_problems() == ()
    assert denied.encode() not in b"".join(each.read_bytes() for each in tmp_path.glob("cap.db*"))


def test_no_yes_leaves_that_the_store_s_trail_cannot_take(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    store = create_store(url)
    body = f'store = "{url}"\non_stale = "allow"\n'
    audit = '[audit]\ndecisions = "all"\ncapacity = 2\nwhen_full = "deny"\n'
    with sidecar(tmp_path, config=config(body) + audit) as server:
        assert wait_until(lambda: server.ask(token=mint())[0] == 200)
        (tmp_path / "cap.db").rename(tmp_path / "away.db")
        assert wait_until(lambda: server.ask(token=mint())[1].get("x-cap-reason") == "log-full")
        assert wait_until(lambda: dropped(server.ask(1, "/metrics")[2]) > 0)
        (tmp_path / "away.db").rename(tmp_path / "cap.db")
        assert wait_until(lambda: server.ask(token=mint())[0] == 200)
    store.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('log = "store"', "no store"),
        ("max_stale = -1", "max_stale"),
        ("workers = 0", "workers"),
        ('behind = "nginx"', "no setting"),
        ('on_stale = "perhaps"', "on_stale"),
        ("log = 1", "log"),
        ('policy = "missing.datalog"', "missing.datalog"),
        ('realm = "a\\"b"', "realm"),
        ('keys = "http://issuer.example/keys"', "https"),
        ('[[serve.listen]]\naddress = "tcp:0.0.0.0:0"', "other hosts"),
        ('[[serve.listen]]\naddress = "tcp:70000"', "no address"),
        ('[[serve.listen]]\naddress = "unix:relative"', "absolute"),
        ('[[serve.listen]]\naddress = "tcp:0"\nbehind = "apache"', "behind"),
        ('[[serve.listen]]\naddress = "tcp:8181"\n[[serve.listen]]\naddress = "tcp:8181"', "twice"),
        ('[[serve.route]]\npath = "a"', "path"),
        ('[[serve.route]]\npath = "/a"\n[[serve.route]]\npath = "/a/"', "same host and path"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_with_its_name(
    body: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "cap.toml").write_text(f'public_key = "{KEY}"\n[serve]\n{body}\n')
    done = subprocess.run(
        [sys.executable, "-m", "capability.cli", "serve", "--check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_store_it_goes_by_the_one_that_cap_revoke_makes_and_else_it_warns(tmp_path: Path) -> None:
    token = mint()
    settings = config("", TCP)
    with sidecar(tmp_path, config=settings) as server:
        assert "nothing is ever revoked" in server.errors.read_text()
    with sidecar(tmp_path, config=settings, environment={"CAP_STORE": "none"}) as server:
        assert "nothing is ever revoked" not in server.errors.read_text()
        assert server.ask(token=token)[0] == 200
    data = tmp_path / ".local/share/cap"
    data.mkdir(parents=True)
    with create_store(f"sqlite:///{data}/cap.db") as store:
        store.revoke(ids(token)[:1])
    with sidecar(tmp_path, config=settings) as server:
        assert wait_until(lambda: server.ask(1, "/readyz")[0] == 200)
        assert server.ask(token=token)[0] == 401


def test_a_policy_may_be_given_as_text_as_to_every_command(tmp_path: Path) -> None:
    policies = {"CAP_POLICY": 'allow if user("bob");'}
    api = TCP + '[[serve.listen]]\naddress = "tcp:0"\nserves = "api"\n'
    with sidecar(tmp_path, config=config("", api), environment=policies) as server:
        assert server.ask(token=mint())[0] == 403
        assert server.ask(token=mint('user("bob")'))[0] == 200
        question = {"subject": {"type": "user", "id": "ann", "properties": {"token": mint()}}}
        asked = {**question, "action": {"name": "read"}, "resource": {"type": "resource", "id": "/"}}
        sent = {"Content-Type": "application/json"}
        path, body = "/access/v1/evaluation", json.dumps(asked).encode()
        assert json.loads(server.ask(2, path, method="POST", headers=sent, body=body)[2])["decision"] is False
    with sidecar(tmp_path, "--policy", 'allow if user("ann")', environment=policies) as server:
        assert server.ask(token=mint())[0] == 200
    (tmp_path / "file").write_text('allow if user("bob")')
    with sidecar(tmp_path, environment={"CAP_POLICY": "file"}) as server:
        assert server.ask(token=mint())[0] == 403
    check = ("serve", "--check", "--policy", "allow if\nuser($u)")
    said = subprocess.run(
        [sys.executable, "-m", "capability.cli", *check],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "any host /  allow if user($u)\n" in said.stdout


@pytest.mark.parametrize(
    ("listen", "said", "hint"),
    [
        ("unix:{}/none/cap.sock", "unix:{}/none/cap.sock: no such file or directory", "make its folder"),
        ("tcp:{}", "tcp:127.0.0.1:{}: address already in use", "choose another address"),
    ],
)
def test_a_socket_that_cannot_be_opened_is_named(listen: str, said: str, hint: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = str(taken.getsockname()[1]) if listen == "tcp:{}" else str(tmp_path)
        listener = f'[[serve.listen]]\naddress = "{listen.format(place)}"\n'
        (tmp_path / "cap.toml").write_text(config("", listener))
        done = subprocess.run(
            [sys.executable, "-m", "capability.cli", "serve", "--store", "none"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == f"error: cannot serve: {said.format(place)}"
    assert second.startswith(f"hint: {hint}")


def test_a_proxy_that_was_not_declared_is_warned_of_once(tmp_path: Path) -> None:
    with sidecar(tmp_path, config=config('headers = ["x-team"]')) as server:
        forwarded = {"X-Original-URI": "/admin", "X-Original-Method": "DELETE"}
        for _ in range(3):
            assert server.ask(token=mint(), headers=forwarded)[0] == 200
        put(tmp_path / "cap.toml", config('realm = "other"'))
        assert wait_until(lambda: 'realm="other"' in server.ask()[1]["www-authenticate"])
        assert server.ask(token=mint(), headers=forwarded)[0] == 200
        warnings = [line for line in server.errors.read_text().splitlines() if "x-original-uri" in line]
        assert len(warnings) == 1
        assert "if nginx or haproxy asks, say so (behind)" in warnings[0]


def test_what_is_revoked_here_is_denied_here_from_then_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cap.db"
    create_store(url).close()
    api = TCP + '[[serve.listen]]\naddress = "tcp:0"\nserves = "api"\n'
    with sidecar(tmp_path, config=config(f'store = "{url}"\npoll = 5', api)) as server:
        assert wait_until(lambda: server.ask(1, "/readyz")[0] == 200)
        caller = mint('user("root"); right("cap", "revoke")')
        for token in (mint(), mint()):
            assert server.ask(token=token)[0] == 200
            body = f"token={token}".encode()
            sent = {"Content-Type": "application/x-www-form-urlencoded"}
            status = server.ask(2, "/revoke", token=caller, method="POST", headers=sent, body=body)[0]
            assert (status, server.ask(token=token)[0]) == (200, 401)
