"""`cap list`, `show`, `audit` and `store`; revocation of what is registered."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from capability.keyset import KeySet
from capability.store.audit import digest
from tests.cli.conftest import OTHER, OVER, ROOT, Shell
from tests.cli.test_bad_input import assert_failed

READ = ("-a", "orders", "-o", "read")


@pytest.fixture
def registry(issuer: Shell) -> Shell:
    """A shell whose store knows four tokens: ann, laptop, bot, and other."""
    issuer.env["CAP_STORE"] = "sqlite:///cap.db"
    for name, arguments in {
        "ann": ('user("ann");', "-a", "orders", "-t", "acme", "--name", "main"),
        "laptop": ('user("ann");', "--name", "laptop", "--expires", "1h", "--actor", "root"),
        "bot": ('right("x", "y");', "-a", "ui", "--owner", "agent:bot", "--name", "main", "-t", "acme"),
        "other": ("a(1);", "--never-expires", "--key-id", "7"),
    }.items():
        issuer.write(f"{name}.token", issuer.ok("mint", *arguments))
    return issuer


def listed(shell: Shell, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shell.cap("list", "--json", *arguments).json["tokens"]
    return found


def owners(shell: Shell, *arguments: str) -> list[str | None]:
    return [each["owner"] for each in listed(shell, *arguments)]


def states(shell: Shell) -> list[str]:
    return [each["state"] for each in listed(shell)]


def test_what_is_minted_is_registered(registry: Shell) -> None:
    ann, laptop, bot, other = listed(registry)
    assert (ann["name"], ann["owner"], ann["tenant"]) == ("main", "user:ann", "acme")
    assert (ann["applications"], ann["operations"]) == (["orders"], None)
    assert (bot["owner"], bot["applications"]) == ("agent:bot", ["ui"])
    assert laptop["created_by"] == "root"
    assert (other["owner"], other["expires"], other["key_id"]) == (None, None, 7)
    assert all(each["state"] == "active" for each in (ann, laptop, bot, other))
    assert ann["expires"] is not None


def test_no_store_leaves_no_trace(registry: Shell) -> None:
    registry.ok("mint", "a(1);", "--no-store")
    assert len(listed(registry)) == 4
    assert "id" not in registry.cap("mint", "a(1);", "--no-store", "--json").json


def test_a_store_holds_no_token(registry: Shell) -> None:
    content = b"".join(path.read_bytes() for path in registry.folder.glob("cap.db*"))
    for path in registry.folder.glob("*.token"):
        token = path.read_bytes()
        assert token[:40] not in content


def test_filters(registry: Shell) -> None:
    assert owners(registry, "--owner", "ann") == ["user:ann", "user:ann"]
    assert owners(registry, "--owner", "agent:bot") == ["agent:bot"]
    assert owners(registry, "--owner", "bot") == []
    assert owners(registry, "--tenant", "acme") == ["user:ann", "agent:bot"]
    assert owners(registry, "--name", "main") == ["user:ann", "agent:bot"]
    assert owners(registry, "--application", "ui") == ["user:ann", "agent:bot", None]
    assert owners(registry, "--expiring", "2h") == ["user:ann"]
    assert owners(registry, "--expiring", "2000-01-01T00:00:00Z") == []


def test_pages(registry: Shell) -> None:
    run = registry.cap("list", "--limit", "3", "--json")
    first = run.json["tokens"]
    assert f"--after {first[-1]['id']}" in run.stderr
    rest = listed(registry, "--after", first[-1]["id"])
    assert [each["id"] for each in (*first, *rest)] == [each["id"] for each in listed(registry)]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_all_is_read_page_by_page(registry: Shell, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    plain, whole = registry.ok("list"), registry.cap("list", "--json").json
    monkeypatch.setattr("capability.cli.registry.LIMIT", size)
    assert registry.cap("list", "--all", "--json").json == whole
    assert sorted(map(str.split, registry.ok("list", "--all").splitlines())) == sorted(
        map(str.split, plain.splitlines())
    )
    assert owners(registry, "--all", "--owner", "ann") == ["user:ann", "user:ann"]
    assert owners(registry, "--all", "--owner", "nobody") == []
    assert registry.ok("list", "--all", "--owner", "nobody") == "no tokens"


def test_the_table(registry: Shell) -> None:
    lines = registry.ok("list").splitlines()
    assert lines[0].split() == ["ID", "NAME", "OWNER", "TENANT", "APPLICATIONS", "EXPIRES", "STATE"]
    assert len(lines) == 5
    assert "in 90 days" in lines[1]
    assert "never" in lines[4]


def test_a_name_cannot_fake_a_line(registry: Shell) -> None:
    registry.ok("mint", "a(1);", "--name", "x\ntok_fake\x1b[2K\u202e")
    text = registry.ok("list")
    assert len(text.splitlines()) == 6
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_show_by_id_and_by_token(registry: Shell) -> None:
    (record,) = listed(registry, "--name", "laptop")
    narrow = registry.ok("attenuate", "laptop.token", "-o", "read")
    for run in (
        registry.cap("show", record["id"], "--json"),
        registry.cap("show", "laptop.token", "--json"),
        registry.cap("show", "-", "--json", stdin=narrow),
    ):
        assert run.json == record
    assert registry.ok("show", record["id"]).splitlines()[2] == "owner         user:ann"


def test_show_tells_how_a_record_is_found_by_its_name(registry: Shell) -> None:
    run = registry.cap("show", "laptop")
    assert (run.exit, run.stdout) == (2, b"")
    assert "`cap list --name laptop`" in run.stderr


def test_revoke_by_record(registry: Shell) -> None:
    (record,) = listed(registry, "--name", "laptop")
    run = registry.cap("revoke", "--id", record["id"], "--json")
    assert run.json == {"revoked": [record["revocation_id"]], "revision": 1}
    assert states(registry) == ["active", "revoked", "active", "active"]
    assert registry.cap("verify", "laptop.token").exit == 1
    assert registry.cap("revoked", "--id", record["id"]).exit == 1


def test_revoke_by_name(registry: Shell) -> None:
    assert_failed(registry.cap("revoke", "--name", "main"), 2)
    assert states(registry) == ["active"] * 4
    assert len(registry.cap("revoke", "--name", "main", "--yes", "--json").json["revoked"]) == 2
    assert states(registry) == ["revoked", "active", "revoked", "active"]
    registry.ok("revoke", "--name", "laptop")


def test_revoke_a_name_of_very_many(registry: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capability.cli.revoking._NAMED_AT_MOST", 1)
    assert "more than 1 tokens" in registry.cap("revoke", "--name", "main").stderr
    run = registry.cap("revoke", "--name", "main", "--yes", "--json")
    assert run.json == {"revoked": [], "revision": 1, "name": "main"}
    assert states(registry) == ["revoked", "active", "revoked", "active"]


def test_revoke_all_of_an_owner(registry: Shell) -> None:
    assert_failed(registry.cap("revoke", "--owner", "ann"), 2)
    run = registry.cap("revoke", "--owner", "ann", "--yes", "--reason", "left", "--json")
    assert (run.json["owner"], run.json["revision"]) == ("user:ann", 1)
    assert states(registry) == ["revoked", "revoked", "active", "active"]
    narrow = registry.ok("attenuate", "ann.token", "-o", "read")
    assert registry.cap("verify", "-a", "orders", "-o", "read", "-t", "acme", stdin=narrow).exit == 1
    assert registry.cap("revoked", "ann.token").exit == 1
    assert registry.cap("revoked", "bot.token").exit == 0
    assert "all of user:ann  left" in registry.ok("revoked")
    registry.write("new.token", registry.ok("mint", 'user("ann");'))
    assert registry.cap("verify", "new.token").exit == 0


def test_revoke_all_of_a_tenant_before_a_time(registry: Shell) -> None:
    registry.ok("revoke", "--tenant", "acme", "--before", "1h", "--yes")
    assert states(registry) == ["active"] * 4
    registry.ok("revoke", "--tenant", "acme", "--before", "0s", "--yes")
    assert states(registry) == ["revoked", "active", "revoked", "active"]


def test_revoke_a_root_key(registry: Shell) -> None:
    foreign = registry.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": OTHER.text()})
    key = repr(ROOT.public_key)
    assert_failed(registry.cap("revoke", "--root-key", key), 2)
    assert registry.ok("revoke", "--root-key", "root.key.pub", "--yes").startswith(
        f"revoked root-key:{key}\n"
    )
    assert states(registry) == ["revoked"] * 4 + ["active"]
    run = registry.cap("verify", "other.token")
    assert run.exit == 1
    assert run.text.startswith("revoked: its root key ")
    registry.write("stolen.token", registry.ok("mint", "a(1);", "--no-store"))
    assert registry.cap("verify", "stolen.token").exit == 1
    assert registry.cap("revoked", "stolen.token").exit == 1
    assert registry.cap("verify", stdin=foreign, env={"CAP_PUBLIC_KEY": repr(OTHER.public_key)}).exit == 0


def test_revoke_a_root_key_by_its_id(registry: Shell) -> None:
    keys = KeySet.from_keys({7: ROOT.public_key, 8: OTHER.public_key})
    registry.write("keys.json", keys.to_json())
    assert_failed(registry.cap("revoke", "--key-id", "7", "--yes"), 2)
    assert_failed(registry.cap("revoke", "--key-id", "9", "--yes", "--keys", "keys.json"), 2)
    registry.ok("revoke", "--key-id", "7", "--yes", "--keys", "keys.json")
    assert registry.cap("verify", "other.token").exit == 1


def test_what_is_not_registered(registry: Shell) -> None:
    nobody = "tok_" + "a" * 16
    for command in (
        ("show", nobody),
        ("show", "token"),
        ("revoke", "--id", nobody),
        ("revoke", "--id", "tok_"),
        ("revoke", "--name", "nobody"),
        ("revoke", "--owner", "nobody", "--yes"),
        ("revoke", "--tenant", "nobody", "--yes"),
        ("revoked", "--id", nobody),
    ):
        assert_failed(registry.cap(*command), 3)
    assert registry.ok("revoked") == "nothing is revoked"


def test_usage(registry: Shell) -> None:
    for command in (
        ("revoke", "token", "--name", "x"),
        ("revoke", "--name", "x", "--owner", "y"),
        ("revoke", "--key-id", "7", "--block", "0"),
        ("revoke", "--name", "x", "--before", "1h"),
        ("revoke", "--owner", "", "--yes"),
        ("revoke", "--owner", "\udcff", "--yes"),
        ("revoke", "--owner", "ann", "--before", "soon", "--yes"),
        ("revoke", "--key-id", "-1"),
        ("revoke", "--root-key", "none.pub", "--yes"),
        ("list", "--owner", ""),
        ("list", "--limit", "0"),
        ("list", "--expiring", "soon"),
        ("show",),
        ("mint", "a(1);", "--name", ""),
        ("mint", "a(1);", "--name", "\udcff"),
        ("mint", "a(1);", "--owner", "agent:"),
        ("mint", "a(1);", "--actor", "\udcff"),
        ("mint", "a(1);", "--never-expires", "--expires", "1h"),
        ("audit",),
        ("audit", "nonsense"),
        ("audit", "verify", "--head", "store"),
        ("store",),
        ("store", "nonsense"),
    ):
        assert_failed(registry.cap(*command), 2)
    assert len(listed(registry)) == 4


STORE_COMMANDS = (
    ("list",),
    ("show", "tok_" + "a" * 16),
    ("audit", "list"),
    ("audit", "verify"),
    ("audit", "export"),
    ("store", "migrate"),
    ("store", "prune"),
    ("store", "check"),
)


@pytest.mark.parametrize("command", STORE_COMMANDS, ids=" ".join)
def test_bad_stores(registry: Shell, command: tuple[str, ...]) -> None:
    registry.write("damaged.db", b"not a database" * 100)
    for store, code in {"sqlite:///none.db": 5, "sqlite:///damaged.db": 5, "memory:": 2, "x:": 2}.items():
        assert_failed(registry.cap(*command, "--store", store), code)
    assert not (registry.folder / "none.db").exists()


def test_a_restored_copy_is_refused_by_name(registry: Shell) -> None:
    """A command sees a store once; who has seen it before keeps the revision (here: the Guard's tests)."""
    registry.ok("revoke", "ann.token")
    assert registry.ok("store", "check") == "the store is sound, at revision 1"


def test_the_trail(registry: Shell) -> None:
    registry.ok("revoke", "laptop.token", "--actor", "ann", "--reason", "lost\nmint")
    text = registry.ok("audit", "list")
    assert len(text.splitlines()) == 5
    assert "by ann" in text
    entries = registry.cap("audit", "list", "--action", "revoke", "--json").json["entries"]
    assert [each["actor"] for each in entries] == ["ann"]
    lines = registry.ok("audit", "export").splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["mint"] * 4 + ["revoke"]
    (head,) = registry.cap("audit", "verify", "--json").json["heads"]
    assert registry.ok("audit", "verify") == head
    registry.ok("revoke", "bot.token")
    registry.ok("audit", "verify", "--head", head)
    assert registry.cap("audit", "verify", "--head", head[:-4] + "0000").exit == 1


def test_a_trail_with_a_hole(registry: Shell) -> None:
    with closing(sqlite3.connect(registry.folder / "cap.db")) as connection:
        connection.execute("DROP TRIGGER audit_is_not_shortened")
        connection.execute("DELETE FROM audit WHERE number = 2")
        connection.commit()
    run = registry.cap("audit", "verify")
    assert run.exit == 1
    assert "missing" in run.text
    assert run.stderr.startswith("error: the audit trail is not whole")
    assert registry.cap("store", "check").exit == 5
    assert registry.cap("store", "check", "--json").json["sound"] is False


def test_prune(registry: Shell) -> None:
    old = registry.ok("mint", *OVER)
    registry.ok("revoke", stdin=old)
    registry.ok("revoke", "ann.token")
    assert registry.ok("store", "prune") == "dropped 1 revocation"
    assert registry.ok("store", "prune") == "dropped 0 revocations"
    assert len(registry.cap("revoked", "--json").json["revocations"]) == 1


def test_an_expiry_that_was_not_verified_is_not_believed(registry: Shell) -> None:
    old = registry.ok("mint", *OVER)
    (registry.folder / "cap.toml").unlink()
    registry.ok("revoke", stdin=old)
    assert registry.ok("store", "prune") == "dropped 0 revocations"


def test_init_and_migrate(registry: Shell) -> None:
    store = ("--store", "sqlite:///fresh.db")
    assert registry.ok("store", "init", *store) == "the store is ready, at revision 0"
    registry.ok("store", "init", *store)
    assert registry.ok("store", "migrate", *store).endswith("at revision 0")
    assert_failed(registry.cap("store", "init", "--store", "sqlite:///none/cap.db"), 5)


@pytest.mark.parametrize(
    "text", ["[1]", "no JSON", '{"writer": "w", "number": 1, "revocation_ids": 5, "action": []}']
)
def test_a_forged_line_keeps_nobody_from_the_trail(registry: Shell, text: str) -> None:
    """Who can write to the file can also make the hash fit; the commands say so, or show it."""
    link = digest(bytes(32), text)
    line = ("w", 1, text, link)
    with closing(sqlite3.connect(registry.folder / "cap.db")) as connection:
        connection.execute("INSERT INTO audit (writer, number, line, hash) VALUES (?, ?, ?, ?)", line)
        connection.execute("INSERT INTO audit_heads (writer, number, hash) VALUES ('w', 1, ?)", (link,))
        connection.commit()
    assert "mint" in registry.ok("audit", "list")
    assert link.hex() in registry.ok("audit", "export")
    run = registry.cap("audit", "verify")
    assert (run.exit, "line 1" in run.stderr) == ((0, False) if text.startswith("{") else (1, True))
