"""`cap verify --sidecar` and `cap run`: what they answer, what they hand on, and what they do not load."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from capability.cli import asking
from capability.cli.asking import EXITS
from capability.decision import EXIT_CODES
from capability.sidecar import packages
from tests.cli.conftest import ROOT, Shell
from tests.sidecar.processes import Sidecar, sidecar

HEAVY = ("nacl", "google.protobuf", "lark", "click", "http.client", "capability.guard", "capability.tokens")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the command wait for an answer on a machine that is busy with other tests."""
    monkeypatch.setattr(asking, "TIMEOUT", 60.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("sidecar")
    flags = ("--listen", "tcp:0", "--api", f"unix:{folder}/api.sock", "--public-key", repr(ROOT.public_key))
    with sidecar(folder, *flags) as running:
        yield running


def test_outcomes_exit_alike() -> None:
    assert {name: int(code) for name, code in EXITS.items()} == {
        outcome.value: code for outcome, code in EXIT_CODES.items()
    }


def test_a_sidecar_exits_as_cap_does_itself(issuer: Shell, server: Sidecar) -> None:
    api = ("--sidecar", server.addresses[1])
    issuer.write("bad", "nonsense")
    for words in (
        ("token", "-a", "orders", "-o", "write"),
        ("token", "-a", "orders", "-o", "read", "-o", "write", "-r", "/orders/7"),
        ("token", "-a", "billing", "-o", "read"),
        ("token", "-a", "orders", "-o", "read", "-o", "delete"),
        ("token", "-o", "read"),
        ("bad", "-o", "read"),
    ):
        here, there = issuer.cap("verify", *words), issuer.cap("verify", *words, *api)
        assert there.exit == here.exit, words
        assert there.text.split(" ")[:1] == here.text.split(" ")[:1]
    found = issuer.cap("verify", "token", "-a", "orders", "-o", "read", "--json", *api)
    assert (found.exit, found.json["outcome"]) == (0, "allowed")


def test_the_listener_of_the_check_is_told_from_that_of_the_api(issuer: Shell, server: Sidecar) -> None:
    run = issuer.cap("verify", "token", "-o", "read", "--sidecar", server.addresses[0])
    assert (run.exit, run.stdout) == (2, b"")
    assert run.stderr.splitlines() == [
        "error: what answers at this address checks requests and takes no questions",
        "hint: name the address of `cap serve --api`, which is not that of --listen",
    ]


@pytest.mark.parametrize("behind", ["nginx", "traefik", "envoy"])
def test_the_check_is_told_whatever_proxy_it_is_behind(issuer: Shell, tmp_path: Path, behind: str) -> None:
    flags = ("--listen", "tcp:0", "--behind", behind, "--public-key", repr(ROOT.public_key))
    with sidecar(tmp_path, *flags) as running:
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", running.addresses[0])
    assert run.exit == 2
    assert "takes no questions" in run.stderr


def test_a_sidecar_that_wants_a_caller_s_token_says_so(issuer: Shell, tmp_path: Path) -> None:
    listener = '[[serve.listen]]\naddress = "tcp:0"\nserves = "api"\n'
    config = f'public_key = "{ROOT.public_key!r}"\n[serve.api]\nauthenticate = true\n{listener}'
    with sidecar(tmp_path, config=config) as running:
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", running.addresses[0])
    assert run.exit == 2
    assert "leave authenticate out" in run.stderr


def test_asking_loads_nothing_that_decides(issuer: Shell, server: Sidecar) -> None:
    program = (
        "import sys; from capability.cli import main; a = '-a', 'orders', '-o', 'read';"
        f"code = main(['verify', 'token', *a, '--sidecar', {server.addresses[1]!r}]);"
        f"print(code, [each for each in {HEAVY!r} if each in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=issuer.folder, env=issuer.env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        ((), 2, "operation"),
        (("-o", "read", "--policy", "allow if true"), 2, "configuration"),
        (("-o", "read", "--public-key", "root.key.pub"), 2, "configuration"),
        (("-o", "read", "--fact", "a(1)"), 2, "configuration"),
        (("-o", "read", "--sidecar", "tcp:192.0.2.1:80"), 2, "address"),
        (("-o", "read", "--sidecar", "unix:/nowhere/cap.sock"), 5, "cannot be asked"),
        (("-o", "read", "--sidecar", "tcp:99999"), 5, "cannot be asked"),
    ],
)
def test_what_cannot_be_asked(issuer: Shell, words: tuple[str, ...], exit_code: int, said: str) -> None:
    place = () if "--sidecar" in words else ("--sidecar", "unix:/nowhere/cap.sock")
    run = issuer.cap("verify", "token", *words, *place)
    assert (run.exit, run.stdout) == (exit_code, b"")
    assert said in run.stderr


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"{}",
        b"[[[[[",
        b'{"evaluations": [{"decision": true}]}',
        b'{"evaluations": [{"decision": 1, "context": {"outcome": "allowed"}}]}',
        b'{"evaluations": [{"decision": true, "context": {"outcome": "denied"}}]}',
    ],
)
def test_what_is_no_clear_yes_is_a_failure(issuer: Shell, tmp_path: Path, body: bytes | None) -> None:
    with fake(tmp_path, b"" if body is None else http(body)) as address:
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", address)
    assert (run.exit, run.stdout) == (5, b"")


