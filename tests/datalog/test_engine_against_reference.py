"""The engine and the naive evaluator decide alike: outcome, failed checks, policy, facts, origins."""

from collections import Counter

from hypothesis import HealthCheck, given, settings

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError
from capability.datalog.limits import Limits
from capability.datalog.origins import AUTHORITY
from capability.datalog.program import Expression, Op, Predicate, Program, Query
from tests.datalog import programs
from tests.datalog.programs import decide
from tests.reference.evaluator import authorize, evaluate
from tests.reference.operators import Failure, boolean

_LIMITS = Limits(max_steps=10_000_000)
_SETTINGS = settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
_seen: Counter[str] = Counter()


@_SETTINGS
@given(programs.blocks, programs.authorizers)
def _agree(blocks: programs.Blocks, authorizer: Program) -> None:
    expected = authorize(blocks, authorizer)
    assert decide(blocks, authorizer, _LIMITS).outcome == expected
    _seen[expected.decision] += 1


def test_random_programs_are_decided_as_by_the_reference() -> None:
    _seen.clear()
    _agree()
    assert min(_seen[decision] for decision in ("allowed", "denied", "error")) > 10, _seen


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(programs.operations)
def test_random_expressions_have_the_value_of_the_reference(ops: tuple[Op, ...]) -> None:
    expression = Expression(ops)
    try:
        expected = boolean(evaluate(expression, {}))
    except Failure:
        expected = None
    try:
        actual = World(_LIMITS).matches(Query((), (expression,)), AUTHORITY)
    except EvaluationError:
        actual = None
    assert actual is expected


def _world_facts(world: World) -> list[tuple[int, Predicate]] | None:
    try:
        world.run()
    except EvaluationError:
        return None
    return world.facts()


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(programs.programs(0), programs.programs(0))
def test_facts_and_rules_added_later_derive_what_they_would_have_derived_at_once(
    token: Program, request: Program
) -> None:
    together, base = World(_LIMITS), World(_LIMITS)
    for program, worlds in ((token, (together, base)), (request, (together,))):
        for world in worlds:
            _add(world, program)
    if _world_facts(base) is None:
        return
    before = base.facts()
    fork, other = base.fork(), base.fork()
    _add(fork, request)
    assert _world_facts(fork) == _world_facts(together)
    assert _world_facts(base) == _world_facts(other) == before


def _add(world: World, program: Program) -> None:
    for fact in program.facts:
        world.add_fact(fact, AUTHORITY)
    for rule in program.rules:
        world.add_rule(rule, AUTHORITY, AUTHORITY)
