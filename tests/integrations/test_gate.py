"""Grants and narrowing."""

from datetime import timedelta

import pytest

from capability import Guard
from capability.http.requests import READ
from capability.integrations.gate import Gate, Grant, Refused, is_public
from capability.integrations.narrowing import Narrowing, narrowed
from tests.integrations.issuer import POLICY, Issuer


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def grant(issuer: Issuer) -> Grant:
    return Gate(guard=issuer.guard).decide(issuer.token(), [READ], resource="/items/7")


def test_a_grant_tells_what_the_token_says(issuer: Issuer, grant: Grant) -> None:
    assert (grant.subject, grant.expires_at, grant.operations) == ("alice", None, ("read",))
    assert grant.revocation_ids == tuple(issuer.alice.revocation_ids)
    assert grant.decision_id == grant.decision.decision_id
    assert issuer.token() not in repr(grant)


def test_a_grant_is_narrowed(issuer: Issuer, grant: Grant) -> None:
    token = grant.delegate(operation=["read", "refund"], resource="/items", expires=timedelta(minutes=1))
    assert issuer.guard.check(token, operation="refund", resource="/items/8").allowed
    assert not issuer.guard.check(token, operation="write", resource="/items/8").allowed
    assert not issuer.guard.check(token, operation="read", resource="/stock").allowed
    assert grant.attenuate(operation="read").block_count() == 2
    with pytest.raises(ValueError, match="name what is delegated"):
        grant.delegate()


def test_narrowing_takes_datalog_too(issuer: Issuer, grant: Grant) -> None:
    token = grant.delegate(source="check if colour({colour})", parameters={"colour": "red"})
    assert issuer.guard.check(token, operation="read", colour="red").allowed
    assert not issuer.guard.check(token, operation="read", colour="blue").allowed


def test_a_misspelt_word_would_narrow_nothing(issuer: Issuer) -> None:
    words: Narrowing = {"operations": "read"}  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match="no 'operations'"):
        narrowed(issuer.alice, words)


def test_a_switch_is_true_or_false(issuer: Issuer) -> None:
    with pytest.raises(TypeError, match="True or False"):
        Gate(guard=issuer.guard, api_key="sk_live")  # type: ignore[arg-type]


def test_the_root_is_public_alone() -> None:
    assert is_public("/", ["/"])
    assert not is_public("/items", ["/"])
    assert is_public("/static/logo.png", ["/static/"])


def test_a_refusal_says_nothing_of_the_token(issuer: Issuer) -> None:
    with pytest.raises(Refused) as caught:
        Gate(guard=issuer.guard).decide(issuer.token(), ["nuke"], resource="/")
    assert str(caught.value) == "403 denied"
    assert issuer.token() not in repr(caught.value)


def test_a_token_with_a_prefix_is_narrowed_without_it(issuer: Issuer) -> None:
    guard = Guard(issuer.root.public_key, POLICY, prefixes=["sk_live_"])
    grant = Gate(guard=guard).decide(f"sk_live_{issuer.token()}", [READ], resource="/")
    assert guard.check(grant.delegate(operation="read"), operation="read").allowed
