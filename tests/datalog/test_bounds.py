"""Where a residual decides, the engine could not have reached a limit, whatever the request says."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capability.authorization import Evaluation, Plan
from capability.datalog.bounds import Bound
from capability.datalog.errors import DatalogError
from capability.datalog.limits import GUARD_LIMITS, Limits
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.preparation import MAX_REQUEST_TEXT
from capability.datalog.program import KeyScope, Predicate, Program
from capability.datalog.residual import Residuals
from capability.datalog.shapes import RequestFact
from capability.datalog.terms import DATE, INTEGER, STRING, Term
from capability.wire.snapshot import LoadedBlock
from tests.datalog import programs

LARGE = Limits(max_facts=10**6, max_iterations=10**6, max_steps=10**9)
FORMS = (RequestFact("p", (STRING,)), RequestFact("q", (INTEGER, STRING)), RequestFact("r", (INTEGER,)))
_residuals = Residuals(LARGE, eager_shapes=10**9)
_bounded: list[int] = []
"""The bounds of the cases that had a residual."""


def assert_within(
    bound: Bound,
    blocks: Sequence[tuple[Program, KeyScope | None]],
    authorizer: Program,
    request: Sequence[Predicate],
) -> None:
    evaluation = Evaluation(Plan([LoadedBlock(*block) for block in blocks], authorizer), LARGE)
    evaluation.try_run()
    evaluation = evaluation.fork()
    with suppress(DatalogError):
        evaluation.run(request)
        evaluation.judge()
    world = evaluation.world
    assert world.meter.steps <= bound.steps
    assert world.fact_count <= bound.facts
    assert world.iterations <= bound.rounds


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(
    programs.blocks,
    programs.authorizers,
    st.sampled_from(["", "a", "a" * MAX_REQUEST_TEXT]),
    st.sampled_from([0, 1, 2]),
)
def _random_programs_stay_within(
    blocks: programs.Blocks, authorizer: Program, text: str, number: int
) -> None:
    residual = _residuals.prepare(blocks, authorizer, FORMS)
    if residual is None:
        return
    string: Term = (STRING, text)
    integer: Term = (INTEGER, number)
    request = (Predicate("p", (string,)), Predicate("q", (integer, string)), Predicate("r", (integer,)))
    assert_within(residual.bound, blocks, authorizer, request)
    _bounded.append(residual.bound.steps)


def test_random_programs() -> None:
    _bounded.clear()
    _random_programs_stay_within()
    assert len(_bounded) > 50


LONG = "x" * 20_000
NUMBERS = "; ".join(f"n({number}, {number + 1})" for number in range(12))
WIDE = ", ".join(str(number) for number in range(60))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(f'a("{LONG}"); check if operation($o), a($x), $o.starts_with($x)', id="a long fact"),
        pytest.param(
            f'a("{LONG}"); a("b"); b("{LONG}"); check if operation($o), a($x), b($x), $x != $o',
            id="long joins",
        ),
        pytest.param(f'check if operation($o), "{LONG}".contains($o)', id="a long constant"),
        pytest.param(f'check if operation($o), $o != "{LONG}" or operation("{LONG}")', id="two of them"),
        pytest.param(
            f'd($o, "{LONG}") <- operation($o); e($x) <- d($o, $x); check if e($x), $x != "y"',
            id="a long constant that is handed on",
        ),
        pytest.param(f"{NUMBERS}; check if operation($o), n($a, $b), n($b, $c), n($c, $d)", id="joins"),
        pytest.param(
            f"{NUMBERS}; d($o, $a) <- operation($o), n($a, $b); check if d($o, $a), n($a, $b), $a != $b",
            id="a rule",
        ),
        pytest.param(
            'operation("list"); operation("drop"); d($o) <- operation($o); e($a, $b) <- d($a), d($b);'
            " f($a) <- e($a, $b), operation($b); check all f($a), $a != 'none'".replace("'", '"'),
            id="rules on rules",
        ),
        pytest.param(f"w({WIDE}); check if operation($o), w({WIDE})", id="a wide fact"),
        pytest.param(
            f"w({WIDE}); d($o, {WIDE}) <- operation($o), w({WIDE}); check if d($o, {WIDE})", id="a wide head"
        ),
        pytest.param(
            f"{NUMBERS}; {'; '.join(f'r{n}($o, $a) <- r{n + 1}($o, $a)' for n in range(40))};"
            " r40($o, $a) <- operation($o), n($a, $b); check if r0($o, $a)",
            id="a long chain of rules",
        ),
        pytest.param(
            "n(1); r0($a) <- n($a); r0($a) <- operation($a);"
            f"{'; '.join(f'r{n + 1}($a) <- r{n}($a)' for n in range(40))}; check if r40($a)",
            id="a chain that begins without the request",
        ),
        pytest.param("check if " + " or ".join(f'operation("o{n}")' for n in range(12)), id="alternatives"),
    ],
)
def test_large_programs(source: str) -> None:
    blocks = [(parse_block(source), None)]
    policy = parse_program("allow if true")
    forms = (RequestFact("time", (DATE,)), RequestFact("operation", (STRING,)))
    residual = _residuals.prepare(blocks, policy, forms)
    assert residual is not None
    for text in ("read", "a" * MAX_REQUEST_TEXT):
        request = (Predicate("operation", ((STRING, text),)), Predicate("time", ((DATE, 1),)))
        assert_within(residual.bound, blocks, policy, request)


def test_what_services_ask_is_well_within_the_limits() -> None:
    """A bound that is far too high would leave everything to the engine."""
    roles = "; ".join(f'right("role-{role}", "{name}")' for role in range(5) for name in ("read", "write"))
    policy = parse_program(
        f"{roles}; allow if role($r), right($r, $o), operation($o), application($a), resource($p),"
        ' $p.starts_with("/orders/")'
    )
    block = parse_block(
        'check all operation($o), {"read", "write"}.contains($o); check all application($a), $a == "orders";'
        ' check all resource($r), $r == "/a" || $r.starts_with("/a/"); check all time($t), $t <='
        " 2030-01-01T00:00:00Z"
    )
    authority = parse_block('user("alice"); role("role-1"); role("role-2")')
    names = ("operation", "application", "resource", "tenant")
    forms = (RequestFact("time", (DATE,)), *(RequestFact(name, (STRING,)) for name in names))
    blocks = [(authority, None), *[(block, None)] * 9]
    residual = Residuals(GUARD_LIMITS).prepare(blocks, policy, forms)
    assert residual is not None
    assert residual.bound.steps < GUARD_LIMITS.max_steps / 2
