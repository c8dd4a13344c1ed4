"""What expressions do beyond their operators: laziness, closures, scope, failures, extern functions."""

import sys

import pytest

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError, EvaluationReason, LimitExceeded
from capability.datalog.limits import Limits
from capability.datalog.origins import AUTHORIZER
from capability.datalog.parser import parse_check, parse_fact
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Closure,
    Expression,
    Op,
    Query,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import ARRAY, FALSE, INTEGER, MAX_DEPTH, STRING, TRUE, VARIABLE, Term
from tests.datalog import peer

_ZERO = EvaluationReason.DIVISION_BY_ZERO
_TYPE = EvaluationReason.INVALID_TYPE
_STACK = EvaluationReason.INVALID_STACK


def check(source: str, *facts: str, world: World | None = None) -> bool | EvaluationReason:
    """Returns what `check if source` says about `facts`, or why it failed."""
    world = world or World()
    for fact in facts:
        world.add_fact(parse_fact(fact), AUTHORIZER)
    world.run()
    return run(world, parse_check(f"check if {source}").queries[0])


def run(world: World, query: Query) -> bool | EvaluationReason:
    try:
        return world.matches(query, AUTHORIZER)
    except EvaluationError as error:
        return error.reason


def run_ops(*ops: Op) -> bool | EvaluationReason:
    return run(World(), Query((), (Expression(ops),)))


def number(value: int) -> Value:
    return Value((INTEGER, value))


_TRUE, _FALSE, _EMPTY = Value(TRUE), Value(FALSE), Value((ARRAY, ()))
_FAILS: tuple[Op, ...] = (number(1), number(0), Binary(BinaryKind.DIV))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("false && 1 / 0 == 1", False),
        ("true || 1 / 0 == 1", True),
        ("true && 1 / 0 == 1", _ZERO),
        ("false || 1 / 0 == 1", _ZERO),
        ("false &&! (1 / 0 == 1)", _ZERO),
        ("true ||! (1 / 0 == 1)", _ZERO),
        ("(false || 1) == 1", True),
        ("false || 1", _TYPE),
        ("true && 1", _TYPE),
        ("1", _TYPE),
        ('"true"', _TYPE),
        ("false, 1 / 0 == 1", False),
        ("1 / 0 == 1, false", _ZERO),
        ("[1, 0].any($x -> 1 / $x == 1)", True),
        ("[0, 1].any($x -> 1 / $x == 1)", _ZERO),
        ("{1, 0}.any($x -> 1 / $x == 1)", _ZERO),
        ("[1].any($x -> $x)", _TYPE),
        ("[].any($x -> $x)", False),
        ("[[1, 2], [3]].any($x -> $x.any($y -> $y == 3))", True),
        ("[1].any($x -> true) && [2].any($x -> true)", True),
        ("[1].any($x -> [2].any($x -> true))", EvaluationReason.SHADOWED_VARIABLE),
        ("[1].any($x -> [].any($x -> true))", EvaluationReason.SHADOWED_VARIABLE),
        ("false && [1].any($x -> [2].any($x -> true))", False),
        ("[].any($x -> [2].any($x -> true))", False),
        ("(1 / 0 == 1).try_or(true)", True),
        ("(1 === true).try_or(true)", True),
        ("[1].any($x -> [2].any($x -> true)).try_or(true)", True),
        ("true.try_or(1 / 0 == 1)", _ZERO),
        ("(true && 1 / 0 == 1).try_or(1) == 1", True),
        ("1.extern::missing().try_or(2) == 2", True),
        ("1.extern::missing() == 2", EvaluationReason.UNKNOWN_EXTERN),
    ],
)
def test_evaluation_agrees_with_the_rust_engine(source: str, expected: bool | EvaluationReason) -> None:
    assert check(source) == expected
    if "&&!" not in source and "||!" not in source:
        assert isinstance(peer.holds(source), str if isinstance(expected, EvaluationReason) else bool)


def test_a_parameter_shadows_every_variable_that_the_body_binds() -> None:
    shadowed = EvaluationReason.SHADOWED_VARIABLE
    assert check("p($x), [1].any($x -> true)", "p(1)") == shadowed
    assert check("p($x), [].any($x -> true)", "p(1)") == shadowed
    assert check("p($x), [1].any($x -> true)", "q(1)") is False, "it fails when it runs, not before"
    assert check("p($x), false && [1].any($x -> true)", "p(1)") is False


