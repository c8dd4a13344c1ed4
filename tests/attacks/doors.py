"""Every way in that a token's bytes have, asked at once: what one refuses, all must refuse alike."""

import base64
from dataclasses import replace

import pytest

from capability import Biscuit, BiscuitValidationError, Decision, Guard, Limits, Outcome, PublicKey
from capability.datalog.limits import GUARD_LIMITS
from capability.revocation import RevocationSource
from spec.generate.datalog import Key
from spec.generate.protobuf import message
from spec.generate.signing import ROOT, Signer, ed25519, key_text

ALICE = ed25519("alice")
MALLORY = ed25519("mallory")


def public(key: Key) -> PublicKey:
    return PublicKey(key_text(key))


def text_of(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).decode()


UNHURRIED = replace(GUARD_LIMITS, max_time=None)
"""A guard's limits without its deadline, so that a busy machine decides nothing."""


def guard(
    policy: str = "allow if true",
    root: Signer = ROOT,
    revocations: RevocationSource | None = None,
    limits: Limits = UNHURRIED,
) -> Guard:
    """A guard that lets everyone in, unless told otherwise: whatever it refuses, it refuses for itself."""
    return Guard(public(root.public), policy, revocations, limits=limits)


def proof(signer: Signer) -> bytes:
    """The proof of an open token."""
    return message((1, signer.secret))


def ask(token: bytes, policy: str = "allow if true", root: Signer = ROOT) -> Decision:
    """Returns the decision about `token` as bytes, having seen that its text gets the same."""
    by_bytes = guard(policy, root).check(token)
    by_text = guard(policy, root).check(text_of(token))
    assert (by_bytes.outcome, by_bytes.code) == (by_text.outcome, by_text.code)
    return by_bytes


def assert_refused(token: bytes, code: str, root: Signer = ROOT) -> None:
    """Asserts that no way in takes `token`, and that all say so with `code`."""
    key = public(root.public)
    with pytest.raises(BiscuitValidationError) as by_bytes:
        Biscuit.from_bytes(token, key)
    with pytest.raises(BiscuitValidationError) as by_text:
        Biscuit.from_base64(text_of(token), key)
    decision = ask(token, root=root)
    assert decision.outcome is Outcome.INVALID_TOKEN
    assert {by_bytes.value.code, by_text.value.code, decision.code} == {code}


def assert_taken(token: bytes, root: Signer = ROOT) -> None:
    """Asserts that `token` is let in, so that an attack on it fails for the reason it is meant to."""
    decision = ask(token, root=root)
    assert decision.allowed, decision.reason
