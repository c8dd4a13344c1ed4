"""Shapes: rules and queries with their constants lifted out.

Tokens of one issuer differ in their constants, seldom in their structure. Code is generated for a
structure, and runs with the constants of the token at hand, so that a million tokens share a few pieces of
code.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from capability.datalog.program import Closure, Expression, Op, Predicate, Query, Value
from capability.datalog.terms import ARRAY, BOOL, INTEGER, MAP, SET, VARIABLE, Term

SLOT: Final = -1
"""The kind of a lifted constant: `(SLOT, (index, type))`."""

ScalarType: TypeAlias = int
StaticType: TypeAlias = tuple[int, int | None]
"""The kind of a value, and for sets the kind of its members (None: an empty set)."""


def static_type(term: Term) -> StaticType:
    """Returns what is known of a constant from its type alone."""
    kind, value = term
    if kind == SET and value:
        return (SET, value[0][0])
    return (kind, None)


def scalar(kind: int | None) -> bool:
    """Returns whether values of this kind are compared by Python as the language compares them."""
    return kind is not None and INTEGER <= kind <= BOOL


def raw_value(term: Term) -> Any:
    """Returns a constant as generated code wants it:
    a scalar bare, a set of scalars as a frozenset of bare values.
    """
    kind, value = term
    if kind == SET:
        return frozenset(member for _, member in value)
    if kind in (ARRAY, MAP):
        return value
    return value


@dataclass(slots=True)
class Lifter:
    """Replaces constants by slots and collects them in order."""

    constants: list[Term]

    def term(self, term: Term) -> Term:
        if term[0] == VARIABLE:
            return term
        self.constants.append(term)
        return (SLOT, (len(self.constants) - 1, static_type(term)))

    def predicate(self, predicate: Predicate) -> Predicate:
        return Predicate(predicate.name, tuple(map(self.term, predicate.terms)))

    def ops(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        lifted: list[Op] = []
        for op in ops:
            match op:
                case Value(term):
                    lifted.append(Value(self.term(term)))
                case Closure(params, inner):
                    lifted.append(Closure(params, self.ops(inner)))
                case _:
                    lifted.append(op)
        return tuple(lifted)

    def query(self, query: Query) -> Query:
        return Query(
            tuple(map(self.predicate, query.body)),
            tuple(Expression(self.ops(expression.ops)) for expression in query.expressions),
        )
