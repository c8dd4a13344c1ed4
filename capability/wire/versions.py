"""Block versions: which one the contents need, and which ones are read.

3 is v3.0; 4 is v3.1 (scopes, `check all`, `& | ^`, `!==`); 5 is v3.2 (third-party blocks); 6 is v3.3
(`reject if`, null, closures, lenient equality, `.type()`, extern calls, arrays and maps).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from capability.datalog.program import (
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Predicate,
    Program,
    Query,
    Rule,
    Scope,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import ARRAY, MAP, NULL, SET, Term
from capability.errors import UnsupportedVersion

Statement: TypeAlias = Predicate | Rule | Check
"""What a block holds; a predicate stands for a fact."""

MIN_VERSION: Final = 3
MAX_VERSION: Final = 6
SCOPES: Final = 4
THIRD_PARTY: Final = 5
LATEST: Final = 6

# UnaryKind and BinaryKind are numbers that overlap, so the operators of each have a table
_UNARY: Final = {UnaryKind.TYPE_OF: LATEST, UnaryKind.FFI: LATEST}
_BINARY_READ: Final = {
    BinaryKind.BITWISE_AND: SCOPES,
    BinaryKind.BITWISE_OR: SCOPES,
    BinaryKind.BITWISE_XOR: SCOPES,
    BinaryKind.STRICT_NOT_EQUAL: SCOPES,
    **{kind: LATEST for kind in BinaryKind if kind >= BinaryKind.EQUAL},
    BinaryKind.GET: MIN_VERSION,
}
_BINARY_WRITTEN: Final = {**_BINARY_READ, BinaryKind.GET: LATEST}
_CHECKS: Final = {CheckKind.IF: MIN_VERSION, CheckKind.ALL: SCOPES, CheckKind.REJECT: LATEST}


def required_version(program: Program, *, third_party: bool) -> int:
    """Returns the version to write: the lowest that has everything in `program`."""
    own = needed_by_block(program.scopes, third_party=third_party)
    return max((own, *map(needed_to_write, _statements(program))))


def check_version(declared: int, program: Program, *, third_party: bool) -> None:
    """Raises UnsupportedVersion unless a block that declares `declared` may hold `program`."""
    own = needed_by_block(program.scopes, third_party=third_party)
    check_declared(declared, max((own, *map(needed_to_read, _statements(program)))))


def check_declared(declared: int, needed: int) -> None:
    """Raises UnsupportedVersion unless a block that declares `declared` may hold what needs `needed`."""
    if not MIN_VERSION <= declared <= MAX_VERSION:
        raise UnsupportedVersion(f"block version {declared}; {MIN_VERSION} to {MAX_VERSION} are read")
    if declared < needed:
        raise UnsupportedVersion(f"the block declares version {declared} but its contents need {needed}")


def needed_by_block(scopes: Sequence[Scope], *, third_party: bool) -> int:
    """Returns the version that a block needs whatever its statements are."""
    if third_party:
        return THIRD_PARTY
    return SCOPES if scopes else MIN_VERSION


def needed_to_write(statement: Statement) -> int:
    """Returns the lowest version in which a statement may be written."""
    return _version(statement, LATEST, _BINARY_WRITTEN)


def needed_to_read(statement: Statement) -> int:
    """Returns the lowest version in which a statement is read.

    Arrays, maps, `.get` and what is inside them are read from 3 up: the Rust engine does not count them, so
    genuine tokens have them in old versions.
    """
    return _version(statement, MIN_VERSION, _BINARY_READ)


def _statements(program: Program) -> tuple[Statement, ...]:
    return (*program.facts, *program.rules, *program.checks)


def _version(statement: Statement, containers: int, binary: Mapping[BinaryKind, int]) -> int:
    """Returns the version that a statement needs, where arrays and maps count as `containers`."""
    if isinstance(statement, Predicate):
        return _of_terms(statement.terms, containers)
    if isinstance(statement, Rule):
        return max(_of_terms(statement.head.terms, containers), _of_body(statement, containers, binary))
    queries = [_of_body(query, containers, binary) for query in statement.queries]
    return max((_CHECKS[statement.kind], *queries))


def _of_body(query: Rule | Query, containers: int, binary: Mapping[BinaryKind, int]) -> int:
    needed = SCOPES if query.scopes else MIN_VERSION
    for predicate in query.body:
        needed = max(needed, _of_terms(predicate.terms, containers))
    for expression in query.expressions:
        for op in expression.ops:
            if isinstance(op, Value):
                needed = max(needed, _of_terms((op.term,), containers))
            elif isinstance(op, Closure):
                needed = LATEST
            elif isinstance(op, Unary):
                needed = max(needed, _UNARY.get(op.kind, MIN_VERSION))
            else:
                needed = max(needed, binary.get(op.kind, MIN_VERSION))
    return needed


def _of_terms(terms: Iterable[Term], containers: int) -> int:
    needed = MIN_VERSION
    for kind, value in terms:
        if kind == SET:
            needed = max(needed, _of_terms(value, containers))
        elif kind in (ARRAY, MAP):
            needed = max(needed, containers)
        elif kind == NULL:
            needed = LATEST
    return needed
