"""Which operations a request needs, by the policy alone: what a client is told that its token lacks.

No token is looked at for it, so it tells nothing about one: the policy's facts and rules are asked what they
make of the request, as if somebody came whose token says nothing.
"""

import warnings
from dataclasses import replace
from typing import Final

from capability.attenuation import DEFAULT_VOCABULARY
from capability.datalog.parser import parse_program
from capability.datalog.program import Program
from capability.guard import Guard
from capability.keys import KeyPair
from capability.policy_review import PolicyWarning
from capability.sidecar.facts import Stated, form
from capability.tokens import BiscuitBuilder

_OPERATION: Final = DEFAULT_VOCABULARY.operation


def needs_of(program: Program) -> "Needs | None":
    """Returns what tells the operations of a policy's requests, None where it speaks of none."""
    heads = (*program.facts, *(rule.head for rule in program.rules))
    return Needs(program) if any(head.name == _OPERATION for head in heads) else None


class Needs:
    """Asks the rules of one policy, as fast as a decision about a known token is."""

    def __init__(self, program: Program) -> None:
        own = KeyPair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PolicyWarning)  # who wrote the policy has heard them already
            guard = Guard(
                own.public_key,
                replace(program, checks=(), policies=parse_program("allow if true").policies),
                answers=(f"{_OPERATION}($operation)",),
            )
        self._form = form(guard)
        self._token = BiscuitBuilder().build(own.private_key).to_base64()

    def operations(self, stated: Stated) -> tuple[str, ...]:
        """Returns the operations that a request needs, none where that cannot be told."""
        decision = self._form.check(self._token, *stated)
        return tuple([str(answer.values[0]) for answer in decision.answers])
