"""Range restriction: every variable of a head or an expression must be bound by a predicate of the body."""

from collections.abc import Iterable, Iterator

from capability.datalog.program import Closure, Expression, Op, Predicate, Value
from capability.datalog.terms import VARIABLE


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
