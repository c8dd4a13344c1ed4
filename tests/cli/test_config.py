"""cap.toml: where it is found, what it may say, and what outdoes it."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import OTHER, ROOT, Shell

SETTINGS = 'private_key = "root.key"\npublic_key = "root.key.pub"\n'


def config_home(shell: Shell) -> Path:
    folder = Path(shell.env["XDG_CONFIG_HOME"]) / "cap"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_every_setting(shell: Shell) -> None:
    shell.write("root.key", ROOT.text(), mode=0o600)
    shell.write("root.key.pub", repr(ROOT.public_key))
    shell.write("policy.datalog", 'allow if user("ann");')
    shell.write(
        "cap.toml",
        SETTINGS + 'key_id = 7\nstore = "sqlite:///cap.db"\npolicy = "policy.datalog"\nexpires = "2h"\n',
    )
    token = shell.ok("mint", 'user("ann");')
    inspected = shell.cap("inspect", "--json", stdin=token).json
    assert inspected["key_id"] == 7
    assert inspected["expires"] is not None
    assert (shell.folder / "cap.db").is_file()
    assert shell.cap("verify", stdin=token).exit == 0
    assert shell.cap("verify", stdin=shell.ok("mint", 'user("bob");')).exit == 1
    shell.ok("revoke", stdin=token)
    assert shell.cap("verify", stdin=token).exit == 1


def test_flags_and_variables_outdo_every_setting(issuer: Shell) -> None:
    issuer.write("other.key", OTHER.text(), mode=0o600)
    issuer.write("no.datalog", "deny if true;")
    issuer.write("yes.datalog", "allow if true;")
    issuer.write(
        "cap.toml", SETTINGS + 'key_id = 7\nstore = "sqlite:///a.db"\npolicy = "no.datalog"\nexpires = "2h"\n'
    )

    def inspect(*arguments: str, env: dict[str, str] | None = None) -> dict[str, object]:
        token = issuer.ok("mint", "a(1);", *arguments, env=env)
        document: dict[str, object] = issuer.cap(
            "inspect", "--json", stdin=token, env={"CAP_PUBLIC_KEY": repr(OTHER.public_key)}
        ).json
        return document

    assert inspect("--key-id", "8", env={"CAP_KEY_ID": "9"})["key_id"] == 8
    assert inspect(env={"CAP_KEY_ID": "9"})["key_id"] == 9
    assert inspect("--expires", "never")["expires"] is None
    assert inspect("--expires", "never", env={"CAP_EXPIRES": "1h"})["expires"] is None
    assert inspect(env={"CAP_EXPIRES": "2030-01-01T00:00:00Z"})["expires"] == "2030-01-01T00:00:00Z"
    assert inspect("--private-key", "other.key")["verified"] is True
    assert inspect(env={"CAP_PRIVATE_KEY": "other.key"})["verified"] is True
    assert inspect("--private-key", "root.key", env={"CAP_PRIVATE_KEY": "other.key"})["verified"] is False
    issuer.ok("mint", "a(1);", env={"CAP_STORE": "sqlite:///b.db"})
    assert (issuer.folder / "b.db").exists()
    issuer.ok("mint", "a(1);", "--store", "sqlite:///c.db", env={"CAP_STORE": "sqlite:///d.db"})
    assert (issuer.folder / "c.db").exists()
    assert not (issuer.folder / "d.db").exists()
    request = ("verify", "token", "-a", "orders", "-o", "read")
    assert issuer.cap(*request).exit == 1
    assert issuer.cap(*request, env={"CAP_POLICY": "yes.datalog"}).exit == 0
    assert issuer.cap(*request, "--policy", "no.datalog", env={"CAP_POLICY": "yes.datalog"}).exit == 1


def test_a_policy_of_the_configuration_is_a_file_whatever_its_name(issuer: Shell) -> None:
    issuer.write("a policy (of ours)", 'allow if user("nobody")')
    issuer.write("cap.toml", SETTINGS + 'policy = "a policy (of ours)"\n')
    run = issuer.cap("verify", "token", "-a", "orders", "-o", "read")
    assert run.exit == 1
    assert "user" in run.text


def test_the_nearest_file_counts_and_paths_are_its_own(
    issuer: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.write("cap.toml", SETTINGS + 'store = "sqlite:///cap.db"\n')
    below = issuer.folder / "a" / "b"
    below.mkdir(parents=True)
    inner = Shell.__new__(Shell)
    inner.folder, inner.env = below, issuer.env
    inner._monkeypatch = monkeypatch
    (below / "home").mkdir()
    token = inner.ok("mint", "a(1);")
    assert (issuer.folder / "cap.db").exists()
    assert inner.cap("verify", stdin=token).exit == 0
    (issuer.folder / "a" / "cap.toml").write_text(f'public_key = "{OTHER.public_key!r}"\n')
    assert inner.cap("verify", stdin=token).exit == 3


def test_the_user_s_own_file_is_the_last(shell: Shell) -> None:
    (config_home(shell) / "root.key").write_text(ROOT.text())
    (config_home(shell) / "root.key").chmod(0o600)
    (config_home(shell) / "cap.toml").write_text('private_key = "root.key"\n')
    shell.ok("mint", "a(1);")
    shell.write("cap.toml", "")
    assert shell.cap("mint", "a(1);").exit == 2


def test_a_file_that_is_named_must_be_there(issuer: Shell) -> None:
    assert issuer.cap("--config", "none.toml", "inspect", "token").exit == 2
    assert issuer.cap("inspect", "token", env={"CAP_CONFIG": "none.toml"}).exit == 2
    (issuer.folder / "else").mkdir()
    issuer.write("else/my.toml", f'public_key = "{OTHER.public_key!r}"\n')
    assert issuer.cap("--config", "else/my.toml", "inspect", "token").exit == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("public_key = ", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        ('publik_key = "x"', "did you mean public_key?"),
        ('"public-key" = "x"', "did you mean public_key?"),
        ('colour = "red"', "the settings are public_key"),
        ("public_key = 1", "must be a string"),
        ('public_key = ""', "must be a string"),
        ('key_id = "1"', "must be a number"),
        ("key_id = true", "must be a number"),
        ("key_id = -1", "must be a number"),
        (f'private_key = "{ROOT.text()}"', "holds a private key"),
        ("[store]\nurl = 1", "must be a string"),
        ('policy = "~nobody-of-that-name/policy"', "no home folder"),
    ],
)
def test_what_nobody_understands_is_an_error(issuer: Shell, content: str | bytes, words: str) -> None:
    issuer.write("cap.toml", content)
    run = issuer.cap("inspect", "token")
    assert run.exit == 2
    assert run.stdout == b""
    assert words in run.stderr
    assert ROOT.to_bytes().hex() not in run.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs owners")
def test_a_file_that_everybody_can_change_is_not_believed(issuer: Shell) -> None:
    (issuer.folder / "cap.toml").chmod(0o666)
    run = issuer.cap("verify", "token", "-a", "orders", "-o", "read")
    assert run.exit == 2
    assert "CAP_CONFIG" in run.stderr
    assert (
        issuer.cap("verify", "token", "-a", "orders", "-o", "read", env={"CAP_CONFIG": "cap.toml"}).exit == 0
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_believed(issuer: Shell) -> None:
    os.chown(issuer.folder / "cap.toml", 12345, 12345)
    assert issuer.cap("inspect", "token").exit == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_link_of_somebody_else_is_not_believed(issuer: Shell) -> None:
    """It would lead to a file of ours, whose relative paths are then those of a folder that is not ours."""
    (issuer.folder / "cap.toml").rename(issuer.folder / "ours.toml")
    (issuer.folder / "cap.toml").symlink_to("ours.toml")
    assert issuer.cap("inspect", "token").exit == 0
    os.chown(issuer.folder / "cap.toml", 12345, 12345, follow_symlinks=False)
    assert issuer.cap("inspect", "token").exit == 2


def test_a_holder_needs_no_configuration(issuer: Shell) -> None:
    """Neither a broken cap.toml nor a bad setting keeps a holder from narrowing."""
    issuer.write("cap.toml", "this is no TOML")
    for command in (
        ("attenuate", "token", "--expires", "1h"),
        ("seal", "token"),
        ("third-party", "request", "token"),
    ):
        issuer.ok(*command, env={"CAP_CONFIG": "none.toml", "CAP_PUBLIC_KEY": "none", "CAP_STORE": "none"})