YES = b'{"decision": true, "context": {"outcome": "allowed"}}'
NO = b'{"decision": false, "context": {"outcome": "denied"}}'


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@contextlib.contextmanager
def fake(folder: Path, *said: bytes, pause: float = 0.0) -> Iterator[str]:
    """Yields the address of what says this to one client, piece by piece, whatever it is asked."""
    path = folder / "fake.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(60)

        def serve() -> None:
            with contextlib.suppress(OSError):  # nobody came, or went away early
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    for each in said:
                        connection.sendall(each)
                        time.sleep(pause)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b'{"evaluations": [%b]}' % YES, id="no length"),
        pytest.param(http(b'{"evaluations": [%b]}' % YES)[:-1], id="cut off"),
        pytest.param(http(b'{"evaluations": [%b]}' % YES) + b"x", id="more than its length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" + YES, id="garbage in chunks"
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="no answer yet"),
        pytest.param(b"HTTP/1.1 2\xff0 OK\r\ncontent-length: 2\r\n\r\n{}", id="no status"),
        pytest.param(b"\xff" * 1000, id="no HTTP"),
        pytest.param(http(b'{"evaluations": [%b, %b]}' % (YES, YES)), id="more answers than questions"),
        pytest.param(http(b'{"evaluations": {"0": %b}}' % YES), id="no list"),
        pytest.param(http(YES), id="one answer to a list"),
    ],
)
def test_what_no_sidecar_says_is_no_yes(issuer: Shell, tmp_path: Path, said: bytes) -> None:
    with fake(tmp_path, said) as address:
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", address)
    assert (run.exit, run.stdout) == (5, b"")


@pytest.mark.parametrize("answers", [(NO, YES), (NO,), (YES, NO)])
def test_of_several_answers_all_have_to_be_a_yes(
    issuer: Shell, tmp_path: Path, answers: tuple[bytes, ...]
) -> None:
    """A decision point that does not stop at the first no says yes last."""
    body = b'{"evaluations": [%b]}' % b", ".join(answers)
    with fake(tmp_path, http(body)) as address:
        run = issuer.cap("verify", "token", "-o", "write", "-o", "read", "--sidecar", address)
    assert run.exit == 1


