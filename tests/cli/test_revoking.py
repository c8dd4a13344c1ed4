"""`cap revoke`, `cap revoked`, and `cap verify` beside a store."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import P256, ROOT, Shell

READ = ("-a", "orders", "-o", "read")
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256."""


@pytest.fixture
def stored(issuer: Shell) -> Shell:
    issuer.env["CAP_STORE"] = "sqlite:///cap.db"
    issuer.ok("mint", "a(1);")
    return issuer


def ids(shell: Shell, token: str) -> list[str]:
    found: list[str] = shell.cap("inspect", "--json", stdin=token).json["revocation_ids"]
    return found


def test_the_root_is_revoked_and_all_that_descend_from_it(stored: Shell) -> None:
    narrow = stored.ok("attenuate", "token", "-o", "read")
    narrower = stored.ok("attenuate", "--expires", "1h", stdin=narrow)
    sealed = stored.ok("seal", stdin=narrower)
    other = stored.ok("mint", "a(1);")
    assert stored.cap("verify", *READ, stdin=sealed).exit == 0
    stored.ok("revoke", "token")
    for token in (narrow, narrower, sealed):
        run = stored.cap("verify", *READ, stdin=token)
        assert run.exit == 1
        assert run.text.startswith("revoked: block 0 ")
    assert stored.cap("verify", *READ, stdin=other).exit == 0


def test_a_narrow_token_revokes_its_root_too(stored: Shell) -> None:
    stored.ok("revoke", stdin=stored.ok("attenuate", "token", "-o", "read"))
    assert stored.cap("verify", "token", *READ).exit == 1


def test_a_block_is_revoked_and_only_what_holds_it(stored: Shell) -> None:
    first = stored.ok("attenuate", "token", "-o", "read")
    second = stored.ok("attenuate", "token", "-o", "read")
    below = stored.ok("attenuate", "--expires", "1h", stdin=first)
    stored.ok("revoke", "--block", "1", stdin=below)
    for token, code in ((first, 1), (below, 1), (second, 0)):
        assert stored.cap("verify", *READ, stdin=token).exit == code
    assert stored.cap("verify", *READ, stdin=first).text.startswith("revoked: block 1 ")
    assert stored.cap("verify", "token", *READ).exit == 0


def test_by_id(stored: Shell) -> None:
    token = (stored.folder / "token").read_text()
    (identifier,) = ids(stored, token)
    run = stored.cap("revoke", "--id", identifier, "--reason", "leak", "--actor", "ann", "--json")
    assert run.json == {"revoked": [identifier], "revision": 1}
    assert stored.cap("verify", "token", *READ).exit == 1
    (entry,) = stored.cap("revoked", "--json").json["revocations"]
    assert {name: entry[name] for name in ("id", "reason", "actor", "revision")} == {
        "id": identifier,
        "reason": "leak",
        "actor": "ann",
        "revision": 1,
    }


def test_again_changes_nothing(stored: Shell) -> None:
    first = stored.cap("revoke", "token", "--reason", "one", "--json").json
    assert stored.cap("revoke", "token", "--reason", "two", "--json").json == first
    assert "one" in stored.ok("revoked")


def test_several_ids_are_one_revision(stored: Shell) -> None:
    run = stored.cap("revoke", "--id", "aa" * 64, "--id", "bb" * 64, "--json")
    assert run.json["revision"] == 1
    assert len(stored.cap("revoked", "--json").json["revocations"]) == 2
    assert stored.cap("revoked", "--id", "bb" * 64).exit == 1
    assert stored.cap("revoked", "--id", "cc" * 64).exit == 0


def test_revoked_lists_nothing_of_a_token_and_reads_no_stdin(stored: Shell) -> None:
    assert stored.ok("revoked", stdin="not a token") == "nothing is revoked"


@pytest.mark.parametrize("configured", [True, False])
def test_both_signatures_of_p256_are_one_id(stored: Shell, configured: bool) -> None:
    """(r, s) and (r, n - s) both verify: whoever holds one form must not escape a revocation of the other."""
    token = stored.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": P256.text()})
    env = {"CAP_PUBLIC_KEY": repr(P256.public_key)}
    (identifier,) = stored.cap("inspect", "--json", stdin=token, env=env).json["revocation_ids"]
    twin = other_form(bytes.fromhex(identifier)).hex()
    assert twin != identifier
    if configured:
        stored.ok("revoke", "--id", twin)
    else:
        (stored.folder / "cap.toml").unlink()
        run = stored.cap("revoke", stdin=token)
        assert run.exit == 0
        assert "not verified" in run.stderr
    assert stored.cap("revoked", "--id", identifier).exit == 1
    assert stored.cap("revoked", "--id", twin).exit == 1
    assert stored.cap("verify", stdin=token, env=env).exit == 1


