"""The semantics of authorization, written to be read beside the specification, not to be fast.

Everything is naive: every round derives from all facts with all rules, every predicate is compared with every
fact, origins are sets of blocks (the authorizer is None). It shares data types with the package and nothing
else, so that a mistake in the engine is not a mistake here too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from capability.datalog.program import (
    BinaryKind,
    CheckKind,
    Closure,
    Expression,
    KeyScope,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    Scope,
    ScopeKind,
    Unary,
    Value,
)
from capability.datalog.terms import Term
from tests.reference.operators import ARRAY, BOOL, MAP, SET, VARIABLE, Failure, binary, boolean, need, unary

Origin = frozenset[int | None]
Fact = tuple[Predicate, Origin]
Bindings = dict[str, Term]


@dataclass(frozen=True)
class Outcome:
    """`decision` is "allowed", "denied" or "error"; checks are (block, index), the authorizer being None."""

    decision: str
    policy: int | None = None
    failed: tuple[tuple[int | None, int], ...] = ()
    world: frozenset[Fact] = frozenset()


def authorize(blocks: Sequence[tuple[Program, KeyScope | None]], authorizer: Program) -> Outcome:
    """Returns what the authorizer decides about a token of `blocks` (programs and external keys)."""
    programs: list[tuple[int | None, Program]] = [
        (index, program) for index, (program, _) in enumerate(blocks)
    ]
    everyone = [(None, authorizer), *programs]

    def trusted(owner: int | None, scopes: Sequence[Scope], program: Program) -> Origin:
        clause: Sequence[Scope] = scopes or program.scopes or [ScopeKind.AUTHORITY]
        blocks_named: set[int | None] = {owner, None}
        for scope in clause:
            if scope is ScopeKind.AUTHORITY:
                blocks_named.add(0)
            elif scope is ScopeKind.PREVIOUS:
                blocks_named.update(range(owner or 0))
            else:
                blocks_named.update(index for index, (_, key) in enumerate(blocks) if key == scope)
        return frozenset(blocks_named)

    facts = {(fact, frozenset({owner})) for owner, program in everyone for fact in program.facts}
    try:
        while True:
            derived = {
                (substitute(rule.head, bindings), origin | {owner})
                for owner, program in everyone
                for rule in program.rules
                for bindings, origin in matching(rule, facts, trusted(owner, rule.scopes, program))
                if satisfied(rule, bindings)
            }
            if derived <= facts:
                break
            facts |= derived

        def passes(kind: CheckKind, query: Query, visible: Origin) -> bool:
            results = [satisfied(query, bindings) for bindings, _ in matching(query, facts, visible)]
            return bool(results) and (all(results) if kind is CheckKind.ALL else any(results))

        def holds(kind: CheckKind, queries: Sequence[Query], owner: int | None, program: Program) -> bool:
            any_passes = any(passes(kind, query, trusted(owner, query.scopes, program)) for query in queries)
            return any_passes != (kind is CheckKind.REJECT)

        failed: list[tuple[int | None, int]] = []
        for owner, program in everyone:
            for index, check in enumerate(program.checks):
                if not holds(check.kind, check.queries, owner, program):
                    failed.append((owner, index))
        policy = None
        for index, candidate in enumerate(authorizer.policies):
            if holds(CheckKind.IF, candidate.queries, None, authorizer):
                policy = index
                break
    except Failure:
        return Outcome("error")
    allowed = policy is not None and authorizer.policies[policy].kind is PolicyKind.ALLOW and not failed
    return Outcome("allowed" if allowed else "denied", policy, tuple(failed), frozenset(facts))


def matching(query: Query | Rule, facts: set[Fact], visible: Origin) -> Iterator[tuple[Bindings, Origin]]:
    """Yields every way to match the body with facts whose origins are within `visible`."""
    partial: list[tuple[Bindings, Origin]] = [({}, frozenset())]
    for predicate in query.body:
        partial = [
            (extended, origin | fact_origin)
            for bindings, origin in partial
            for fact, fact_origin in facts
            if fact_origin <= visible and (extended := unify(predicate, fact, bindings)) is not None
        ]
    yield from partial


def unify(predicate: Predicate, fact: Predicate, bindings: Bindings) -> Bindings | None:
    if predicate.name != fact.name or len(predicate.terms) != len(fact.terms):
        return None
    extended = dict(bindings)
    for term, value in zip(predicate.terms, fact.terms, strict=True):
        wanted = extended.setdefault(term[1], value) if term[0] == VARIABLE else term
        if wanted != value:
            return None
    return extended


def substitute(head: Predicate, bindings: Bindings) -> Predicate:
    terms = (bindings[term[1]] if term[0] == VARIABLE else term for term in head.terms)
    return Predicate(head.name, tuple(terms))


def satisfied(query: Query | Rule, bindings: Bindings) -> bool:
    """Returns whether all expressions are true, in order; a false one ends it, a failing one raises."""
    return all(boolean(evaluate(expression, bindings)) for expression in query.expressions)


def evaluate(expression: Expression | Closure, bindings: Mapping[str, Term]) -> Term:
    stack: list[Term | Closure] = []
    for op in expression.ops:
        if isinstance(op, Closure):
            stack.append(op)
        elif isinstance(op, Value):
            if op.term[0] == VARIABLE and op.term[1] not in bindings:
                raise Failure("unknown variable")
            stack.append(bindings[op.term[1]] if op.term[0] == VARIABLE else op.term)
        elif isinstance(op, Unary):
            operand = pop(stack)
            if isinstance(operand, Closure):
                raise Failure("closure as a value")
            stack.append(unary(op.kind, operand))
        else:
            right, left = pop(stack), pop(stack)
            if isinstance(left, Closure) and not isinstance(right, Closure):
                left, right = right, left
            if isinstance(left, Closure):
                raise Failure("two closures")
            if isinstance(right, Closure):
                stack.append(with_closure(op.kind, left, right, bindings))
            else:
                stack.append(binary(op.kind, left, right))
    if len(stack) != 1 or isinstance(stack[0], Closure):
        raise Failure("not one value")
    return stack[0]


def pop(stack: list[Term | Closure]) -> Term | Closure:
    if not stack:
        raise Failure("empty stack")
    return stack.pop()


def with_closure(kind: BinaryKind, left: Term, closure: Closure, bindings: Mapping[str, Term]) -> Term:
    if set(closure.params) & set(bindings):
        raise Failure("shadowed variable")
    if kind in (BinaryKind.ANY, BinaryKind.ALL) and len(closure.params) == 1:
        members = need(left, SET, ARRAY, MAP)[1]
        results = (
            boolean(
                evaluate(closure, {**bindings, closure.params[0]: (ARRAY, item) if left[0] == MAP else item})
            )
            for item in members
        )
        return (BOOL, any(results) if kind is BinaryKind.ANY else all(results))
    if closure.params:
        raise Failure("parameters")
    if kind is BinaryKind.LAZY_AND:
        return evaluate(closure, bindings) if boolean(left) else left
    if kind is BinaryKind.LAZY_OR:
        return left if boolean(left) else evaluate(closure, bindings)
    if kind is BinaryKind.TRY_OR:
        try:
            return evaluate(closure, bindings)
        except Failure:
            return left
    raise Failure("a closure where a value is wanted")
