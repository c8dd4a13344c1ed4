"""Hypothesis strategies for everything that a block can hold."""

from hypothesis import strategies as st

from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyScope,
    Op,
    Predicate,
    Program,
    Query,
    Rule,
    ScopeKind,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    DATE_MAX,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    NULL_TERM,
    STRING,
    VARIABLE,
    Term,
    make_map,
    make_set,
)
from capability.keys import PrivateKey
from capability.wire.symbols import DEFAULT_SYMBOLS

KEYS = [PrivateKey(f"ed25519-private/{digit * 64}").public_key.scope for digit in "123"]

names = st.sampled_from([*DEFAULT_SYMBOLS[:4], "a", "b:c", "_1", "0"]) | st.from_regex(
    r"[A-Za-z0-9_:]{1,8}", fullmatch=True
)
strings = st.sampled_from([*DEFAULT_SYMBOLS[:4], "a", ""]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=12
)
integers = st.integers(INTEGER_MIN, INTEGER_MAX)
_scalars: list[st.SearchStrategy[Term]] = [
    st.tuples(st.just(INTEGER), integers),
    st.tuples(st.just(STRING), strings),
    st.tuples(st.just(DATE), st.integers(0, DATE_MAX)),
    st.tuples(st.just(BYTES), st.binary(max_size=8)),
    st.tuples(st.just(BOOL), st.booleans()),
]
scalars = st.one_of(_scalars) | st.just(NULL_TERM)
map_keys = st.one_of(_scalars[:2])


def _containers(members: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    arrays = st.tuples(st.just(ARRAY), st.lists(members, max_size=3).map(tuple))
    maps = st.lists(st.tuples(map_keys, members), max_size=3).map(make_map)
    sets = st.one_of([st.lists(kind, max_size=4).map(make_set) for kind in [*_scalars, arrays, maps]])
    return arrays | maps | sets


values: st.SearchStrategy[Term] = st.recursive(scalars, _containers, max_leaves=6)
variables = st.tuples(st.just(VARIABLE), names)
terms = values | variables


def predicates(of: st.SearchStrategy[Term]) -> st.SearchStrategy[Predicate]:
    return st.builds(Predicate, names, st.lists(of, min_size=1, max_size=3).map(tuple))


_TAKES_CLOSURE = {
    BinaryKind.LAZY_AND: 0,
    BinaryKind.LAZY_OR: 0,
    BinaryKind.ALL: 1,
    BinaryKind.ANY: 1,
}


@st.composite
def _operations(draw: st.DrawFn, depth: int) -> tuple[Op, ...]:
    if depth == 0 or draw(st.booleans()):
        return (Value(draw(terms)),)
    left = draw(_operations(depth - 1))
    if draw(st.booleans()):
        unary = draw(st.sampled_from(UnaryKind))
        return (*left, Unary(unary, draw(names) if unary is UnaryKind.FFI else None))
    binary = draw(st.sampled_from(BinaryKind))
    right = draw(_operations(depth - 1))
    operator = Binary(binary, draw(names) if binary is BinaryKind.FFI else None)
    if binary in _TAKES_CLOSURE:
        params = tuple(draw(names) for _ in range(_TAKES_CLOSURE[binary]))
        return (*left, Closure(params, right), operator)
    if binary is BinaryKind.TRY_OR:
        return (Closure((), left), *right, operator)
    return (*left, *right, operator)


expressions = st.builds(Expression, _operations(3))
_key_scopes: list[KeyScope] = KEYS
scopes = st.lists(st.sampled_from([*ScopeKind, *_key_scopes]), max_size=2).map(tuple)
_bodies = st.tuples(
    st.lists(predicates(terms), max_size=2).map(tuple), st.lists(expressions, max_size=2).map(tuple)
).filter(any)
queries = st.builds(lambda body, scopes: Query(body[0], body[1], scopes), _bodies, scopes)
rules = st.builds(
    lambda head, body, scopes: Rule(head, body[0], body[1], scopes), predicates(terms), _bodies, scopes
)
checks = st.builds(Check, st.sampled_from(CheckKind), st.lists(queries, min_size=1, max_size=2).map(tuple))
programs = st.builds(
    Program,
    scopes,
    st.lists(predicates(values), max_size=3).map(tuple),
    st.lists(rules, max_size=2).map(tuple),
    st.lists(checks, max_size=2).map(tuple),
)