def test_a_byte_now_and_then_is_no_answer(
    issuer: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TIMEOUT", 0.3)
    with fake(tmp_path, *[b"H"] * 3000, pause=0.02) as address:
        started = time.monotonic()
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", address)
        assert time.monotonic() - started < 30  # of the 60 that it would take
    assert (run.exit, run.stdout) == (5, b"")


def test_what_a_sidecar_says_moves_no_cursor(issuer: Shell, tmp_path: Path) -> None:
    said = {"outcome": "denied", "reason_user": {"en": "\x1b[2J\u202eallowed\r\nallowed"}}
    body = json.dumps({"evaluations": [{"decision": False, "context": said}]}).encode()
    with fake(tmp_path, http(body)) as address:
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", address)
    assert run.exit == 1
    assert run.text.rstrip("\n").isprintable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_no_token_is_handed_to_who_put_a_socket_where_everybody_may(issuer: Shell, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with fake(tmp_path, http(b'{"evaluations": [%b]}' % YES)) as address:
        os.chown(address.removeprefix("unix:"), 65534, 65534)
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", address)
        assert (run.exit, run.stdout) == (2, b"")
        assert "anybody" in run.stderr
        tmp_path.chmod(0o755)
        assert issuer.cap("verify", "token", "-o", "read", "--sidecar", address).exit == 0


def test_a_configuration_is_explained(issuer: Shell) -> None:
    """Each route with its own policy, and what may surprise, such as who can connect."""
    issuer.write("root.key.pub", repr(ROOT.public_key))
    issuer.write("some.datalog", "allow if true")
    issuer.write(
        "cap.toml",
        'public_key = "root.key.pub"\n[serve]\nmax_stale = 5\nlog = "log.jsonl"\ndecisions = "all"\n'
        'when_full = "deny"\nworkers = 2\nstore = "sqlite:///cap.db"\nstate = "copies"\n'
        '[[serve.listen]]\naddress = "unix:/run/cap.sock"\nmode = "0600"\nbehind = "envoy"\npaths = "raw"\n'
        '[[serve.listen]]\naddress = "tcp:0.0.0.0:9901"\nserves = "admin"\npublic = true\n'
        '[[serve.route]]\npath = "/open"\npolicy = "some.datalog"\ntenant = "acme"\non_stale = "allow"\n'
        '[[serve.route]]\nhost = "api.example.com"\napplication = "orders"\n',
    )
    folder = issuer.folder
    done = issuer.cap("serve", "--check")
    assert (done.exit, done.text.splitlines()) == (
        0,
        [
            "unix:/run/cap.sock  check, behind envoy, with ambiguous paths, mode 0600",
            "tcp:0.0.0.0:9901  admin, other hosts can connect",
            "api.example.com /  the built-in policy, application orders",
            f"any host /open  {folder}/some.datalog, tenant acme, also by revocations that are too old",
            "anything else  nobody is let in",
            f"keys  {ROOT.public_key!r}",
            "revocations  followed, 5 s old at most",
            f"copies  kept in {folder}/copies",
            f"log  all decisions, to {folder}/log.jsonl; what does not fit is denied",
            "workers  2",
        ],
    )
    said = issuer.cap("serve", "--check", "--json").json
    assert (said["listen"][0]["mode"], said["listen"][0]["paths"]) == ("0600", "raw")
    assert [each["on_stale"] for each in said["routes"]] == ["allow", "deny"]
    assert (said["max_stale"], said["log"]["when_full"], said["workers"]) == (5.0, "deny", 2)
    assert (said["state"], done.stderr) == (f"{folder}/copies", "")
    assert not (folder / "copies").exists()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("others", "its folder can be written by others than its owner"),
        ("cap.toml", "its folder is none"),
        ("cap.toml/copies", "not a directory"),
    ],
)
def test_a_folder_in_which_no_copy_can_be_kept_is_told_of(issuer: Shell, state: str, reason: str) -> None:
    (issuer.folder / "others").mkdir()
    (issuer.folder / "others").chmod(0o777)
    issuer.write("cap.toml", f'public_key = "{ROOT.public_key!r}"\n[serve]\nstate = "{state}"\n')
    said = issuer.cap("serve", "--check", "--json").json
    assert f"no copy can be kept in '{issuer.folder}/{state}': {reason}" in said["warnings"]


