"""The one way to a decision: a token and a request in, a Decision out.

Every way into this package (library, command line, services) decides here, in this order: text, format and
signatures; revocation; evaluation. Whatever cannot be told is not allowed.
"""

import itertools
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY
from capability.authorization import Evaluation, Plan, decide, refuse_unbound_heads
from capability.authorizer import loaded_blocks
from capability.builders import Fact, Parameters, ScopeParameters, bind_program
from capability.datalog.limits import GUARD_LIMITS, Limits
from capability.datalog.parameters import bind
from capability.datalog.program import Predicate, Program
from capability.datalog.terms import DATE, DATE_MAX, Term
from capability.datalog.values import to_term
from capability.decision import Decision, Outcome
from capability.errors import BiscuitValidationError, StoreError
from capability.externs import ExternCallable, adapt, require_callable
from capability.inspection import expiry, subject
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.revocation import RevocationSource
from capability.tokens import Biscuit

Value: TypeAlias = str | int | bool | bytes | datetime
RequestValue: TypeAlias = Value | Sequence[Value] | Set[Value] | None
"""What a request says under one name: a value, several that must all be allowed, or nothing."""

Clock: TypeAlias = Callable[[], float | datetime]
"""Tells the time: seconds since 1970, or an aware datetime."""

MAX_REQUESTS: Final = 1024
"""How many requests the lists of one call may stand for."""

_FACT_NAME: Final = re.compile(r"[A-Za-z0-9_:]+")
_TIME: Final = DEFAULT_VOCABULARY.time
_SINGLE: Final = frozenset(
    {
        DEFAULT_VOCABULARY.application,
        DEFAULT_VOCABULARY.operation,
        DEFAULT_VOCABULARY.tenant,
        DEFAULT_VOCABULARY.resource,
    }
)
"""Facts of which one request has one: with several, a `check if` would hold when any of them fits."""


@dataclass(frozen=True, slots=True)
class _Setup:
    """What `replace` swaps; a check reads it once."""

    keys: KeySet | PublicKey
    program: Program


