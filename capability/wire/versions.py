"""Block versions: which one the contents need, and which ones are read.

3 is v3.0; 4 is v3.1 (scopes, `check all`, `& | ^`, `!==`); 5 is v3.2 (third-party blocks); 6 is v3.3
(`reject if`, null, closures, lenient equality, `.type()`, extern calls, arrays and maps).
"""

from collections.abc import Iterable
from typing import Final

from capability.datalog.program import (
    BinaryKind,
    CheckKind,
    Closure,
    Program,
    Query,
    Rule,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import ARRAY, MAP, NULL, SET, Term
from capability.errors import UnsupportedVersion

MIN_VERSION: Final = 3
MAX_VERSION: Final = 6
SCOPES: Final = 4
THIRD_PARTY: Final = 5
LATEST: Final = 6

# UnaryKind and BinaryKind are numbers that overlap, so the operators of each have a table
_UNARY: Final = {UnaryKind.TYPE_OF: LATEST, UnaryKind.FFI: LATEST}
_BINARY: Final = {
    BinaryKind.BITWISE_AND: SCOPES,
    BinaryKind.BITWISE_OR: SCOPES,
    BinaryKind.BITWISE_XOR: SCOPES,
    BinaryKind.STRICT_NOT_EQUAL: SCOPES,
    **{kind: LATEST for kind in BinaryKind if kind >= BinaryKind.EQUAL},
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
    binary = {**_BINARY, BinaryKind.GET: containers}
    needed = {MIN_VERSION}

    def add_terms(terms: Iterable[Term]) -> None:
        for kind, value in terms:
            if kind == SET:
                add_terms(value)
            elif kind in (ARRAY, MAP):
                needed.add(containers)
            elif kind == NULL:
                needed.add(LATEST)

    def add_body(query: Rule | Query) -> None:
        if query.scopes:
            needed.add(SCOPES)
        for predicate in query.body:
            add_terms(predicate.terms)
        for expression in query.expressions:
            for op in expression.ops:
                if isinstance(op, Value):
                    add_terms((op.term,))
                elif isinstance(op, Closure):
                    needed.add(LATEST)
                elif isinstance(op, Unary):
                    needed.add(_UNARY.get(op.kind, MIN_VERSION))
                else:
                    needed.add(binary.get(op.kind, MIN_VERSION))

    if third_party:
        needed.add(THIRD_PARTY)
    if program.scopes:
        needed.add(SCOPES)
    for fact in program.facts:
        add_terms(fact.terms)
    for rule in program.rules:
        add_terms(rule.head.terms)
        add_body(rule)
    for check in program.checks:
        needed.add(_CHECKS[check.kind])
        for query in check.queries:
            add_body(query)
    return max(needed)