def test_what_is_said_where_comes_in_the_order_of_all_commands(issuer: Shell) -> None:
    """A flag, the environment, [serve], the whole cap.toml: no bound is passed over."""
    top = f'public_key = "{ROOT.public_key!r}"\nstore = "sqlite:///cap.db"\nmax_stale = 7\n[serve]\n'
    issuer.write("cap.toml", top)

    def said(*flags: str, **env: str) -> dict[str, object]:
        return dict(issuer.cap("serve", "--check", "--json", *flags, env=env).json)

    assert said()["max_stale"] == 7.0
    issuer.write("cap.toml", top + "max_stale = 6\ngrace = 3\n")
    assert (said()["max_stale"], said()["grace"]) == (6.0, 3.0)
    assert said(CAP_MAX_STALE="5")["max_stale"] == 5.0
    assert said("--max-stale", "4", CAP_MAX_STALE="5")["max_stale"] == 4.0
    assert issuer.cap("serve", "--check", "--max-stale", "0").exit == 2
    found = said(
        *("--on-stale", "allow"),
        CAP_LISTEN="tcp:1",
        CAP_ADMIN="tcp:2",
        CAP_API="tcp:3",
        CAP_GRPC="tcp:4",
        CAP_WORKERS="3",
        CAP_ON_STALE="deny",
        CAP_DECISIONS="all",
        CAP_LOG="log.jsonl",
    )
    assert {each["serves"]: each["address"][-1] for each in cast(list[dict[str, str]], found["listen"])} == {
        "check": "1",
        "admin": "2",
        "api": "3",
        "grpc": "4",
    }
    assert found["workers"] == 3
    assert [each["on_stale"] for each in cast(list[dict[str, str]], found["routes"])] == ["allow"]
    log = cast(dict[str, object], found["log"])
    assert (log["decisions"], log["to"]) == ("all", str(issuer.folder / "log.jsonl"))
    for wrong in (("--on-stale", "maybe"), ("--decisions", "some")):
        assert issuer.cap("serve", "--check", *wrong).exit == 2


def test_a_command_runs_with_a_narrower_token(issuer: Shell) -> None:
    whole = (issuer.folder / "token").read_text()
    env = {"CAP_TOKEN": whole, "CAP_PRIVATE_KEY": "root.key"}
    show = "import os; print(os.environ.get('CAP_PRIVATE_KEY')); print(os.environ['CAP_TOKEN'])"
    run = issuer.process("run", "-o", "read", "--", sys.executable, "-c", show, env=env)
    assert run.exit == 0, run.stderr
    key, token = run.text.splitlines()
    assert (key, token == whole) == ("None", False)
    issuer.write("narrow", token)
    assert issuer.cap("verify", "narrow", "-a", "orders", "-o", "read").exit == 0
    assert issuer.cap("verify", "narrow", "-a", "orders", "-o", "write").exit == 1
    assert issuer.process("run", "--token", "token", "--expires", "1h", "sh", "-c", "exit 7").exit == 7


def test_a_command_gets_nothing_that_is_more_than_its_token(issuer: Shell) -> None:
    whole = (issuer.folder / "token").read_text().strip()
    secrets = {"CAP_PRIVATE_KEY": "root.key", "CAP_STORE": "postgresql://cap:hunter2@127.0.0.1/cap"}
    show = "cat /proc/$$/environ /proc/$$/cmdline | tr '\\0' '\\n'"
    run = issuer.process("run", "-o", "read", "sh", "-c", show, env={"CAP_TOKEN": whole, **secrets})
    assert run.exit == 0, run.stderr
    assert whole not in run.text.splitlines()
    assert not [word for word in ("hunter2", "root.key", f"={whole}\n") if word in run.text]
    narrow = next(line for line in run.text.splitlines() if line.startswith("CAP_TOKEN=")).partition("=")[2]
    assert run.text.count(narrow) == 1
    plain = {"CAP_TOKEN": whole, "CAP_STORE": "sqlite:///cap.db"}
    assert "sqlite:///cap.db" in issuer.process("run", "-o", "read", "printenv", "CAP_STORE", env=plain).text