def test_a_closure_sees_the_variables_around_it() -> None:
    assert (
        check("p($x), [1, 2].all($y -> $y <= $x && [3].any($z -> $z == $x + $y || $x == 2))", "p(2)") is True
    )


def test_a_parameter_is_gone_after_its_closure() -> None:
    ops = (
        _EMPTY,
        Closure(("x",), (_TRUE,)),
        Binary(BinaryKind.ANY),
        Value((VARIABLE, "x")),
        Binary(BinaryKind.OR),
    )
    assert run_ops(*ops) == EvaluationReason.UNKNOWN_VARIABLE


def test_an_unknown_variable_fails_when_it_is_reached() -> None:
    unknown = Value((VARIABLE, "nobody"))
    assert run_ops(unknown) == EvaluationReason.UNKNOWN_VARIABLE
    assert run_ops(*_FAILS, unknown, Binary(BinaryKind.EQUAL)) == _ZERO
    assert run_ops(_FALSE, Closure((), (unknown,)), Binary(BinaryKind.LAZY_AND)) is False
    assert run_ops(Closure((), (unknown,)), _TRUE, Binary(BinaryKind.TRY_OR)) is True


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ((), _STACK),
        ((_TRUE, _TRUE), _STACK),
        ((Closure((), (_TRUE,)),), _STACK),
        ((Closure((), (_TRUE,)), Unary(UnaryKind.NEGATE)), _STACK),
        ((Closure((), (_TRUE,)), Unary(UnaryKind.PARENS)), _STACK),
        ((Unary(UnaryKind.NEGATE),), _STACK),
        ((_TRUE, Binary(BinaryKind.AND)), _STACK),
        ((Closure((), (_TRUE,)), Closure((), (_TRUE,)), Binary(BinaryKind.AND)), _STACK),
        ((_TRUE, Closure((), ()), Binary(BinaryKind.LAZY_AND)), _STACK),
        ((_FALSE, Closure((), ()), Binary(BinaryKind.LAZY_AND)), False),
        ((_TRUE, Closure((), (_TRUE,)), Binary(BinaryKind.AND)), _TYPE),
        ((_TRUE, _TRUE, Binary(BinaryKind.LAZY_AND)), _TYPE),
        ((_TRUE, _TRUE, Binary(BinaryKind.LAZY_OR)), _TYPE),
        ((_EMPTY, _TRUE, Binary(BinaryKind.ANY)), _TYPE),
        ((_EMPTY, Closure((), (_TRUE,)), Binary(BinaryKind.ANY)), _TYPE),
        ((_EMPTY, Closure(("a", "b"), (_TRUE,)), Binary(BinaryKind.ALL)), _TYPE),
        ((_EMPTY, Closure(("a", "a"), (_TRUE,)), Binary(BinaryKind.ALL)), _TYPE),
        ((_FALSE, Closure(("a",), (_TRUE,)), Binary(BinaryKind.LAZY_AND)), _TYPE),
        ((Closure(("a",), (_TRUE,)), _TRUE, Binary(BinaryKind.TRY_OR)), _TYPE),
        ((_TRUE, _TRUE, Binary(BinaryKind.TRY_OR)), _TYPE),
        # A closure may stand on either side, as in the Rust engine.
        ((_TRUE, Closure((), _FAILS), Binary(BinaryKind.TRY_OR)), True),
        ((Closure((), (_FALSE,)), _TRUE, Binary(BinaryKind.LAZY_AND)), False),
        ((_TRUE, _TRUE, Binary(BinaryKind.AND)), True),
        ((_TRUE, _FALSE, Binary(BinaryKind.OR)), True),
        ((_TRUE, number(1), Binary(BinaryKind.OR)), _TYPE),
    ],
)
def test_operations_that_no_source_compiles_to(
    ops: tuple[Op, ...], expected: bool | EvaluationReason
) -> None:
    """A token may bring any operations; each expectation was seen in the Rust engine."""
    assert run_ops(*ops) == expected


