"""Rules and queries as plans: in which order predicates are joined, and where each value is found.

A plan is made for the *shape* of a rule: its constants are lifted out, its variables are numbered. So rules
that differ only in constants share one plan, whoever wrote them. A binding is one flat tuple: the Context,
the constants, then the rows that were joined, one after the other; every variable and constant has its
place in it, and joining one more row is one concatenation.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, reduce
from operator import itemgetter, or_
from typing import Any, TypeAlias

from capability.datalog.errors import UnsafeRule
from capability.datalog.expressions import Evaluator, Operation, OpShape, compile_expression
from capability.datalog.immutable import immutable
from capability.datalog.operators import term_size
from capability.datalog.program import Closure, Op, Predicate, Query, Rule, Value
from capability.datalog.relations import Columns, RelationKey
from capability.datalog.terms import ARRAY, BYTES, MAP, MAX_DEPTH, PARAMETER, SET, STRING, VARIABLE, Term

Binding: TypeAlias = tuple[Any, ...]
Getter: TypeAlias = Callable[[Binding], Any]

_MAX_CACHED_SIZE = 256
_MAX_COMPILED = 4096
_MAX_ORDERED_BODY = 24
"""Longer bodies are joined in source order: looking for the best one takes quadratic time."""
_WIDE = 4
"""What touches more than 16 places of a binding or a row costs a step for each 16 of them."""


@immutable
class PredicateShape:
    """A name and, for each term, variable number n as n or constant number k as ~k."""

    name: str
    terms: tuple[int, ...]


@immutable
class Shape:
    """A rule (or, without a head, a query) whose constants are numbered."""

    head: PredicateShape | None
    body: tuple[PredicateShape, ...]
    expressions: tuple[tuple[Operation, ...], ...]
    constants: int


class _Lifter:
    """Numbers the variables and constants of one rule."""

    def __init__(self) -> None:
        self.variables: dict[str, int] = {}
        self.constants: list[Term] = []
        self.size = 0

    def term(self, term: Term) -> int:
        self.size += 1
        if term[0] == VARIABLE:
            return self.variable(term[1])
        if term[0] == PARAMETER:
            raise UnsafeRule(f"no value was given for the parameter {{{term[1]}}}")
        self.constants.append(term)
        return ~(len(self.constants) - 1)

    def variable(self, name: str) -> int:
        return self.variables.setdefault(name, len(self.variables))

    def predicate(self, predicate: Predicate) -> PredicateShape:
        self.size += 1 + len(predicate.name) // 16
        return PredicateShape(predicate.name, tuple(map(self.term, predicate.terms)))

    def expression(self, ops: tuple[Op, ...], depth: int = 0) -> tuple[Operation, ...]:
        lifted: list[Operation] = []
        for op in ops:
            self.size += 1
            if isinstance(op, Value):
                lifted.append(self.term(op.term))
            elif isinstance(op, Closure):
                # What lies deeper is never run, so it need not be read.
                inner = self.expression(op.ops, depth + 1) if depth < MAX_DEPTH else ()
                lifted.append(OpShape(None, None, tuple(map(self.variable, op.params)), inner))
            else:
                self.size += len(op.name or "") // 16
                lifted.append(OpShape(op.kind, op.name))
        return tuple(lifted)


@immutable
class Level:
    """One predicate of a join: rows of `relation` whose `columns` equal what `key_of` finds in the binding.

    `columns` is empty when nothing is bound. `equal` are pairs of columns that one new variable fills. `cost`
    is the steps for each candidate, more than one when bindings or rows are wide; `probe` is what a look-up
    adds when many columns are bound.
    """

    relation: RelationKey
    columns: Columns
    key_of: Getter | None
    row_key_of: Getter | None
    equal: tuple[tuple[int, int], ...]
    cost: int
    probe: int


class Join:
    """One order of joining the body of a shape, and where its results are then found."""

    __slots__ = ("_conditions", "_expressions", "_places", "_width", "head_of", "levels", "origin_of")

    def __init__(self, shape: Shape, first: int | None) -> None:
        width = 1 + shape.constants
        places: dict[int, int] = {}
        levels: list[Level] = []
        origins: list[int] = []
        for predicate in _ordered(shape.body, first):
            levels.append(_level(predicate, places, width))
            for column, term in enumerate(predicate.terms, 1):
                if term >= 0:
                    places.setdefault(term, width + column)
            origins.append(width)
            width += 1 + len(predicate.terms)
        self.levels = tuple(levels)
        self.origin_of = _origin_getter(origins)
        self.head_of = _tuple_getter(
            [_place(term, places) for term in shape.head.terms] if shape.head else []
        )
        self._expressions = shape.expressions
        self._places = places
        self._width = width
        self._conditions: tuple[Evaluator, ...] | None = None

    @property
    def conditions(self) -> tuple[Evaluator, ...]:
        """The expressions, compiled when a binding first reaches them, which is when they are charged for."""
        if self._conditions is None:
            self._conditions = tuple(
                compile_expression(ops, self._places, self._width) for ops in self._expressions
            )
        return self._conditions


class Plan:
    """The joins of one shape, made as they are needed.

    `cost` is the steps for each use of a join, whether it has to be made or not. `head_cost` is what a
    derived row costs beyond the step of its candidate.
    """

    __slots__ = ("_joins", "cost", "head_cost", "relations", "shape")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.relations: tuple[RelationKey, ...] = tuple((p.name, len(p.terms)) for p in shape.body)
        self.cost = len(shape.body) + (sum(len(p.terms) for p in shape.body) >> _WIDE)
        self.head_cost = len(shape.head.terms) >> _WIDE if shape.head else 0
        self._joins: dict[int | None, Join] = {}

    def join(self, first: int | None) -> Join:
        """Returns the join that begins with predicate `first` of the body, or with the best one (None)."""
        join = self._joins.get(first)
        if join is None:
            join = self._joins[first] = Join(self.shape, first)
        return join


@immutable
class Compiled:
    """A rule or query: its plan, the constants it puts into it, and what their size adds to each step."""

    plan: Plan
    constants: tuple[Term, ...]
    weight: int


def compile_rule(rule: Rule | Query) -> Compiled:
    """Returns the plan of `rule`, shared by all rules of its shape.

    Raises UnsafeRule when the body does not bind a variable of the head.
    """
    # By identity, as a policy's statements come back in every decision and comparing them is as dear as
    # compiling. The entry holds the rule, so that no other can take its id.
    known = _compiled.get(id(rule))
    if known is not None and known[0] is rule:
        return known[1]
    compiled, size = _compile(rule)
    if size <= _MAX_CACHED_SIZE:
        if len(_compiled) >= _MAX_COMPILED:
            _compiled.clear()
        _compiled[id(rule)] = (rule, compiled)
    return compiled


def _compile(rule: Rule | Query) -> tuple[Compiled, int]:
    lifter = _Lifter()
    # The body comes first, so that a head variable with a new number is one that the body does not bind.
    body = tuple(map(lifter.predicate, rule.body))
    bound = len(lifter.variables)
    head = None
    if isinstance(rule, Rule):
        head = lifter.predicate(rule.head)
        unbound = list(lifter.variables)[bound:]
        if unbound:
            names = ", ".join(f"${name}" for name in unbound)
            raise UnsafeRule(
                f"the head of {rule.head.name}(...) uses variables that its body does not bind: {names}"
            )
    expressions = tuple(lifter.expression(expression.ops) for expression in rule.expressions)
    shape = Shape(head, body, expressions, len(lifter.constants))
    plan = _shared_plan(shape) if lifter.size <= _MAX_CACHED_SIZE else Plan(shape)
    return Compiled(plan, tuple(lifter.constants), weight_of(lifter.constants)), lifter.size


def weight_of(terms: Iterable[Term]) -> int:
    """Returns how many steps a look at all of `terms` takes beyond the first."""
    return sum(term_size(term) for term in terms if term[0] in _SIZED) >> 6


_SIZED = frozenset({STRING, BYTES, SET, ARRAY, MAP})

_shared_plan = lru_cache(maxsize=1024)(Plan)
_compiled: dict[int, tuple[Rule | Query, Compiled]] = {}


def _ordered(body: tuple[PredicateShape, ...], first: int | None) -> list[PredicateShape]:
    """Returns the body with `first` in front, then always the earliest predicate of which most is bound."""
    remaining = list(body)
    ordered: list[PredicateShape] = []
    bound: set[int] = set()

    def take(index: int) -> None:
        predicate = remaining.pop(index)
        ordered.append(predicate)
        bound.update(predicate.terms)

    if first is not None:
        take(first)
    if len(body) > _MAX_ORDERED_BODY:
        return ordered + remaining
    while remaining:
        known = [sum(term < 0 or term in bound for term in predicate.terms) for predicate in remaining]
        take(known.index(max(known)))
    return ordered


def _place(term: int, places: Mapping[int, int]) -> int:
    return places[term] if term >= 0 else 1 + ~term


def _level(predicate: PredicateShape, places: Mapping[int, int], width: int) -> Level:
    columns: list[int] = []
    key: list[int] = []
    equal: list[tuple[int, int]] = []
    new: dict[int, int] = {}
    for column, term in enumerate(predicate.terms, 1):
        if term < 0 or term in places:
            columns.append(column)
            key.append(_place(term, places))
        elif term in new:
            equal.append((new[term], column))
        else:
            new[term] = column
    return Level(
        (predicate.name, len(predicate.terms)),
        tuple(columns),
        itemgetter(*key) if key else None,
        itemgetter(*columns) if columns else None,
        tuple(equal),
        1 + (width + len(predicate.terms) >> _WIDE),
        len(columns) >> _WIDE,
    )


def _origin_getter(places: list[int]) -> Callable[[Binding], int]:
    """Returns a function to the union of the origins of the rows in a binding."""
    if not places:
        return lambda binding: 0
    if len(places) == 1:
        return itemgetter(places[0])
    if len(places) == 2:
        left, right = places
        return lambda binding: binding[left] | binding[right]
    getter = itemgetter(*places)
    return lambda binding: reduce(or_, getter(binding))


def _tuple_getter(places: list[int]) -> Callable[[Binding], tuple[Term, ...]]:
    """Returns a function to the tuple of what stands in `places`, however many they are."""
    if not places:
        return lambda binding: ()
    if len(places) == 1:
        place = places[0]
        return lambda binding: (binding[place],)
    return itemgetter(*places)