def other_form(signature: bytes) -> bytes:
    """Returns the twin of an ECDSA signature, its DER written by hand."""
    length = signature[3]
    r = signature[4 : 4 + length]
    s = int.from_bytes(signature[6 + length :], "big")
    twin = (N - s).to_bytes(33, "big").lstrip(b"\0")
    twin = b"\0" + twin if twin[0] & 0x80 else twin
    body = b"\x02" + bytes([len(r)]) + r + b"\x02" + bytes([len(twin)]) + twin
    return b"\x30" + bytes([len(body)]) + body


def test_a_token_of_somebody_else_is_not_revoked(stored: Shell) -> None:
    foreign = stored.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": P256.text()})
    assert stored.cap("revoke", stdin=foreign).exit == 3
    assert stored.ok("revoked") == "nothing is revoked"


# Where the store is


def test_without_a_store_nothing_is_asked_and_that_is_said(issuer: Shell) -> None:
    remove_own_store(issuer)
    run = issuer.cap("verify", "token", *READ, "--json")
    assert run.exit == 0
    assert run.json["revocation_checked"] is False
    assert run.json["revocation_revision"] is None
    assert not Path(issuer.env["XDG_DATA_HOME"]).exists()


def test_minting_makes_the_user_s_own_store_unless_told_not_to(issuer: Shell) -> None:
    remove_own_store(issuer)
    issuer.ok("mint", "a(1);", "--no-store")
    assert not Path(issuer.env["XDG_DATA_HOME"]).exists()
    issuer.ok("mint", "a(1);")
    assert (Path(issuer.env["XDG_DATA_HOME"]) / "cap" / "cap.db").is_file()


def remove_own_store(shell: Shell) -> None:
    shutil.rmtree(shell.env["XDG_DATA_HOME"])


def test_the_user_s_own_store_is_made_by_the_first_revocation_and_then_asked(issuer: Shell) -> None:
    remove_own_store(issuer)
    assert "no store yet" in issuer.cap("revoked").stderr
    issuer.ok("revoke", "token")
    assert (Path(issuer.env["XDG_DATA_HOME"]) / "cap" / "cap.db").is_file()
    run = issuer.cap("verify", "token", *READ, "--json")
    assert run.exit == 1
    assert run.json["revocation_checked"] is True


def test_a_store_that_is_configured_must_be_there(stored: Shell) -> None:
    stored.ok("revoke", "token")
    for path in stored.folder.glob("cap.db*"):
        path.unlink()
    run = stored.cap("verify", "token", *READ)
    assert run.exit == 5
    assert run.stdout == b""
    assert not (stored.folder / "cap.db").exists()
    document = stored.cap("verify", "token", *READ, "--json").json
    assert document["outcome"] == "store_unavailable"
    assert document["allowed"] is False
    assert document["revocation_checked"] is False
    assert stored.cap("revoked").exit == 5


def test_a_store_that_is_damaged(stored: Shell) -> None:
    stored.write("cap.db", b"not a database" * 100)
    for command in (("verify", "token", *READ), ("revoke", "token"), ("revoked",), ("mint", "a(1);")):
        run = stored.cap(*command)
        assert run.exit == 5
        assert run.stdout == b""
        assert run.stderr.startswith("error: ")


def test_a_store_of_another_program(stored: Shell) -> None:
    (stored.folder / "cap.db").unlink()
    with sqlite3.connect(stored.folder / "cap.db") as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    for command in (("verify", "token", *READ), ("revoke", "token")):
        assert stored.cap(*command).exit == 5


def test_a_bad_token_is_bad_whether_or_not_the_store_is_there(stored: Shell) -> None:
    stored.env["CAP_STORE"] = "sqlite:///none.db"
    assert stored.cap("verify", *READ, stdin="nonsense").exit == 3


def test_what_a_reason_holds_cannot_fake_a_line(stored: Shell) -> None:
    stored.ok("revoke", "token", "--reason", "x\n2026-01-01T00:00:00Z  fake\x1b[2K\u202e")
    lines = stored.ok("revoked").splitlines()
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert "\u202e" not in lines[0]


def test_the_demo_keys_are_what_they_seem() -> None:
    assert ROOT.public_key != P256.public_key