def test_options_signals_and_stdin_are_the_command_s_own(issuer: Shell) -> None:
    env = {"CAP_TOKEN": (issuer.folder / "token").read_text()}
    assert issuer.process("run", "-o", "read", "echo", "--json", "-o", env=env).text == "--json -o\n"
    assert issuer.process("run", "-o", "read", "cat", env=env, input=b"piped").stdout == b"piped"
    assert issuer.process("run", "-o", "read", "sh", "-c", "kill -PIPE $$", env=env).exit == -signal.SIGPIPE
    assert issuer.process("run", "-o", "read", "sh", "-c", "kill -XFSZ $$", env=env).exit == -signal.SIGXFSZ


@pytest.mark.parametrize(
    ("words", "as_json"),
    [
        (("-o", "read", "--", "no-such-program", "--json"), False),
        (("-o", "read", "no-such-program", "--json"), False),
        (("--operation=read", "no-such-program", "--json"), False),
        (("-oread", "no-such-program", "--json"), False),
        (("--no-such-option", "read", "no-such-program", "--json"), False),
        (("--json", "-o", "read", "--", "no-such-program", "--json"), True),
        (("-o", "read", "--json", "no-such-program"), True),
    ],
)
def test_a_command_s_own_json_is_not_cap_s(issuer: Shell, words: tuple[str, ...], as_json: bool) -> None:
    run = issuer.process("run", *words, env={"CAP_TOKEN": (issuer.folder / "token").read_text()})
    assert run.exit == 2
    assert run.stderr.startswith("error: ")
    assert bool(run.stdout) is as_json


@pytest.mark.parametrize(
    ("words", "token", "exit_code", "said"),
    [
        (("-o", "read", "--", "true"), "", 2, "no token"),
        (("--", "true"), "token", 2, "narrows"),
        (("-o", "read"), "token", 2, "command"),
        (("-o", "read", "--", "no-such-program"), "token", 2, "cannot run"),
        (("-o", "read", "--", "true"), "nonsense", 3, "token"),
    ],
)
def test_what_cannot_be_run(
    issuer: Shell, words: tuple[str, ...], token: str, exit_code: int, said: str
) -> None:
    text = (issuer.folder / "token").read_text()
    run = issuer.process("run", *words, env={"CAP_TOKEN": text if token == "token" else token})
    assert (run.exit, run.stdout) == (exit_code, b"")
    assert said in run.stderr.lower()
    assert text not in run.stderr


@pytest.mark.parametrize(
    ("module", "words", "name", "extra"),
    [
        ("httptools", (), "httptools", "sidecar"),
        ("prometheus_client", ("--admin", "tcp:0"), "prometheus-client", "sidecar"),
        ("grpc", ("--grpc", "tcp:0"), "grpcio", "grpc"),
    ],
)
def test_a_package_that_serving_would_miss_is_named_as_it_is_installed(
    issuer: Shell, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...], name: str, extra: str
) -> None:
    find = importlib.util.find_spec
    serve = ("serve", "--listen", "tcp:0", *words)
    issuer.ok(*serve, "--check")
    monkeypatch.setattr(packages, "find_spec", lambda each: None if each == module else find(each))
    for command in (serve, (*serve, "--check")):
        run = issuer.cap(*command)
        assert (run.exit, run.stdout) == (2, b"")
        assert run.stderr.splitlines() == [
            f"error: the sidecar needs {name}",
            f"hint: pip install 'capability-tokens[{extra}]'",
        ]
