"""Where tokens and Datalog come from, and which source wins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Shell


def read_rights(shell: Shell, token: str) -> str:
    inspected = shell.cap("inspect", "--json", stdin=token).json
    return "".join(block["source"] for block in inspected["blocks"])


@pytest.fixture
def others(issuer: Shell) -> dict[str, str]:
    """Three tokens that differ in what they state."""
    return {name: issuer.ok("mint", f'from("{name}");') for name in ("file", "stdin", "variable")}


def source_of(run_text: str) -> str:
    return next(name for name in ("file", "stdin", "variable") if f'from("{name}")' in run_text)


def test_a_file_wins(issuer: Shell, others: dict[str, str]) -> None:
    issuer.write("t", others["file"])
    text = issuer.ok("inspect", "t", stdin=others["stdin"], env={"CAP_TOKEN": others["variable"]})
    assert source_of(text) == "file"


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_stdin_comes_before_the_environment(
    issuer: Shell, others: dict[str, str], arguments: tuple[str, ...]
) -> None:
    text = issuer.ok("inspect", *arguments, stdin=others["stdin"], env={"CAP_TOKEN": others["variable"]})
    assert source_of(text) == "stdin"


def test_the_environment_comes_last(issuer: Shell, others: dict[str, str]) -> None:
    assert source_of(issuer.ok("inspect", env={"CAP_TOKEN": others["variable"]})) == "variable"


def test_an_empty_pipe_does_not_fall_back(issuer: Shell, others: dict[str, str]) -> None:
    """`cap attenuate (which fails) | cap verify` must not decide about $CAP_TOKEN."""
    run = issuer.cap("inspect", stdin=b"", env={"CAP_TOKEN": others["variable"]})
    assert run.exit == 3
    assert "the token is empty" in run.stderr


def test_a_dash_never_means_the_environment(issuer: Shell, others: dict[str, str]) -> None:
    assert issuer.cap("inspect", "-", env={"CAP_TOKEN": others["variable"]}).exit == 3


def test_a_real_pipe(issuer: Shell, others: dict[str, str]) -> None:
    run = issuer.process("inspect", input=others["stdin"].encode(), env={"CAP_TOKEN": others["variable"]})
    assert source_of(run.text) == "stdin"


def test_a_closed_stdin(issuer: Shell, others: dict[str, str]) -> None:
    command = f"exec {sys.executable} -m capability.cli inspect <&-"
    for env, code in (({"CAP_TOKEN": others["variable"]}, 0), ({}, 2)):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=issuer.folder,
            env={**issuer.env, **env},
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr


def test_no_token_at_all(issuer: Shell) -> None:
    for command in ("inspect", "attenuate", "seal", "revoke"):
        extra = ("--expires", "1h") if command == "attenuate" else ()
        run = issuer.cap(command, *extra)
        assert run.exit == 2
        assert run.stderr.startswith("error: no token was given\nhint: pass a file, pipe the token in")


def test_white_space_around_a_token_is_no_part_of_it(issuer: Shell, others: dict[str, str]) -> None:
    assert issuer.ok("inspect", stdin=f"\n  {others['stdin']}\r\n\n")


def test_a_prefix_is_allowed(issuer: Shell, others: dict[str, str]) -> None:
    assert issuer.ok("inspect", stdin=f"biscuit:{others['stdin']}")


def test_a_token_is_no_argument_and_is_not_repeated(issuer: Shell, others: dict[str, str]) -> None:
    token = others["file"]
    for arguments in (
        ("attenuate", token, "--expires", "1h"),
        ("inspect", token),
        ("inspect", "token", token),
        ("seal", f"biscuit:{token}"),
        (token,),
        ("inspect", f"--{token}"),
        ("inspect", "--public-key", token),
        ("inspect", "token", "--keys", token),
        ("third-party", "request", token),
        ("third-party", "sign", token, "--block", "a(1)"),
        ("attenuate", "token", "--block", token),
        ("revoke", "--id", token),
    ):
        run = issuer.cap(*arguments)
        assert run.exit in (2, 3), run.stderr
        assert token not in run.stderr + run.text
        assert token[20:80] not in run.stderr + run.text
        assert run.stderr.startswith("error: ")


def test_stdin_is_read_once(issuer: Shell) -> None:
    run = issuer.cap("attenuate", "-", "--block", "-", stdin="check if a(1)")
    assert run.exit == 2
    assert "come from stdin" in run.stderr


@pytest.mark.parametrize("source", ['right("x");', "right.datalog", "-"])
def test_datalog_comes_from_an_argument_a_file_or_stdin(issuer: Shell, source: str) -> None:
    issuer.write("right.datalog", 'right("x"); // a comment')
    token = issuer.ok("mint", source, stdin='right("x");' if source == "-" else None)
    assert 'right("x");' in read_rights(issuer, token)


def test_every_part_of_a_block_counts(issuer: Shell) -> None:
    issuer.write("more.datalog", "check if a(1) // no semicolon, and a comment")
    token = issuer.ok(
        "attenuate",
        "token",
        "--block",
        "more.datalog",
        "--block",
        "check if b(2); check if c(3);",
        "-t",
        "acme",
    )
    rights = read_rights(issuer, token)
    for check in ("check if a(1);", "check if b(2);", "check if c(3);", '{"acme"}.contains($t)'):
        assert check in rights


def test_parameters_of_every_type(issuer: Shell) -> None:
    source = "values({s}, {n}, {t}, {d}, {b}, {nothing}, {set});check if member({s}) trusting {partner};"
    token = issuer.ok(
        "mint",
        source,
        *("--param", 's=a"b=c'),
        *("--param", "n:integer=-7"),
        *("--param", "t:bool=true"),
        *("--param", "d:date=2026-01-02T03:04:05+01:00"),
        *("--param", "b:bytes=00ff"),
        *("--param", "nothing:null="),
        *("--param", "set:term={1, 2}"),
        *("--param", f"partner:key={ROOT.public_key!r}"),
    )
    rights = read_rights(issuer, token)
    assert 'values("a\\"b=c", -7, true, 2026-01-02T02:04:05Z, hex:00ff, null, {1, 2});' in rights
    assert f"trusting {ROOT.public_key!r}" in rights


@pytest.mark.parametrize(
    ("param", "code"),
    [
        ("x", 2),
        ("x:integer=one", 2),
        ("x:bool=yes", 2),
        ("x:date=tomorrow", 2),
        ("x:bytes=0", 2),
        ("x:bytes=00 ff", 2),
        ("x:integer=9223372036854775808", 2),
        ("x:integer=1_000", 2),
        ("x:integer= 7", 2),
        ("x:integer=\u0667", 2),
        ("x:date=1969-12-31T23:59:59Z", 2),
        ("x:date=9999-12-31T23:59:59-01:00", 2),
        ("x:null=nothing", 2),
        ("x:colour=red", 2),
        ("x:term=$y", 4),
        ("y=1", 4),
    ],
)
def test_parameters_that_do_not_fit(issuer: Shell, param: str, code: int) -> None:
    run = issuer.cap("mint", "a({x});", "--param", param)
    assert run.exit == code
    assert run.stdout == b""


@pytest.mark.parametrize(
    "param", ["x:integer=-9223372036854775808", "x:bytes=", "x:bytes=hex:00FF", "x:null=null"]
)
def test_parameters_that_fit(issuer: Shell, param: str) -> None:
    assert issuer.cap("mint", "a({x});", "--param", param).exit == 0


def test_parameters_given_twice_or_for_nothing(issuer: Shell) -> None:
    assert issuer.cap("mint", "a({x});", "--param", "x=1", "--param", "x=2").exit == 2
    run = issuer.cap("mint", "a({x});", "--param", "x=1", "--param", "z=2")
    assert run.exit == 2
    assert "z" in run.stderr
    assert issuer.cap("mint", "-a", "orders", "--param", "x=1").exit == 2


def test_a_missing_parameter(issuer: Shell) -> None:
    run = issuer.cap("mint", "a({x});")
    assert run.exit == 4
    assert "--param" in run.stderr


def test_bytes_in_and_out(issuer: Shell) -> None:
    raw = issuer.cap("mint", "a(1);", "--raw").stdout
    assert raw[:1] == b"\x12"
    narrower = issuer.cap("attenuate", "--expires", "1h", "--raw", stdin=raw).stdout
    assert narrower.startswith(raw[:40])
    sealed = issuer.cap("seal", "--raw", stdin=narrower).stdout
    assert issuer.cap("inspect", "--raw", "--json", stdin=sealed).json["sealed"] is True


def test_bytes_do_not_go_to_a_terminal(issuer: Shell) -> None:
    pty = pytest.importorskip("pty")
    main_end, terminal = pty.openpty()
    try:
        run = issuer.process("mint", "a(1);", "--raw", stdout=terminal)
        assert run.exit == 2
        assert "terminal" in run.stderr
        os.set_blocking(main_end, False)
        with pytest.raises(BlockingIOError):
            os.read(main_end, 1)
    finally:
        os.close(terminal)
        os.close(main_end)


def test_an_editor_asks_where_there_is_a_terminal(issuer: Shell) -> None:
    pty = pytest.importorskip("pty")
    editor = issuer.write("editor", "#!/bin/sh\necho 'edited(1);' >> \"$1\"\n", mode=0o755)
    main_end, terminal = pty.openpty()
    try:
        env = {"EDITOR": str(Path(issuer.folder) / editor)}
        run = issuer.process("mint", env=env, stdin=terminal, stderr=terminal)
        assert run.exit == 0
        assert "edited(1);" in read_rights(issuer, run.text)
        issuer.write("editor", "#!/bin/sh\ntrue\n", mode=0o755)
        assert issuer.process("mint", env=env, stdin=terminal, stderr=terminal).exit == 2
        (issuer.folder / "editor").unlink()
        assert issuer.process("mint", env=env, stdin=terminal, stderr=terminal).exit == 2
    finally:
        os.close(terminal)
        os.close(main_end)


def test_no_editor_without_a_terminal(issuer: Shell) -> None:
    issuer.write("editor", "#!/bin/sh\ntouch opened\n", mode=0o755)
    run = issuer.cap("mint", env={"EDITOR": "./editor"})
    assert run.exit == 2
    assert not (issuer.folder / "opened").exists()
