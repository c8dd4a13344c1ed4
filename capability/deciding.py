"""The long way to a decision, by the engine: for what was not seen before, and for who asks why.

In this order: text, format and signatures; revocation; evaluation. Whatever cannot be told is not allowed:
what goes wrong here, in a source of revocations or in an extern function too, is an outcome and not raised.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from capability.answers import Row, told
from capability.attenuation import DEFAULT_VOCABULARY
from capability.authorization import Evaluation, Plan, authorization_error, decide
from capability.authorizer import loaded_blocks
from capability.datalog.errors import EvaluationError, LimitExceeded
from capability.datalog.limits import Limits, Meter
from capability.datalog.operators import ExternFunction
from capability.datalog.program import Predicate
from capability.datalog.shapes import NotYet, Unsure
from capability.datalog.terms import DATE
from capability.decision import Decision, Outcome
from capability.errors import BiscuitValidationError, FormatError, StoreError, StoreUnavailable
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.prefixes import split_prefix
from capability.remembered import Form, Known, Setup, about
from capability.request import RequestShape
from capability.revocation import (
    AgedSource,
    RevisedSource,
    RevocationIds,
    RevocationSource,
    RevocationStatus,
    StandingSource,
    key_mark,
)
from capability.tokens import Biscuit
from capability.wire import envelope as wire
from capability.wire.envelope import Envelope
from capability.wire.text import PREFIX, from_text

UNASKED: Final = RevocationStatus(None, 0)
"""What stands for the word of a source where there is none."""
_UNCLEAR: Final = (None, 0.0)

_TIME: Final = DEFAULT_VOCABULARY.time
_MAX_TEXT: Final = len(PREFIX) + (wire.MAX_BYTES + 2) // 3 * 4
_JUDGED: Final = frozenset({Outcome.ALLOWED, Outcome.DENIED, Outcome.EXPIRED})
"""What can be prepared for: what ran into an error or a limit would do so again."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a token: requests, all of which must be allowed.

    For a single one that has a `shape`, these are its `values`, and `form` is the key under which a token
    made ready for it is remembered.
    """

    requests: Sequence[tuple[Predicate, ...]]
    form: object = None
    shape: RequestShape | None = None
    values: tuple[Any, ...] = ()


class Decider:
    """Decides for one guard: asks its source of revocations, and runs the engine under its limits."""

    __slots__ = ("_externs", "_revocations", "_standing", "fast", "limits", "prefixes", "times")

    def __init__(
        self,
        revocations: RevocationSource | None,
        limits: Limits,
        externs: Mapping[str, ExternFunction],
        prefixes: tuple[str, ...],
    ) -> None:
        self._revocations = revocations
        self._standing = _standing(revocations)
        self._externs = externs
        self.prefixes = prefixes
        self.limits = limits
        self.fast = 0
        """How many decisions needed no evaluation, of tokens that were never seen but like others."""
        self.times = [0, 0, 0]
        """Nanoseconds for signatures, for revocation, and for evaluation."""

    @property
    def blocking(self) -> bool:
        """Whether the source of revocations may take its time."""
        return self._revocations is not None and not getattr(self._revocations, "in_memory", False)

    def cleared(self, known: Known) -> tuple[RevocationStatus | None, float]:
        """Returns the word of the source that no id of a known chain is revoked, None if there is none.

        Beside it stands how old it is, in seconds. Only where there is a source.
        """
        revocations, standing = self._revocations, self._standing
        assert revocations is not None
        status = known.cleared
        try:
            if standing is None:
                status = revocations.status(known.ids)
                age = status.age
            else:
                revision, age = standing()
                if status is None or status.revision != revision:
                    status = known.cleared = revocations.status(known.ids)
                    age = status.age
            return (status, age) if status.revoked_id is None else _UNCLEAR
        except Exception:  # whatever it is, the long way asks again, and says what is wrong
            return _UNCLEAR

    def decide(
        self, setup: Setup, token: str | bytes, question: Question, now: int, known: Known | None
    ) -> Decision:
        """Decides by the engine; `known` is what is remembered of the token, None if it was never seen."""
        return self._guarded(setup, token, question, now, known, self.limits, None)

    def brief(
        self,
        name: str,
        setup: Setup,
        token: str | bytes,
        shape: RequestShape,
        values: tuple[Any, ...],
        now: int,
        status: RevocationStatus,
        age: float,
        known: Known,
        biscuit: Biscuit | None,
        form: Form | None,
        derived: Any,
    ) -> Any:
        """Returns a field of a deferred decision that needs no evaluation."""
        match name:
            case "revocation_ids":
                return _hex(known.ids)
            case "answers":
                return setup.patterns.select(derived) if form is None else form.answers(derived)
            case "decided_at":
                return datetime.fromtimestamp(now, UTC)
            case "limits":
                return self.limits
            case "revocation_revision":
                return None if status is UNASKED else status.revision
            case "revocation_age":
                return None if status is UNASKED else age
        if known.about is None:
            moment = datetime.fromtimestamp(now, UTC)
            known.about = about(biscuit or self._load(setup, token, moment)[0])
        return getattr(known.about, name)

    def full(
        self,
        setup: Setup,
        token: str | bytes,
        shape: RequestShape,
        values: tuple[Any, ...],
        now: int,
        status: RevocationStatus,
        *_: Any,
    ) -> Decision:
        """Returns a deferred decision in full.

        Without a deadline: no request of its form takes more than the steps that are allowed, and what was
        decided in time must not become a limit reached because someone asks for the reason on a busy day.
        """
        question = Question([shape.predicates(values)])
        return self._guarded(setup, token, question, now, None, replace(self.limits, max_time=None), status)

    def _load(self, setup: Setup, token: str | bytes, now: datetime) -> tuple[Biscuit, float]:
        """Returns the verified token, and until when its root key is one; raises BiscuitValidationError."""
        envelope = _envelope(token, self.prefixes)
        root, valid_until = _root(setup.keys, envelope.root_key_id, now)
        return setup.chains.load(envelope, root), valid_until

    def _guarded(
        self,
        setup: Setup,
        token: str | bytes,
        question: Question,
        now: int,
        known: Known | None,
        limits: Limits,
        status: RevocationStatus | None,
    ) -> Decision:
        try:
            return self._decide(setup, token, question, now, known, limits, status)
        except (MemoryError, RecursionError) as error:
            # they come from an extern function, or from a machine that has no room left
            return Decision(
                outcome=Outcome.EXECUTION_ERROR,
                code="execution",
                reason=f"execution failed: {type(error).__name__}",
                error=f"Datalog  execution failure: {type(error).__name__}",
                limits=self.limits,
                decided_at=datetime.fromtimestamp(now, UTC),
            )

    def _decide(
        self,
        setup: Setup,
        token: str | bytes,
        question: Question,
        now: int,
        known: Known | None,
        limits: Limits,
        status: RevocationStatus | None,
    ) -> Decision:
        """Decides; with `status`, which the source answered then, once more: and then nothing is kept."""
        again = status is not None
        biscuit: Biscuit | None = None
        moment = datetime.fromtimestamp(now, UTC)
        made: dict[str, Any] = {"limits": self.limits, "decided_at": moment}
        started = time.perf_counter_ns()
        base = None if known is None or now >= known.valid_until else known.base
        if known is None or base is None:
            try:
                biscuit, valid_until = self._load(setup, token, moment)
                plan = Plan(loaded_blocks(biscuit), setup.program)
                ids = RevocationIds((*biscuit.canonical_revocation_ids, _mark(biscuit.root_key)))
            except BiscuitValidationError as error:
                return Decision(
                    outcome=Outcome.INVALID_TOKEN, code=error.code, reason=f"invalid token: {error}", **made
                )
            finally:
                self.times[0] += time.perf_counter_ns() - started
            told_of = Known(ids, valid_until) if known is None else known
        else:
            told_of, plan = known, base.plan
        asked = time.perf_counter_ns()
        if status is None:
            try:
                status = UNASKED if self._revocations is None else self._revocations.status(told_of.ids)
            except Exception as error:  # what cannot be asked has not said that nothing is revoked
                down = error if isinstance(error, StoreError) else StoreUnavailable(type(error).__name__)
                return Decision(
                    outcome=Outcome.STORE_UNAVAILABLE,
                    code=down.code,
                    reason=f"the store of revocations cannot answer: {down}",
                    **made,
                    **_told(told_of, biscuit),
                )
            finally:
                self.times[1] += time.perf_counter_ns() - asked
        if status is not UNASKED:
            made |= {"revocation_revision": status.revision, "revocation_age": status.age}
            if status.revoked_id is not None:
                made |= _told(told_of, biscuit)
                return _revoked(status.revoked_id, status.reason, told_of.ids[:-1], made)
        looked = time.perf_counter_ns()
        if known is None and not again:
            decision = self._alike(setup, token, question, now, status, told_of, plan, biscuit)
            if decision is not None:
                self.times[2] += time.perf_counter_ns() - looked
                return decision
        if base is None:
            evaluation = Evaluation(plan, limits, self._externs)
            evaluation.try_run()
            meter = evaluation.world.meter
        else:
            evaluation, meter = base, None
        rows = (
            None
            if question.shape is None or self._externs
            else self._allowed(setup, evaluation, question, now, meter)
        )
        if rows is not None:
            decision = Decision.deferred(
                Outcome.ALLOWED,
                self,
                (
                    setup,
                    token,
                    question.shape,
                    question.values,
                    now,
                    status,
                    status.age,
                    told_of,
                    biscuit,
                    None,
                    rows,
                ),
            )
        else:
            decision = self._judged(setup, evaluation, question, now, meter)
            decision = replace(decision, **made, **_told(told_of, biscuit))
        self.times[2] += time.perf_counter_ns() - looked
        if again:
            return decision
        if known is None:
            setup.remember(token, told_of)
        elif decision.outcome in _JUDGED:
            self._prepare(setup, token, question, known, evaluation, biscuit)
        return decision

    def _alike(
        self,
        setup: Setup,
        token: str | bytes,
        question: Question,
        now: int,
        status: RevocationStatus,
        known: Known,
        plan: Plan,
        biscuit: Biscuit | None,
    ) -> Decision | None:
        """Decides about a token that was never seen as those that are like it, None where that cannot be."""
        if question.shape is None or setup.cache.max_tokens < 2 or self._externs:
            return None
        try:
            form = setup.prepare_at_once(plan, question.shape)
            if form is None:
                return None
            outcome, derived = form.decide(now, question.values)
        except (NotYet, Unsure):
            return None
        known.forms[question.form] = form
        setup.remember(token, known)
        self.fast += 1
        return Decision.deferred(
            outcome,
            self,
            (
                setup,
                token,
                question.shape,
                question.values,
                now,
                status,
                status.age,
                known,
                biscuit,
                form,
                derived,
            ),
        )

    def _prepare(
        self,
        setup: Setup,
        token: str | bytes,
        question: Question,
        known: Known,
        evaluation: Evaluation,
        biscuit: Biscuit | None,
    ) -> None:
        """Makes a token that was seen before ready for the next time."""
        if known.about is None and biscuit is not None:
            known.about = about(biscuit)
        if question.shape is not None and known.wants(question.form):
            try:
                form = known.forms[question.form] = setup.prepare(evaluation.plan, question.shape)
                if form is not None:
                    if form.size:
                        setup.remember(token, known)
                    return
            except NotYet:
                return
        # extern functions are called for each decision, not once for all
        if known.base is None and not self._externs:
            known.base = evaluation
            setup.remember(token, known)

    def _allowed(
        self, setup: Setup, evaluation: Evaluation, question: Question, now: int, meter: Meter | None
    ) -> list[Row] | None:
        """Returns what an allow answers, None for what is no allow; without the rest of a decision."""
        fork = _fork(evaluation, meter)
        try:
            fork.run(_stated(question.requests[0], now))
            return told(fork, setup.patterns.signatures) if fork.judge().allowed else None
        except (EvaluationError, LimitExceeded):
            return None

    def _judged(
        self, setup: Setup, evaluation: Evaluation, question: Question, now: int, meter: Meter | None
    ) -> Decision:
        """Returns the first decision that is no allow, or one that speaks for all."""
        decisions = []
        rows: list[Row] = []
        for request in question.requests:
            fork = _fork(evaluation, meter)
            decision = decide(fork, _stated(request, now))
            if not decision.allowed:
                return decision
            try:
                rows += told(fork, setup.patterns.signatures)
            except (EvaluationError, LimitExceeded) as error:
                failed = authorization_error(error).decision
                assert failed is not None
                return replace(failed, request=decision.request, steps=fork.world.meter.steps)
            decisions.append(decision)
            meter = fork.world.meter
        stated = dict.fromkeys(fact for decision in decisions for fact in decision.request)
        assert meter is not None
        return replace(
            decisions[0], request=tuple(stated), steps=meter.steps, answers=setup.patterns.select(rows)
        )


def _standing(source: RevocationSource | None) -> Callable[[], tuple[int, float]] | None:
    """Returns what tells the revision and the age of a source, None for one that cannot."""
    if isinstance(source, StandingSource):
        return source.standing
    if isinstance(source, AgedSource):
        revision, age = source.revision, source.age
        return lambda: (revision(), age())
    if isinstance(source, RevisedSource):
        revised = source.revision
        return lambda: (revised(), 0.0)
    return None


def _fork(evaluation: Evaluation, meter: Meter | None) -> Evaluation:
    """Returns a copy to decide one request in, that goes on with the steps and the deadline of `meter`.

    INVARIANT: all requests of one call have one deadline and one budget of steps.
    """
    fork = evaluation.fork()
    if meter is not None:
        fork.world.meter.follow(meter)
    return fork


def _told(known: Known, biscuit: Biscuit | None) -> dict[str, Any]:
    """Returns what a decision says of the token."""
    if known.about is None and biscuit is not None:
        known.about = about(biscuit)
    assert known.about is not None
    return {**known.about._asdict(), "revocation_ids": _hex(known.ids)}


def _hex(ids: Sequence[bytes]) -> tuple[str, ...]:
    """Returns the ids of the blocks as a decision has them, without the root key's mark."""
    return tuple([identifier.hex() for identifier in ids[:-1]])


@lru_cache(maxsize=256)
def _mark(root: PublicKey) -> bytes:
    return key_mark(repr(root))


def _stated(request: tuple[Predicate, ...], now: int) -> tuple[Predicate, ...]:
    """Returns all that is stated for a request: its facts, and the time."""
    return (*request, Predicate(_TIME, ((DATE, now),)))


def _revoked(
    revoked: bytes, reason: str | None, revocation_ids: Sequence[bytes], made: dict[str, Any]
) -> Decision:
    block = revocation_ids.index(revoked) if revoked in revocation_ids else None
    where = reason or ("its root key" if block is None else f"block {block}")
    return Decision(
        outcome=Outcome.REVOKED,
        code=Outcome.REVOKED.value,
        reason=f"revoked: {where} ({revoked.hex()[:16]}...)",
        revoked_id=revoked.hex(),
        **made,
    )


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
