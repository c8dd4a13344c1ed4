"""Prefixes on the command line: what mint puts before a token, every command that reads one takes off."""

import pytest

from tests.cli.conftest import Shell
from tests.cli.test_bad_input import TOKEN_COMMANDS, assert_failed, token_command

LIVE = {"CAP_PREFIX": "sk_live_"}


@pytest.fixture
def prefixed(issuer: Shell) -> Shell:
    """The issuer's shell, with a signed block, where `token` has a prefix that no file configures."""
    issuer.write("request", issuer.ok("third-party", "request", "token"))
    issuer.write("block", issuer.ok("third-party", "sign", "request", "--block", 'member("ann");'))
    issuer.write("token", "sk_live_" + (issuer.folder / "token").read_text())
    return issuer


@pytest.mark.parametrize("name", TOKEN_COMMANDS)
def test_every_command_takes_off_what_is_configured(prefixed: Shell, name: str) -> None:
    words = token_command(name, "token")
    if name == "verify":
        words += ["-a", "orders"]
    done = 2 if name == "run" else 0  # a program that is there would take the place of this process
    assert_failed(prefixed.cap(*words), 3)
    assert_failed(prefixed.cap(*words, env={"CAP_PREFIXES": "sk_test_"}), 3)
    for env in (LIVE, {"CAP_PREFIXES": "sct_user_,sk_,sk_live_"}):
        assert prefixed.cap(*words, env=env).exit == done
    prefixed.write("cap.toml", 'private_key = "root.key"\npublic_key = "root.key.pub"\nprefix = "sk_live_"\n')
    text = (prefixed.folder / "token").read_text()
    words[words.index("token")] = "-"
    assert prefixed.cap(*words, stdin=text).exit == done


def test_cap_token_is_read_alike(prefixed: Shell) -> None:
    text = (prefixed.folder / "token").read_text()
    words = ("verify", "-a", "orders", "-o", "read")
    assert prefixed.cap(*words, env={"CAP_TOKEN": text, **LIVE}).exit == 0
    assert_failed(prefixed.cap(*words, env={"CAP_TOKEN": text}), 3)


def test_what_is_made_of_a_token_keeps_its_prefix(prefixed: Shell) -> None:
    env = {"CAP_PREFIXES": "sk_live_,other_"}
    append = ("third-party", "append", "token", "--block", "block", "--external-key", "root.key.pub")
    for words in (("attenuate", "token", "--expires", "1h"), ("seal", "token"), append):
        made = prefixed.ok(*words, env=env)
        assert made.startswith("sk_live_E")
        assert prefixed.cap("verify", "-a", "orders", "-o", "read", stdin=made, env=env).exit == 0
    bare = prefixed.ok("mint", "a(1);")
    assert prefixed.ok("seal", stdin=bare, env=LIVE).startswith("E")


def test_mint_puts_it_there(issuer: Shell) -> None:
    assert issuer.ok("mint", "a(1);", "--prefix", "sct_user_", env=LIVE).startswith("sct_user_E")
    assert issuer.ok("mint", "a(1);", env=LIVE).startswith("sk_live_E")
    document = issuer.cap("mint", "a(1);", "--json", env=LIVE).json
    assert document["token"].startswith("sk_live_E")
    assert issuer.cap("mint", "a(1);", "--raw", env=LIVE).stdout[:1] == b"\x12"


@pytest.mark.parametrize("prefix", ["", "sk", "sk live_", "sk:", "é_"])
def test_a_bad_prefix_is_a_mistake(prefixed: Shell, prefix: str) -> None:
    assert_failed(prefixed.cap("mint", "a(1);", "--prefix", prefix), 2)
    if prefix:
        assert_failed(prefixed.cap("inspect", "token", env={"CAP_PREFIX": prefix}), 2)
        assert_failed(prefixed.cap("inspect", "token", env={"CAP_PREFIXES": f"a_,{prefix}"}), 2)
    for line in (f'prefix = "{prefix}"', f'prefixes = ["{prefix}"]', 'prefixes = "sk_"', "prefixes = [1]"):
        prefixed.write("cap.toml", line + "\n")
        assert_failed(prefixed.cap("inspect", "token"), 2)


def test_a_token_with_a_prefix_is_no_argument(prefixed: Shell) -> None:
    run = prefixed.cap("inspect", (prefixed.folder / "token").read_text(), env=LIVE)
    assert_failed(run, 2)
    assert "other processes can read" in run.stderr
