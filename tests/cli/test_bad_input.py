"""Every command and every kind of bad input: an `error:`, a `hint:`, the right exit code, an empty stdout."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import OTHER, ROOT, Run, Shell
from tests.servers import GONE, state_of, wait_until

TOKEN_COMMANDS = {
    "attenuate": ("attenuate", "{}", "--expires", "1h"),
    "seal": ("seal", "{}"),
    "inspect": ("inspect", "{}"),
    "verify": ("verify", "{}", "--operation", "read"),
    "query": ("query", "a($x) <- right($x, $y)", "{}"),
    "revoke": ("revoke", "{}", "--store", "sqlite:///cap.db"),
    "revoked": ("revoked", "{}"),
    "request": ("third-party", "request", "{}"),
    # one that is not there, so that a token that is taken by mistake does not end the tests with it
    "run": ("run", "--token", "{}", "--expires", "1h", "--", "no-such-program"),
    "append": ("third-party", "append", "{}", "--block", "block", "--external-key", "root.key.pub"),
}
VERIFYING = ("verify", "query", "revoke", "revoked")


def token_command(name: str, token: str) -> list[str]:
    return [token if word == "{}" else word for word in TOKEN_COMMANDS[name]]


def assert_failed(run: Run, *codes: int) -> None:
    assert run.exit in codes, run.stderr
    assert run.stdout == b""
    lines = run.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == ["error", "hint"]
    assert "Traceback" not in run.stderr
    message = lines[0].removeprefix("error: ")
    assert not message.endswith(".")
    assert message[0] == message[0].lower()


@pytest.fixture
def attacked(issuer: Shell) -> Shell:
    """The issuer's shell with a signed block, and no other files that a failure could half write."""
    request = issuer.ok("third-party", "request", "token")
    issuer.write("request", request)
    issuer.write("block", issuer.ok("third-party", "sign", "request", "--block", 'member("ann");'))
    return issuer


