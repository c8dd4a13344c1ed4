"""`cap verify --sidecar` and `cap run`: what they answer, what they hand on, and what they do not load."""

import importlib.util
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capability.cli.asking import EXITS
from capability.decision import EXIT_CODES
from capability.sidecar import packages
from tests.cli.conftest import ROOT, Shell
from tests.sidecar.processes import Sidecar, sidecar

HEAVY = ("nacl", "google.protobuf", "lark", "click", "http.client", "capability.guard", "capability.tokens")


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
    path = tmp_path / "fake.sock"
    answer = b"" if body is None else b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        run = issuer.cap("verify", "token", "-o", "read", "--sidecar", f"unix:{path}")
        thread.join()
    assert (run.exit, run.stdout) == (5, b"")


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


def test_options_signals_and_stdin_are_the_command_s_own(issuer: Shell) -> None:
    env = {"CAP_TOKEN": (issuer.folder / "token").read_text()}
    assert issuer.process("run", "-o", "read", "echo", "--json", "-o", env=env).text == "--json -o\n"
    assert issuer.process("run", "-o", "read", "cat", env=env, input=b"piped").stdout == b"piped"
    assert issuer.process("run", "-o", "read", "sh", "-c", "kill -PIPE $$", env=env).exit == -signal.SIGPIPE


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
        ("envoy", ("--grpc", "tcp:0"), "xds-protos", "grpc"),
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
