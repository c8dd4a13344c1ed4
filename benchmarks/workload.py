"""What is measured: tokens as a service would mint and narrow them, a policy, and requests.

The tokens are made by biscuit-python, so that neither side can make them to its liking. Each has a user and
expiries of its own; no two are alike.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import biscuit_auth

import capability
from capability.datalog import limits

BLOCKS: Final = (1, 3, 5, 10)
GENEROUS: Final = timedelta(seconds=1000)
GUARD_LIMITS: Final = replace(limits.GUARD_LIMITS, max_time=GENEROUS.total_seconds())
"""What a guard has by default, but for the time: a busy machine must not end the run."""

AUTHORITY: Final = 'user({user}); role("editor"); role("auditor"); check all time($t), $t <= {expires};'
BY_APPLICATION: Final = (
    'check all application($a), {"orders", "invoices"}.contains($a);'
    ' check all operation($o), {"read", "list", "write"}.contains($o); check all time($t), $t <= {expires};'
)
BY_RESOURCE: Final = (
    "check all resource($r), $r == {resource} || $r.starts_with({below});"
    " check all time($t), $t <= {expires};"
)
BY_OPERATION: Final = (
    'check all operation($o), {"read", "list"}.contains($o); check all time($t), $t <= {expires};'
)
NARROWINGS: Final = (BY_APPLICATION, BY_RESOURCE, BY_OPERATION)

POLICY: Final = """
granted("viewer", "orders", "read"); granted("viewer", "invoices", "read");
granted("editor", "orders", "read"); granted("editor", "orders", "list");
granted("editor", "orders", "write");
granted("auditor", "ledger", "read"); granted("auditor", "ledger", "list");
deny if resource($r), $r.starts_with("/orders/internal/");
allow if user($u), role($role), application($a), operation($o), granted($role, $a, $o);
"""
REQUEST: Final = "time({now}); application({application}); operation({operation}); resource({resource});"

_FIRST_EXPIRY: Final = datetime(2100, 1, 1, tzinfo=UTC)


def parameters(source: str, number: int) -> dict[str, Any]:
    """Returns values for the parameters of one of the sources above, different for each number."""
    values: dict[str, Any] = {
        "user": f"user-{number}",
        "expires": _FIRST_EXPIRY + timedelta(seconds=number),
        "resource": "/orders",
        "below": "/orders/",
    }
    return {name: value for name, value in values.items() if "{" + name + "}" in source}


def filled(source: str, number: int) -> str:
    """Returns a source with its values written into it: a text never seen before, for each number."""
    for name, value in parameters(source, number).items():
        text = f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else f'"{value}"'
        source = source.replace("{" + name + "}", text)
    return source


class Issuer:
    """A root key, as both sides have it, and the tokens made with it."""

    def __init__(self) -> None:
        pair = biscuit_auth.KeyPair()
        self.peer_private = pair.private_key
        self.peer_public = pair.public_key
        self.our_private = capability.PrivateKey(str(pair.private_key))
        self.our_public = capability.PublicKey(str(pair.public_key))
        self._made = 0

    def next_number(self) -> int:
        """Returns a number that was not before: what is made with it is like nothing else."""
        self._made += 1
        return self._made

    def token(self, blocks: int) -> str:
        """Returns a token of so many blocks that has not been before."""
        builder = biscuit_auth.BiscuitBuilder(AUTHORITY, parameters(AUTHORITY, self.next_number()))
        token = builder.build(self.peer_private)
        for index in range(blocks - 1):
            token = self._narrowed(token, index)
        return str(token.to_base64())

    def child(self, text: str) -> str:
        """Returns a token that was narrowed from `text` by one block."""
        token = biscuit_auth.Biscuit.from_base64(text, self.peer_public)
        return str(self._narrowed(token, token.block_count() - 1).to_base64())

    def tokens(self, count: int, blocks: int) -> list[str]:
        """Returns so many tokens, no two alike."""
        return [self.token(blocks) for _ in range(count)]

    def parsed_by_peer(self, text: str) -> Any:
        """Returns the token of `text`, as biscuit-python has it."""
        return biscuit_auth.Biscuit.from_base64(text, self.peer_public)

    def parsed(self, text: str) -> capability.Biscuit:
        """Returns the token of `text`, as this project has it."""
        return capability.Biscuit.from_base64(text, self.our_public)

    def _narrowed(self, token: Any, index: int) -> Any:
        source = NARROWINGS[index % len(NARROWINGS)]
        return token.append(biscuit_auth.BlockBuilder(source, parameters(source, self.next_number())))


class Requests:
    """Requests that are all different, and all allowed: the n-th, as each side takes it."""

    def __init__(self, count: int = 4096) -> None:
        now = datetime.now(UTC)
        self.asked: list[tuple[str, str]] = [
            (("read", "list")[n % 2], f"/orders/{n}/lines") for n in range(count)
        ]
        self.values: list[dict[str, Any]] = [
            {"now": now, "application": "orders", "operation": operation, "resource": resource}
            for operation, resource in self.asked
        ]


class Peer:
    """The calls of biscuit-python that make one decision.

    By default its authorizer gives up after 1 ms, which a busy machine passes now and then. Another limit
    does not make it slower but for the call that sets it (0.2 µs).
    """

    def __init__(self, issuer: Issuer, source: str = REQUEST + POLICY) -> None:
        self._root = issuer.peer_public
        self._source = source
        self._limits = generous_limits()

    def authorize(self, token: Any, values: dict[str, Any]) -> object:
        """Decides about a parsed token."""
        builder: Any = biscuit_auth.AuthorizerBuilder(self._source, values)
        builder.set_limits(self._limits)
        return builder.build(token).authorize()

    def check(self, text: str, values: dict[str, Any]) -> object:
        """Decides about a token's text: parsed, verified, evaluated."""
        return self.authorize(biscuit_auth.Biscuit.from_base64(text, self._root), values)


def generous_limits() -> Any:
    """Returns limits that no case here meets, for biscuit-python's authorizers."""
    builder: Any = biscuit_auth.AuthorizerBuilder()  # its type stub lacks what concerns limits
    generous = builder.limits()
    generous.max_time = GENEROUS
    generous.max_facts = 10_000_000
    generous.max_iterations = 1_000_000
    return generous


def must_allow(decisions: Sequence[capability.Decision]) -> None:
    """Raises unless all are allowed: a refusal would be timed as if it were the work."""
    for decision in decisions:
        if not decision.allowed:
            raise AssertionError(decision.reason)
