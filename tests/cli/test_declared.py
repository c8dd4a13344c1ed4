"""Command lines that are read without click: click must make the same of them."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capability.cli.decide import verify
from capability.cli.declared import Command
from capability.cli.group import JSON
from capability.cli.narrow import attenuate, seal
from tests.cli.conftest import Shell

WORDS = ["", "-", "--", "a", "read", "--read", "-x", "--json=1", "--help", "-h", "-oread", "--operation=read"]
COMMANDS = pytest.mark.parametrize("command", [attenuate, seal, verify], ids=lambda each: each.name)


def lines(command: Command) -> st.SearchStrategy[list[str]]:
    flags = [flag for option in command.options for flag in option.flags]
    return st.lists(
        st.sampled_from([*flags, "--json", *WORDS]) | st.text("ab-=é\udcff", max_size=3), max_size=8
    )


@COMMANDS
@given(data=st.data())
def test_click_makes_the_same_of_what_is_read_without_it(command: Command, data: st.DataObject) -> None:
    words = data.draw(lines(command))
    call = command.read(words)
    if call is not None:
        context = command.as_click().make_context(command.name, list(words))
        assert context.params == call.values
        assert context.meta.get(JSON, False) is call.as_json


@COMMANDS
def test_what_is_not_plain_is_left_to_click(command: Command) -> None:
    for words in (["a", "b"], ["--help"], ["-h"], ["--"], ["--nonsense"], ["--raw=1"], ["-rx", "a"], [""]):
        assert command.read(words) is None, words
    for option in command.options:
        if not option.is_flag:
            for flag in option.flags:
                assert command.read([flag]) is None
                assert command.read([flag, "--raw"]) is None
                assert command.read([f"{flag}=a"]) is None


def test_plain_words() -> None:
    call = attenuate.read(
        ["-o", "read", "token", "--operation", "list", "--expires", "1h", "--json", "--raw"]
    )
    assert call is not None
    assert call.as_json
    assert call.values == {
        "token": "token",
        "applications": (),
        "operations": ("read", "list"),
        "resources": (),
        "tenants": (),
        "expires": "1h",
        "not_before": None,
        "blocks": (),
        "params": (),
        "raw": True,
    }


@pytest.mark.parametrize("value", ["sqlite:///a.db", "", None])
def test_a_variable_stands_for_its_option(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAP_STORE", raising=False)
    if value is not None:
        monkeypatch.setenv("CAP_STORE", value)
    call = verify.read(["token"])
    assert call is not None
    assert call.values["store"] == (value or None)
    assert verify.as_click().make_context("verify", ["token"]).params == call.values
    named = verify.read(["--store", "sqlite:///b.db"])
    assert named is not None
    assert named.values["store"] == "sqlite:///b.db"


@pytest.mark.parametrize("arguments", [("attenuate", "-o", "read"), ("seal",), ("verify", "-o", "read")])
def test_click_answers_alike(issuer: Shell, arguments: tuple[str, ...]) -> None:
    for token in (issuer.ok("mint", "a(1);", "--expires", "1h"), "nonsense"):
        plain = issuer.cap(*arguments, stdin=token)
        through_click = issuer.cap("--config", "cap.toml", *arguments, stdin=token)
        assert (plain.exit, plain.stderr) == (through_click.exit, through_click.stderr)
        if arguments[0] == "attenuate":  # a new key each time
            assert len(plain.stdout) == len(through_click.stdout)
        else:
            assert plain.stdout == through_click.stdout


def test_every_declared_command_is_one_of_click() -> None:
    for command in (attenuate, seal, verify):
        assert isinstance(command.as_click(), click.Command)
