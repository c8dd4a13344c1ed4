"""Tests of what a policy lets through, with tokens that are minted for each of them.

pytest test_refunds.py
"""

from collections.abc import Callable

from capability import Guard
from capability.integrations.pytest_plugin import Mint

POLICY = "allow if user($user), operation($operation), right($operation)"


def test_who_has_the_right_may_refund(cap_guard: Callable[..., Guard], cap_mint: Mint) -> None:
    token = cap_mint('user("alice"); right("refund")', expires=60)
    assert cap_guard(POLICY).check(token, operation="refund").allowed


def test_an_expired_or_revoked_token_may_not(cap_guard: Callable[..., Guard], cap_mint: Mint) -> None:
    guard = cap_guard(POLICY)
    late = cap_mint('user("alice"); right("refund")', expires=-60)
    assert guard.check(late, operation="refund").outcome == "expired"
    token = cap_mint('user("alice"); right("refund")')
    cap_mint.revoke(token)
    assert guard.check(token, operation="refund").outcome == "revoked"
