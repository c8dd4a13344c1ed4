"""The engine: facts and rules to the fixpoint, and queries over the result.

Semi-naive: after a rule has run once, it runs again only from rows that are new, joined with all others. Rows
derived in a round are seen in the next one, so neither the order of rules nor of facts makes a
difference. Every binding of a query is tried even after a match, because an error in any of them
beats a match, and which one comes first must not decide.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from capability.datalog.errors import EvaluationReason, LimitExceeded, LimitKind
from capability.datalog.immutable import immutable
from capability.datalog.limits import Limits, Meter
from capability.datalog.operators import Context, ExternFunction, fail
from capability.datalog.plans import Binding, Compiled, Join, Level, Plan, compile_rule, weight_of
from capability.datalog.program import Predicate, Query, Rule
from capability.datalog.relations import Relation, RelationKey, Row
from capability.datalog.terms import BOOL, FALSE, TRUE, VARIABLE, Term

_CHUNK = 1024
"""Bindings that are carried to the next predicate at a time: bounds memory without a recursion."""
_BATCH = 256
"""Steps that a loop may count by itself before it tells the meter."""


@immutable
class _Rule:
    head: RelationKey
    compiled: Compiled
    origin: int
    untrusted: int


class World:
    """Facts and rules under evaluation, with their origins (bit masks, see `origins`).

    `meter` counts the work; `iterations` is the number of rounds that have been run. After an exception the
    world holds part of the result only and must be thrown away.
    """

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008  (immutable)
        externs: Mapping[str, ExternFunction] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.meter = Meter(limits, clock)
        self.iterations = 0
        self._limits = limits
        self._context = Context(self.meter, externs or {})
        self._owner = object()
        self._relations: dict[RelationKey, Relation] = {}
        self._facts = 0
        self._new_rules: list[_Rule] = []
        self._readers: dict[RelationKey, tuple[tuple[_Rule, int], ...]] = {}

    def fork(self) -> "World":
        """Returns a copy to which more can be added; what both have in common is shared until one changes it.

        The copy has the steps that were taken so far on its meter, and a deadline of its own.
        """
        copy = World.__new__(World)
        copy.meter = self.meter.fork()
        copy.iterations = self.iterations
        copy._limits = self._limits
        copy._context = Context(copy.meter, self._context.externs)
        copy._relations = self._relations.copy()
        copy._facts = self._facts
        copy._new_rules = self._new_rules.copy()
        copy._readers = self._readers.copy()
        # Neither world owns the shared relations from now on: each copies what it writes to.
        copy._owner = object()
        self._owner = object()
        return copy

    def add_fact(self, fact: Predicate, origin: int) -> None:
        """Adds `fact` with the bit mask `origin`. One that holds variables matches nothing and is left out.

        Raises LimitExceeded when there are too many facts.
        """
        if any(term[0] == VARIABLE for term in fact.terms):
            return
        key = (fact.name, len(fact.terms))
        row: Row = (origin, *fact.terms)
        relation = self._relations.get(key)
        if relation is None or row not in relation.seen:
            self._store(key, (row,), weight_of(fact.terms))

    def add_rule(self, rule: Rule, origin: int, trusted: int) -> None:
        """Adds `rule` of the block whose bit is `origin`; it sees facts whose origins are within `trusted`.

        Raises UnsafeRule when the body does not bind a variable of the head.
        """
        head = (rule.head.name, len(rule.head.terms))
        self._new_rules.append(_Rule(head, compile_rule(rule), origin, ~trusted))

    def run(self) -> None:
        """Derives all that the rules derive; after more facts or rules, only what these add.

        Raises EvaluationError when an expression fails, and LimitExceeded.
        """
        while True:
            news = {
                key: relation.rows[relation.known :]
                for key, relation in self._relations.items()
                if relation.known < len(relation.rows)
            }
            for key, rows in news.items():
                relation = self._writable(key)
                relation.known += len(rows)
            if not self._new_rules and not any(key in self._readers for key in news):
                return
            self.iterations += 1
            if self.iterations > self._limits.max_iterations:
                raise LimitExceeded(LimitKind.ITERATIONS, f"more than {self._limits.max_iterations} rounds")
            self._round(news)

    def query(self, rule: Rule, origin: int, trusted: int) -> list[tuple[Predicate, int]]:
        """Returns what `rule` derives from the world, with origins, sorted; nothing is added.

        Raises EvaluationError when an expression fails for any binding, UnsafeRule, and LimitExceeded.
        """
        compiled = compile_rule(rule)
        join = self._join(compiled.plan, None)
        found: set[tuple[tuple[object, ...], int]] = set()
        for bindings in self._satisfying(compiled, join, ~trusted, None):
            self.meter.charge(len(bindings) * compiled.plan.head_cost)
            found.update((join.head_of(binding), origin | join.origin_of(binding)) for binding in bindings)
        return [(Predicate(rule.head.name, terms), bits) for terms, bits in sorted(found)]  # type: ignore[arg-type]

    def matches(self, query: Query, trusted: int) -> bool:
        """Returns whether some binding of `query` satisfies its expressions. Every binding is tried.

        Raises EvaluationError when an expression fails for any of them, and LimitExceeded.
        """
        compiled = compile_rule(query)
        found = False
        join = self._join(compiled.plan, None)
        for bindings in self._satisfying(compiled, join, ~trusted, None):
            found = found or bool(bindings)
        return found

    def matches_all(self, query: Query, trusted: int) -> bool:
        """Returns whether `query` has bindings that all satisfy its expressions. Every binding is tried.

        Raises EvaluationError when an expression fails for any of them, and LimitExceeded.
        """
        compiled = compile_rule(query)
        join = self._join(compiled.plan, None)
        tried = passed = 0
        for bindings in self._bindings(compiled, join, ~trusted, None):
            tried += len(bindings)
            passed += len(self._filtered(bindings, join))
        return tried > 0 and tried == passed

    @property
    def fact_count(self) -> int:
        """How many facts there are, each origin of a fact counted."""
        return self._facts

    def weight(self, relation: RelationKey) -> int:
        """Returns what the size of the facts of `relation` adds to each step that looks at one."""
        known = self._relations.get(relation)
        return 0 if known is None else known.weight

    def facts(self) -> list[tuple[int, Predicate]]:
        """Returns all facts with their origins, sorted by origin, name and terms."""
        rows = sorted(
            (row[0], name, row[1:])
            for (name, _), relation in self._relations.items()
            for row in relation.rows
        )
        return [(origin, Predicate(name, terms)) for origin, name, terms in rows]

    def _round(self, news: Mapping[RelationKey, list[Row]]) -> None:
        fresh: dict[RelationKey, dict[Row, None]] = {}
        weights: dict[RelationKey, int] = {}
        room = self._limits.max_facts - self._facts

        def derive(rule: _Rule, first: int | None, rows: list[Row] | None) -> None:
            nonlocal room
            plan = rule.compiled.plan
            join = self._join(plan, first)
            known = self._relations.get(rule.head)
            seen = known.seen if known is not None else ()
            derived = fresh.setdefault(rule.head, {})
            before = len(derived)
            origin = rule.origin
            origin_of = join.origin_of
            head_of = join.head_of
            for bindings in self._satisfying(rule.compiled, join, rule.untrusted, rows):
                self.meter.charge(len(bindings) * plan.head_cost)
                for binding in bindings:
                    row = (origin | origin_of(binding), *head_of(binding))
                    if row not in seen:
                        derived[row] = None
                if len(derived) - before > room:
                    self._too_many_facts()
            room -= len(derived) - before
            if len(derived) > before:
                weights[rule.head] = max(weights.get(rule.head, 0), self._weight(rule.compiled))

        for key, rows in news.items():
            for rule, first in self._readers.get(key, ()):
                derive(rule, first, rows)
        new_rules, self._new_rules = self._new_rules, []
        readers: dict[RelationKey, list[tuple[_Rule, int]]] = {}
        for rule in new_rules:
            derive(rule, None, None)
            for first, key in enumerate(rule.compiled.plan.relations):
                readers.setdefault(key, []).append((rule, first))
        for key, added in readers.items():
            self._readers[key] = (*self._readers.get(key, ()), *added)
        for key, derived in fresh.items():
            if derived:
                self._store(key, tuple(derived), weights[key])

    def _store(self, key: RelationKey, rows: tuple[Row, ...], weight: int) -> None:
        """Adds rows that are not there yet."""
        self._facts += len(rows)
        if self._facts > self._limits.max_facts:
            self._too_many_facts()
        relation = self._writable(key)
        self.meter.charge(len(rows) * len(relation.indexes))
        relation.weight = max(relation.weight, weight)
        for row in rows:
            relation.add(row)

    def _writable(self, key: RelationKey) -> Relation:
        relation = self._relations.get(key)
        if relation is None:
            relation = self._relations[key] = Relation(self._owner)
        elif relation.owner is not self._owner:
            self.meter.charge(len(relation.rows))
            relation = self._relations[key] = relation.copy(self._owner)
        return relation

    def _too_many_facts(self) -> None:
        raise LimitExceeded(LimitKind.FACTS, f"more than {self._limits.max_facts} facts")

    def _weight(self, compiled: Compiled) -> int:
        """Returns what the size of constants and facts adds to each step of a rule."""
        relations = (self._relations.get(key) for key in compiled.plan.relations)
        return compiled.weight + max((relation.weight for relation in relations if relation), default=0)

    def _join(self, plan: Plan, first: int | None) -> Join:
        """Returns a join of `plan`, charged for before it is made: a body may be as long as a token."""
        self.meter.charge(plan.cost)
        return plan.join(first)

    def _satisfying(
        self, compiled: Compiled, join: Join, untrusted: int, news: list[Row] | None
    ) -> Iterator[list[Binding]]:
        for bindings in self._bindings(compiled, join, untrusted, news):
            yield self._filtered(bindings, join)

    def _filtered(self, bindings: list[Binding], join: Join) -> list[Binding]:
        """Returns the bindings that satisfy all expressions; the first that is false ends a binding."""
        for condition in join.conditions:
            bindings = [binding for binding in bindings if _holds(condition(binding))]
        return bindings

    def _bindings(
        self, compiled: Compiled, join: Join, untrusted: int, news: list[Row] | None
    ) -> Iterator[list[Binding]]:
        """Yields the complete bindings of a join, some at a time, in an order that only depends on the rows'.

        With `news`, the first predicate is matched against these rows alone.
        """
        charge = self.meter.charge
        relations = self._relations
        if not all(key in relations for key in compiled.plan.relations):
            return
        weight = 1 + self._weight(compiled)
        stack: list[tuple[int, list[Binding], int]] = [(0, [(self._context, *compiled.constants)], 0)]
        while stack:
            depth, bindings, start = stack.pop()
            if depth == len(join.levels):
                yield bindings
                continue
            level = join.levels[depth]
            relation = relations[level.relation]
            hidden = untrusted if relation.origins & untrusted else 0
            lookup: Callable[[Binding], Sequence[Row]]
            cost = level.cost * weight
            probe = level.probe * weight
            if depth == 0 and news is not None:
                charge(len(news) * cost)
                lookup = _constant(_fitting(news, level, bindings[0]))
            elif level.key_of is None:
                lookup = _constant(relation.rows)
            else:
                lookup = self._probe(relation, level)
            filtered = hidden or level.equal
            pending = 0
            reached: list[Binding] = []
            for position in range(start, len(bindings)):
                binding = bindings[position]
                rows = lookup(binding)
                pending += len(rows) * cost + probe
                if pending >= _BATCH:
                    charge(pending)
                    pending = 0
                if filtered:
                    rows = _visible(rows, hidden, level)
                reached += [binding + row for row in rows]
                if len(reached) >= _CHUNK and position + 1 < len(bindings):
                    stack.append((depth, bindings, position + 1))
                    break
            charge(pending)
            if reached:
                stack.append((depth + 1, reached, 0))

    def _probe(self, relation: Relation, level: Level) -> Callable[[Binding], Sequence[Row]]:
        """Returns a look-up in the index of `relation` on the bound columns of `level`."""
        self.meter.charge_once((level.relation, level.columns), len(relation.rows) * (1 + level.probe))
        get = relation.index(level.columns).get
        key_of = level.key_of
        assert key_of is not None
        return lambda binding: get(key_of(binding), ())


def _constant(rows: Sequence[Row]) -> Callable[[Binding], Sequence[Row]]:
    return lambda _: rows


def _fitting(rows: list[Row], level: Level, binding: Binding) -> list[Row]:
    """Returns the rows that have what `binding` asks for in the bound columns, looking at each."""
    if level.key_of is None or level.row_key_of is None:
        return rows
    key = level.key_of(binding)
    row_key_of = level.row_key_of
    return [row for row in rows if row_key_of(row) == key]


def _visible(rows: Sequence[Row], hidden: int, level: Level) -> list[Row]:
    """Returns the rows that no untrusted block had a part in, and in which one variable has one value."""
    visible = [row for row in rows if not row[0] & hidden]
    for left, right in level.equal:
        visible = [row for row in visible if row[left] == row[right]]
    return visible


def _holds(value: Term) -> bool:
    if value is TRUE:
        return True
    if value is FALSE:
        return False
    if value[0] != BOOL:
        fail(EvaluationReason.INVALID_TYPE)
    return value[1]  # type: ignore[no-any-return]
