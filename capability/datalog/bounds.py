"""What the engine may come to with the largest request: an upper bound of its steps, facts and rounds.

The engine charges (engine.py, expressions.py) for each candidate of a join, each operation and each 64 bytes
that these touch. Here the same is added up for every binding that could be, whatever the request says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from capability.datalog.operators import term_size
from capability.datalog.plans import weight_of
from capability.datalog.program import Closure, Expression, Op, Predicate, Query, Rule, Value
from capability.datalog.terms import VARIABLE, Term

Signature: TypeAlias = tuple[str, int]

_PLACES: Final = 16
"""How many places of a row or a binding are looked at in one step."""


@dataclass(slots=True)
class Extent:
    """How large a relation may become: its rows, the bytes of its largest term, and what those add to each
    step.
    """

    rows: int = 0
    largest: int = 0
    weight: int = 0


@dataclass(slots=True)
class Bound:
    """Adds up what is evaluated, in the order in which it is."""

    steps: int
    facts: int
    rounds: int
    extents: dict[Signature, Extent]
    _changed: int = 0
    _indexes: int = 0
    _rules: list[int] = field(default_factory=list)

    def state(self, key: Signature, largest: int, rows: int = 1) -> None:
        """Counts more facts of the request, the terms of each of which take `largest` bytes in all."""
        extent = self._extent(key)
        self.steps += extent.rows  # a relation that a request adds to is copied, by the first of them
        extent.rows += rows
        extent.largest = max(extent.largest, largest)
        extent.weight = max(extent.weight, largest >> 6)
        self.facts += rows
        self._changed += rows

    def derive(self, rule: Rule) -> None:
        """Counts a rule that depends on the request: run once on what is known, then for each of its
        predicates on what is new.
        """
        once, bindings, weight, largest = self._work(Query(rule.body, rule.expressions), rule.head)
        length = len(rule.body)
        self.steps += once * (1 + length)
        self._rules.append(length * _plan_cost(rule.body))
        self._indexes += length * (1 + length)
        head = self._extent((rule.head.name, len(rule.head.terms)))
        self.steps += head.rows
        head.rows += bindings
        head.largest = max(head.largest, largest)
        head.weight = max(head.weight, weight)
        self.facts += bindings
        self._changed += bindings

    def query(self, query: Query, head: Predicate | None = None) -> None:
        """Counts one query of a check or policy, or with a `head` the facts that it tells."""
        self.steps += self._work(query, head)[0]

    def finish(self) -> None:
        """Counts what depends on the number of rules, after all of them."""
        self.rounds += 2 * len(self._rules) + 4
        self.steps += self.rounds * sum(self._rules) + self._changed * self._indexes

    def _extent(self, key: Signature) -> Extent:
        return self.extents.setdefault(key, Extent())

    def _work(self, query: Query, head: Predicate | None) -> tuple[int, int, int, int]:
        """Returns the steps of one pass, its bindings, what sizes add to a step, and the largest term."""
        constants = list(_constants(query, head))
        extents = [self._extent((atom.name, len(atom.terms))) for atom in query.body]
        largest = max([*map(term_size, constants), *(extent.largest for extent in extents)], default=0)
        weight = weight_of(constants) + max((extent.weight for extent in extents), default=0)
        bindings = 1
        for extent in extents:
            bindings *= max(1, extent.rows)
        length = len(query.body)
        places = 2 + len(constants) + 2 * sum(1 + len(atom.terms) for atom in query.body)
        wide = 1 + places // _PLACES
        # each predicate: a candidate and a look-up for each binding, and an index of its rows
        joined = length * bindings * wide * (2 * (1 + weight) + 2)
        operations = sum(1 + _count(expression.ops) for expression in query.expressions)
        evaluated = bindings * operations * (2 + (2 * largest >> 6))
        made = bindings * (len(head.terms) // _PLACES) if head is not None else 0
        return joined + evaluated + made + _plan_cost(query.body), bindings, weight, largest


def _plan_cost(body: Sequence[Predicate]) -> int:
    return len(body) + sum(len(atom.terms) for atom in body) // _PLACES


def _constants(query: Query, head: Predicate | None) -> Iterable[Term]:
    for atom in (*query.body, *([head] if head is not None else [])):
        yield from (term for term in atom.terms if term[0] != VARIABLE)
    for expression in query.expressions:
        yield from _values(expression)


def _values(expression: Expression) -> Iterable[Term]:
    waiting: list[Op] = list(expression.ops)
    while waiting:
        op = waiting.pop()
        if isinstance(op, Closure):
            waiting += op.ops
        elif isinstance(op, Value) and op.term[0] != VARIABLE:
            yield op.term


def _count(ops: Sequence[Op]) -> int:
    return sum(2 + _count(op.ops) if isinstance(op, Closure) else 1 for op in ops)
