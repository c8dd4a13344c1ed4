"""Small random programs that join, derive, distrust and fail often; and how the engine decides on them.

Names, constants and variables are few, so that predicates meet and variables are bound (or not) by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError
from capability.datalog.limits import Limits
from capability.datalog.origins import AUTHORIZER, block_origin, origin_blocks, trusted_origins
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyScope,
    Op,
    Policy,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    Scope,
    ScopeKind,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    BYTES,
    DATE,
    FALSE,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    NULL_TERM,
    STRING,
    TRUE,
    VARIABLE,
    Term,
    make_map,
    make_set,
)
from tests.reference.evaluator import Outcome

KEYS = (KeyScope(0, b"\x01" * 32), KeyScope(1, b"\x02" * 33))
Blocks = tuple[tuple[Program, KeyScope | None], ...]

LEAVES: tuple[Term, ...] = (
    (INTEGER, 0),
    (INTEGER, 1),
    (INTEGER, 2),
    (INTEGER, -3),
    (INTEGER, INTEGER_MAX),
    (INTEGER, INTEGER_MIN),
    (STRING, ""),
    (STRING, "a"),
    (STRING, "ab"),
    (STRING, "é"),
    (STRING, "("),
    (DATE, 1),
    (BYTES, b"a"),
    TRUE,
    FALSE,
    NULL_TERM,
    make_set([]),
    make_set([(INTEGER, 1), (INTEGER, 2)]),
    make_set([(STRING, "a"), (STRING, "é")]),
    make_set([TRUE]),
    (ARRAY, ()),
    (ARRAY, ((INTEGER, 1), (STRING, "a"))),
    (ARRAY, ((INTEGER, 1),)),
    make_map([]),
    make_map([((INTEGER, 1), TRUE), ((STRING, "a"), (INTEGER, 2))]),
)

_VARIABLES = ("x", "y", "z")
_SMALL: tuple[Term, ...] = ((INTEGER, 0), (INTEGER, 1), (INTEGER, 2), (STRING, "a"), TRUE)

constants = st.sampled_from(_SMALL)
variables = st.sampled_from([(VARIABLE, name) for name in _VARIABLES])
_names = st.sampled_from("pqr")
_closures = (BinaryKind.LAZY_AND, BinaryKind.LAZY_OR, BinaryKind.ANY, BinaryKind.ALL, BinaryKind.TRY_OR)
_plain = tuple(kind for kind in BinaryKind if kind not in _closures and kind is not BinaryKind.FFI)
_unary = tuple(kind for kind in UnaryKind if kind is not UnaryKind.FFI)


def predicates(terms: SearchStrategy[Term]) -> SearchStrategy[Predicate]:
    return st.builds(Predicate, _names, st.lists(terms, min_size=1, max_size=2).map(tuple))


def _postfix(children: SearchStrategy[tuple[Op, ...]]) -> SearchStrategy[tuple[Op, ...]]:
    def lazy(kind: BinaryKind, left: tuple[Op, ...], right: tuple[Op, ...], param: str) -> tuple[Op, ...]:
        if kind is BinaryKind.TRY_OR:
            return (Closure((), left), *right, Binary(kind))
        params = (param,) if kind in (BinaryKind.ANY, BinaryKind.ALL) else ()
        return (*left, Closure(params, right), Binary(kind))

    return st.one_of(
        st.builds(lambda kind, operand: (*operand, Unary(kind)), st.sampled_from(_unary), children),
        st.builds(
            lambda kind, left, right: (*left, *right, Binary(kind)),
            st.sampled_from(_plain),
            children,
            children,
        ),
        st.builds(lazy, st.sampled_from(_closures), children, children, st.sampled_from(["x", "v", "w"])),
    )


_leaf_terms = st.sampled_from(LEAVES) | variables | st.sampled_from([(VARIABLE, "v"), (VARIABLE, "w")])
operations: SearchStrategy[tuple[Op, ...]] = st.recursive(
    _leaf_terms.map(lambda term: (Value(term),)), _postfix, max_leaves=5
)
_comparisons: SearchStrategy[tuple[Op, ...]] = st.builds(
    lambda left, right, kind: (Value(left), Value(right), Binary(kind)),
    variables,
    variables | constants,
    st.sampled_from([BinaryKind.EQUAL, BinaryKind.NOT_EQUAL, BinaryKind.STRICT_EQUAL, BinaryKind.LESS_THAN]),
)
# Wild operations fail nearly always; mixed with comparisons, enough queries come to a decision.
expressions = st.builds(Expression, st.one_of(_comparisons, _comparisons, _comparisons, operations))

_SCOPES: tuple[Scope, ...] = (ScopeKind.AUTHORITY, ScopeKind.PREVIOUS, *KEYS)
scopes: SearchStrategy[tuple[Scope, ...]] = st.lists(st.sampled_from(_SCOPES), max_size=2).map(tuple)
_bodies = st.lists(predicates(variables | constants), max_size=3).map(tuple)
_conditions = st.one_of(st.just(()), st.just(()), st.lists(expressions, max_size=2).map(tuple))

queries = st.builds(Query, _bodies, _conditions, scopes)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    body = draw(_bodies)
    bound = sorted({term for predicate in body for term in predicate.terms if term[0] == VARIABLE})
    terms = constants | st.sampled_from(bound) if bound else constants
    return Rule(draw(predicates(terms)), body, draw(_conditions), draw(scopes))


def _some(strategy: SearchStrategy[object], most: int) -> SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


_alternatives = st.lists(queries, min_size=1, max_size=2).map(tuple)
_checks = st.builds(Check, st.sampled_from(CheckKind), _alternatives)
_policies = st.builds(
    Policy, st.sampled_from([PolicyKind.ALLOW, PolicyKind.ALLOW, PolicyKind.DENY]), _alternatives
)


def programs(policies: int) -> SearchStrategy[Program]:
    return st.builds(
        Program,
        scopes,
        _some(predicates(constants), 5),
        _some(rules(), 3),
        _some(_checks, 1),
        _some(_policies, policies),
    )


blocks: SearchStrategy[Blocks] = st.lists(
    st.tuples(programs(0), st.sampled_from([None, None, *KEYS])), max_size=3
).map(tuple)
authorizers = programs(3)


@dataclass(frozen=True)
class Run:
    """An outcome in the words of the reference, and how the engine got there."""

    outcome: Outcome
    steps: int
    iterations: int


def decide(blocks: Sequence[tuple[Program, KeyScope | None]], authorizer: Program, limits: Limits) -> Run:
    """Returns what the engine decides, in the order of the specification."""
    signed: dict[KeyScope, int] = {}
    for index, (_, key) in enumerate(blocks):
        if key is not None:
            signed[key] = signed.get(key, 0) | block_origin(index)
    world = World(limits)
    owners = [(AUTHORIZER, authorizer)]
    owners += [(block_origin(index), program) for index, (program, _) in enumerate(blocks)]

    def trusted(own: int, clause: Sequence[Scope], program: Program) -> int:
        return trusted_origins(clause, own, signed, program.scopes)

    def holds(kind: CheckKind, queries: Sequence[Query], own: int, program: Program) -> bool:
        match = world.matches_all if kind is CheckKind.ALL else world.matches
        return any(match(query, trusted(own, query.scopes, program)) for query in queries) != (
            kind is CheckKind.REJECT
        )

    def failing(own: int, program: Program) -> list[tuple[int | None, int]]:
        owner = origin_blocks(own)[0]
        return [
            (owner, index)
            for index, check in enumerate(program.checks)
            if not holds(check.kind, check.queries, own, program)
        ]

    try:
        for own, program in owners:
            for fact in program.facts:
                world.add_fact(fact, own)
            for rule in program.rules:
                world.add_rule(rule, own, trusted(own, rule.scopes, program))
        world.run()
        failed = [entry for own, program in owners[:2] for entry in failing(own, program)]
        policy = next(
            (
                index
                for index, candidate in enumerate(authorizer.policies)
                if holds(CheckKind.IF, candidate.queries, AUTHORIZER, authorizer)
            ),
            None,
        )
        failed += [entry for own, program in owners[2:] for entry in failing(own, program)]
    except EvaluationError:
        return Run(Outcome("error"), world.meter.steps, world.iterations)
    allowed = policy is not None and authorizer.policies[policy].kind is PolicyKind.ALLOW and not failed
    facts = frozenset((fact, frozenset(origin_blocks(origin))) for origin, fact in world.facts())
    outcome = Outcome("allowed" if allowed else "denied", policy, tuple(failed), facts)
    return Run(outcome, world.meter.steps, world.iterations)
