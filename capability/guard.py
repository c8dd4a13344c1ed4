"""The one way to a decision: a token and a request in, a Decision out.

Every way into this package (library, command line, services) decides here: at once where token, policy and
shape of the request were met before (`remembered`), else by the engine (`deciding`), and both alike.
"""

import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from capability.answers import patterns_of
from capability.attenuation import DEFAULT_VOCABULARY
from capability.builders import Fact, Parameters, ScopeParameters, bind_program
from capability.cache import CacheStats
from capability.clock import Clock, seconds
from capability.datalog.limits import GUARD_LIMITS, Limits
from capability.datalog.program import Predicate, Program
from capability.datalog.shapes import Unsure
from capability.datalog.terms import DATE_MAX
from capability.deciding import UNASKED, Decider, Question
from capability.decision import Decision, Outcome
from capability.externs import ExternCallable, adapt, require_callable
from capability.forms import RequestForm
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.policy_review import PolicyWarning, review_policy
from capability.prefixes import checked_prefixes
from capability.remembered import DEFAULT_CACHE, CacheLimits, Form, Known, Setup
from capability.request import (
    KEYWORDS,
    TOKEN_TYPES,
    RequestValue,
    declared,
    keyword_shape,
    requests_of,
    taken_apart,
)
from capability.revocation import RevocationSource, RevocationStatus

__all__ = ["CacheLimits", "Clock", "Guard", "GuardStats", "RequestForm"]

_TIME: Final = DEFAULT_VOCABULARY.time
_ALLOWED: Final = Outcome.ALLOWED
"""Looking a member of an enumeration up takes as long as three other steps of a decision."""


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


