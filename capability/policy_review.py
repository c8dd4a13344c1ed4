"""What is wrong with a policy, told when a guard is built rather than at the first request.

What is certain and leaves nothing to allow is an error, the rest are warnings. A token may state any
predicate; so that nothing supplies one can only be told by who names what tokens and requests state.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from capability.attenuation import DEFAULT_VOCABULARY, NAMED
from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError, LimitExceeded, PolicyError, UnsafeRule
from capability.datalog.limits import Limits
from capability.datalog.printer import print_check, print_policy, print_predicate, print_rule
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    Op,
    Policy,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.safety import free_variables, unbound_variables
from capability.datalog.terms import FALSE, TRUE

Signature: TypeAlias = tuple[str, int]
Statement: TypeAlias = Rule | Check | Policy

REQUEST_FACTS: Final = frozenset(getattr(DEFAULT_VOCABULARY, kind) for kind in NAMED)
"""The facts by which a guard describes a request, each with one term."""

_ALIKE: Final = 0.85
"""From which likeness on, as difflib measures it, a name is taken for another one misspelt; or when both have
the same letters.
"""
_LIMITS: Final = Limits(max_steps=10_000)


class PolicyWarning(UserWarning):
    """A part of a policy that has no effect, or probably not the one that was meant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a policy: a stable `code`, the statement as Datalog, and what is the matter with it."""

    code: str
    statement: str
    message: str

    def __str__(self) -> str:
        return f"{self.message}: {self.statement}"


def review_policy(program: Program, token_facts: Collection[str] | None = None) -> list[Finding]:
    """Returns what a guard warns about.

    `token_facts` are the names of all facts that tokens and requests may state, beside those of
    REQUEST_FACTS; None when they are not known. Raises UnsafeRule for a variable that no predicate binds, and
    PolicyError for a policy by which no request could ever be allowed, unless it says no more than `deny if
    true`.
    """
    for statement, item in _statements(program):
        head = item.head if isinstance(item, Rule) else None
        unbound = unbound_variables(head, item.body, item.expressions)
        if unbound:
            names = ", ".join(f"${name}" for name in unbound)
            raise UnsafeRule(f"no predicate of the body binds {names}: {_text(statement)}")
    return _Review(program, token_facts).findings()


def _statements(program: Program) -> Iterator[tuple[Statement, Rule | Query]]:
    """Yields each statement that has variables with each of its queries."""
    yield from ((rule, rule) for rule in program.rules)
    clauses: tuple[Check | Policy, ...] = (*program.checks, *program.policies)
    for statement in clauses:
        yield from ((statement, query) for query in statement.queries)


def _text(statement: Statement) -> str:
    match statement:
        case Rule():
            return print_rule(statement)
        case Check():
            return print_check(statement)
        case Policy():
            return print_policy(statement)


class _Review:
    """One policy, with what may hold in it."""

    def __init__(self, program: Program, token_facts: Collection[str] | None) -> None:
        self._program = program
        self._token_facts = token_facts
        self._findings: list[Finding] = []
        self._supplied = {_signature(fact) for fact in program.facts}
        self._supplied |= {(name, 1) for name in REQUEST_FACTS}
        self._idle = self._rules_that_never_fire()
        self._heads = {_signature(rule.head) for rule in program.rules}

    def findings(self) -> list[Finding]:
        for rule in self._idle:
            self._look(rule, [Query(rule.body, rule.expressions)], "this rule never fires")
        for rule in self._program.rules:
            if rule not in self._idle:
                self._look(rule, [Query(rule.body, rule.expressions)], None)
        for check in self._program.checks:
            self._check(check)
        self._policies(self._program.policies)
        return list(dict.fromkeys(self._findings))

    def _rules_that_never_fire(self) -> list[Rule]:
        waiting = [rule for rule in self._program.rules if not _contradicts(rule.expressions)]
        growing = True
        while growing:
            growing = False
            for rule in list(waiting):
                if all(self._may_hold(atom) for atom in rule.body):
                    self._supplied.add(_signature(rule.head))
                    waiting.remove(rule)
                    growing = True
        return [rule for rule in self._program.rules if rule in waiting or _contradicts(rule.expressions)]

    def _may_hold(self, atom: Predicate) -> bool:
        """Returns whether there may be such a fact, as far as is known for certain."""
        if _signature(atom) in self._supplied:
            return True
        return self._token_facts is None or atom.name in self._token_facts

    def _may_match(self, query: Query) -> bool:
        return not _contradicts(query.expressions) and all(map(self._may_hold, query.body))

    def _check(self, check: Check) -> None:
        if check.kind is CheckKind.REJECT:
            if any(map(_always_matches, check.queries)):
                raise PolicyError(
                    f"nothing could ever be allowed, as this check always rejects: {print_check(check)}"
                )
            if not any(map(self._may_match, check.queries)):
                self._look(check, check.queries, "this check never rejects anything")
                return
        elif not any(map(self._may_match, check.queries)):
            why = self._missing(check.queries)
            raise PolicyError(
                f"nothing could ever be allowed, as this check never holds{why}: {print_check(check)}"
            )
        self._look(check, check.queries, None)

    def _policies(self, policies: Sequence[Policy]) -> None:
        final: int | None = None
        allows = False
        for index, policy in enumerate(policies):
            if final is not None:
                message = f"policy {index} is never reached, as policy {final} always matches"
                self._add("policy.unreachable", policy, message)
                continue
            if any(map(self._may_match, policy.queries)):
                allows |= policy.kind is PolicyKind.ALLOW
                self._look(policy, policy.queries, None)
            else:
                self._look(policy, policy.queries, f"policy {index} never matches")
            if any(map(_always_matches, policy.queries)):
                final = index
        locked = final is not None and all(policy.kind is PolicyKind.DENY for policy in policies)
        if not allows and not locked:
            queries = [
                query for policy in policies if policy.kind is PolicyKind.ALLOW for query in policy.queries
            ]
            why = self._missing(queries) if queries else ": it has no allow policy"
            raise PolicyError(f"nothing could ever be allowed by this policy{why}")

    def _missing(self, queries: Sequence[Query]) -> str:
        """Returns what `queries` lack, to be put after a sentence."""
        names = dict.fromkeys(
            print_predicate(atom) for query in queries for atom in query.body if not self._may_hold(atom)
        )
        return f", for nothing supplies {', '.join(names)}" if names else ""

    def _look(self, statement: Statement, queries: Sequence[Query], idle: str | None) -> None:
        """Notes that a statement has no effect (`idle` says so), or which of its parts have none."""
        before = len(self._findings)
        for query in queries:
            for atom in query.body:
                self._look_at_atom(statement, atom)
        if idle is not None:
            self._add("policy.no_effect", statement, idle + self._missing(queries))
        elif len(queries) > 1 and before == len(self._findings):
            for number, query in enumerate(queries):
                if not self._may_match(query):
                    self._add("policy.no_effect", statement, f"alternative {number} never matches")

    def _look_at_atom(self, statement: Statement, atom: Predicate) -> None:
        name, arity = key = _signature(atom)
        if key in self._supplied or (self._token_facts is not None and name in self._token_facts):
            return
        if self._token_facts is not None:
            self._add("policy.unsupplied", statement, f"nothing supplies {print_predicate(atom)}")
        elif name in REQUEST_FACTS:
            message = f"a request states {name}(...) with 1 term, and {print_predicate(atom)} has {arity}"
            self._add("policy.unsupplied", statement, message)
        elif key in self._heads:
            self._add(
                "policy.unsupplied", statement, f"no rule that derives {print_predicate(atom)} ever fires"
            )
        elif (other := self._similar(name)) is not None:
            self._add(
                "policy.misspelt", statement, f"{print_predicate(atom)} looks like {other}(...) misspelt"
            )

    def _similar(self, name: str) -> str | None:
        own = {other for other, _ in self._supplied | self._heads}
        if name in own:
            return None  # with other terms, which a token may state
        from difflib import get_close_matches

        candidates = sorted(other for other in own if other[:1] == name[:1])
        alike = [other for other in candidates if sorted(other) == sorted(name)]
        for other in alike + get_close_matches(name, candidates, n=3, cutoff=_ALIKE):
            if other in REQUEST_FACTS or name.rstrip("s") != other.rstrip("s"):
                return other
        return None

    def _add(self, code: str, statement: Statement, message: str) -> None:
        self._findings.append(Finding(code, _text(statement), message))


def _signature(predicate: Predicate) -> Signature:
    return (predicate.name, len(predicate.terms))


def _always_matches(query: Query) -> bool:
    return not query.body and all(_constant(expression) is True for expression in query.expressions)


def _contradicts(expressions: Sequence[Expression]) -> bool:
    """Returns whether one of `expressions` is false whatever is asked."""
    return any(_constant(expression) is False for expression in expressions)


def _constant(expression: Expression) -> bool | None:
    """Returns what an expression is that depends on nothing, None when it cannot be told."""
    if expression.ops in _KNOWN:
        return _KNOWN[expression.ops]
    if free_variables(expression) or _calls_out(expression.ops):
        return None
    try:
        return World(_LIMITS).matches(Query((), (expression,)), 0)
    except (EvaluationError, LimitExceeded):
        return None


_KNOWN: Final[dict[tuple[Op, ...], bool]] = {(Value(TRUE),): True, (Value(FALSE),): False}


def _calls_out(ops: Sequence[Op]) -> bool:
    """Returns whether an extern function is called, which is never known beforehand."""
    return any(
        _calls_out(op.ops)
        if isinstance(op, Closure)
        else (isinstance(op, Unary) and op.kind is UnaryKind.FFI)
        or (isinstance(op, Binary) and op.kind is BinaryKind.FFI)
        for op in ops
    )
