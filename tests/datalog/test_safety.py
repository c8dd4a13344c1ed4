"""Range restriction: which variables of a rule or query are free, and which of them nothing binds."""

import pytest

from capability.datalog.program import (
    Binary,
    BinaryKind,
    Closure,
    Expression,
    Op,
    Predicate,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.safety import free_variables, unbound_variables
from capability.datalog.terms import INTEGER, VARIABLE


def var(name: str) -> Value:
    return Value((VARIABLE, name))


def predicate(*variables: str) -> Predicate:
    return Predicate("p", tuple((VARIABLE, name) for name in variables))


ADD, ANY, AND = (Binary(kind) for kind in (BinaryKind.ADD, BinaryKind.ANY, BinaryKind.LAZY_AND))


@pytest.mark.parametrize(
    ("ops", "free"),
    [
        ((var("y"), var("x"), ADD, var("y"), ADD), ("y", "x")),
        ((Value((INTEGER, 1)), Unary(UnaryKind.NEGATE)), ()),
        ((var("x"), Closure(("p",), (var("p"), var("q"), ADD)), ANY), ("x", "q")),
        ((var("x"), Closure(("p",), (var("p"),)), ANY, var("p"), ADD), ("x", "p")),
        (
            (var("x"), Closure(("p",), (var("p"), Closure(("q",), (var("p"), var("q"), ADD)), ANY)), ANY),
            ("x",),
        ),
        ((var("x"), Closure((), (var("y"),)), AND), ("x", "y")),
    ],
)
def test_a_closure_binds_its_parameters_and_only_within(ops: tuple[Op, ...], free: tuple[str, ...]) -> None:
    assert free_variables(Expression(ops)) == free


def test_deep_closures_do_not_recurse() -> None:
    ops: tuple[Op, ...] = (var("x"),)
    for _ in range(5_000):
        ops = (var("y"), Closure((), ops), AND)
    assert free_variables(Expression(ops)) == ("y", "x")


def test_the_body_must_bind_the_head_and_the_expressions() -> None:
    using = Expression((var("y"), var("z"), ADD))
    assert unbound_variables(predicate("x", "w"), [predicate("x", "y")], [using]) == ("w", "z")
    assert unbound_variables(None, [predicate("y"), predicate("z")], [using]) == ()
