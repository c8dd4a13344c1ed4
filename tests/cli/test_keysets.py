"""`cap keys`, and what the audit trail says of keys."""

import json

import pytest

from capability.keyset import KeySet
from tests.cli.conftest import OTHER, P256, ROOT, Shell
from tests.cli.test_bad_input import assert_failed

ROOT_PUBLIC, OTHER_PUBLIC = repr(ROOT.public_key), repr(OTHER.public_key)
STORE = "sqlite:///cap.db"


def trail(shell: Shell) -> list[tuple[object, ...]]:
    lines = map(json.loads, shell.ok("audit", "export", "--store", STORE).splitlines())
    return [(each["change"], each["key"], each.get("key_id"), each.get("actor")) for each in lines]


def test_a_rotation(issuer: Shell) -> None:
    """The old key has no id; the new one has; tokens of both pass until the old one is retired."""
    issuer.write("other.key", OTHER.text(), mode=0o600)
    issuer.ok("keys", "add", "keys.json", "root.key.pub", "--without-id")
    added = issuer.cap("keys", "add", "keys.json", OTHER_PUBLIC, "--issuer", "acme", "--json").json
    assert added == {"key": OTHER_PUBLIC, "key_id": 1}
    issuer.write("new", issuer.ok("mint", "a(1);", "--private-key", "other.key", "--key-id", "1"))
    verify = ("-a", "orders", "-o", "read", "--keys", "keys.json")
    assert issuer.cap("verify", "token", *verify).exit == issuer.cap("verify", "new", *verify).exit == 0
    issuer.ok("keys", "retire", "keys.json", "--without-id", "--at", "1h")
    assert issuer.cap("verify", "token", *verify).exit == 0
    issuer.ok("keys", "retire", "keys.json", "--without-id")
    assert issuer.cap("verify", "token", *verify).exit == 3
    assert issuer.cap("verify", "new", *verify).exit == 0
    lines = issuer.ok("keys", "list", "keys.json").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["-", "retired"], ["1", "active"]]
    assert "acme" in lines[2]
    states = [each["state"] for each in issuer.cap("keys", "list", "keys.json", "--json").json["keys"]]
    assert states == ["retired", "active"]


def test_ids_go_on_from_the_highest(issuer: Shell) -> None:
    issuer.ok("keys", "add", "keys.json", ROOT_PUBLIC, "--key-id", "7")
    assert issuer.ok("keys", "add", "keys.json", OTHER_PUBLIC) == f"added {OTHER_PUBLIC} with the key id 8"


def test_it_says_when_no_key_is_left(issuer: Shell) -> None:
    issuer.ok("keys", "add", "keys.json", ROOT_PUBLIC)
    run = issuer.cap("keys", "retire", "keys.json", "--key-id", "1", "--at", "90d")
    assert run.exit == 0
    assert "no key is left" in run.stderr


def test_the_trail_tells_of_keys_and_never_has_a_private_one(shell: Shell) -> None:
    shell.env["CAP_STORE"] = STORE
    made = shell.ok("keygen", "a.key", "--actor", "ann")
    shell.ok("keygen", "b.key", "--no-store")
    shell.ok("keys", "add", "keys.json", "a.key.pub", "--actor", "ann")
    shell.ok("keys", "retire", "keys.json", "--key-id", "1", env={"CAP_ACTOR": "bob"})
    shell.ok("keys", "list", "keys.json")
    assert trail(shell) == [
        ("made", made, None, "ann"),
        ("added", made, 1, "ann"),
        ("retired", made, 1, "bob"),
    ]
    shown = shell.ok("audit", "list", "--action", "key")
    assert f"key  retired  {made}  key id 1  until " in shown
    assert "+00:00" not in shown
    secret = (shell.folder / "a.key").read_text().strip().partition("/")[2]
    kept = b"".join(each.read_bytes() for each in shell.folder.glob("cap.db*"))
    assert secret.encode() not in kept
    assert bytes.fromhex(secret) not in kept
    assert shell.cap("audit", "verify").exit == 0


def test_no_store_is_made_where_none_is_named(shell: Shell) -> None:
    shell.ok("keygen", "a.key")
    shell.ok("keys", "add", "keys.json", "a.key.pub")
    assert not (shell.folder / "home" / "data").exists()


def test_a_store_that_is_down_is_known_before_anything_is_changed(issuer: Shell) -> None:
    issuer.ok("keys", "add", "keys.json", ROOT_PUBLIC)
    before = (issuer.folder / "keys.json").read_text()
    for command in (
        ("keygen", "new.key"),
        ("keys", "add", "keys.json", OTHER_PUBLIC),
        ("keys", "retire", "keys.json", "--key-id", "1"),
    ):
        assert_failed(issuer.cap(*command, "--store", "sqlite:///none/cap.db"), 5)
    assert not (issuer.folder / "new.key").exists()
    assert (issuer.folder / "keys.json").read_text() == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("list", "none.json"), 2),
        (("list", "root.key.pub"), 3),
        (("add", "keys.json", "root.key"), 3),
        (("add", "keys.json", "none.pub"), 2),
        (("add", "keys.json", "ed25519/00"), 3),
        (("add", "keys.json", repr(P256.public_key), "--key-id", "1"), 2),
        (("add", "keys.json", ROOT_PUBLIC, "--key-id", "2"), 2),
        (("add", "keys.json", OTHER_PUBLIC, "--key-id", "2", "--without-id"), 2),
        (("add", "keys.json", OTHER_PUBLIC, "--key-id", "4294967296"), 2),
        (("add", "keys.json", OTHER_PUBLIC, "--actor", "\udcff"), 2),
        (("add", "keys.json", OTHER_PUBLIC, "--issuer", "\udcff"), 2),
        (("add", "none/keys.json", OTHER_PUBLIC), 2),
        (("add", "root.key.pub", OTHER_PUBLIC), 3),
        (("retire", "keys.json"), 2),
        (("retire", "keys.json", "--key-id", "1", "--without-id"), 2),
        (("retire", "keys.json", "--key-id", "9"), 2),
        (("retire", "keys.json", "--key-id", "1", "--at", "soon"), 2),
        (("retire", "keys.json", "--key-id", "1", "--at", "999999w"), 2),
        (("retire", "none.json", "--key-id", "1"), 2),
        (("nonsense",), 2),
        ((), 2),
    ],
)
def test_what_cannot_be_done_changes_nothing(issuer: Shell, command: tuple[str, ...], code: int) -> None:
    issuer.ok("keys", "add", "keys.json", ROOT_PUBLIC)
    assert_failed(issuer.cap("keys", *command), code)
    assert [each.key_id for each in KeySet.from_json((issuer.folder / "keys.json").read_text())] == [1]


@pytest.mark.parametrize("words", [(), ("--key-id", "7")])
def test_a_key_that_is_in_the_set_is_told_by_its_id(issuer: Shell, words: tuple[str, ...]) -> None:
    issuer.ok("keys", "add", "keys.json", "root.key.pub")
    run = issuer.cap("keys", "add", "keys.json", "root.key.pub", *words)
    assert run.exit == 2
    assert "error: the key is in the set already, with the key id 1\n" in run.stderr
