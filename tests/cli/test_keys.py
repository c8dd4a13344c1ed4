"""`cap keygen`, and every way in which a key comes in."""

import json
import stat
from pathlib import Path

import pytest

from capability.keys import PrivateKey
from tests.cli.conftest import OTHER, P256, ROOT, Shell


@pytest.mark.parametrize("algorithm", ["ed25519", "secp256r1"])
def test_keygen_writes_a_pair(shell: Shell, algorithm: str) -> None:
    printed = shell.ok("keygen", "my.key", "--algorithm", algorithm)
    path = shell.folder / "my.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = PrivateKey(path.read_text().strip())
    assert printed == repr(key.public_key)
    assert printed.startswith(f"{algorithm}/")
    assert (shell.folder / "my.key.pub").read_text() == f"{printed}\n"


def test_keygen_says_where_and_what(shell: Shell) -> None:
    run = shell.cap("keygen", "--json")
    key = PrivateKey((shell.folder / "cap.key").read_text().strip())
    assert run.json == {
        "algorithm": "ed25519",
        "key_bytes": key.public_key.to_bytes().hex(),
        "public_key": repr(key.public_key),
        "private_key_file": "cap.key",
        "public_key_file": "cap.key.pub",
    }
    assert key.to_bytes().hex() not in run.text


@pytest.mark.parametrize("existing", ["my.key", "my.key.pub"])
def test_keygen_overwrites_nothing(shell: Shell, existing: str) -> None:
    shell.write(existing, "precious")
    run = shell.cap("keygen", "my.key")
    assert run.exit == 2
    assert "exists already" in run.stderr
    assert (shell.folder / existing).read_text() == "precious"
    assert sorted(path.name for path in shell.folder.iterdir()) == ["home", existing]


def test_keygen_overwrites_when_told(shell: Shell) -> None:
    shell.write("my.key", "old")
    shell.write("my.key.pub", "old")
    printed = shell.ok("keygen", "my.key", "--force")
    assert (shell.folder / "my.key.pub").read_text().strip() == printed
    assert stat.S_IMODE((shell.folder / "my.key").stat().st_mode) == 0o600


def test_keygen_where_there_is_no_folder(shell: Shell) -> None:
    run = shell.cap("keygen", "none/my.key")
    assert run.exit == 2
    assert not (shell.folder / "none").exists()


@pytest.mark.parametrize("name", ["", ".", "/", "k" * 300])
def test_keygen_where_no_file_can_be(shell: Shell, name: str) -> None:
    before = sorted(shell.folder.iterdir())
    run = shell.cap("keygen", "--force", name)
    assert run.exit == 2
    assert "hint: " in run.stderr
    assert sorted(shell.folder.iterdir()) == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_private_key_that_others_read_is_refused(shell: Shell, mode: int) -> None:
    shell.write("open.key", ROOT.text(), mode=mode)
    run = shell.cap("mint", "a(1);", "--private-key", "open.key")
    assert run.exit == 3
    assert run.stdout == b""
    assert "hint: chmod 600 open.key" in run.stderr


def test_a_private_key_is_read_in_every_form(shell: Shell) -> None:
    for key in (ROOT, P256):
        for content in (key.text(), f"{key.text()}\n", key.to_pem(), key.to_der()):
            shell.write("any.key", content, mode=0o600)
            token = shell.ok("mint", "a(1);", "--private-key", "any.key")
            assert shell.ok("inspect", "--public-key", repr(key.public_key), stdin=token)


def test_a_public_key_is_read_in_every_form(shell: Shell) -> None:
    for key in (ROOT, P256):
        token = shell.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": key.text()})
        public = key.public_key
        for content in (repr(public), public.to_pem(), public.to_der()):
            shell.write("any.pub", content)
            shell.ok("inspect", "--public-key", "any.pub", stdin=token)
        shell.ok("inspect", stdin=token, env={"CAP_PUBLIC_KEY": repr(public)})
        shell.ok("inspect", stdin=token, env={"CAP_PUBLIC_KEY": "any.pub"})


