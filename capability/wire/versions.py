"""Block versions: which one the contents need, and which ones are read.

3 is v3.0; 4 is v3.1 (scopes, `check all`, `& | ^`, `!==`); 5 is v3.2 (third-party blocks); 6 is v3.3
(`reject if`, null, closures, lenient equality, `.type()`, extern calls, arrays and maps).
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from capability.datalog.program import (
    Binary,
    BinaryKind,
    CheckKind,
    Closure,
    Op,
    Predicate,
    Program,
    Query,
    Rule,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import ARRAY, MAP, NULL, SET, Term
from capability.errors import UnsupportedVersion

T = TypeVar("T")

MIN_VERSION: Final = 3
MAX_VERSION: Final = 6
SCOPES: Final = 4
THIRD_PARTY: Final = 5
LATEST: Final = 6

_UNARY: Final = {UnaryKind.TYPE_OF: LATEST, UnaryKind.FFI: LATEST}
_BINARY: Final = {
    BinaryKind.BITWISE_AND: SCOPES,
    BinaryKind.BITWISE_OR: SCOPES,
    BinaryKind.BITWISE_XOR: SCOPES,
    BinaryKind.STRICT_NOT_EQUAL: SCOPES,
    **{kind: LATEST for kind in BinaryKind if kind >= BinaryKind.EQUAL and kind is not BinaryKind.GET},
}
_CHECKS: Final = {CheckKind.IF: MIN_VERSION, CheckKind.ALL: SCOPES, CheckKind.REJECT: LATEST}


def required_version(program: Program, *, third_party: bool) -> int:
    """Returns the version to write: the lowest that has everything in `program`."""
    return _version(program, third_party, LATEST)


def check_version(declared: int, program: Program, *, third_party: bool) -> None:
    """Raises UnsupportedVersion unless a block that declares `declared` may hold `program`.

    Arrays, maps, `.get` and what is inside them are read from 3 up: the Rust engine does not count them, so
    genuine tokens have them in old versions.
    """
    if not MIN_VERSION <= declared <= MAX_VERSION:
        raise UnsupportedVersion(f"block version {declared}; {MIN_VERSION} to {MAX_VERSION} are read")
    needed = _version(program, third_party, MIN_VERSION)
    if declared < needed:
        raise UnsupportedVersion(f"the block declares version {declared} but its contents need {needed}")


def _version(program: Program, third_party: bool, containers: int) -> int:
    """Returns the version that the contents need, where arrays, maps and `.get` count as `containers`."""

    def term_version(term: Term) -> int:
        kind, value = term
        if kind in (ARRAY, MAP):
            return containers
        if kind == NULL:
            return LATEST
        return max(map(term_version, value), default=MIN_VERSION) if kind == SET else MIN_VERSION

    def op_version(op: Op) -> int:
        if isinstance(op, Value):
            return term_version(op.term)
        if isinstance(op, Unary):
            return _UNARY.get(op.kind, MIN_VERSION)
        if isinstance(op, Binary):
            return containers if op.kind is BinaryKind.GET else _BINARY.get(op.kind, MIN_VERSION)
        assert isinstance(op, Closure)
        return LATEST

    def predicate_version(predicate: Predicate) -> int:
        return _highest(term_version, predicate.terms)

    def body_version(rule: Rule | Query) -> int:
        return max(
            SCOPES if rule.scopes else MIN_VERSION,
            _highest(predicate_version, rule.body),
            _highest(lambda expression: _highest(op_version, expression.ops), rule.expressions),
        )

    return max(
        THIRD_PARTY if third_party else MIN_VERSION,
        SCOPES if program.scopes else MIN_VERSION,
        _highest(predicate_version, program.facts),
        _highest(body_version, program.rules),
        _highest(lambda rule: predicate_version(rule.head), program.rules),
        _highest(lambda check: _CHECKS[check.kind], program.checks),
        _highest(lambda check: _highest(body_version, check.queries), program.checks),
    )


def _highest(version: Callable[[T], int], items: Iterable[T]) -> int:
    return max(map(version, items), default=MIN_VERSION)
