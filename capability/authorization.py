"""How a request is decided: facts and rules to the fixpoint, then checks, policies, checks.

The order is the format's: rules; the authorizer's checks; those of the authority; the policies, of which the
first that matches counts; the checks of the other blocks. Every failed check is collected, and policies are
tried even so; the first error ends it all. Each statement sees only the facts whose whole origin it trusts
(`capability.datalog.origins`).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError, LimitExceeded
from capability.datalog.limits import Limits
from capability.datalog.operators import ExternFunction
from capability.datalog.origins import AUTHORIZER, block_origin, trusted_origins
from capability.datalog.printer import (
    escape_for_display,
    print_check,
    print_policy,
    print_predicate,
    print_rule,
)
from capability.datalog.program import (
    Check,
    CheckKind,
    KeyScope,
    Policy,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    Scope,
)
from capability.datalog.safety import unbound_variables
from capability.decision import Decision, FailedCheck, MatchedPolicy, Outcome, denial_text
from capability.errors import AuthorizationError, ExecutionFailed, LanguageError, LimitReached
from capability.explanation import Situation, expired, explain, explain_no_match
from capability.wire.snapshot import LoadedBlock

POLICY_NAMES: Final = {PolicyKind.ALLOW: "allow", PolicyKind.DENY: "deny"}
EXPLAINED: Final = 8
"""How many failed checks are explained; a token may hold thousands."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed check with what is needed to say why: its block (None: the authorizer) and itself."""

    block: int | None
    index: int
    check: Check

    def describe(self, why: str = "") -> FailedCheck:
        """Returns the failure as callers see it."""
        return FailedCheck(self.block, self.index, print_check(self.check), why)


@dataclass(frozen=True, slots=True)
class Match:
    """The policy that matched first, and its place among the policies."""

    index: int
    policy: Policy

    def describe(self) -> MatchedPolicy:
        """Returns the match as callers see it."""
        return MatchedPolicy(POLICY_NAMES[self.policy.kind], self.index, print_policy(self.policy))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checks and policies said: the policy that matched first, and every check that failed."""

    policy: Match | None
    failures: tuple[Failure, ...]

    @property
    def allowed(self) -> bool:
        """True when an allow policy matched and no check failed."""
        allows = self.policy is not None and self.policy.policy.kind is PolicyKind.ALLOW
        return allows and not self.failures


class Plan:
    """What is put together for one decision: the blocks of a token and an authorizer's program.

    Immutable. It knows whom each statement trusts.
    """

    __slots__ = ("_signed_blocks", "blocks", "program")

    def __init__(self, blocks: Sequence[LoadedBlock], program: Program) -> None:
        """`program` is the authorizer's. Raises LanguageError for a rule whose head no body binds."""
        self.blocks = tuple(blocks)
        self.program = program
        self._signed_blocks: dict[KeyScope, int] = {}
        for index, block in enumerate(self.blocks):
            refuse_unbound_heads(block.program.rules)
            if block.external_key is not None:
                signed = self._signed_blocks.get(block.external_key, 0)
                self._signed_blocks[block.external_key] = signed | block_origin(index)
        refuse_unbound_heads(program.rules)

    def programs(self) -> Iterator[tuple[int | None, Program]]:
        """Yields each block's index and program; the authorizer's comes last, under None."""
        for index, block in enumerate(self.blocks):
            yield index, block.program
        yield None, self.program

    def trusted(self, scopes: Sequence[Scope], block: int | None) -> int:
        """Returns what a statement with the clause `scopes` trusts in `block` (None: the authorizer)."""
        program = self.program if block is None else self.blocks[block].program
        return trusted_origins(scopes, own_origin(block), self._signed_blocks, program.scopes)

    def trusted_by(self, queries: Iterable[Query], block: int | None) -> list[int]:
        """Returns what each query of a check or policy in `block` trusts."""
        return [self.trusted(query.scopes, block) for query in queries]

    def heads(self) -> list[Predicate]:
        """Returns what the rules of all blocks, and the authorizer's, derive."""
        return [rule.head for _, program in self.programs() for rule in program.rules]

    @property
    def everything(self) -> int:
        """The origin of a fact that depends on every block and on the authorizer."""
        return block_origin(len(self.blocks)) - 1