class Guard:
    """Decides requests: built once, asked often, from any thread.

    `keys` are the root keys, `policy` is Datalog with at least one allow policy, or a Program.
    `revocations` is asked on every check; without it nothing is ever revoked. `clock` tells the time, which
    is stated as `time(...)`; the caller cannot. `extern_funcs` are callable from Datalog.

    `answers` are predicates, as in `header($name, $value)`: what the policy's own facts and rules say of them
    is in `decision.answers` of an allow, in the order of `answers` and then of their terms. A fact of that
    name in a token, or derived by a rule of a token, is none: a token reaches an answer only through what a
    rule of the policy reads, as in `header("X-User", $u) <- user($u)`.

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
        "_asks",
        "_clock",
        "_counts",
        "_decider",
        "_fast",
        "_patterns",
        "_replacing",
        "_setup",
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
        answers: Iterable[str] = (),
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
        self._clock = time.time if clock is None else clock
        self._decider = Decider(revocations, limits, adapt(extern_funcs or {}), checked_prefixes(prefixes))
        self._asks = revocations is not None
        self._patterns = patterns_of(answers)
        self._counts = dict.fromkeys(Outcome, 0)
        self._allowed = self._fast = 0
        self._replacing = Lock()
        self._token_facts = _names(token_facts)
        program = _program(policy, parameters, scope_parameters, self._token_facts)
        self._setup = Setup(_keys(keys), program, cache, limits, self._patterns)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "Guard":
        """Returns a guard by the environment, and by cap.toml for what it does not say.

        CAP_PUBLIC_KEY or CAP_KEYS, CAP_POLICY and CAP_STORE must be set in one of the two. The store is asked
        on every check; with CAP_MAX_STALE seconds a copy of it in memory is, by a thread of this process. In
        place of a store CAP_REVOCATIONS names a signed file, of CAP_REVOCATIONS_KEY and CAP_REVOCATIONS_NAME.
        With [audit] in cap.toml it is a RecordedGuard, by another thread: call this after a fork.
        Raises ConfigurationError, KeyFormatError, StoreError, and what the constructor raises.
        """
        from capability.settings import settings_from

        settings = settings_from(environment)
        if settings.audit is not None:
            from capability.recording import recorded_guard

            return recorded_guard(settings)
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
            self._setup = Setup(kept, program, setup.cache, self._decider.limits, self._patterns, chains)
        # decisions that were not read yet may hold the old setup for long, but not what it remembers
        setup.known.clear()
        if chains is None:
            setup.chains.clear()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What may stand before the text of a token."""
        return self._decider.prefixes

    @property
    def blocking(self) -> bool:
        """Whether a check may wait for a store: then an event loop must not make it in its own thread."""
        return self._decider.blocking

    def forget(self) -> None:
        """Empties the caches; what is asked next is verified and evaluated anew."""
        self._setup.forget()

    def stats(self) -> GuardStats:
        """Returns what was decided so far, in what time, and what is remembered."""
        setup = self._setup
        chains, decoded = setup.chains.stats()
        signature, revocation, evaluation = (nanoseconds / 1e9 for nanoseconds in self._decider.times)
        return GuardStats(
            outcomes=self._counts | {Outcome.ALLOWED: self._counts[Outcome.ALLOWED] + self._allowed},
            fast=self._fast + self._decider.fast,
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
        now = int(moment) if type(moment) is float and 0 <= moment <= DATE_MAX else seconds(moment)
        if not isinstance(token, TOKEN_TYPES):
            raise TypeError(f"argument 'token' must be str or bytes, not {type(token).__name__}")
        known = setup.known.get(token)
        values = (operation, application, resource, tenant)
        if not (request or facts):
            # never __class__, of which a value may say what it likes
            types = (type(operation), type(application), type(resource), type(tenant))
            if known is not None:
                decision = self._at_once(setup, token, known, types, values, now)
                if decision is not None:
                    return decision
            shape = keyword_shape(types)
            if shape is not None:
                requests = requests_of(dict(zip(KEYWORDS, values, strict=True)), ())
                return self._long(setup, token, known, Question(requests, types, shape, values), now)
        named = dict(zip(KEYWORDS, values, strict=True)) | request
        requests = requests_of(named, facts)
        if len(requests) > 1:
            return self._long(setup, token, known, Question(requests), now)
        single = sum(value is not None for value in named.values())
        return self._one(setup, token, known, requests[0], single, now)

    def form(
        self,
        *facts: tuple[str | type, ...],
        several: Iterable[tuple[str | type, ...]] = (),
    ) -> RequestForm:
        """Returns a form for requests of one kind, made once and asked often: the fastest way to ask.

        A fact is declared by its name and the types of its terms (str, int, bool, bytes). Each of `facts`
        comes once in a request, each of `several` any number of times, also none. The form goes on after
        `replace`. Raises TypeError and ValueError for what cannot be declared.

        >>> from capability.keys import KeyPair
        >>> guard = Guard(KeyPair().public_key, "allow if http_method($m), http_path_segment(0, $s)")
        >>> form = guard.form(("http_method", str), several=[("http_path_segment", int, str)])
        >>> form.check("no token", "GET", [(0, "orders"), (1, "7")]).outcome.value
        'invalid_token'
        """
        return RequestForm(self, declared(facts, several))

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

    def _at_once(
        self,
        setup: Setup,
        token: str | bytes,
        known: Known,
        key: object,
        values: tuple[Any, ...],
        now: int,
    ) -> Decision | None:
        """Decides without the engine, where that can be done: None where it cannot."""
        found = self._found(known, key, values, now)
        if found is None:
            return None
        form, status, age, derived = found
        self._fast += 1
        if not derived[1] and form.holds[derived[0]]:
            outcome = _ALLOWED
            self._allowed += 1
        else:
            outcome, derived = form.refusal(now, derived)
            self._counts[outcome] += 1
        return Decision.deferred(
            outcome,
            self._decider,
            (setup, token, form.shape, values, now, status, age, known, None, form, derived),
        )

    def _found(
        self, known: Known, key: object, values: tuple[Any, ...], now: int
    ) -> tuple[Form, RevocationStatus, float, Any] | None:
        """Returns what a prepared token says to a request, None where the engine must be asked.

        Beside it stand the form, and what the source of revocations said: that no id is revoked, and its age.
        """
        form = known.forms.get(key)
        if form is None or now >= known.valid_until:
            return None
        if self._asks:
            status, age = self._decider.cleared(known)
            if status is None:
                return None
        else:
            status, age = UNASKED, 0.0
        try:
            return form, status, age, form.run(form.table, now, *values)
        except (Unsure, MemoryError, RecursionError):
            return None

    def _one(
        self,
        setup: Setup,
        token: str | bytes,
        known: Known | None,
        request: tuple[Predicate, ...],
        single: int,
        now: int,
    ) -> Decision:
        """Decides one request of any facts, of which the first `single` are keywords."""
        apart = taken_apart(request, single)
        if apart is None:
            return self._long(setup, token, known, Question([request]), now)
        shape, values = apart
        decision = None if known is None else self._at_once(setup, token, known, shape, values, now)
        if decision is not None:
            return decision
        return self._long(setup, token, known, Question([request], shape, shape, values), now)

    def _long(
        self, setup: Setup, token: str | bytes, known: Known | None, question: Question, now: int
    ) -> Decision:
        decision = self._decider.decide(setup, token, question, now, known)
        self._counts[decision.outcome] += 1
        return decision


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