def _nested(depth: int) -> tuple[Op, ...]:
    ops: tuple[Op, ...] = (_TRUE,)
    for _ in range(depth):
        ops = (_TRUE, Closure((), ops), Binary(BinaryKind.LAZY_AND))
    return ops


def test_closures_nest_as_deep_as_terms_and_no_deeper() -> None:
    assert run_ops(*_nested(MAX_DEPTH)) is True
    assert run_ops(*_nested(MAX_DEPTH + 1)) == EvaluationReason.NESTING
    assert run_ops(*_nested(50 * sys.getrecursionlimit())) == EvaluationReason.NESTING


def test_a_long_expression_needs_no_stack() -> None:
    terms = 20 * sys.getrecursionlimit()
    sum_of_ones: tuple[Op, ...] = (
        number(1),
        *(op for _ in range(terms - 1) for op in (number(1), Binary(BinaryKind.ADD))),
    )
    assert run_ops(*sum_of_ones, number(terms), Binary(BinaryKind.EQUAL)) is True
    pushed_first: tuple[Op, ...] = (
        *(number(1) for _ in range(terms)),
        *(Binary(BinaryKind.ADD) for _ in range(terms - 1)),
    )
    assert run_ops(*pushed_first, number(terms), Binary(BinaryKind.EQUAL)) is True
    one_of_many: tuple[Op, ...] = (
        _FALSE,
        *(op for _ in range(terms) for op in (Closure((), (_FALSE,)), Binary(BinaryKind.LAZY_OR))),
    )
    assert run_ops(*one_of_many) is False


@pytest.mark.parametrize(
    "source",
    [
        '"a".matches("a**")',
        '("{0}" + "{0}").length() > 0',
    ],
)
def test_what_only_this_engine_refuses_cannot_be_caught(source: str) -> None:
    """Another engine may have a value there, so a fallback would be an answer that it does not give."""
    long = source.format("a" * 40_000)
    assert isinstance(check(long), EvaluationReason)
    assert check(f"({long}).try_or(true)") == check(long)


def test_a_limit_cannot_be_caught() -> None:
    world = World(Limits(max_steps=50))
    numbers = ", ".join(map(str, range(20)))
    source = f"check if ([{numbers}].all($x -> [{numbers}].all($y -> $x + $y >= 0))).try_or(true)"
    with pytest.raises(LimitExceeded):
        world.matches(parse_check(source).queries[0], AUTHORIZER)


def test_extern_functions() -> None:
    calls: list[tuple[Term, Term | None]] = []

    def double(left: Term, right: Term | None) -> Term:
        calls.append((left, right))
        return (INTEGER, 2 * left[1])

    world = World(externs={"double": double})
    assert check('2.extern::double() == 4 && 3.extern::double("a") == 6', world=world) is True
    assert calls == [((INTEGER, 2), None), ((INTEGER, 3), (STRING, "a"))]
    assert check("false && 1.extern::double() == 2", world=world) is False
    assert len(calls) == 2


def test_a_failing_extern_function_is_an_execution_error() -> None:
    def broken(_: Term, __: Term | None) -> Term:
        raise EvaluationError(
            EvaluationReason.EXTERN_FAILED, "Error while evaluating extern func broken: why"
        )

    world = World(externs={"broken": broken})
    assert check("1.extern::broken() == 1", world=world) == EvaluationReason.EXTERN_FAILED
    assert check("(1.extern::broken() == 1).try_or(true)", world=world) is True


def test_what_an_extern_function_returns_is_charged_for() -> None:
    world = World(Limits(max_steps=100), externs={"long": lambda _, __: (STRING, "a" * 64 * 200)})
    with pytest.raises(LimitExceeded):
        check('1.extern::long() == ""', world=world)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("9223372036854775807 + 1 == 0", "Overflow"),
        ("1 / 0 == 0", "Division by zero"),
        ("1 === true", "Invalid type"),
        ("[1].any($x -> [1].any($x -> true))", "Shadowed variable"),
        ("1.extern::missing() == 1", "Undefined extern func: missing"),
    ],
)
def test_messages_are_those_of_the_rust_engine(source: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=f"^{message}$"):
        World().matches(parse_check(f"check if {source}").queries[0], AUTHORIZER)
    assert peer.holds(source) == message
