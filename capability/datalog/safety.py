"""What makes Datalog safe to run: variables bound, expressions well formed, nothing nested too deep."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from capability.datalog.errors import UnsafeRule
from capability.datalog.program import Binary, Closure, Expression, Op, Predicate, Query, Rule, Unary, Value
from capability.datalog.terms import VARIABLE

MAX_CLOSURE_DEPTH: Final = 16
"""How deeply closures may nest, in source and on the wire; each is a level of recursion when it runs."""


def variables(predicate: Predicate) -> Iterator[str]:
    """Yields the names of a predicate's variables, in order, with repetitions."""
    return (value for kind, value in predicate.terms if kind == VARIABLE)


def free_variables(expression: Expression) -> tuple[str, ...]:
    """Returns the variables that an expression takes from outside, each once, in order of first use."""
    found: dict[str, None] = {}
    pending: list[tuple[Iterator[Op], frozenset[str]]] = [(iter(expression.ops), frozenset())]
    while pending:
        ops, bound = pending[-1]
        op = next(ops, None)
        if op is None:
            pending.pop()
        elif isinstance(op, Closure):
            pending.append((iter(op.ops), bound.union(op.params)))
        elif isinstance(op, Value) and op.term[0] == VARIABLE and op.term[1] not in bound:
            found[op.term[1]] = None
    return tuple(found)


def unbound_variables(
    head: Predicate | None, body: Iterable[Predicate], expressions: Iterable[Expression]
) -> tuple[str, ...]:
    """Returns the variables of `head` and `expressions` that no predicate of `body` binds, each once."""
    bound = {name for predicate in body for name in variables(predicate)}
    used = dict.fromkeys(variables(head) if head is not None else ())
    for expression in expressions:
        used.update(dict.fromkeys(free_variables(expression)))
    return tuple(name for name in used if name not in bound)


def check_safety(item: Rule | Query) -> None:
    """Raises UnsafeRule when a variable of the head or of an expression is bound by no predicate of the body.

    Such a rule could derive facts that hold variables, and such an expression has nothing to work on.
    """
    head = item.head if isinstance(item, Rule) else None
    unbound = unbound_variables(head, item.body, item.expressions)
    if unbound:
        names = ", ".join(f"${name}" for name in unbound)
        raise UnsafeRule(f"no predicate of the body binds {names}")


def check_stack(expression: Expression) -> None:
    """Raises ValueError unless the operations, and those of each closure in them, leave exactly one value.

    Closures nested more than MAX_CLOSURE_DEPTH deep are refused too. What the operands are is not looked at:
    a closure where a value should be is an error of its own kind, when the expression runs.
    """
    pending: list[tuple[Sequence[Op], int]] = [(expression.ops, 0)]
    while pending:
        ops, depth = pending.pop()
        if depth > MAX_CLOSURE_DEPTH:
            raise ValueError(f"closures are nested more than {MAX_CLOSURE_DEPTH} deep")
        height = 0
        for op in ops:
            if isinstance(op, Closure):
                pending.append((op.ops, depth + 1))
            needed = 1 if isinstance(op, Unary) else 2 if isinstance(op, Binary) else 0
            if height < needed:
                raise ValueError("an operation of an expression lacks an operand")
            height += 1 - needed
        if height != 1:
            raise ValueError(f"an expression leaves {height} values, not one")