class Guard:
    """Decides requests: built once, asked often, from any thread.

    `keys` are the root keys, `policy` is Datalog with at least one allow policy, or a Program.
    `revocations` is asked on every check; without it nothing is ever revoked. `clock` tells the time, which
    is stated as `time(...)`; the caller cannot. `extern_funcs` are callable from Datalog.

    >>> from capability.keys import KeyPair
    >>> root = KeyPair()
    >>> guard = Guard(root.public_key, "allow if user($u)")
    >>> from capability.tokens import BiscuitBuilder
    >>> token = BiscuitBuilder('user("alice")').build(root.private_key).attenuate(operations=["read"])
    >>> guard.check(token.to_base64(), operation="read").allowed
    True
    >>> guard.check(token.to_base64(), operation="write").allowed
    False
    """

    __slots__ = ("_clock", "_externs", "_limits", "_revocations", "_setup")

    def __init__(
        self,
        keys: KeySet | PublicKey,
        policy: str | Program,
        revocations: RevocationSource | None = None,
        clock: Clock | None = None,
        limits: Limits = GUARD_LIMITS,
        *,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
        extern_funcs: Mapping[str, ExternCallable] | None = None,
    ) -> None:
        """Raises DatalogError for a policy that cannot be used, and TypeError for wrong types."""
        if revocations is not None and not isinstance(revocations, RevocationSource):
            raise TypeError(
                f"argument 'revocations' must have a method status, and {type(revocations).__name__} has none"
            )
        if not isinstance(limits, Limits):
            raise TypeError(f"argument 'limits' must be Limits, not {type(limits).__name__}")
        for name, function in (extern_funcs or {}).items():
            require_callable(name, function)
        self._revocations = revocations
        self._clock = time.time if clock is None else clock
        self._limits = limits
        self._externs = adapt(extern_funcs or {})
        self._setup = _Setup(_keys(keys), _program(policy, parameters, scope_parameters))

    def replace(
        self,
        *,
        keys: KeySet | PublicKey | None = None,
        policy: str | Program | None = None,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
    ) -> None:
        """Puts other keys, another policy, or both in force at once; None leaves one as it is.

        A check that is under way goes on with what it began with. Raises as the constructor does, and then
        nothing has changed.
        """
        setup = self._setup
        self._setup = _Setup(
            setup.keys if keys is None else _keys(keys),
            setup.program if policy is None else _program(policy, parameters, scope_parameters),
        )

    def check(
        self,
        token: str | bytes,
        *,
        operation: RequestValue = None,
        application: RequestValue = None,
        resource: RequestValue = None,
        tenant: RequestValue = None,
        facts: Iterable[Fact] = (),
        **request: RequestValue,
    ) -> Decision:
        """Returns the decision about a request with `token` (its text, or its bytes).

        Each keyword `name=value` is stated as the fact `name(value)`; `facts` holds others. A list of
        values stands for that many requests, all of which must be allowed; the decision is then that about
        the first which is not.

        Nothing about the token makes it raise. Raises TypeError for wrong types and for `time=...`,
        ValueError for an empty list, a value that does not fit, or several facts where one is meant.
        """
        named = {
            "operation": operation,
            "application": application,
            "resource": resource,
            "tenant": tenant,
            **request,
        }
        requests = _requests(named, facts)
        now = self._now()
        if not isinstance(token, str | bytes):
            raise TypeError(f"argument 'token' must be str or bytes, not {type(token).__name__}")
        return self._decide(self._setup, token, requests, now)

    def require(
        self,
        token: str | bytes,
        *,
        operation: RequestValue = None,
        application: RequestValue = None,
        resource: RequestValue = None,
        tenant: RequestValue = None,
        facts: Iterable[Fact] = (),
        **request: RequestValue,
    ) -> Decision:
        """Returns the decision of `check` if it is an allow.

        Raises AuthorizationError (Denied, Revoked, ExecutionFailed, LimitReached, or itself for a token
        that is none and for a store that is down), which has the decision; and what `check` raises.
        """
        decision = self.check(
            token,
            operation=operation,
            application=application,
            resource=resource,
            tenant=tenant,
            facts=facts,
            **request,
        )
        decision.require()
        return decision

    def __repr__(self) -> str:
        return f"<Guard with {len(self._setup.program.policies)} policies>"

    def _decide(
        self, setup: _Setup, token: str | bytes, requests: list[tuple[Predicate, ...]], now: int
    ) -> Decision:
        moment = datetime.fromtimestamp(now, UTC)
        about: dict[str, Any] = {"limits": self._limits, "decided_at": moment}
        try:
            biscuit = _verified(token, setup.keys, moment)
            plan = Plan(loaded_blocks(biscuit), setup.program)
            revocation_ids = biscuit.canonical_revocation_ids
        except BiscuitValidationError as error:
            return Decision(
                outcome=Outcome.INVALID_TOKEN, code=error.code, reason=f"invalid token: {error}", **about
            )
        about |= {
            "subject": subject(biscuit.blocks[0].program),
            "expires_at": expiry(block.program for block in biscuit.blocks),
            "key_id": biscuit.root_key_id(),
            "revocation_ids": tuple(identifier.hex() for identifier in revocation_ids),
        }
        if self._revocations is not None:
            try:
                status = self._revocations.status(revocation_ids)
            except StoreError as error:
                return Decision(
                    outcome=Outcome.STORE_UNAVAILABLE,
                    code=error.code,
                    reason=f"the store of revocations cannot answer: {error}",
                    **about,
                )
            about |= {"revocation_revision": status.revision, "revocation_age": status.age}
            if status.revoked_id is not None:
                return _revoked(status.revoked_id, revocation_ids, about)
        evaluation = Evaluation(plan, self._limits, self._externs)
        evaluation.try_run()
        return replace(_decide_all(evaluation, requests, now), **about)

    def _now(self) -> int:
        """Returns the clock's time in whole seconds since 1970."""
        moment = self._clock()
        if isinstance(moment, datetime):
            if moment.utcoffset() is None:
                raise TypeError("the clock of a guard must tell its time zone")
            moment = moment.timestamp()
        if not 0 <= moment <= DATE_MAX:
            raise ValueError("the clock of a guard is before 1970 or after 9999")
        return int(moment)


