"""Values for the `{name}` of a source.

A source is parsed once and bound often, so binding looks only at the statements of a program that hold
parameters, and hands back everything else as it is. Which ones those are is remembered for each program.
"""

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Final, NamedTuple, TypeAlias, TypeVar

from capability.datalog.errors import ParameterError
from capability.datalog.program import (
    Check,
    Closure,
    Expression,
    KeyParameter,
    Op,
    Policy,
    Predicate,
    Program,
    Query,
    Rule,
    Scope,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    INTEGER,
    MAP,
    MAX_DEPTH,
    PARAMETER,
    SET,
    STRING,
    Term,
    depth,
    make_map,
    make_set,
)
from capability.datalog.values import from_term, to_term

__all__ = ["Filled", "Names", "bind", "fill", "from_term", "names", "to_term"]

Statement: TypeAlias = Predicate | Rule | Check | Policy | Query
_Item = TypeVar("_Item", Predicate, Rule, Check, Policy, Query, Program)

Held: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Which facts, rules and checks of a program hold parameters, by their indices."""

_FLAT: Final = frozenset({INTEGER, STRING, DATE, BYTES, BOOL})
_BINDABLE: Final = frozenset({PARAMETER, SET, ARRAY, MAP})
_REMEMBERED: Final = 256


class Names(NamedTuple):
    """The names of parameters: those that stand for terms and map keys, and those for trusted keys."""

    terms: frozenset[str]
    keys: frozenset[str]


_NO_NAMES: Final = Names(frozenset(), frozenset())


class _Plan(NamedTuple):
    """Which statements of a program hold parameters (their indices), and all the names.

    It is `flat` when every parameter is a whole term by itself, not part of another one nor inside a closure,
    and none stands for a key: then no value of a flat kind can fail to fit.
    The plan keeps its program alive, which makes the program's `id` good as a key.
    """

    program: Program
    names: Names
    facts: tuple[int, ...]
    rules: tuple[int, ...]
    checks: tuple[int, ...]
    policies: tuple[int, ...]
    flat: bool


_plans: dict[int, _Plan] = {}
_plans_lock = Lock()


def names(item: Statement | Program) -> Names:
    """Returns the names of the parameters that `item` still holds."""
    if isinstance(item, Program):
        return _plan(item).names
    if isinstance(item, Predicate) and _BINDABLE.isdisjoint([kind for kind, _ in item.terms]):
        return _NO_NAMES
    found = _Finder()
    found.statement(item)
    return found.names()


def bind(item: _Item, terms: Mapping[str, Term], keys: Mapping[str, Scope]) -> _Item:
    """Returns `item` with all its parameters replaced by `terms` and, after `trusting`, by `keys`.

    Raises ParameterError when a parameter has no value, when a value has no parameter, and when a value
    cannot stand where its parameter does (a set in a set, an array as a key of a map, beyond the depth of
    terms).
    """
    found = names(item)
    if found.terms != terms.keys() or found.keys != keys.keys():
        missing = (found.terms - terms.keys()) | (found.keys - keys.keys())
        unused = (terms.keys() - found.terms) | (keys.keys() - found.keys)
        raise ParameterError(
            "datalog parameters must all be bound, provided values must all be used.\n"
            f"Missing parameters: {_listed(missing)}\nUnused parameters: {_listed(unused)}"
        )
    if not found.terms and not found.keys:
        return item
    binding = _Binding(terms, keys)
    if isinstance(item, Program):
        return binding.program(_plan(item))
    if isinstance(item, Predicate):
        return binding.predicate(item)
    if isinstance(item, Rule):
        return binding.rule(item)
    if isinstance(item, Query):
        return binding.query(item)
    queries = tuple(map(binding.query, item.queries))
    return Check(item.kind, queries) if isinstance(item, Check) else Policy(item.kind, queries)


class Filled:
    """A program, and flat values for its parameters; the two are put together when that is asked for.

    Who only writes the program out needs the values and not the program that they make.
    """

    __slots__ = ("_program", "held", "template", "terms")

    def __init__(self, template: Program, terms: Mapping[str, Term], held: Held = ((), (), ())) -> None:
        """Takes what is known to fit; `held` says which facts, rules and checks hold parameters."""
        self.template = template
        self.terms = terms
        self.held = held
        self._program: Program | None = None if terms else template

    @property
    def program(self) -> Program:
        """The program with the values in it."""
        if self._program is None:
            self._program = _Binding(self.terms, {}).program(_plan(self.template))
        return self._program


def fill(program: Program, terms: Mapping[str, Term], keys: Mapping[str, Scope]) -> Filled:
    """Returns `program` with values for all its parameters; raises as `bind`, and at once.

    Values that no parameter has are ignored.
    """
    plan = _plan(program)
    if plan.flat and plan.names.terms <= terms.keys():
        used = {name: terms[name] for name in plan.names.terms}
        if _FLAT.issuperset([kind for kind, _ in used.values()]):
            return Filled(program, used, (plan.facts, plan.rules, plan.checks))
    bound = bind(
        program,
        {name: term for name, term in terms.items() if name in plan.names.terms},
        {name: key for name, key in keys.items() if name in plan.names.keys},
    )
    return Filled(bound, {})


def _listed(names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in sorted(names))
    return f"[{quoted}]"


def _plan(program: Program) -> _Plan:
    plan = _plans.get(id(program))
    if plan is None:
        plan = _make_plan(program)
        with _plans_lock:
            if len(_plans) >= _REMEMBERED:
                del _plans[next(iter(_plans))]
            _plans[id(program)] = plan
    return plan


def _make_plan(program: Program) -> _Plan:
    found = _Finder()
    found.scopes(program.scopes)

    def holding(statements: Iterable[Statement]) -> tuple[int, ...]:
        return tuple(index for index, statement in enumerate(statements) if found.statement(statement))

    facts, rules = holding(program.facts), holding(program.rules)
    checks, policies = holding(program.checks), holding(program.policies)
    return _Plan(program, found.names(), facts, rules, checks, policies, found.flat)


class _Finder:
    """Collects the names of parameters; each method returns whether what it was given holds any."""

    def __init__(self) -> None:
        self._terms: set[str] = set()
        self._keys: set[str] = set()
        self.flat = True

    def names(self) -> Names:
        return Names(frozenset(self._terms), frozenset(self._keys))

    def statement(self, statement: Statement) -> bool:
        # Lists and not generators: every part must be looked at, also after one that holds a parameter.
        match statement:
            case Predicate(terms=terms):
                return any([self.term(term) for term in terms])
            case Rule(head=head):
                return any([self.statement(head), self._clause(statement)])
            case Query():
                return self._clause(statement)
            case _:
                return any([self._clause(query) for query in statement.queries])

    def scopes(self, scopes: Iterable[Scope]) -> bool:
        found = [scope.name for scope in scopes if isinstance(scope, KeyParameter)]
        if found:
            self._keys.update(found)
            self.flat = False
        return bool(found)

    def term(self, term: Term) -> bool:
        kind, value = term
        if kind == PARAMETER:
            self._terms.add(value)
            return True
        if kind in (SET, ARRAY):
            return self._nested([self.term(item) for item in value])
        if kind == MAP:
            return self._nested([self.term(item) for entry in value for item in entry])
        return False

    def _nested(self, holding: Iterable[bool]) -> bool:
        if any(holding):
            self.flat = False
            return True
        return False

    def _clause(self, clause: Rule | Query) -> bool:
        body = [self.statement(predicate) for predicate in clause.body]
        expressions = [self._ops(expression.ops) for expression in clause.expressions]
        return any([*body, *expressions, self.scopes(clause.scopes)])

    def _ops(self, ops: Iterable[Op]) -> bool:
        return any(
            [
                self.term(op.term)
                if isinstance(op, Value)
                else isinstance(op, Closure) and self._nested([self._ops(op.ops)])
                for op in ops
            ]
        )


class _Binding:
    """Puts values in the place of parameters."""

    def __init__(self, terms: Mapping[str, Term], keys: Mapping[str, Scope]) -> None:
        self._terms = terms
        self._keys = keys

    def program(self, plan: _Plan) -> Program:
        program = plan.program
        facts, rules = list(program.facts), list(program.rules)
        checks, policies = list(program.checks), list(program.policies)
        for index in plan.facts:
            facts[index] = self.predicate(facts[index])
        for index in plan.rules:
            rules[index] = self.rule(rules[index])
        for index in plan.checks:
            checks[index] = Check(checks[index].kind, tuple(map(self.query, checks[index].queries)))
        for index in plan.policies:
            policies[index] = Policy(policies[index].kind, tuple(map(self.query, policies[index].queries)))
        return Program(
            self._scopes(program.scopes), tuple(facts), tuple(rules), tuple(checks), tuple(policies)
        )

    def predicate(self, predicate: Predicate) -> Predicate:
        terms = predicate.terms
        bound = tuple([self._whole(term) if term[0] in _BINDABLE else term for term in terms])
        return predicate if bound == terms else Predicate(predicate.name, bound)

    def rule(self, rule: Rule) -> Rule:
        head = self.predicate(rule.head)
        body = tuple(map(self.predicate, rule.body))
        expressions = tuple(map(self._expression, rule.expressions))
        return Rule(head, body, expressions, self._scopes(rule.scopes))

    def query(self, query: Query) -> Query:
        body = tuple(map(self.predicate, query.body))
        expressions = tuple(map(self._expression, query.expressions))
        return Query(body, expressions, self._scopes(query.scopes))

    def _expression(self, expression: Expression) -> Expression:
        ops = self._ops(expression.ops)
        return expression if ops is expression.ops else Expression(ops)

    def _ops(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        bound = list(ops)
        changed = False
        for index, op in enumerate(ops):
            if isinstance(op, Value):
                if op.term[0] in _BINDABLE:
                    bound[index] = Value(self._whole(op.term))
                    changed = True
            elif isinstance(op, Closure):
                bound[index] = Closure(op.params, self._ops(op.ops))
                changed = True
        return tuple(bound) if changed else ops

    def _scopes(self, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
        return tuple(self._keys[scope.name] if isinstance(scope, KeyParameter) else scope for scope in scopes)

    def _whole(self, term: Term) -> Term:
        """Binds a term of a kind in _BINDABLE that is not part of another."""
        kind, name = term
        if kind == PARAMETER:
            return self._terms[name]
        bound = self._term(term)
        if depth(bound) > MAX_DEPTH:
            raise ParameterError(f"with its parameters bound, a term is nested more than {MAX_DEPTH} deep")
        return bound

    def _term(self, term: Term) -> Term:
        kind, value = term
        if kind == PARAMETER:
            return self._terms[value]
        if kind == ARRAY:
            return (ARRAY, tuple(map(self._term, value)))
        if kind == SET:
            try:
                return make_set(map(self._term, value))
            except ValueError as error:
                raise ParameterError(f"with its parameters bound, {error}") from error
        if kind == MAP:
            return make_map((self._key(key), self._term(item)) for key, item in value)
        return term

    def _key(self, key: Term) -> Term:
        bound = self._term(key)
        if bound[0] not in (INTEGER, STRING, PARAMETER):
            raise ParameterError(f"the parameter {{{key[1]}}} is a key of a map: an integer or a string")
        return bound
