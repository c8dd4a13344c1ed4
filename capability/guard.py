"""The one way to a decision: a token and a request in, a Decision out.

Every way into this package (library, command line, services) decides here, in this order: text, format and
signatures; revocation; evaluation. Whatever cannot be told is not allowed.
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY
from capability.authorization import Evaluation, Plan, allows, decide
from capability.authorizer import loaded_blocks
from capability.builders import Fact, Parameters, ScopeParameters, bind_program
from capability.cache import CacheStats
from capability.datalog.limits import GUARD_LIMITS, Limits
from capability.datalog.program import Predicate, Program
from capability.datalog.shapes import Unsure
from capability.datalog.terms import DATE, DATE_MAX
from capability.decision import Decision, Outcome
from capability.errors import BiscuitValidationError, FormatError, StoreError
from capability.externs import ExternCallable, adapt, require_callable
from capability.inspection import expiry, subject
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.policy_review import PolicyWarning, review_policy
from capability.prefixes import checked_prefixes, split_prefix
from capability.remembered import (
    DEFAULT_CACHE,
    KNOWN_SIZE,
    REQUEST_NAMES,
    SINGLE_TYPES,
    CacheLimits,
    Known,
    Setup,
    Types,
    prepare,
    prepare_at_once,
)
from capability.request import RequestValue, requests_of
from capability.revocation import (
    RevisedSource,
    RevocationIds,
    RevocationSource,
    RevocationStatus,
    key_mark,
)
from capability.tokens import Biscuit
from capability.wire import envelope as wire
from capability.wire.envelope import Envelope
from capability.wire.text import PREFIX, from_text

__all__ = ["CacheLimits", "Clock", "Guard", "GuardStats"]

Clock: TypeAlias = Callable[[], float | datetime]
"""Tells the time: seconds since 1970, or an aware datetime."""

UNASKED: Final = RevocationStatus(None, 0)
"""What stands for the word of a source where there is none."""

_TIME: Final = DEFAULT_VOCABULARY.time
_MAX_TEXT: Final = len(PREFIX) + (wire.MAX_BYTES + 2) // 3 * 4


@dataclass(frozen=True, slots=True)
class GuardStats:
    """What a guard has done and what it remembers. Times are in seconds, of decisions that the engine made.

    `fast` counts the decisions that needed no engine. Counters are not locked: see CacheStats.
    """

    outcomes: dict[Outcome, int]
    fast: int
    signature_time: float
    revocation_time: float
    evaluation_time: float
    tokens: CacheStats
    chains: CacheStats
    decoded: CacheStats


_JUDGED: Final = frozenset({Outcome.ALLOWED, Outcome.DENIED, Outcome.EXPIRED})
"""What can be prepared for: what ran into an error or a limit would do so again."""


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

    __slots__ = (
        "_allowed",
        "_clock",
        "_counts",
        "_externs",
        "_fast",
        "_limits",
        "_prefixes",
        "_replacing",
        "_revision",
        "_revocations",
        "_setup",
        "_times",
        "_token_facts",
    )

    def __init__(
        self,
        keys: KeySet | PublicKey,
        policy: str | Program,
        revocations: RevocationSource | None = None,
        clock: Clock | None = None,
        limits: Limits = GUARD_LIMITS,
        cache: CacheLimits = DEFAULT_CACHE,
        *,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
        extern_funcs: Mapping[str, ExternCallable] | None = None,
        token_facts: Iterable[str] | None = None,
        prefixes: Iterable[str] = (),
    ) -> None:
        """Raises DatalogError for a policy that cannot be used, and TypeError for wrong types.

        What is in a policy to no effect is a PolicyWarning. `token_facts` names all facts that tokens and
        requests state, beside operation, application, resource, tenant and time: when given, a predicate
        that nothing supplies is found too. `prefixes`, such as `sk_live_`, may stand before the text of a
        token: one of them, as it is, is taken off.
        """
        if revocations is not None and not isinstance(revocations, RevocationSource):
            raise TypeError(
                f"argument 'revocations' must have a method status, and {type(revocations).__name__} has none"
            )
        if not isinstance(limits, Limits):
            raise TypeError(f"argument 'limits' must be Limits, not {type(limits).__name__}")
        for name, function in (extern_funcs or {}).items():
            require_callable(name, function)
        self._revocations = revocations
        self._revision = revocations.revision if isinstance(revocations, RevisedSource) else None
        self._clock = time.time if clock is None else clock
        self._limits = limits
        self._externs = adapt(extern_funcs or {})
        self._counts = dict.fromkeys(Outcome, 0)
        self._times = [0, 0, 0]
        self._allowed = self._fast = 0
        self._replacing = Lock()
        self._prefixes = checked_prefixes(prefixes)
        self._token_facts = _names(token_facts)
        program = _program(policy, parameters, scope_parameters, self._token_facts)
        self._setup = Setup(_keys(keys), program, cache, limits)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "Guard":
        """Returns a guard by the environment, and by cap.toml for what it does not say.

        CAP_PUBLIC_KEY or CAP_KEYS, CAP_POLICY and CAP_STORE must be set in one of the two. The store is asked
        on every check; with CAP_MAX_STALE seconds a copy of it in memory is, by a thread of this process.
        Raises ConfigurationError, KeyFormatError, StoreError, and what the constructor raises.
        """
        from capability.settings import settings_from

        settings = settings_from(environment)
        return cls(settings.keys, settings.policy, settings.revocations, prefixes=settings.prefixes)

    def replace(
        self,
        *,
        keys: KeySet | PublicKey | None = None,
        policy: str | Program | None = None,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
    ) -> None:
        """Puts other keys, another policy, or both in force at once; None leaves one as it is.

        A check that is under way goes on with what it began with. What was remembered under other keys is
        forgotten. Raises as the constructor does, and then nothing has changed.
        """
        with self._replacing:
            setup = self._setup
            program = (
                setup.program
                if policy is None
                else _program(policy, parameters, scope_parameters, self._token_facts)
            )
            kept = setup.keys if keys is None else _keys(keys)
            chains = setup.chains if kept == setup.keys else None
            self._setup = Setup(kept, program, setup.cache, self._limits, chains)
        # decisions that were not read yet may hold the old setup for long, but not what it remembers
        setup.known.clear()
        if chains is None:
            setup.chains.clear()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What may stand before the text of a token."""
        return self._prefixes

    @property
    def blocking(self) -> bool:
        """Whether a check may wait for a store: then an event loop must not make it in its own thread."""
        return self._revocations is not None and not getattr(self._revocations, "in_memory", False)

    def forget(self) -> None:
        """Empties the caches; what is asked next is verified and evaluated anew."""
        setup = self._setup
        setup.chains.clear()
        setup.known.clear()
        setup.residuals.forget()

    def stats(self) -> GuardStats:
        """Returns what was decided so far, in what time, and what is remembered."""
        setup = self._setup
        chains, decoded = setup.chains.stats()
        signature, revocation, evaluation = (nanoseconds / 1e9 for nanoseconds in self._times)
        return GuardStats(
            outcomes=self._counts | {Outcome.ALLOWED: self._counts[Outcome.ALLOWED] + self._allowed},
            fast=self._fast,
            signature_time=signature,
            revocation_time=revocation,
            evaluation_time=evaluation,
            tokens=setup.known.stats(),
            chains=chains,
            decoded=decoded,
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
        setup = self._setup
        moment = self._clock()
        now = int(moment) if type(moment) is float and 0 <= moment <= DATE_MAX else _seconds(moment)
        known: Known | None = None
        asked: tuple[RequestValue, ...] | None = None
        if not (request or facts) and isinstance(token, str | bytes):
            known = setup.known.get(token)
            asked = (operation, application, resource, tenant)
            # never __class__, of which a value may say what it likes
            types = (type(operation), type(application), type(resource), type(tenant))
            if known is not None:
                form = known.forms.get(types)
                if form is not None and now < known.valid_until:
                    status = UNASKED if self._revocations is None else self._cleared(known)
                    if status is not None:
                        try:
                            outcome = form.decide(now, operation, application, resource, tenant)
                        except Unsure:
                            pass
                        else:
                            self._fast += 1
                            if outcome is Outcome.ALLOWED:
                                self._allowed += 1
                            else:
                                self._counts[outcome] += 1
                            return Decision.deferred(outcome, self._explain, setup, token, asked, now, status)
        elif not isinstance(token, str | bytes):
            raise TypeError(f"argument 'token' must be str or bytes, not {type(token).__name__}")
        named = {
            "operation": operation,
            "application": application,
            "resource": resource,
            "tenant": tenant,
            **request,
        }
        if asked is not None and not SINGLE_TYPES.issuperset(types):
            asked = None
        decision = self._decide(setup, token, requests_of(named, facts), now, asked=asked, known=known)
        self._counts[decision.outcome] += 1
        return decision

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

    def _cleared(self, known: Known) -> RevocationStatus | None:
        """Returns the word of the source that no id of the chain is revoked now, None if it cannot be had."""
        status = known.cleared
        revocations, revision = self._revocations, self._revision
        assert revocations is not None
        try:
            if revision is None:
                status = revocations.status(known.ids)
            elif status is None or status.revision != revision():
                status = known.cleared = revocations.status(known.ids)
        except StoreError:
            return None
        return status if status.revoked_id is None else None

    def _explain(
        self,
        setup: Setup,
        token: str | bytes,
        asked: tuple[RequestValue, ...],
        now: int,
        status: RevocationStatus,
    ) -> Decision:
        """Returns the decision in full, by the engine, for one that was made without it.

        Without a deadline: no request of its form takes more than the steps that are allowed, and what was
        decided in time must not become a limit reached because someone asks for the reason on a busy day.
        """
        requests = requests_of(dict(zip(REQUEST_NAMES, asked, strict=True)), ())
        limits = replace(self._limits, max_time=None)
        return self._decide(setup, token, requests, now, limits=limits, status=status)

    def _decide(
        self,
        setup: Setup,
        token: str | bytes,
        requests: list[tuple[Predicate, ...]],
        now: int,
        *,
        limits: Limits | None = None,
        asked: tuple[RequestValue, ...] | None = None,
        known: Known | None = None,
        status: RevocationStatus | None = None,
    ) -> Decision:
        """Decides by the engine, without asking the source if `status` says what it answered.

        `asked` are the values of a single request that states nothing else: its form is made ready for the
        next time, and when it is allowed, the rest of the decision waits until it is read. `known` is what
        is remembered of the token.
        """
        moment = datetime.fromtimestamp(now, UTC)
        about: dict[str, Any] = {"limits": self._limits, "decided_at": moment}
        started = time.perf_counter_ns()
        try:
            envelope = _envelope(token, self._prefixes)
            root, valid_until = _root(setup.keys, envelope.root_key_id, moment)
            biscuit = setup.chains.load(envelope, root)
            plan = Plan(loaded_blocks(biscuit), setup.program)
            revocation_ids = biscuit.canonical_revocation_ids
        except BiscuitValidationError as error:
            return Decision(
                outcome=Outcome.INVALID_TOKEN, code=error.code, reason=f"invalid token: {error}", **about
            )
        finally:
            verified = time.perf_counter_ns()
            self._times[0] += verified - started
        if status is None:
            try:
                status = UNASKED if self._revocations is None else self._revocations.status(_asked(biscuit))
            except StoreError as error:
                return Decision(
                    outcome=Outcome.STORE_UNAVAILABLE,
                    code=error.code,
                    reason=f"the store of revocations cannot answer: {error}",
                    **about,
                    **_about(biscuit, revocation_ids),
                )
            finally:
                self._times[1] += time.perf_counter_ns() - verified
        if status is not UNASKED:
            about |= {"revocation_revision": status.revision, "revocation_age": status.age}
            if status.revoked_id is not None:
                about |= _about(biscuit, revocation_ids)
                return _revoked(status.revoked_id, status.reason, revocation_ids, about)
        looked = time.perf_counter_ns()
        types: Types = () if asked is None else tuple([type(value) for value in asked])
        if asked is not None and known is None and setup.cache.max_tokens > 1 and not self._externs:
            form = prepare_at_once(setup.residuals, plan, types)
            if form is not None:
                known = Known(_asked(biscuit), valid_until)
                known.forms[types] = form
                setup.known.put(token, known, KNOWN_SIZE + len(token))
                try:
                    outcome = form.decide(now, *asked)
                except Unsure:
                    pass
                else:
                    self._fast += 1
                    self._times[2] += time.perf_counter_ns() - looked
                    return Decision.deferred(outcome, self._explain, setup, token, asked, now, status)
        evaluation = Evaluation(plan, limits or self._limits, self._externs)
        evaluation.try_run()
        if asked is not None and not self._externs and allows(evaluation.fork(), _stated(requests[0], now)):
            decision = Decision.deferred(Outcome.ALLOWED, self._explain, setup, token, asked, now, status)
        else:
            decision = _decide_all(evaluation, requests, now)
            decision = replace(decision, **about, **_about(biscuit, revocation_ids))
        self._times[2] += time.perf_counter_ns() - looked
        if asked is not None:
            if known is None:
                known = Known(_asked(biscuit), valid_until)
                setup.known.put(token, known, KNOWN_SIZE + len(token))
            elif known.wants(types) and decision.outcome in _JUDGED:
                known.forms[types] = prepare(setup.residuals, plan, types)
        return decision


def _about(biscuit: Biscuit, revocation_ids: Sequence[bytes]) -> dict[str, Any]:
    """Returns what a decision says of the token."""
    return {
        "subject": subject(biscuit.blocks[0].program),
        "expires_at": expiry(block.program for block in biscuit.blocks),
        "key_id": biscuit.root_key_id(),
        "revocation_ids": tuple(identifier.hex() for identifier in revocation_ids),
    }


def _stated(request: tuple[Predicate, ...], now: int) -> tuple[Predicate, ...]:
    """Returns all that is stated for a request: its facts, and the time."""
    return (*request, Predicate(_TIME, ((DATE, now),)))


def _decide_all(evaluation: Evaluation, requests: list[tuple[Predicate, ...]], now: int) -> Decision:
    """Returns the first decision that is no allow, or one that speaks for all."""
    decisions = []
    for request in requests:
        decision = decide(evaluation.fork(), _stated(request, now))
        if not decision.allowed:
            return decision
        decisions.append(decision)
    stated = dict.fromkeys(fact for decision in decisions for fact in decision.request)
    return replace(decisions[0], request=tuple(stated), steps=sum(decision.steps for decision in decisions))


def _revoked(
    revoked: bytes, reason: str | None, revocation_ids: Sequence[bytes], about: dict[str, Any]
) -> Decision:
    block = revocation_ids.index(revoked) if revoked in revocation_ids else None
    where = reason or ("its root key" if block is None else f"block {block}")
    return Decision(
        outcome=Outcome.REVOKED,
        code=Outcome.REVOKED.value,
        reason=f"revoked: {where} ({revoked.hex()[:16]}...)",
        revoked_id=revoked.hex(),
        **about,
    )


def _asked(biscuit: Biscuit) -> RevocationIds:
    """Returns the ids by which a token can be revoked: those of its blocks, then that of its root key."""
    return RevocationIds((*biscuit.canonical_revocation_ids, key_mark(repr(biscuit.root_key))))


def _envelope(token: str | bytes, prefixes: tuple[str, ...]) -> Envelope:
    if isinstance(token, bytes):
        return wire.decode(token)
    _, token = split_prefix(token, prefixes)
    if len(token) > _MAX_TEXT:
        raise FormatError(f"the token is longer than {wire.MAX_BYTES} bytes", code="format.size")
    return wire.decode(from_text(token))


def _root(keys: KeySet | PublicKey, key_id: int | None, now: datetime) -> tuple[PublicKey, float]:
    """Returns the root key for `key_id`, and until when it is one, in seconds since 1970."""
    if isinstance(keys, PublicKey):
        return keys, math.inf
    key = keys.select(key_id, at=now)
    expiries = [entry.expires_at for entry in keys if entry.key == key and entry.expires_at]
    return key, min((moment.timestamp() for moment in expiries), default=math.inf)


def _seconds(moment: float | datetime) -> int:
    """Returns a clock's time in whole seconds since 1970."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise TypeError("the clock of a guard must tell its time zone")
        moment = moment.timestamp()
    if not 0 <= moment <= DATE_MAX:
        raise ValueError("the clock of a guard is before 1970 or after 9999")
    return int(moment)


def _keys(keys: KeySet | PublicKey) -> KeySet | PublicKey:
    if not isinstance(keys, KeySet | PublicKey):
        raise TypeError(f"argument 'keys' must be a KeySet or a PublicKey, not {type(keys).__name__}")
    return keys


def _names(token_facts: Iterable[str] | None) -> frozenset[str] | None:
    if token_facts is None:
        return None
    if isinstance(token_facts, str):
        raise TypeError("argument 'token_facts' must be a list of names, not one str")
    names = frozenset(token_facts)
    if not all(isinstance(name, str) for name in names):
        raise TypeError("argument 'token_facts' must hold the names of facts")
    return names


def _program(
    policy: str | Program,
    parameters: Parameters,
    scope_parameters: ScopeParameters,
    token_facts: frozenset[str] | None,
) -> Program:
    """Returns the policy, bound and reviewed; warns for whoever called the caller."""
    if isinstance(policy, str):
        from capability.datalog.parser import parse_program

        policy = parse_program(policy)
    elif not isinstance(policy, Program):
        raise TypeError(f"argument 'policy' must be str or Program, not {type(policy).__name__}")
    program = bind_program(policy, parameters, scope_parameters)
    heads = [*program.facts, *(rule.head for rule in program.rules)]
    if any(predicate.name == _TIME for predicate in heads):
        raise ValueError("the time comes from the guard's clock; a policy cannot state it")
    for finding in review_policy(program, token_facts):
        warnings.warn(PolicyWarning(str(finding)), stacklevel=3)
    return program