class Evaluation:
    """One world: a plan, run under limits.

    The token's and the authorizer's own facts and rules are run first, those of the request after them,
    in a `fork`; so the first part can be kept, and the steps that it took are charged again each time.
    """

    __slots__ = ("_failure", "_pending", "limits", "plan", "request", "world")

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        externs: Mapping[str, ExternFunction] | None = None,
        clock: Callable[[], float] = time.monotonic,
        known: Sequence[tuple[int, Predicate]] = (),
    ) -> None:
        """`clock` is for the deadline of `limits`, which begins now; `known` are facts of an earlier run."""
        self.plan = plan
        self.limits = limits
        self.world = World(limits, externs, clock)
        self.request: tuple[Predicate, ...] = ()
        self._pending: Sequence[tuple[int, Predicate]] | None = known
        self._failure: EvaluationError | LimitExceeded | None = None

    def fork(self) -> "Evaluation":
        """Returns a copy that goes on from here, with a deadline of its own."""
        copy = Evaluation.__new__(Evaluation)
        copy.plan = self.plan
        copy.limits = self.limits
        copy.world = self.world.fork()
        copy.request = self.request
        copy._pending = self._pending
        copy._failure = self._failure
        return copy

    @property
    def failed(self) -> bool:
        """Whether a run failed, so that the world holds half of the facts."""
        return self._failure is not None

    def run(self, request: Sequence[Predicate] = ()) -> None:
        """Runs the rules to the fixpoint, then again with the facts of `request`, stated by the authorizer.

        Raises EvaluationError and LimitExceeded.
        """
        # INVARIANT: a world that failed stays failed; run again, it would go on from half a fixpoint.
        if self._failure is not None:
            raise self._failure
        try:
            if self._pending is not None:
                self._state(self._pending)
                self._pending = None
            self.world.run()
            if request:
                self.request += tuple(request)
                for fact in request:
                    self.world.add_fact(fact, AUTHORIZER)
                self.world.run()
        except (EvaluationError, LimitExceeded) as error:
            self._failure = error
            raise

    def try_run(self) -> None:
        """Runs the rules; an error is kept, for every later `run` to raise, here and in forks."""
        with suppress(EvaluationError, LimitExceeded):
            self.run()

    def judge(self) -> Verdict:
        """Returns what checks and policies say, after `run`; raises EvaluationError and LimitExceeded."""
        plan = self.plan
        failures = self._failures(None, plan.program.checks)
        if plan.blocks:
            failures += self._failures(0, plan.blocks[0].program.checks)
        policy = self._matching_policy()
        for index, block in enumerate(plan.blocks[1:], start=1):
            failures += self._failures(index, block.program.checks)
        return Verdict(policy, tuple(failures))

    def query(self, rule: Rule) -> list[Predicate]:
        """Returns the facts that `rule` derives from what the authorizer trusts; nothing is added."""
        return self._query(rule, self.plan.trusted(rule.scopes, None))

    def query_all(self, rule: Rule) -> list[Predicate]:
        """Returns the facts that `rule` derives from every block, trusted or not."""
        return self._query(rule, self.plan.everything)

    def _query(self, rule: Rule, trusted: int) -> list[Predicate]:
        derived = self.world.query(rule, AUTHORIZER, trusted)
        return list(dict.fromkeys(fact for fact, _ in derived))

    def _state(self, known: Sequence[tuple[int, Predicate]]) -> None:
        for block, program in self.plan.programs():
            origin = own_origin(block)
            for fact in program.facts:
                self.world.add_fact(fact, origin)
            for rule in program.rules:
                self.world.add_rule(rule, origin, self.plan.trusted(rule.scopes, block))
        for origin, fact in known:
            self.world.add_fact(fact, origin)

    def _failures(self, block: int | None, checks: Sequence[Check]) -> list[Failure]:
        return [
            Failure(block, index, check)
            for index, check in enumerate(checks)
            if not self._holds(check, block)
        ]

    def _holds(self, check: Check, block: int | None) -> bool:
        if check.kind is CheckKind.REJECT:
            return not self._any_matches(check.queries, block)
        if check.kind is CheckKind.IF:
            return self._any_matches(check.queries, block)
        return any(
            self.world.matches_all(query, self.plan.trusted(query.scopes, block)) for query in check.queries
        )

    def _any_matches(self, queries: Sequence[Query], block: int | None) -> bool:
        return any(self.world.matches(query, self.plan.trusted(query.scopes, block)) for query in queries)

    def _matching_policy(self) -> Match | None:
        for index, policy in enumerate(self.plan.program.policies):
            if self._any_matches(policy.queries, None):
                return Match(index, policy)
        return None