def bad_tokens(token: str) -> dict[str, bytes]:
    text = token.encode()
    return {
        "empty": b"",
        "blank": b" \n\t\n",
        "binary": bytes(range(256)),
        "zeros": b"\0" * 100,
        "word": b"hello",
        "truncated": text[: len(text) // 2],
        "one character": text[:1],
        "wrong alphabet": text.replace(b"A", b"+"),
        "a space inside": text[:50] + b" " + text[50:],
        "two tokens": text + b"\n" + text,
        "JSON": b'{"token": "' + text + b'"}',
        "UTF-16": token.encode("utf-16"),
        "not UTF-8": text[:20] + b"\xff\xfe" + text[20:],
        "a private key": ROOT.text().encode(),
        "too long": b"A" * (1 << 21),
        "trailing bytes": text.rstrip(b"=") + b"AAAA",
        "another prefix": b"token:" + text,
    }


@pytest.mark.parametrize("name", TOKEN_COMMANDS)
def test_bad_tokens(attacked: Shell, name: str) -> None:
    token = (attacked.folder / "token").read_text()
    before = files(attacked)
    for kind, content in bad_tokens(token).items():
        run = attacked.cap(*token_command(name, "-"), stdin=content)
        assert_failed(run, 3)
        assert ROOT.to_bytes().hex() not in run.stderr, kind
        words = token_command(name, "-")
        # what stands at the end of `cap run` is its command's
        as_json = attacked.cap(
            *(("run", "--json", *words[1:]) if name == "run" else (*words, "--json")), stdin=content
        )
        assert as_json.exit == 3
        document = as_json.json
        # verify answers with a decision, whatever the token is
        assert document.get("exit") == 3 or document["outcome"] == "invalid_token", kind
    assert files(attacked) == before


@pytest.mark.parametrize("name", TOKEN_COMMANDS)
def test_files_that_cannot_be_read(attacked: Shell, name: str) -> None:
    (attacked.folder / "folder").mkdir()
    attacked.write("file", "x")
    for path in ("none", "folder", "file/below", "x" * 300, "nul\0byte"):
        assert_failed(attacked.cap(*token_command(name, path)), 2)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that nobody can read")
def test_an_unreadable_file(attacked: Shell) -> None:
    """Root may read any file by its mode, but not the first page of a process."""
    for name in TOKEN_COMMANDS:
        assert_failed(attacked.cap(*token_command(name, "/proc/self/mem")), 2)


@pytest.mark.parametrize("name", VERIFYING)
def test_a_token_of_another_key(attacked: Shell, name: str) -> None:
    foreign = attacked.ok("mint", 'right("a", "b");', env={"CAP_PRIVATE_KEY": OTHER.text()})
    assert_failed(attacked.cap(*token_command(name, "-"), stdin=foreign), 3)


@pytest.mark.parametrize("name", VERIFYING)
def test_a_changed_token(attacked: Shell, name: str) -> None:
    text = (attacked.folder / "token").read_text()
    middle = len(text) // 2
    changed = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
    assert_failed(attacked.cap(*token_command(name, "-"), stdin=changed), 3)


def test_inspect_shows_a_token_of_another_key_and_says_so(attacked: Shell) -> None:
    foreign = attacked.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": OTHER.text()})
    run = attacked.cap("inspect", stdin=foreign)
    assert run.exit == 3
    assert run.text.startswith("valid for    NOT VALID: ")
    assert run.stderr.startswith("error: ")
    document = attacked.cap("inspect", "--json", stdin=foreign).json
    assert document["verified"] is False
    assert document["root_key"] is None


DATALOG_COMMANDS = {
    "mint": ("mint", "{}"),
    "attenuate": ("attenuate", "token", "--block", "{}"),
    "policy": ("verify", "token", "--policy", "{}"),
    "query": ("query", "{}", "token"),
    "sign": ("third-party", "sign", "request", "--block", "{}"),
}


@pytest.mark.parametrize("name", DATALOG_COMMANDS)
def test_bad_datalog(attacked: Shell, name: str) -> None:
    (attacked.folder / "folder").mkdir()
    attacked.write("empty.datalog", "")
    attacked.write("blank.datalog", " \n")
    attacked.write("binary.datalog", b"\xff\xfe(\0")
    attacked.write("wrong.datalog", 'right("a"\n')
    attacked.write("long.datalog", b"a(1);\n" * 300_000)
    for source, code in {
        "none.datalog": 2,
        "folder": 2,
        "": 2,
        "empty.datalog": 4,
        "blank.datalog": 4,
        "binary.datalog": 4,
        "wrong.datalog": 4,
        "long.datalog": 4,
        "this is no datalog": 4,
        "right(": 4,
        "a($x);": 4,
        "b($y) <- c($z)": 4,
        'a("\x1b[31m") !': 4,
        "(" * 10_000: 4,
    }.items():
        command = [source if word == "{}" else word for word in DATALOG_COMMANDS[name]]
        run = attacked.cap(*command)
        assert_failed(run, code)
        assert "\x1b" not in run.stderr


def test_a_policy_in_a_block(attacked: Shell) -> None:
    for command in (("mint", "allow if true"), ("attenuate", "token", "--block", "allow if true")):
        assert_failed(attacked.cap(*command), 4)


def test_bad_third_party_messages(attacked: Shell) -> None:
    request = (attacked.folder / "request").read_text()
    block = (attacked.folder / "block").read_text()
    key = "root.key.pub"
    for content in (b"", b"\xff", b"hello", request[:-8].encode(), block.encode(), b"A" * (1 << 21)):
        run = attacked.cap("third-party", "sign", "-", "--block", "a(1);", stdin=content)
        assert_failed(run, 3)
    for content in (b"", b"\xff", b"hello", block[:-8].encode(), request.encode(), b"A" * (1 << 21)):
        arguments = ("third-party", "append", "token", "--block", "-", "--external-key", key)
        assert_failed(attacked.cap(*arguments, stdin=content), 3)


def test_bad_requests(attacked: Shell) -> None:
    for arguments, code in {
        ("--fact", "operation("): 4,
        ("--fact", "a($x)"): 4,
        ("--fact", "time(2020-01-01T00:00:00Z)"): 2,
        ("--fact", 'operation("a")', "--fact", 'operation("b")'): 2,
        ("--operation", "a", "--fact", 'operation("b")'): 2,
        ("--policy", 'allow if user("a"), 1 / 0 == 1'): 1,
        ("--policy", "allow if right($x, $y), $x > 1"): 4,
        ("--policy", "time(2020-01-01T00:00:00Z); allow if true"): 4,
        ("--store", "memory:"): 2,
        ("--store", "postgres://u:secret@h/db"): 2,
        ("--store", "sqlite:///none/cap.db"): 5,
        ("--store", "sqlite:///none.db"): 5,
        ("--store", "sqlite:///token"): 5,
    }.items():
        run = attacked.cap("verify", "token", "-a", "orders", *arguments)
        assert run.exit == code, (arguments, run.stderr)
        assert "secret" not in run.stderr
        if code != 1:
            assert_failed(run, code)


def test_a_limit_is_neither_yes_nor_no(attacked: Shell) -> None:
    facts = "".join(f"n({number}); " for number in range(40))
    policy = f"{facts} allow if n($a), n($b), n($c), n($d), $a + $b + $c + $d == 999"
    arguments = ("verify", "token", "-a", "orders", "-o", "read", "--policy", policy)
    assert_failed(attacked.cap(*arguments), 6)
    document = attacked.cap(*arguments, "--json").json
    assert document["outcome"] == "limit_reached"
    assert document["allowed"] is False


def test_bad_revocation_ids(attacked: Shell) -> None:
    for identifier in ("", "xyz", "00", "ab" * 63, "30" + "00" * 70):
        assert_failed(attacked.cap("revoke", "--id", identifier, "--store", "sqlite:///cap.db"), 3)
        assert_failed(attacked.cap("revoked", "--id", identifier), 3)
    assert not (attacked.folder / "cap.db").exists()


def test_usage(attacked: Shell) -> None:
    for arguments in (
        ("nonsense",),
        ("--nonsense",),
        ("mint", "--nonsense"),
        ("mint",),
        ("attenuate", "token"),
        ("attenuate", "token", "--expires", ""),
        ("attenuate", "token", "--expires", "1y"),
        ("attenuate", "token", "--expires", "0h"),
        ("attenuate", "token", "--expires", "2026-12-01"),
        ("attenuate", "token", "--expires", "2026-13-01T00:00:00Z"),
        ("attenuate", "token", "--expires", "999999w"),
        ("attenuate", "token", "--application", ""),
        ("attenuate", "token", "--application"),
        ("attenuate", "token", "--expires", "1h", "--not-before", "2h"),
        ("mint", "a(1);", "--key-id", "-1"),
        ("mint", "a(1);", "--key-id", "4294967296"),
        ("mint", "a(1);", "--key-id", "one"),
        ("keygen", "--algorithm", "rsa"),
        ("revoke", "token", "--block", "-1"),
        ("revoke", "token", "--id", "ab"),
        (),
        ("third-party",),
        ("third-party", "nonsense"),
        ("third-party", "append", "token"),
        ("completion", "tcsh"),
        ("query",),
        ("run",),
        ("run", "--expires", "1h"),
        ("run", "--token", "token", "--", "no-such-program"),
        ("run", "--token", "token", "--expires", "1y", "--", "no-such-program"),
        ("run", "--token", "token", "--expires", "1h", "--", "no-such-program"),
        ("run", "--token", "token", "--expires", "1h", "--", ""),
        ("run", "--expires", "1h", "--", "no-such-program"),
        ("verify", "token", "--sidecar", "tcp:1"),
        ("verify", "token", "--operation", "read", "--sidecar", "nonsense"),
    ):
        assert_failed(attacked.cap(*arguments), 2)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("wait",), 2),
        (("wait", "--revision", "-1"), 2),
        (("wait", "--revision", "one"), 2),
        (("wait", "--revision", "0", "--timeout", "-1"), 2),
        (("wait", "--revision", "1", "--timeout", "0"), 5),
        (("wait", "--revision", "0", "--store", "sqlite:///none.db"), 5),
        (("store", "export", "--store", "sqlite:///none.db"), 5),
        (("store", "export", "--store", "memory:"), 2),
        (("store", "export", "--output", "token"), 2),
        (("store", "export", "--output", "none/dump"), 2),
        (("store", "import"), 2),
        (("store", "import", "none"), 2),
        (("store", "import", "token", "--store", "sqlite:///new.db"), 2),
        (("store", "import", "root.key.pub", "--store", "sqlite:///new.db"), 2),
        (("store", "import", "dump", "--store", "sqlite:///cap.db"), 2),
        (("store", "import", "dump", "--store", "sqlite:///none/new.db"), 5),
        (("store", "import", "dump", "--actor", "\udcff", "--store", "sqlite:///new.db"), 2),
        (("list", "--limit", "none"), 2),
        (("list", "--all", "--store", "sqlite:///none.db"), 5),
        (("serve", "--check", "--listen", "udp:1"), 2),
        (("serve", "--check", "--listen", "tcp:0.0.0.0:1"), 2),
        (("serve", "--check", "--policy", "none"), 2),
        (("serve", "--check", "--policy", "token"), 2),
        (("serve", "--check", "--public-key", "token"), 3),
        (("serve", "--check", "--public-key", "none"), 3),
        (("serve", "--check", "--behind", "nginx"), 2),
        (("serve", "--check", "--behind", "none", "--listen", "tcp:1"), 2),
        (("serve", "--check", "--store", "memory:"), 2),
        (("serve", "--check", "--workers", "0"), 2),
        (("serve", "--check", "--max-stale", "-1"), 2),
        (("serve", "--check", "--store", "postgresql://u:secret@h/db"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_stores_and_services(issuer: Shell, command: tuple[str, ...], code: int) -> None:
    issuer.env["CAP_STORE"] = "sqlite:///cap.db"
    issuer.ok("store", "init")
    issuer.ok("mint", "a(1);")
    issuer.ok("store", "export", "--output", "dump")
    before = files(issuer)
    run = issuer.cap(*command)
    assert_failed(run, code)
    assert "secret" not in run.stderr
    assert files(issuer).keys() == before.keys()


def test_arguments_that_are_not_utf_8(attacked: Shell) -> None:
    """Python hands such bytes over as lone surrogates."""
    lone = "\udcff"
    attacked.env["CAP_STORE"] = "sqlite:///cap.db"
    attacked.ok("mint", "a(1);")
    for arguments, code in {
        ("mint", f'a("{lone}");'): 4,
        ("mint", "-a", lone): 2,
        ("mint", "a({x});", "--param", f"x={lone}"): 2,
        ("mint", "a({x});", "--param", f"x:term={lone}"): 2,
        ("attenuate", "token", "--expires", lone): 2,
        ("inspect", lone): 2,
        ("inspect", "token", "--public-key", lone): 2,
        ("inspect", "token", "--keys", lone): 2,
        ("mint", "a(1);", "--private-key", lone): 2,
        ("verify", "token", "-o", lone): 2,
        ("verify", "token", "--fact", f'a("{lone}")'): 4,
        ("verify", "token", "--policy", lone): 2,
        ("verify", "token", "--store", f"sqlite:///{lone}.db"): 5,
        ("revoke", "token", "--reason", lone): 2,
        ("revoke", "token", "--actor", lone): 2,
        ("revoke", "--id", lone): 3,
        ("query", f'a("{lone}") <- b($x)', "token"): 4,
        (lone,): 2,
    }.items():
        assert_failed(attacked.cap(*arguments), code)
        assert attacked.cap(*arguments, "--json").exit == code


def test_a_block_that_is_not_there(attacked: Shell) -> None:
    assert_failed(attacked.cap("revoke", "token", "--block", "1", "--store", "sqlite:///cap.db"), 3)


def test_json_errors_are_objects(attacked: Shell) -> None:
    run = attacked.cap("attenuate", "token", "--expires", "never", "--json")
    assert run.exit == 2
    assert set(run.json) == {"error", "exit"}
    assert run.json["exit"] == 2
    assert set(run.json["error"]) == {"code", "message", "hint"}
    assert run.stderr.startswith("error: ")
    assert attacked.cap("inspect", "none", "--json").json["error"]["code"] == "file.missing"
    assert attacked.cap("nonsense", "--json").json["error"]["code"] == "usage"


# Streams that end early


def test_nobody_reads_the_output(attacked: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        for arguments in (
            ("inspect", "token"),
            ("mint", "a(1);"),
            ("--help",),
            ("verify", "token", "--json"),
        ):
            run = attacked.process(*arguments, stdout=writing)
            assert run.exit == 141, arguments
            assert run.stderr == ""
    finally:
        os.close(writing)


def test_a_closed_stdout(attacked: Shell) -> None:
    command = f"exec {sys.executable} -m capability.cli seal token >&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=attacked.folder, env=attacked.env, stderr=subprocess.PIPE, timeout=60
    )
    assert_failed(Run(done.returncode, b"", done.stderr.decode()), 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(attacked: Shell) -> None:
    with open("/dev/full", "wb") as full:
        for arguments in (("mint", "a(1);"), ("inspect", "token")):
            run = attacked.process(*arguments, stdout=full)
            assert_failed(run, 2)


def fill(pipe: int) -> None:
    """Writes white space to a pipe until it is full."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b" " * 4096)


def test_an_interrupt(attacked: Shell) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "capability.cli", "inspect"],
        cwd=attacked.folder,
        env=attacked.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        fill(process.stdin.fileno())
        select.select([], [process.stdin], [], 60)  # who reads makes room again
        # Between two reads Python would not see the signal before the next one had ended.
        wait_until(lambda: state_of(process.pid) in ("S", *GONE))
        process.send_signal(signal.SIGINT)
        # stdin stays open: it is the signal that ends the command
        process.wait(timeout=60)
        assert process.stdout is not None
        assert process.stderr is not None
        assert_failed(Run(process.returncode, process.stdout.read(), process.stderr.read().decode()), 130)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def files(shell: Shell) -> dict[str, bytes]:
    """Returns what lies in the folder."""
    return {path.name: path.read_bytes() for path in shell.folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "0s", "0d"])
def test_a_token_is_not_minted_for_the_past(issuer: Shell, moment: str) -> None:
    for words, env in ((["--expires", moment], {}), ([], {"CAP_EXPIRES": moment})):
        run = issuer.cap("mint", "a(1);", *words, env=env)
        assert_failed(run, 2)
        assert "is over" in run.stderr
        assert ("CAP_EXPIRES" if env else "--expires") in run.stderr


def test_who_said_something_unreadable_is_named(issuer: Shell) -> None:
    run = issuer.cap("mint", "a(1);", env={"CAP_EXPIRES": "abc"})
    assert_failed(run, 2)
    assert run.stderr.startswith("error: $CAP_EXPIRES: ")
    assert "--expires" not in run.stderr
    with (issuer.folder / "cap.toml").open("a") as file:
        file.write('expires = "abc"\n')
    assert issuer.cap("mint", "a(1);").stderr.startswith("error: expires in cap.toml: ")


def test_a_token_in_place_of_a_request_or_block_is_told_apart(attacked: Shell) -> None:
    run = attacked.cap("third-party", "sign", "token", "--block", "b(1);")
    assert_failed(run, 3)
    assert "no request" in run.stderr
    assert "hint: make one of the token with `cap third-party request`" in run.stderr
    run = attacked.cap("third-party", "append", "token", "--block", "token", "--external-key", "root.key.pub")
    assert_failed(run, 3)
    assert "no block" in run.stderr
    assert "`cap third-party sign`" in run.stderr
