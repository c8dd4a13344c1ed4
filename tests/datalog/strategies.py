"""Hypothesis strategies for the data model: everything that the wire can bring and that is well formed.

Rules and queries are safe: heads and expressions use only variables that the body binds. Expressions are
well-formed postfix operations; they need not hold the Parens operators with which a source would write
them.
"""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from capability.datalog import terms as t
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyParameter,
    KeyScope,
    Op,
    Policy,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    Scope,
    ScopeKind,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.safety import unbound_variables
from capability.datalog.terms import Term

_KEYWORDS = ("or", "if", "check", "true", "null", "trusting", "authority", "hex:00", "length", "allow", "Or")
_LAZY = (BinaryKind.LAZY_AND, BinaryKind.LAZY_OR)
_EACH = (BinaryKind.ALL, BinaryKind.ANY)
_PLAIN = tuple(kind for kind in BinaryKind if kind not in (*_LAZY, *_EACH, BinaryKind.FFI, BinaryKind.TRY_OR))

names: SearchStrategy[str] = st.one_of(
    st.sampled_from(_KEYWORDS), st.text("abzABZ0189_:", min_size=1, max_size=5)
)
"""Names of predicates and extern functions, keywords and digits among them."""
variable_names: SearchStrategy[str] = st.sampled_from(["x", "y", "0", "a:b", "_"])
parameter_names: SearchStrategy[str] = st.sampled_from(["p", "q", "TRUE", "hex:zz", "n:1"])

integers: SearchStrategy[Term] = st.integers(t.INTEGER_MIN, t.INTEGER_MAX).map(
    lambda value: (t.INTEGER, value)
)
strings: SearchStrategy[Term] = st.text(st.characters(codec="utf-8"), max_size=12).map(
    lambda value: (t.STRING, value)
)
dates: SearchStrategy[Term] = st.integers(0, t.DATE_MAX).map(lambda value: (t.DATE, value))
byte_strings: SearchStrategy[Term] = st.binary(max_size=8).map(lambda value: (t.BYTES, value))
booleans: SearchStrategy[Term] = st.booleans().map(lambda value: (t.BOOL, value))
nulls: SearchStrategy[Term] = st.just(t.NULL_TERM)
parameters: SearchStrategy[Term] = parameter_names.map(lambda name: (t.PARAMETER, name))
scalars: SearchStrategy[Term] = st.one_of(integers, strings, dates, byte_strings, booleans, nulls)


def _one_kind(items: Sequence[Term]) -> Term:
    fitting = [item for item in items if item[0] != t.SET]
    return t.make_set([item for item in fitting if item[0] in (fitting[0][0], t.PARAMETER)])


def _containers(members: SearchStrategy[Term], keys: SearchStrategy[Term]) -> SearchStrategy[Term]:
    few = st.lists(members, max_size=3)
    return st.one_of(
        few.map(_one_kind),
        few.map(lambda items: (t.ARRAY, tuple(items))),
        st.lists(st.tuples(keys, members), max_size=3).map(t.make_map),
    )


def _terms(leaves: SearchStrategy[Term], keys: SearchStrategy[Term]) -> SearchStrategy[Term]:
    return st.recursive(leaves, lambda members: _containers(members, keys), max_leaves=6)


terms: SearchStrategy[Term] = _terms(scalars, integers | strings)
"""Terms without variables and parameters."""
open_terms: SearchStrategy[Term] = _terms(scalars | parameters, integers | strings | parameters)
"""Terms in which parameters may stand, as map keys too."""

key_scopes: SearchStrategy[Scope] = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda key: KeyScope(0, key)),
    st.binary(min_size=33, max_size=33).map(lambda key: KeyScope(1, key)),
)
"""Keys of the right length, most of which no key reader would take."""
scopes: SearchStrategy[Scope] = st.sampled_from(ScopeKind) | key_scopes
open_scopes: SearchStrategy[Scope] = scopes | parameter_names.map(KeyParameter)


variables: SearchStrategy[Term] = variable_names.map(lambda name: (t.VARIABLE, name))


def _then(*operators: Binary) -> SearchStrategy[tuple[Op, ...]]:
    return st.sampled_from([(operator,) for operator in operators])


def _chain(*parts: SearchStrategy[tuple[Op, ...]]) -> SearchStrategy[tuple[Op, ...]]:
    return st.tuples(*parts).map(lambda found: tuple(op for part in found for op in part))