def allows(evaluation: Evaluation, request: Sequence[Predicate]) -> bool:
    """Returns whether `decide` allows `request`, without the rest of a decision."""
    try:
        evaluation.run(request)
        return evaluation.judge().allowed
    except (EvaluationError, LimitExceeded):
        return False


def decide(evaluation: Evaluation, request: Sequence[Predicate] = ()) -> Decision:
    """Returns the decision of `evaluation` about `request`; what goes wrong is in it, not raised."""
    try:
        evaluation.run(request)
        decision = _judged(evaluation, evaluation.judge())
    except (EvaluationError, LimitExceeded) as error:
        decision = _failed(error)
    world = evaluation.world
    return replace(
        decision,
        request=tuple(print_predicate(fact) for fact in evaluation.request),
        limits=evaluation.limits,
        facts=world.fact_count,
        iterations=world.iterations,
        steps=world.meter.steps,
    )


def authorization_error(error: EvaluationError | LimitExceeded) -> AuthorizationError:
    """Returns the error that callers of an authorizer know `error` by."""
    decision = _failed(error)
    kind = ExecutionFailed if isinstance(error, EvaluationError) else LimitReached
    return kind(decision.error, code=error.code, decision=decision)


def _failed(error: EvaluationError | LimitExceeded) -> Decision:
    if isinstance(error, EvaluationError):
        return Decision(
            outcome=Outcome.EXECUTION_ERROR,
            code=error.code,
            reason=f"execution failed: {error}",
            error=f"Datalog  execution failure: {error}",
        )
    return Decision(
        outcome=Outcome.LIMIT_REACHED,
        code=error.code,
        reason=f"limit reached: {error}",
        error="Reached Datalog execution limits",
    )


def _judged(evaluation: Evaluation, verdict: Verdict) -> Decision:
    policy = None if verdict.policy is None else verdict.policy.describe()
    if policy is not None and verdict.allowed:
        reason = f"allowed by policy {policy.index}: {escape_for_display(policy.source)}"
        return Decision(outcome=Outcome.ALLOWED, code="allowed", reason=reason, policy=policy)
    plan = evaluation.plan
    situation = Situation(evaluation.world.facts(), plan.heads())
    failed = tuple(
        failure.describe(
            explain(failure.check, plan.trusted_by(failure.check.queries, failure.block), situation)
            if at < EXPLAINED
            else ""
        )
        for at, failure in enumerate(verdict.failures)
    )
    late = all(expired(failure.check, situation) for failure in verdict.failures)
    over = late and bool(failed) and policy is not None and policy.kind == "allow"
    outcome = Outcome.EXPIRED if over else Outcome.DENIED
    return Decision(
        outcome=outcome,
        code=outcome.value,
        reason=_reason(_policy_reason(plan, policy, situation), failed),
        error=denial_text(policy, failed),
        policy=policy,
        failed_checks=failed,
    )


def _policy_reason(plan: Plan, policy: MatchedPolicy | None, situation: Situation) -> str:
    if policy is not None:
        source = escape_for_display(policy.source)
        return f"denied by policy {policy.index}: {source}" if policy.kind == "deny" else ""
    for index, each in enumerate(plan.program.policies):
        if each.kind is PolicyKind.ALLOW:
            why = explain_no_match(each.queries, plan.trusted_by(each.queries, None), situation)
            return f"no policy matched (policy {index}: {why})"
    return "no policy matched"


def _reason(policy: str, failed: Sequence[FailedCheck]) -> str:
    reasons = [policy] if policy else []
    if failed:
        first = failed[0]
        where = "the authorizer" if first.block is None else f"block {first.block}"
        source = escape_for_display(first.source)
        reasons.append(f"check {first.index} of {where} failed: {source} ({first.why})")
    if len(failed) > 1:
        reasons.append(f"{len(failed) - 1} more failed")
    return "; ".join(reasons)


def own_origin(block: int | None) -> int:
    """Returns the origin of block `block` alone; None is the authorizer."""
    return AUTHORIZER if block is None else block_origin(block)


def refuse_unbound_heads(rules: Iterable[Rule]) -> None:
    """Raises LanguageError for a rule whose head has a variable that its body does not bind.

    The parser refuses them, so such a rule came by wire.
    """
    for rule in rules:
        if unbound_variables(rule.head, rule.body, ()):
            raise LanguageError(
                "authorization failed: a rule provided by a block is producing a fact with unbound variables:"
                f" {print_rule(rule)}"
            )
