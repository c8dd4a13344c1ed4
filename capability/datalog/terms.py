"""Datalog values: small tagged tuples `(kind, value)`.

The kind is part of the value, so that 1, true and a date of one second never meet, although
Python holds `1 == True` and hashes them alike. Kinds are the field numbers of the wire format, and
they are also the order in which values of different types sort, so Python's own ordering of tuples
is the order of sets, of maps and of everything that is printed.

| kind | value in Python |
| --- | --- |
| PARAMETER | name (str); only in source that has not been bound yet |
| VARIABLE | name (str), without the `$` |
| INTEGER | int in the range of i64 |
| STRING | str that encodes as UTF-8 |
| DATE | int, seconds since 1970 in UTC |
| BYTES | bytes |
| BOOL | bool |
| SET | tuple of terms, sorted, without duplicates, all of one kind |
| NULL | None |
| ARRAY | tuple of terms |
| MAP | tuple of (key term, value term), sorted by key; keys are INTEGER or STRING |
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

Term: TypeAlias = tuple[int, Any]

PARAMETER: Final = 0
VARIABLE: Final = 1
INTEGER: Final = 2
STRING: Final = 3
DATE: Final = 4
BYTES: Final = 5
BOOL: Final = 6
SET: Final = 7
NULL: Final = 8
ARRAY: Final = 9
MAP: Final = 10

KIND_NAMES: Final = {
    INTEGER: "integer",
    STRING: "string",
    DATE: "date",
    BYTES: "bytes",
    BOOL: "bool",
    SET: "set",
    NULL: "null",
    ARRAY: "array",
    MAP: "map",
}
"""What `.type()` answers, by kind."""

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
DATE_MAX: Final = 253402300799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can write."""
MAX_DEPTH: Final = 32
"""How deeply terms may nest, on every way in and out; a term within closures nests with them."""

TRUE: Final[Term] = (BOOL, True)
FALSE: Final[Term] = (BOOL, False)
NULL_TERM: Final[Term] = (NULL, None)


def depth(term: Term) -> int:
    """Returns how many levels a term has: one for itself, and those of what it contains."""
    kind, value = term
    if kind in (SET, ARRAY):
        return 1 + max(map(depth, value), default=0)
    return 1 + max((depth(item) for _, item in value), default=0) if kind == MAP else 1


def make_set(items: Iterable[Term]) -> Term:
    """Returns the set of `items`; raises ValueError for mixed kinds, nested sets and variables."""
    members = tuple(sorted(set(items)))
    kinds = {kind for kind, _ in members} - {PARAMETER}
    if len(kinds) > 1:
        raise ValueError("a set holds values of one type only")
    if kinds & {SET, VARIABLE}:
        raise ValueError("a set cannot hold sets or variables")
    return (SET, members)


def make_map(entries: Iterable[tuple[Term, Term]]) -> Term:
    """Returns the map of `entries`, in which the last of several equal keys wins."""
    return (MAP, tuple(sorted(dict(entries).items())))


def byte_length(text: str) -> int:
    """Returns the length of `text` in UTF-8, which is what the language counts."""
    return len(text) if text.isascii() else len(text.encode())
