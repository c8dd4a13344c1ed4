"""Shapes: rules and queries with their constants lifted out.

Tokens of one issuer differ in their constants, seldom in their structure. Code is generated for a
structure, and runs with the constants of the token at hand, so that a million tokens share a few pieces of
code.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from capability.datalog.program import Closure, Expression, Op, Predicate, Query, Value
from capability.datalog.terms import BOOL, INTEGER, SET, VARIABLE, Term

SLOT: Final = -1
"""The kind of a lifted constant: `(SLOT, (index, type))`."""

_SHARED_SIZE: Final = 256
"""Up to which size, in bytes, equal sets are one object."""
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
    if kind != SET:
        return value
    # many tokens name the same few operations and applications; large sets are not kept for others
    small = sum(len(member) if isinstance(member, str | bytes) else 8 for _, member in value) <= _SHARED_SIZE
    return _shared_members(value) if small else _members(value)


def _members(members: tuple[Term, ...]) -> frozenset[Any]:
    return frozenset(value for _, value in members)


_shared_members = lru_cache(4096)(_members)


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

    def constants_of(self, query: Query) -> list[Term]:
        """Returns the constants of `query` in the order in which they are lifted."""
        self.query(query)
        return self.constants
