"""`cap store export` and `import`, and the bars of what takes long."""

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from capability.store import create_store, open_store
from capability.store.audit import Event
from tests.cli.conftest import Shell
from tests.store.contract import filled

OLD, NEW = "sqlite:///old.db", "sqlite:///new.db"


@pytest.fixture
def old(shell: Shell) -> Shell:
    """A shell with a store that holds something of everything."""
    with create_store(f"sqlite:///{shell.folder}/old.db") as store:
        filled(store)
    return shell


def at_terminal(shell: Shell, *arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Runs a command whose stdin and stderr are a terminal; returns its exit code and what stands there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "capability.cli", *arguments],
        cwd=shell.folder,
        env={**shell.env, "TERM": "xterm"},
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.write(ours, stdin)
    seen = b""
    hanging = threading.Timer(60, process.kill)
    hanging.start()
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # Linux: the other side is closed
        seen += b""
    hanging.cancel()
    os.close(ours)
    return process.wait(timeout=60), seen.decode()


def test_a_store_moves(old: Shell) -> None:
    dump = old.ok("store", "export", "--store", OLD)
    run = old.cap("store", "import", "-", "--store", NEW, "--actor", "ops", stdin=dump + "\n")
    assert (run.exit, run.text) == (0, "imported 17 items, at revision 4\n"), run.stderr
    assert run.stderr == ""
    old.ok("audit", "verify", "--store", NEW)
    assert "sound, at revision 4" in old.ok("store", "check", "--store", NEW)
    last = old.ok("audit", "list", "--store", NEW, "--action", "import")
    assert "import" in last
    assert "by ops" in last
    for listing in (["list"], ["revoked"]):
        assert old.ok(*listing, "--store", NEW) == old.ok(*listing, "--store", OLD)


def test_a_file_of_mode_0600(old: Shell) -> None:
    run = old.cap("store", "export", "--store", OLD, "--output", "dump", "--json")
    assert run.json == {"items": 17, "revision": 4}
    path = old.folder / "dump"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == old.ok("store", "export", "--store", OLD) + "\n"
    assert old.cap("store", "export", "--store", OLD, "--output", "dump").exit == 2
    old.ok("store", "export", "--store", OLD, "--output", "dump", "--force")
    assert old.ok("store", "import", "dump", "--store", NEW).startswith("imported 17")
    assert old.cap("store", "import", "dump", "--store", NEW, "--json").json["error"]["code"] == (
        "store.not_empty"
    )


def test_nothing_is_made_of_a_dump_that_was_cut_off(old: Shell) -> None:
    dump = (old.ok("store", "export", "--store", OLD) + "\n").encode()
    for part in (dump[:-1], dump[: len(dump) // 2], dump[: dump.rindex(b'{"end"')], b""):
        run = old.cap("store", "import", "-", "--store", NEW, "--json", stdin=part)
        assert (run.exit, run.json["error"]["code"]) == (2, "store.dump")
        assert not (old.folder / "new.db").exists()
    assert old.cap("store", "import", "absent", "--store", NEW).exit == 2


def test_an_older_store_is_not_put_where_a_newer_one_was(old: Shell) -> None:
    dump = old.ok("store", "export", "--store", OLD) + "\n"
    with open_store(f"sqlite:///{old.folder}/old.db") as store:
        store.revoke([b"later"])
        before = old.folder / "old.db"
        before.rename(old.folder / "away.db")
        assert old.cap("store", "import", "-", "--store", OLD, stdin=dump).exit == 0
        with pytest.raises(Exception, match="revision 5 before"):
            store.revision()


def test_a_broken_trail_stays_broken_and_is_said(old: Shell) -> None:
    import sqlite3

    connection = sqlite3.connect(old.folder / "old.db")
    connection.execute("DROP TRIGGER audit_is_not_shortened")
    connection.execute("DELETE FROM audit WHERE writer = 'svc' AND number = 3")
    connection.commit()
    connection.close()
    dump = old.ok("store", "export", "--store", OLD) + "\n"
    run = old.cap("store", "import", "-", "--store", NEW, stdin=dump)
    assert "not whole" in run.stderr
    assert old.cap("audit", "verify", "--store", NEW).exit == 1


@pytest.fixture
def long(shell: Shell) -> Path:
    """A store with a trail that takes a while."""
    path = shell.folder / "old.db"
    with create_store(f"sqlite:///{path}") as store:
        store.note([Event("decision")] * 6_000)
    return path


def test_what_takes_long_shows_how_far_it_is(shell: Shell, long: Path) -> None:
    exit_code, seen = at_terminal(shell, "store", "export", "--store", OLD)
    assert exit_code == 0
    assert "exporting" in seen
    assert "100%" in seen
    for words in (["audit", "verify"], ["audit", "export"]):
        assert "100%" in at_terminal(shell, *words, "--store", OLD)[1]
    for quiet in (["--json"], []):
        run = shell.process("audit", "verify", "--store", OLD, *quiet)
        assert run.stderr == ""
    assert at_terminal(shell, "audit", "verify", "--store", OLD, "--json")[1] == ""


def test_what_is_short_shows_no_bar(old: Shell) -> None:
    assert at_terminal(old, "store", "export", "--store", OLD) == (0, "")


def test_memory_does_not_grow_with_the_store(shell: Shell, long: Path) -> None:
    """A line is read when the one before it was written."""
    with open_store(f"sqlite:///{long}") as store, store.dump() as dump:
        first = next(dump.items)
        assert first is not None
        store.note([Event("decision")])
        assert sum(1 for _ in dump.items) == 5_999


def test_a_dump_of_another_kind_is_refused(shell: Shell) -> None:
    shell.write("notes", "hello\n")
    run = shell.cap("store", "import", "notes", "--store", NEW)
    assert run.exit == 2
    assert "no dump" in run.stderr
    assert not (shell.folder / "new.db").exists()


@pytest.mark.parametrize(("answer", "revoked"), [(b"y\n", True), (b"n\n", False), (b"\x04", False)])
def test_revoke_asks_at_a_terminal_and_says_what_the_cascade_means(
    issuer: Shell, answer: bytes, revoked: bool
) -> None:
    words = ("revoke", "token", "--store", "sqlite:///cap.db")
    exit_code, seen = at_terminal(issuer, *words, stdin=answer)
    assert "every token that was narrowed from it; there is no way back" in seen
    assert "go on?" in seen
    assert (exit_code == 0) is revoked
    assert (issuer.ok("revoked", "--store", "sqlite:///cap.db") != "nothing is revoked") is revoked
