"""From Python values to terms, and back.

| Python | term |
| --- | --- |
| bool | bool (looked at before int, which bool is a subclass of) |
| int | integer, in the range of i64 |
| str | string |
| aware datetime | date, in whole seconds of UTC |
| bytes, bytearray | bytes |
| None | null |
| set, frozenset | set, of one type and without sets |
| list, tuple | array, always: a list of small integers is not bytes |
| dict | map, with keys of int or str |
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    DATE_MAX,
    FALSE,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    MAP,
    MAX_DEPTH,
    NULL,
    NULL_TERM,
    SET,
    STRING,
    TRUE,
    Term,
    make_map,
    make_set,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_UNHASHABLE: Final = frozenset({SET, ARRAY, MAP})


def to_term(value: object) -> Term:
    """Returns the term of a Python value.

    Raises TypeError for a type that has none (float, naive datetime, a bool as a dict's key), ValueError
    for a value that does not fit (an integer beyond 64 bits, a date before 1970, a set of several types,
    too many levels).

    >>> to_term(True), to_term(1)
    ((6, True), (2, 1))
    """
    return _to_term(value, 1)


def from_term(term: Term) -> Any:
    """Returns the Python value of a term; dates are aware, in UTC.

    A set is a `set`, or a list in term order where Python's sets could not hold it: one of arrays or maps,
    or one that evaluation made of several types. Raises ValueError for variables and parameters, which have
    no value.
    """
    kind, value = term
    if kind in (INTEGER, STRING, BYTES, BOOL, NULL):
        return value
    if kind == DATE:
        return _EPOCH + value * _SECOND
    if kind == ARRAY:
        return [from_term(item) for item in value]
    if kind == SET:
        kinds = {item_kind for item_kind, _ in value}
        items = [from_term(item) for item in value]
        return items if len(kinds) > 1 or kinds & _UNHASHABLE else set(items)
    if kind == MAP:
        return {key[1]: from_term(item) for key, item in value}
    raise ValueError("a variable or an unbound parameter has no value")


def _to_term(value: object, depth: int) -> Term:
    if depth > MAX_DEPTH:
        raise ValueError(f"terms are nested more than {MAX_DEPTH} deep")
    # Subclasses (IntEnum, StrEnum) become plain values, whose hash and text are the value's own.
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if isinstance(value, str):
        return _string(str.__str__(value))
    if isinstance(value, int):
        return _integer(int(value))
    if value is None:
        return NULL_TERM
    if isinstance(value, datetime):
        return _date(value)
    if isinstance(value, bytes | bytearray):
        return (BYTES, bytes(value))
    if isinstance(value, list | tuple):
        return (ARRAY, tuple(_to_term(item, depth + 1) for item in value))
    if isinstance(value, set | frozenset):
        return make_set(_to_term(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return make_map((_key(key), _to_term(item, depth + 1)) for key, item in value.items())
    raise TypeError(f"there is no term for a {type(value).__name__}")


def _key(key: object) -> Term:
    if isinstance(key, int | str) and not isinstance(key, bool):
        return _to_term(key, 1)
    raise TypeError(f"a key of a map is an int or a str, not a {type(key).__name__}")


def _integer(value: int) -> Term:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ValueError("an integer must fit in 64 bits")
    return (INTEGER, value)


def _string(value: str) -> Term:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string must be valid Unicode") from error
    return (STRING, value)


def _date(value: datetime) -> Term:
    if value.utcoffset() is None:
        raise TypeError("expected a datetime with non-None tzinfo")
    seconds = (value - _EPOCH) // _SECOND
    if not 0 <= seconds <= DATE_MAX:
        raise ValueError("a date must lie between 1970 and the end of 9999")
    return (DATE, seconds)
