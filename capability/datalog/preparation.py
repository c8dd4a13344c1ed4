"""One token under one policy, on its way to a residual: what they derive without the request, and the rest.

A residual exists only where the largest request could not reach a limit of the engine. Whatever does not fit
is left to the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from capability.datalog.bounds import Bound, Extent, Signature
from capability.datalog.engine import World
from capability.datalog.families import Traits, size_of
from capability.datalog.lifting import Lifter, raw_value
from capability.datalog.limits import Limits
from capability.datalog.operators import term_size
from capability.datalog.origins import AUTHORIZER, block_origin, trusted_origins
from capability.datalog.program import (
    Check,
    CheckKind,
    Closure,
    KeyScope,
    Op,
    Predicate,
    Program,
    Query,
    Rule,
)
from capability.datalog.safety import unbound_variables
from capability.datalog.shapes import (
    Code,
    Constant,
    RequestFact,
    Room,
    Rows,
    Run,
    Shape,
    ShapedQuery,
    ShapedRule,
    Stated,
    StaticResult,
    TableSlot,
    Unsupported,
)
from capability.datalog.terms import BYTES, DATE, STRING, VARIABLE

CheckName: TypeAlias = tuple[int | None, int]
"""The block (None: the authorizer) and the index of a check."""

_MAX_RULES: Final = 64
_MAX_RULE_ATOMS: Final = 512
_MAX_ATOMS: Final = 12
_MAX_OPS: Final = 48
_MAX_QUERIES: Final = 256
_LARGEST_SCALAR: Final = 16
"""How many bytes the engine counts for a term that is no text."""

MAX_REQUEST_TEXT: Final = 4096
"""The longest strings and byte strings of a request, together, for which work is bounded beforehand."""
MAX_REQUEST_ROWS: Final = 32
"""The most rows of one fact of a request."""
_ROOMS: Final = ((MAX_REQUEST_TEXT, MAX_REQUEST_ROWS), (1024, 16), (512, 8), (512, 4))
"""How large requests may be, tried in this order: the first for which no limit can be reached."""


class Kin:
    """What residuals of one family have in common; `judge` is what their user makes of that, once."""

    __slots__ = ("judge",)

    def __init__(self) -> None:
        self.judge: Any = None


@dataclass(frozen=True, slots=True)
class Residual:
    """`run(table, *values)` answers `(policy, failed)`;
    bit n of `failed` is `checks[n]`, `failed_always` fail whatever is asked.

    `bound` is what the engine would need for the largest request, at most; it is within the limits. `dates`
    are for each of `checks` the slots of the table that hold the dates in it, None when some date has none.
    `answers` are the authorizer's own facts that were asked for and hold without the request, as
    `(name, *terms)`; when others may join them, `answering` is true and `run` tells them as a third value.
    `size` is about what the table takes, in bytes, of the first of its family. All residuals of a family have
    one `kin`, and differ in nothing but the table.
    """

    run: Run
    table: tuple[Any, ...]
    checks: tuple[CheckName, ...]
    policies: tuple[int, ...]
    failed_always: tuple[CheckName, ...]
    bound: Bound
    dates: tuple[tuple[int, ...] | None, ...]
    answers: tuple[tuple[Any, ...], ...] = ()
    answering: bool = False
    size: int = 0
    kin: Kin = field(default_factory=Kin)


@dataclass(frozen=True, slots=True)
class _Unit:
    """One block, or the authorizer, with its origin."""

    index: int | None
    program: Program
    origin: int


class Preparation:
    """One token under one policy, on the way to a residual."""

    def __init__(
        self,
        blocks: Sequence[tuple[Program, KeyScope | None]],
        authorizer: Program,
        request: tuple[RequestFact, ...],
        limits: Limits,
        answers: frozenset[Signature],
    ) -> None:
        self._request = request
        # no deadline: steps bound the work, and a machine that stalls once must not cost a token its form
        self._limits = replace(limits, max_time=None)
        self._authorizer = authorizer
        self._units = [_Unit(None, authorizer, AUTHORIZER)]
        self._signed: dict[KeyScope, int] = {}
        for index, (program, key) in enumerate(blocks):
            self._units.append(_Unit(index, program, block_origin(index)))
            if key is not None:
                self._signed[key] = self._signed.get(key, 0) | block_origin(index)
        self._answers = answers
        self._changing = {(fact.name, len(fact.kinds)) for fact in request if fact.kinds}
        self._rules = self._split_rules()
        self._world = self._static_world()
        self._lifter = Lifter([])
        self._queries: dict[tuple[str, int, int], tuple[Query, int]] = {}
        self._starts: dict[tuple[str, int, int], int] = {}
        self._slots: tuple[TableSlot, ...] = ()

    def finish(self, generate: Any) -> Residual:
        """Returns the residual; raises Unsupported where there is none."""
        read = self._read()
        rules = tuple(self._shape_rule(n, *rule, read) for n, rule in enumerate(self._rules))
        checks: list[tuple[CheckKind, tuple[ShapedQuery, ...]]] = []
        names: list[CheckName] = []
        failed_always: list[CheckName] = []
        for unit in self._units:
            for index, check in enumerate(unit.program.checks):
                if any(self._is_changing(query.body) for query in check.queries):
                    queries = self._shape_queries("check", len(checks), unit, check.queries)
                    checks.append((check.kind, queries))
                    names.append((unit.index, index))
                elif not self._holds(check, unit):
                    failed_always.append((unit.index, index))
        policies = tuple(
            self._shape_queries("policy", number, self._units[0], policy.queries)
            for number, policy in enumerate(self._authorizer.policies)
        )
        stated = tuple(sorted(key for key in self._changing if self._sizes.get(key)))
        self._kinds = [kind for kind, _ in checks]
        shape = Shape(self._request, stated, rules, tuple(checks), policies)
        code: Code | None = generate(shape)
        if code is None:
            raise Unsupported("no code")
        answers = self._static_answers()
        self._roomy()  # before the joins of the table are made, and again when what they took is known
        self._slots = code.table
        table = tuple(self._fill(slot) for slot in code.table)
        bound, room = self._roomy()
        table = tuple(
            room[slot.of] if isinstance(slot, Room) else value
            for slot, value in zip(code.table, table, strict=True)
        )
        return Residual(
            code.run,
            table,
            tuple(names),
            tuple(range(len(policies))),
            tuple(failed_always),
            bound,
            tuple(map(self._dates, range(len(names)), (queries for _, queries in checks))),
            answers,
            any(rule.answers for rule in rules),
            size_of(table) + size_of(answers),
        )

    def _static_answers(self) -> tuple[tuple[Any, ...], ...]:
        """Returns what the authorizer itself says without the request of what is to be told."""
        found: dict[tuple[Any, ...], None] = {}
        for fact in self._authorizer.facts:
            if (fact.name, len(fact.terms)) in self._answers:
                found[fact.name, *fact.terms] = None
        for unit, rule in self._static_rules:
            if self._tells(unit, rule):
                derived = self._world.query(rule, AUTHORIZER, self._trusted(unit, rule))
                found |= {(fact.name, *fact.terms): None for fact, _ in derived}
        return tuple(sorted(found))

    def _tells(self, unit: _Unit, rule: Rule) -> bool:
        return unit.index is None and (rule.head.name, len(rule.head.terms)) in self._answers

    def _dates(self, number: int, queries: tuple[ShapedQuery, ...]) -> tuple[int, ...] | None:
        """Returns the slots of the table with the dates of a check, None when some date has no slot."""
        slots: list[int] = []
        for index, shaped in enumerate(queries):
            owner = ("check", number, index)
            query, _ = self._queries[owner]
            dates = [at for at, (kind, _) in enumerate(Lifter([]).constants_of(query)) if kind == DATE]
            for at in dates:
                constant = Constant(self._starts.get(owner, 0) + at, bare=True)
                if shaped.static or constant not in self._slots:
                    return None
                slots.append(self._slots.index(constant))
        return tuple(slots)

    def traits(self, residual: Residual) -> Traits:
        """Returns what the residual that `finish` returned tells of its family."""
        lifted = {
            (*residual.checks[number], query): start
            for (owner, number, query), start in self._starts.items()
            if owner == "check"
        }
        return Traits(frozenset(self._changing), lifted, self._slots)

    def _is_changing(self, body: Sequence[Predicate]) -> bool:
        return any((atom.name, len(atom.terms)) in self._changing for atom in body)

    def _trusted(self, unit: _Unit, query: Query | Rule) -> int:
        return trusted_origins(query.scopes, unit.origin, self._signed, unit.program.scopes)

    def _split_rules(self) -> list[tuple[_Unit, Rule]]:
        """Finds the rules that depend on the request, each after all that derive what it reads."""
        waiting = [(unit, rule) for unit in self._units for rule in unit.program.rules]
        if len(waiting) > _MAX_RULES or sum(len(rule.body) for _, rule in waiting) > _MAX_RULE_ATOMS:
            raise Unsupported("too many rules")
        # INVARIANT: no code for what the engine would not even load, though the code might never get there
        if any(unbound_variables(rule.head, rule.body, ()) for _, rule in waiting):
            raise Unsupported("unsafe rule")
        found: list[tuple[_Unit, Rule]] = []
        growing = True
        while growing:
            growing = False
            for entry in list(waiting):
                if self._is_changing(entry[1].body):
                    head = entry[1].head
                    self._changing.add((head.name, len(head.terms)))
                    waiting.remove(entry)
                    found.append(entry)
                    growing = True
        self._static_rules = waiting
        ordered: list[tuple[_Unit, Rule]] = []
        while found:
            heads = {(rule.head.name, len(rule.head.terms)) for _, rule in found}
            ready = [
                entry
                for entry in found
                if not any((atom.name, len(atom.terms)) in heads for atom in entry[1].body)
            ]
            if not ready:
                raise Unsupported("recursive rules on the request")
            ordered += ready
            found = [entry for entry in found if entry not in ready]
        return ordered

    def _static_world(self) -> World:
        world = World(self._limits)
        for unit in self._units:
            for fact in unit.program.facts:
                world.add_fact(fact, unit.origin)
        for unit, rule in self._static_rules:
            world.add_rule(rule, unit.origin, self._trusted(unit, rule))
        world.run()
        self._sizes: dict[Signature, int] = {}
        self._largest: dict[Signature, int] = {}
        self._facts: dict[Signature, list[tuple[Any, ...]]] = {}
        for origin, fact in world.facts():
            key = (fact.name, len(fact.terms))
            self._sizes[key] = self._sizes.get(key, 0) + 1
            self._largest[key] = max([self._largest.get(key, 0), *map(term_size, fact.terms)])
            if key in self._changing:
                self._facts.setdefault(key, []).append((*fact.terms, origin))
        return world

    def _read(self) -> set[Signature]:
        """Returns what rules, checks and policies look at."""
        bodies = [rule.body for unit in self._units for rule in unit.program.rules]
        for unit in self._units:
            bodies += [query.body for check in unit.program.checks for query in check.queries]
            bodies += [query.body for policy in unit.program.policies for query in policy.queries]
        return {(atom.name, len(atom.terms)) for body in bodies for atom in body}

    def _shape_rule(self, number: int, unit: _Unit, rule: Rule, read: set[Signature]) -> ShapedRule:
        query = Query(rule.body, rule.expressions, rule.scopes)
        shaped = self._shape_query(("rule", number, 0), unit, query)
        key = (rule.head.name, len(rule.head.terms))
        tells = self._tells(unit, rule)
        return ShapedRule(self._lifter.predicate(rule.head), shaped, unit.origin, tells, key in read)

    def _shape_queries(
        self, owner: str, number: int, unit: _Unit, queries: Sequence[Query]
    ) -> tuple[ShapedQuery, ...]:
        return tuple(self._shape_query((owner, number, n), unit, query) for n, query in enumerate(queries))

    def _shape_query(self, owner: tuple[str, int, int], unit: _Unit, query: Query) -> ShapedQuery:
        trusted = self._trusted(unit, query)
        self._queries[owner] = (query, trusted)
        if not self._is_changing(query.body):
            return ShapedQuery(Query(()), trusted, static=True)
        if len(query.body) > _MAX_ATOMS or len(self._queries) > _MAX_QUERIES:
            raise Unsupported("too large")
        if any(_count(expression.ops) > _MAX_OPS for expression in query.expressions):
            raise Unsupported("too large")
        self._starts[owner] = len(self._lifter.constants)
        return ShapedQuery(self._lifter.query(query), trusted, static=False)

    def _holds(self, check: Check, unit: _Unit) -> bool:
        results = (
            self._world.matches_all(query, self._trusted(unit, query))
            if check.kind is CheckKind.ALL
            else self._world.matches(query, self._trusted(unit, query))
            for query in check.queries
        )
        return any(results) != (check.kind is CheckKind.REJECT)

    def _roomy(self) -> tuple[Bound, dict[str, int]]:
        """Returns what the engine needs at most, and for how large a request; raises Unsupported when that is
        not within the limits even for small ones.
        """
        limits = self._limits
        for text, rows in _ROOMS:
            bound = self._bound(text, rows)
            if (
                bound.steps <= limits.max_steps
                and bound.facts <= limits.max_facts
                and bound.rounds <= limits.max_iterations
            ):
                return bound, {"text": text, "rows": rows}
        raise Unsupported("a request could reach a limit")

    def _bound(self, room: int, most: int) -> Bound:
        """Returns what the engine needs at most for so much text, and so many rows of a fact."""
        extents: dict[Signature, Extent] = {}
        for key, rows in self._sizes.items():
            extents[key] = Extent(rows, self._largest[key], self._world.weight(key))
        bound = Bound(self._world.meter.steps, sum(self._sizes.values()), self._world.iterations, extents)
        for fact in self._request:
            size = room if any(kind in (STRING, BYTES) for kind in fact.kinds) else 0
            # one that the request lacks is counted too, which does no harm
            key, largest = (fact.name, len(fact.kinds)), size + _LARGEST_SCALAR * len(fact.kinds)
            bound.state(key, largest, most if fact.several else 1)
        for unit, rule in self._rules:
            bound.derive(rule)
            if self._tells(unit, rule):
                bound.query(Query(rule.body, rule.expressions), rule.head)
        for (owner, _, _), (query, _) in self._queries.items():
            if owner != "rule" and self._is_changing(query.body):
                bound.query(query)
        bound.finish()
        return bound

    def _fill(self, slot: TableSlot) -> Any:
        match slot:
            case Room():
                return None
            case Constant(index, bare):
                term = self._lifter.constants[index]
                return raw_value(term) if bare else term
            case Stated(name, arity):
                return tuple(self._facts.get((name, arity), ()))
            case StaticResult(owner):
                query, trusted = self._queries[owner]
                if owner[0] == "check" and self._kinds[owner[1]] is CheckKind.ALL:
                    return self._world.matches_all(query, trusted)
                return self._world.matches(query, trusted)
            case Rows():
                return self._rows(slot)

    def _rows(self, slot: Rows) -> Any:
        query, trusted = self._queries[slot.owner]
        static = tuple(atom for atom in query.body if not self._is_changing((atom,)))
        columns = [name for name, _ in slot.key] + list(slot.values)
        head = Predicate("row", tuple((VARIABLE, name) for name in columns))
        keys = len(slot.key)
        rows: dict[Any, dict[tuple[Any, ...], None]] = {}
        for fact, origin in self._world.query(Rule(head, static), 0, trusted):
            key = []
            for term, (_, kind) in zip(fact.terms, slot.key, strict=False):
                if kind is not None and term[0] != kind:
                    break
                key.append(term if kind is None else term[1])
            else:
                row = fact.terms[keys:] + ((origin,) if slot.with_origin else ())
                rows.setdefault(key[0] if keys == 1 else tuple(key), {})[row] = None
        if not slot.values and not slot.with_origin:
            return frozenset(rows) if keys else bool(rows)
        if not keys:
            return tuple(rows.get((), ()))
        return {key: tuple(found) for key, found in rows.items()}


def _count(ops: Sequence[Op]) -> int:
    return sum(1 + _count(op.ops) if isinstance(op, Closure) else 1 for op in ops)
