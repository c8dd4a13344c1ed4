"""What a token still allows, read off its checks without running them: for people, logs and listings.

Only checks of the known forms are read: on one fact of the vocabulary, with its values listed, compared or
prefixed, or with a bound on the time. Every other check can only narrow further, so the answers are upper
bounds. They never decide anything.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

from capability.attenuation import DEFAULT_VOCABULARY, Vocabulary
from capability.datalog.immutable import immutable
from capability.datalog.program import (
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Op,
    Predicate,
    Program,
    Query,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import ARRAY, DATE, DATE_MAX, MAX_DEPTH, SET, STRING, VARIABLE, Term

SUBJECT_NAMES: Final = ("subject", "user", "service", "agent")
"""The facts of the authority block that name whom a token is for, the first of them winning."""

_AND: Final = (BinaryKind.LAZY_AND, BinaryKind.AND)
_OR: Final = (BinaryKind.LAZY_OR, BinaryKind.OR)
_EQUAL: Final = (BinaryKind.EQUAL, BinaryKind.STRICT_EQUAL)
_MIRRORED: Final = {
    BinaryKind.LESS_THAN: BinaryKind.GREATER_THAN,
    BinaryKind.LESS_OR_EQUAL: BinaryKind.GREATER_OR_EQUAL,
    BinaryKind.GREATER_THAN: BinaryKind.LESS_THAN,
    BinaryKind.GREATER_OR_EQUAL: BinaryKind.LESS_OR_EQUAL,
}


class Pattern(NamedTuple):
    """A value, or with `open_ended` everything that begins with it."""

    text: str
    open_ended: bool = False

    def __str__(self) -> str:
        return self.text + "*" if self.open_ended else self.text


@immutable
class Window:
    """When a check can hold, in seconds since 1970; None is an open end.

    `ended_at` and `begun_at` are the first second that is too late, and the first that is not too early.
    """

    begun_at: int | None = None
    ended_at: int | None = None


@immutable
class Remaining:
    """What is left of a token after all of its blocks; None: nothing is said about it, so all.

    The tuples hold values; one that ends in `*` stands for everything that begins so. An empty tuple: nothing
    is left.
    """

    applications: tuple[str, ...] | None
    operations: tuple[str, ...] | None
    tenants: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    expires: datetime | None
    not_before: datetime | None


def remaining(programs: Iterable[Program], vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> Remaining:
    """Returns what the blocks of a token, taken together, still allow."""
    checks = [check for program in programs for check in program.checks]
    begins, ends = _bounds(checks, vocabulary)
    return Remaining(
        applications=_left(checks, vocabulary.application),
        operations=_left(checks, vocabulary.operation),
        tenants=_left(checks, vocabulary.tenant),
        resources=_left(checks, vocabulary.resource),
        expires=_moment(ends),
        not_before=_moment(begins),
    )


def expiry(programs: Iterable[Program], vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> datetime | None:
    """Returns the earliest time that any block asks for as the last one, or None."""
    _, ends = _bounds([check for program in programs for check in program.checks], vocabulary)
    return _moment(ends)


def certain_expiry(
    programs: Sequence[Program], vocabulary: Vocabulary = DEFAULT_VOCABULARY
) -> datetime | None:
    """Returns a time after which no token with these first blocks can be valid, or None if none is certain.

    What `expiry` reads can be got around where a token tells the time itself, or where a check trusts a
    block that is still to come; such checks do not count here.
    """
    heads = [*(fact for program in programs for fact in program.facts)]
    heads += [rule.head for program in programs for rule in program.rules]
    if any(predicate.name == vocabulary.time for predicate in heads):
        return None
    plain = [
        replace(program, checks=tuple(each for each in program.checks if not _is_scoped(each)))
        for program in programs
        if not program.scopes
    ]
    return expiry(plain, vocabulary)


def _is_scoped(check: Check) -> bool:
    return any(query.scopes for query in check.queries)


def subject(authority: Program) -> str | None:
    """Returns whom the authority block names: the first string in its fact of SUBJECT_NAMES, or None."""
    for name in SUBJECT_NAMES:
        for fact in authority.facts:
            if fact.name == name:
                kind, value = fact.terms[0]
                if kind == STRING:
                    return str(value)
    return None


def window(check: Check, name: str = DEFAULT_VOCABULARY.time) -> Window | None:
    """Returns when `check` can hold, or None when it says nothing about `name` (the fact with the time)."""
    if check.kind is CheckKind.REJECT or not check.queries:
        return None
    windows = [_query_window(query, name) for query in check.queries]
    known = [found for found in windows if found is not None]
    if len(known) < len(windows):
        return None
    begins = [found.begun_at for found in known if found.begun_at is not None]
    ends = [found.ended_at for found in known if found.ended_at is not None]
    return Window(
        min(begins) if len(begins) == len(known) else None, max(ends) if len(ends) == len(known) else None
    )


def _bounds(checks: Sequence[Check], vocabulary: Vocabulary) -> tuple[int | None, int | None]:
    windows = [found for check in checks if (found := window(check, vocabulary.time)) is not None]
    begins = [found.begun_at for found in windows if found.begun_at is not None]
    ends = [found.ended_at - 1 for found in windows if found.ended_at is not None]
    return max(begins, default=None), min(ends, default=None)


def _moment(seconds: int | None) -> datetime | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(min(max(seconds, 0), DATE_MAX), UTC)


def _query_window(query: Query, name: str) -> Window | None:
    variables = _variables(query, name)
    begins: list[int] = []
    ends: list[int] = []
    for condition in _conditions(query):
        for bound, operator in _time_bounds(condition, variables):
            if operator is BinaryKind.LESS_THAN:
                ends.append(bound)
            elif operator is BinaryKind.LESS_OR_EQUAL:
                ends.append(bound + 1)
            elif operator is BinaryKind.GREATER_THAN:
                begins.append(bound + 1)
            else:
                begins.append(bound)
    if not begins and not ends:
        return None
    return Window(max(begins, default=None), min(ends, default=None))


def _time_bounds(condition: "_Node", variables: frozenset[str]) -> list[tuple[int, BinaryKind]]:
    if not isinstance(condition, _Branch) or condition.kind not in _MIRRORED:
        return []
    match condition.left, condition.right:
        case _Leaf((kind, name)), _Leaf((other, bound)) if kind == VARIABLE and other == DATE:
            return [(bound, condition.kind)] if name in variables else []
        case _Leaf((kind, bound)), _Leaf((other, name)) if kind == DATE and other == VARIABLE:
            return [(bound, _MIRRORED[condition.kind])] if name in variables else []
    return []


def _left(checks: Sequence[Check], name: str) -> tuple[str, ...] | None:
    left: frozenset[Pattern] | None = None
    for check in checks:
        found = _check_patterns(check, name)
        if found is not None:
            left = found if left is None else _both(left, found)
    return None if left is None else tuple(sorted(str(pattern) for pattern in left))


def _check_patterns(check: Check, name: str) -> frozenset[Pattern] | None:
    """Returns what the fact `name` may say for `check` to hold, None when any value would do."""
    if check.kind is CheckKind.REJECT or not check.queries:
        return None
    found: frozenset[Pattern] = frozenset()
    for query in check.queries:
        patterns = _query_patterns(query, name)
        if patterns is None:
            return None
        found |= patterns
    return found


def _query_patterns(query: Query, name: str) -> frozenset[Pattern] | None:
    variables = _variables(query, name)
    found: frozenset[Pattern] | None = None
    for predicate in query.body:
        if predicate.name == name and len(predicate.terms) == 1 and predicate.terms[0][0] == STRING:
            exact = frozenset([Pattern(predicate.terms[0][1])])
            found = exact if found is None else _both(found, exact)
    for condition in _conditions(query):
        patterns = _patterns(condition, variables)
        if patterns is not None:
            found = patterns if found is None else _both(found, patterns)
    return found


def _patterns(node: "_Node", variables: frozenset[str]) -> frozenset[Pattern] | None:
    """Returns the values of a variable for which `node` is true, None when it cannot be told."""
    found: frozenset[Pattern] = frozenset()
    for alternative in _flat(node, _OR):
        patterns = _alternative_patterns(alternative, variables)
        if patterns is None:
            return None
        found |= patterns
    return found


def _alternative_patterns(node: "_Node", variables: frozenset[str]) -> frozenset[Pattern] | None:
    if not isinstance(node, _Branch) or not isinstance(node.left, _Leaf) or not isinstance(node.right, _Leaf):
        return None
    (left_kind, left_value), (right_kind, right_value) = node.left.term, node.right.term
    if node.kind is BinaryKind.CONTAINS and left_kind in (SET, ARRAY):
        if right_kind == VARIABLE and right_value in variables:
            return frozenset(Pattern(value) for kind, value in left_value if kind == STRING)
        return None
    if left_kind == VARIABLE and left_value in variables and right_kind == STRING:
        if node.kind in _EQUAL:
            return frozenset([Pattern(right_value)])
        if node.kind is BinaryKind.PREFIX:
            return frozenset([Pattern(right_value, open_ended=True)])
    if left_kind == STRING and right_kind == VARIABLE and right_value in variables and node.kind in _EQUAL:
        return frozenset([Pattern(left_value)])
    return None


def _both(left: frozenset[Pattern], right: frozenset[Pattern]) -> frozenset[Pattern]:
    """Returns the values that fit one of `left` and one of `right`."""
    return frozenset((*_within(left, right), *_within(right, left)))


def _within(patterns: frozenset[Pattern], others: frozenset[Pattern]) -> Iterator[Pattern]:
    """Yields the patterns that one of `others` covers.

    Prefixes are looked up by length, never compared one by one: a token can list thousands on both sides.
    """
    prefixes = {other.text for other in others if other.open_ended}
    lengths = {len(prefix) for prefix in prefixes}
    for pattern in patterns:
        if pattern in others or any(pattern.text[:length] in prefixes for length in lengths):
            yield pattern


def _variables(query: Query, name: str) -> frozenset[str]:
    """Returns the variables that stand for the term of the fact `name`."""

    def fits(predicate: Predicate) -> bool:
        return predicate.name == name and len(predicate.terms) == 1 and predicate.terms[0][0] == VARIABLE

    return frozenset(predicate.terms[0][1] for predicate in query.body if fits(predicate))


@immutable
class _Leaf:
    term: Term


@immutable
class _Branch:
    kind: BinaryKind
    left: "_Node"
    right: "_Node"


_Node = _Leaf | _Branch | None
"""An expression as a tree; None for an operation that no known form has."""


def _conditions(query: Query) -> list[_Node]:
    """Returns the expressions of `query` as trees, those that are joined by `&&` apart."""
    return [part for expression in query.expressions for part in _flat(_tree(expression.ops), _AND)]


def _flat(node: _Node, operators: tuple[BinaryKind, BinaryKind]) -> list[_Node]:
    """Returns what `operators` join in `node`; without recursion, as a token may hold thousands of them."""
    found: list[_Node] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Branch) and node.kind in operators:
            waiting += [node.right, node.left]
        else:
            found.append(node)
    return found


def _tree(ops: tuple[Op, ...], depth: int = 0) -> _Node:
    if depth > MAX_DEPTH:
        return None
    stack: list[_Node] = []
    for op in ops:
        if isinstance(op, Value):
            stack.append(_Leaf(op.term))
        elif isinstance(op, Closure):
            stack.append(None if op.params else _tree(op.ops, depth + 1))
        elif isinstance(op, Unary):
            if op.kind is not UnaryKind.PARENS and stack:
                stack[-1] = None
        elif len(stack) >= 2:
            right, left = stack.pop(), stack.pop()
            stack.append(_Branch(op.kind, left, right))
        else:
            return None
    return stack[-1] if len(stack) == 1 else None