def test_the_environment_holds_a_key_or_names_its_file(shell: Shell) -> None:
    shell.write("root.key", ROOT.text(), mode=0o600)
    shell.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": ROOT.text()})
    shell.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": ROOT.to_pem()})
    shell.ok("mint", "a(1);", env={"CAP_PRIVATE_KEY": "root.key"})


def test_a_private_key_is_no_argument(shell: Shell) -> None:
    for option, value in (("--private-key", ROOT.text()), ("--private-key", ROOT.to_pem())):
        run = shell.cap("mint", "a(1);", option, value)
        assert run.exit == 2
        assert ROOT.to_bytes().hex() not in run.stderr + run.text
        assert "which other processes can read" in run.stderr


def test_a_private_key_where_a_public_one_is_meant(issuer: Shell) -> None:
    for value in ("root.key", ROOT.text()):
        run = issuer.cap("inspect", "token", "--public-key", value)
        assert run.exit in (2, 3)
        assert "private key" in run.stderr
        assert ROOT.to_bytes().hex() not in run.stderr + run.text


def test_a_public_key_where_a_private_one_is_meant(issuer: Shell) -> None:
    (issuer.folder / "root.key.pub").chmod(0o600)
    run = issuer.cap("mint", "a(1);", "--private-key", "root.key.pub")
    assert run.exit == 3
    assert "this is a public key" in run.stderr


def test_a_key_set(shell: Shell) -> None:
    entries = [
        {"algorithm": key.algorithm.label, "key_bytes": key.public_key.to_bytes().hex(), "key_id": number}
        for number, key in ((1, OTHER), (2, ROOT))
    ]
    shell.write("keys.json", json.dumps(entries))
    token = shell.ok("mint", "a(1);", "--key-id", "2", env={"CAP_PRIVATE_KEY": ROOT.text()})
    inspected = shell.cap("inspect", "--keys", "keys.json", "--json", stdin=token).json
    assert inspected["root_key"] == repr(ROOT.public_key)
    assert inspected["key_id"] == 2
    unknown = shell.ok("mint", "a(1);", "--key-id", "3", env={"CAP_PRIVATE_KEY": ROOT.text()})
    run = shell.cap("inspect", "--keys", "keys.json", stdin=unknown)
    assert run.exit == 3
    assert "hint: add the key" in run.stderr
    wrong = shell.ok("mint", "a(1);", "--key-id", "1", env={"CAP_PRIVATE_KEY": ROOT.text()})
    assert shell.cap("inspect", stdin=wrong, env={"CAP_KEYS": "keys.json"}).exit == 3


def test_flags_win_over_the_environment_and_that_over_the_file(issuer: Shell) -> None:
    other = repr(OTHER.public_key)
    root = repr(ROOT.public_key)
    issuer.ok("inspect", "token")
    assert issuer.cap("inspect", "token", env={"CAP_PUBLIC_KEY": other}).exit == 3
    issuer.ok("inspect", "token", "--public-key", root, env={"CAP_PUBLIC_KEY": other})


def test_both_a_key_and_a_key_set_are_too_many(issuer: Shell) -> None:
    run = issuer.cap("inspect", "token", "--public-key", "root.key.pub", "--keys", "keys.json")
    assert run.exit == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"ed25519/",
        b"ed25519/" + b"zz" * 32,
        b"ed25519/" + b"00" * 32,
        b"rsa/" + b"11" * 32,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"\x30\x2a\x00\xff",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_key(issuer: Shell, content: bytes) -> None:
    issuer.write("bad.pub", content)
    run = issuer.cap("inspect", "token", "--public-key", "bad.pub")
    assert run.exit == 3
    assert run.stdout == b""
    issuer.write("bad.key", content, mode=0o600)
    run = issuer.cap("mint", "a(1);", "--private-key", "bad.key")
    assert run.exit == 3
    assert run.stdout == b""


def test_the_public_key_file_is_written_with_the_private_one_or_not_at_all(shell: Shell) -> None:
    (shell.folder / "my.key.pub").mkdir()
    assert shell.cap("keygen", "my.key").exit == 2
    assert shell.cap("keygen", "my.key", "--force").exit == 2
    left = {path.name for path in Path(shell.folder).iterdir()}
    assert left == {"home", "my.key.pub"}