def _decide_all(evaluation: Evaluation, requests: list[tuple[Predicate, ...]], now: int) -> Decision:
    """Returns the first decision that is no allow, or one that speaks for all."""
    ambient = Predicate(_TIME, ((DATE, now),))
    decisions = []
    for request in requests:
        decision = decide(evaluation.fork(), (*request, ambient))
        if not decision.allowed:
            return decision
        decisions.append(decision)
    stated = dict.fromkeys(fact for decision in decisions for fact in decision.request)
    return replace(decisions[0], request=tuple(stated), steps=sum(decision.steps for decision in decisions))


def _revoked(revoked: bytes, revocation_ids: Sequence[bytes], about: dict[str, Any]) -> Decision:
    block = revocation_ids.index(revoked) if revoked in revocation_ids else None
    where = "an id of its chain" if block is None else f"block {block}"
    return Decision(
        outcome=Outcome.REVOKED,
        code=Outcome.REVOKED.value,
        reason=f"revoked: {where} ({revoked.hex()[:16]}...)",
        revoked_id=revoked.hex(),
        **about,
    )


def _verified(token: str | bytes, keys: KeySet | PublicKey, now: datetime) -> Biscuit:
    root = keys if isinstance(keys, PublicKey) else partial(keys.select, at=now)
    return Biscuit.from_base64(token, root) if isinstance(token, str) else Biscuit.from_bytes(token, root)


def _requests(named: Mapping[str, RequestValue], facts: Iterable[Fact]) -> list[tuple[Predicate, ...]]:
    """Returns the facts of each request that `named` stands for."""
    stated = _stated(facts)
    choices: list[list[Predicate]] = []
    for name, value in named.items():
        if value is None:
            continue
        if name == _TIME:
            raise TypeError("the time comes from the guard's clock; a request cannot state it")
        if _FACT_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of a fact")
        if any(fact.name == name for fact in stated):
            raise ValueError(f"{name} is stated twice, by keyword and in facts")
        choices.append([Predicate(name, (term,)) for term in _terms(name, value)])
    if math.prod(map(len, choices)) > MAX_REQUESTS:
        raise ValueError(f"the lists of values stand for more than {MAX_REQUESTS} requests")
    return [(*choice, *stated) for choice in itertools.product(*choices)]


def _terms(name: str, value: RequestValue) -> list[Term]:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values:
        raise ValueError(f"{name} is an empty list: there is no request to decide")
    for single in values:
        if not isinstance(single, str | int | bool | bytes | datetime):
            raise TypeError(
                f"{name} must be str, int, bool, bytes or datetime, or a list of them,"
                f" not {type(single).__name__}"
            )
    return list(dict.fromkeys(to_term(single) for single in values))


def _stated(facts: Iterable[Fact]) -> tuple[Predicate, ...]:
    stated: list[Predicate] = []
    for fact in facts:
        if not isinstance(fact, Fact):
            raise TypeError(f"argument 'facts' must hold Facts, not {type(fact).__name__}")
        predicate = bind(fact.item, {}, {})
        if predicate.name == _TIME:
            raise ValueError("the time comes from the guard's clock; a request cannot state it")
        if predicate.name in _SINGLE and any(other.name == predicate.name for other in stated):
            raise ValueError(f"several {predicate.name} facts: ask once for each, with a list")
        stated.append(predicate)
    return tuple(dict.fromkeys(stated))


def _keys(keys: KeySet | PublicKey) -> KeySet | PublicKey:
    if not isinstance(keys, KeySet | PublicKey):
        raise TypeError(f"argument 'keys' must be a KeySet or a PublicKey, not {type(keys).__name__}")
    return keys


def _program(policy: str | Program, parameters: Parameters, scope_parameters: ScopeParameters) -> Program:
    if isinstance(policy, str):
        from capability.datalog.parser import parse_program

        policy = parse_program(policy)
    elif not isinstance(policy, Program):
        raise TypeError(f"argument 'policy' must be str or Program, not {type(policy).__name__}")
    program = bind_program(policy, parameters, scope_parameters)
    heads = [*program.facts, *(rule.head for rule in program.rules)]
    if any(predicate.name == _TIME for predicate in heads):
        raise ValueError("the time comes from the guard's clock; a policy cannot state it")
    refuse_unbound_heads(program.rules)
    return program
