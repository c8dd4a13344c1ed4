"""Statements without their constants: what those of one issuer have in common.

Tokens differ in a user's name and a few dates. A statement is taken apart once into its skeleton and its
constants; one skeleton stands for all statements that are equal but for these, so that two tokens are
compared by looking at a few objects, and a statement can be put together again with other constants.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias

from capability.datalog.lifting import SLOT, Lifter
from capability.datalog.operators import term_size
from capability.datalog.plans import weight_of
from capability.datalog.program import (
    Binary,
    Check,
    Closure,
    Expression,
    Op,
    Predicate,
    Query,
    Rule,
    Unary,
    Value,
)
from capability.datalog.terms import PARAMETER, VARIABLE, Term

Statement: TypeAlias = Predicate | Rule | Check
Sizes: TypeAlias = tuple[tuple[int, int], ...]

_MAX_SIZE: Final = 256
"""How large a statement may be: its terms and operations, and 16 characters of each name, are one each."""
_MAX_CONSTANTS: Final = 4096
"""How many bytes its constants may take."""
_MAX_KNOWN: Final = 4096


class Skeleton:
    """A statement whose constants were taken out. Equal only to itself: `lifted` returns one for all.

    `starts` are the places, among the constants, of the first of each query. `statement` is it with slots.
    `size` counts its terms and operations.
    """

    __slots__ = ("_fill", "size", "starts", "statement")

    def __init__(self, statement: Statement, starts: tuple[int, ...], size: int) -> None:
        self.statement = statement
        self.size = size
        self.starts = starts
        self._fill: Any = None

    def fill(self, constants: Sequence[Term]) -> Any:
        """Returns the statement with these constants, which must be of the types of those taken out."""
        if self._fill is None:
            self._fill = _filler(self.statement)
        return self._fill(constants) if callable(self._fill) else self._fill


@dataclass(frozen=True, slots=True)
class Lifted:
    """A statement taken apart.

    `sizes` are all that the bounds of an evaluation depend on in the constants of each query: what they add
    to a step, and how many times 32 bytes the largest of them takes.
    """

    skeleton: Skeleton
    constants: tuple[Term, ...]
    sizes: Sizes


_skeletons: dict[Hashable, Skeleton] = {}
_lifted: dict[int, tuple[Statement, Lifted | None]] = {}


def lifted(statement: Statement) -> Lifted | None:
    """Returns `statement` taken apart, None for one that is too large or holds a parameter.

    A rule is left whole: its skeleton is that of equal rules.
    """
    # by identity, as in `compile_rule`: the entry holds the statement, so that no other can take its id
    known = _lifted.get(id(statement))
    if known is not None and known[0] is statement:
        return known[1]
    found: Lifted | None
    if isinstance(statement, Check):
        found = _lifted_check(statement)
    elif isinstance(statement, Rule):
        found = _lifted_rule(statement)
    else:
        found = _lifted_fact(statement)
    remember(statement, found)
    return found


def remember(statement: Statement, found: Lifted | None) -> None:
    """Keeps how `statement` is taken apart, where that is known already and it is not too large."""
    if len(_lifted) >= _MAX_KNOWN:
        _lifted.clear()
    _lifted[id(statement)] = (statement, found)


def small(constants: tuple[Term, ...]) -> bool:
    """Returns whether `constants` are small enough for `remember`."""
    return sum(map(term_size, constants)) <= _MAX_CONSTANTS


def sizes_of(skeleton: Skeleton, constants: tuple[Term, ...]) -> Sizes:
    """Returns the sizes of a statement with these constants."""
    starts = skeleton.starts
    if len(starts) == 1:
        return (_size(constants),)
    return tuple(
        _size(constants[start:end]) for start, end in zip(starts, (*starts[1:], len(constants)), strict=True)
    )


def _size(constants: tuple[Term, ...]) -> tuple[int, int]:
    return (weight_of(constants), max(map(term_size, constants), default=0) >> 5)


def _lifted_fact(fact: Predicate) -> Lifted | None:
    lifter = Lifter([])
    whole = lifter.predicate(fact)
    if len(lifter.constants) < len(fact.terms):
        return None
    return _finish(whole, (0,), lifter.constants, _size_of_atom(fact))


def _lifted_check(check: Check) -> Lifted | None:
    size = sum(map(_size_of_query, check.queries))
    if size > _MAX_SIZE:
        return None
    lifter = Lifter([])
    queries, starts = [], []
    for query in check.queries:
        starts.append(len(lifter.constants))
        whole = lifter.query(query)
        queries.append(Query(whole.body, whole.expressions, query.scopes))
    return _finish(Check(check.kind, tuple(queries)), tuple(starts), lifter.constants, size)


def _lifted_rule(rule: Rule) -> Lifted | None:
    # taken apart only to look at its size
    lifter = Lifter([])
    query = Query((*rule.body, rule.head), rule.expressions)
    size = _size_of_query(query)
    if size > _MAX_SIZE:
        return None
    lifter.query(query)
    if sum(map(term_size, lifter.constants)) > _MAX_CONSTANTS:
        return None
    return _finish(rule, (0,), [], size)


def _finish(statement: Statement, starts: tuple[int, ...], constants: list[Term], size: int) -> Lifted | None:
    if size > _MAX_SIZE or sum(map(term_size, constants)) > _MAX_CONSTANTS:
        return None
    if any(kind == PARAMETER for kind, _ in constants):
        return None
    skeleton = _skeletons.get(statement)
    if skeleton is None:
        if len(_skeletons) >= _MAX_KNOWN:
            # with what was taken apart into them: it would be like nothing that is taken apart from now on
            _skeletons.clear()
            _lifted.clear()
        skeleton = _skeletons.setdefault(statement, Skeleton(statement, starts, size))
    taken = tuple(constants)
    return Lifted(skeleton, taken, sizes_of(skeleton, taken))


def _size_of_query(query: Query) -> int:
    size = len(query.scopes) + sum(map(_size_of_atom, query.body))
    return size + sum(_size_of_ops(expression.ops) for expression in query.expressions)


def _size_of_ops(ops: tuple[Op, ...]) -> int:
    size = len(ops)
    for op in ops:
        match op:
            case Closure(params, inner):
                size += sum(1 + (len(name) >> 4) for name in params) + _size_of_ops(inner)
            case Value((kind, value)) if kind == VARIABLE:
                size += len(value) >> 4
            case Unary(_, str(name)) | Binary(_, str(name)):
                size += len(name) >> 4
    return size


def _size_of_atom(atom: Predicate) -> int:
    variables = sum(len(value) >> 4 for kind, value in atom.terms if kind == VARIABLE)
    return 1 + (len(atom.name) >> 4) + len(atom.terms) + variables


def _filler(node: Any) -> Any:
    """Returns a function from constants to `node` with its slots filled, or `node` itself if it has none."""
    match node:
        case (kind, (int(index), tuple())) if kind == SLOT:
            return itemgetter(index)
        case tuple():
            return _of_parts(node, lambda parts: parts, node)
        case Value(term):
            return _of_parts((term,), lambda parts: Value(*parts), node)
        case Closure(params, ops):
            return _of_parts((ops,), lambda parts: Closure(params, *parts), node)
        case Expression(ops):
            return _of_parts((ops,), lambda parts: Expression(*parts), node)
        case Predicate(name, terms):
            return _of_parts((terms,), lambda parts: Predicate(name, *parts), node)
        case Query(body, expressions, scopes):
            return _of_parts((body, expressions), lambda parts: Query(parts[0], parts[1], scopes), node)
        case Check(check_kind, queries):
            return _of_parts((queries,), lambda parts: Check(check_kind, *parts), node)
    return node


def _of_parts(parts: Sequence[Any], make: Callable[[tuple[Any, ...]], Any], whole: Any) -> Any:
    fillers = tuple(map(_filler, parts))
    filled = tuple(map(callable, fillers))
    if not any(filled):
        return whole
    if len(fillers) == 1:
        only = fillers[0]
        return lambda constants: make((only(constants),))
    steps = tuple(zip(filled, fillers, strict=True))
    return lambda constants: make(tuple([part(constants) if full else part for full, part in steps]))