def _operations(values: SearchStrategy[Term], depth: int) -> SearchStrategy[tuple[Op, ...]]:
    """Postfix operations that leave one value, nested at most `depth` deep."""
    found: SearchStrategy[tuple[Op, ...]] = values.map(lambda term: (Value(term),))
    for _ in range(depth):
        part = found
        lazy = part.map(lambda ops: (Closure((), ops),))
        each = st.tuples(variable_names, part).map(lambda pair: (Closure((pair[0],), pair[1]),))
        unary = st.sampled_from([(Unary(kind),) for kind in UnaryKind if kind != UnaryKind.FFI])
        found = st.one_of(
            part,
            _chain(part, unary | names.map(lambda name: (Unary(UnaryKind.FFI, name),))),
            _chain(part, part, _then(*map(Binary, _PLAIN))),
            _chain(part, part, names.map(lambda name: (Binary(BinaryKind.FFI, name),))),
            _chain(part, lazy, _then(*map(Binary, _LAZY))),
            _chain(part, each, _then(*map(Binary, _EACH))),
            _chain(lazy, part, _then(Binary(BinaryKind.TRY_OR))),
        )
    return found


def expressions(values: SearchStrategy[Term] = terms, depth: int = 4) -> SearchStrategy[Expression]:
    """Well-formed expressions over `values`, which may be variables."""
    return _operations(values, depth).map(Expression)


def facts(values: SearchStrategy[Term] = terms) -> SearchStrategy[Predicate]:
    """Predicates of one to three `values`, which are facts if no variable is among these."""
    return st.builds(Predicate, names, st.lists(values, min_size=1, max_size=3).map(tuple))


def _query(
    body: list[Predicate], using: list[Expression], trusted: list[Scope], head: Predicate | None = None
) -> Query:
    """Returns a query in which a predicate more binds whatever would be unbound."""
    unbound = unbound_variables(head, body, using)
    if unbound or not (body or using):
        body = [*body, Predicate("bound", tuple((t.VARIABLE, name) for name in unbound or ("x",)))]
    return Query(tuple(body), tuple(using), tuple(trusted))


def _rule(head: Predicate, body: list[Predicate], using: list[Expression], trusted: list[Scope]) -> Rule:
    query = _query(body, using, trusted, head)
    return Rule(head, query.body, query.expressions, query.scopes)


def queries(
    values: SearchStrategy[Term] = terms, trusted: SearchStrategy[Scope] = scopes
) -> SearchStrategy[Query]:
    """Queries of predicates, expressions or both."""
    holding = values | variables
    few = st.lists(expressions(holding, 3), max_size=2)
    return st.builds(_query, st.lists(facts(holding), max_size=2), few, st.lists(trusted, max_size=2))


def rules(
    values: SearchStrategy[Term] = terms, trusted: SearchStrategy[Scope] = scopes
) -> SearchStrategy[Rule]:
    """Rules of predicates, expressions or both."""
    holding = facts(values | variables)
    few = st.lists(expressions(values | variables, 3), max_size=2)
    return st.builds(_rule, holding, st.lists(holding, max_size=2), few, st.lists(trusted, max_size=2))


def checks(
    values: SearchStrategy[Term] = terms, trusted: SearchStrategy[Scope] = scopes
) -> SearchStrategy[Check]:
    """Checks of all kinds, with one or two alternatives."""
    some = st.lists(queries(values, trusted), min_size=1, max_size=2).map(tuple)
    return st.builds(Check, st.sampled_from(CheckKind), some)


def policies(
    values: SearchStrategy[Term] = terms, trusted: SearchStrategy[Scope] = scopes
) -> SearchStrategy[Policy]:
    """Policies of both kinds, with one or two alternatives."""
    some = st.lists(queries(values, trusted), min_size=1, max_size=2).map(tuple)
    return st.builds(Policy, st.sampled_from(PolicyKind), some)


def programs(
    values: SearchStrategy[Term] = terms, trusted: SearchStrategy[Scope] = scopes
) -> SearchStrategy[Program]:
    """Programs of authorizers."""
    return st.builds(
        Program,
        st.lists(trusted, max_size=2).map(tuple),
        st.lists(facts(values), max_size=2).map(tuple),
        st.lists(rules(values, trusted), max_size=2).map(tuple),
        st.lists(checks(values, trusted), max_size=2).map(tuple),
        st.lists(policies(values, trusted), max_size=2).map(tuple),
    )


def blocks(
    values: SearchStrategy[Term] = terms, trusted: SearchStrategy[Scope] = scopes
) -> SearchStrategy[Program]:
    """Programs of blocks, which have no policies."""
    return programs(values, trusted).map(
        lambda program: Program(program.scopes, program.facts, program.rules, program.checks)
    )
