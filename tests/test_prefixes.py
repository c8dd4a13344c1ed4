"""What stands before a token's text is taken off exactly, once, and only where it was configured."""

from typing import Any

import pytest

from capability.decision import Outcome
from capability.errors import FormatError
from capability.guard import Guard
from capability.keys import KeyPair
from capability.prefixes import checked_prefixes, split_prefix
from capability.tokens import BiscuitBuilder

ROOT = KeyPair()
TEXT = BiscuitBuilder('user("ann")').build(ROOT.private_key).to_base64()


def outcome(text: str, *prefixes: str) -> Outcome:
    guard = Guard(ROOT.public_key, "allow if user($u)", prefixes=prefixes)
    first = guard.check(text, operation="read").outcome
    # remembered by its whole text
    assert [guard.check(text, operation="read").outcome for _ in range(3)] == [first] * 3
    return first


@pytest.mark.parametrize("prefix", ["sk_live_", "sct_user_", "scion_pat_", "E-", "a~", "x.y."])
def test_a_configured_prefix_is_taken_off(prefix: str) -> None:
    assert outcome(prefix + TEXT, prefix) is Outcome.ALLOWED
    assert outcome(prefix + TEXT, "other_", prefix) is Outcome.ALLOWED
    assert outcome(TEXT, prefix) is Outcome.ALLOWED


def test_nothing_else_is() -> None:
    cases: list[tuple[str, tuple[str, ...]]] = [
        ("sk_live_" + TEXT, ()),
        ("sk_test_" + TEXT, ("sk_live_",)),
        ("SK_LIVE_" + TEXT, ("sk_live_",)),
        ("sk_live" + TEXT, ("sk_live_",)),
        (" sk_live_" + TEXT, ("sk_live_",)),
        ("sk_live_ " + TEXT, ("sk_live_",)),
        ("sk_live_sk_live_" + TEXT, ("sk_live_",)),
        ("sk_live_sct_user_" + TEXT, ("sk_live_", "sct_user_")),
        ("sk_live_biscuit:" + TEXT, ("sk_live_",)),
        ("biscuit:sk_live_" + TEXT, ("sk_live_",)),
        ("sk_live_" + TEXT, ("sk_",)),
        ("sk_live_", ("sk_live_",)),
    ]
    for text, prefixes in cases:
        assert outcome(text, *prefixes) is Outcome.INVALID_TOKEN, text[:20]


def test_the_longest_one_is() -> None:
    for prefixes in (("sk_", "sk_live_"), ("sk_live_", "sk_")):
        assert outcome("sk_live_" + TEXT, *prefixes) is Outcome.ALLOWED
        assert outcome("sk_" + TEXT, *prefixes) is Outcome.ALLOWED


def test_a_token_that_begins_as_a_prefix_does_is_left_alone_unless_that_is_configured() -> None:
    """`_` and letters are base64 too: the beginning of a token may look like a prefix."""
    assert split_prefix("Ep_rest", checked_prefixes(["sk_live_"])) == ("", "Ep_rest")
    assert split_prefix("Ep_rest", checked_prefixes(["Ep_"])) == ("Ep_", "rest")
    assert split_prefix("anything", ()) == ("", "anything")


def test_two_prefixes_are_refused() -> None:
    for text in ("a_a_x", "a_b_x", "b_biscuit:x"):
        with pytest.raises(FormatError, match="two prefixes"):
            split_prefix(text, checked_prefixes(["a_", "b_"]))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "_",
        "sk",
        "1_",
        "_sk_",
        "sk live_",
        "sk:",
        "biscuit:",
        "sk/_",
        "sk=_",
        "sk_\n",
        "ſk_",
        "a" * 32 + "_",
    ],
)
def test_what_cannot_be_a_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Guard(ROOT.public_key, "allow if user($u)", prefixes=[prefix])


@pytest.mark.parametrize("prefixes", ["sk_", [b"sk_"], [None]])
def test_other_types_are_refused(prefixes: Any) -> None:
    with pytest.raises(TypeError):
        Guard(ROOT.public_key, "allow if user($u)", prefixes=prefixes)


def test_bytes_have_no_prefix() -> None:
    guard = Guard(ROOT.public_key, "allow if user($u)", prefixes=["sk_"])
    token = BiscuitBuilder('user("ann")').build(ROOT.private_key).to_bytes()
    assert guard.check(token).allowed
    assert guard.check(b"sk_" + token).outcome is Outcome.INVALID_TOKEN
