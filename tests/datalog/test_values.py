"""Python values as terms, and terms as Python values."""

from datetime import UTC, date, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import NamedTuple

import pytest
from hypothesis import given

from capability.datalog.printer import print_term
from capability.datalog.terms import ARRAY, BOOL, INTEGER, MAP, PARAMETER, SET, STRING, VARIABLE, Term
from capability.datalog.values import from_term, to_term
from tests.datalog import strategies as s


class Number(IntEnum):
    SEVEN = 7


class Word(StrEnum):
    HELLO = "hello"


class Pair(NamedTuple):
    left: int
    right: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (-(2**63), "-9223372036854775808"),
        ("a\n", '"a\\n"'),
        (b"\x00", "hex:00"),
        (bytearray(b"\x01"), "hex:01"),
        (None, "null"),
        ({2, 1}, "{1, 2}"),
        (frozenset(["b", "a"]), '{"a", "b"}'),
        (set(), "{,}"),
        ({True}, "{true}"),
        ({(1, 2)}, "{[1, 2]}"),
        ([1, "a", None], '[1, "a", null]'),
        ([1, 2], "[1, 2]"),
        ([], "[]"),
        ((1,), "[1]"),
        (Pair(1, "b"), '[1, "b"]'),
        ({}, "{}"),
        ({"a": 1, 2: {"b": [True]}}, '{2: {"b": [true]}, "a": 1}'),
        (datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01T00:00:00Z"),
        (datetime(2020, 1, 1, microsecond=999_999, tzinfo=UTC), "2020-01-01T00:00:00Z"),
        (datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2019-12-31T23:00:00Z"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "9999-12-31T23:59:59Z"),
        (Number.SEVEN, "7"),
        (Word.HELLO, '"hello"'),
    ],
)
def test_a_value_becomes_a_term(value: object, text: str) -> None:
    assert print_term(to_term(value)) == text


def test_subclasses_of_values_become_plain_values() -> None:
    assert hash(to_term(Word.HELLO)) == hash((STRING, "hello"))
    assert type(to_term(Word.HELLO)[1]) is str
    assert type(to_term(Number.SEVEN)[1]) is int


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels - 1):
        value = [value]
    return value


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.5, TypeError, "there is no term for a float"),
        (..., TypeError, "there is no term for a ellipsis"),
        (date(2020, 1, 1), TypeError, "there is no term for a date"),
        ([1.5], TypeError, "there is no term for a float"),
        (datetime(2020, 1, 1), TypeError, "expected a datetime with non-None tzinfo"),
        ({True: 1}, TypeError, "a key of a map is an int or a str, not a bool"),
        ({b"a": 1}, TypeError, "a key of a map is an int or a str, not a bytes"),
        (2**63, ValueError, "64 bits"),
        (-(2**63) - 1, ValueError, "64 bits"),
        ({2**63: 1}, ValueError, "64 bits"),
        ("\ud800", ValueError, "valid Unicode"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), ValueError, "between 1970 and"),
        (
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=1))),
            ValueError,
            "between 1970 and",
        ),
        ({1, "a"}, ValueError, "one type only"),
        ({frozenset([1])}, ValueError, "cannot hold sets"),
        (nested(33), ValueError, "nested more than 32 deep"),
        (ENDLESS, ValueError, "nested more than 32 deep"),
    ],
)
def test_a_value_without_a_term_is_refused(value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        to_term(value)


def test_values_nest_as_deep_as_terms() -> None:
    assert from_term(to_term(nested(32))) == nested(32)


def fits_python(term: Term) -> bool:
    """Returns whether no set in the term holds arrays or maps, which are unhashable in Python."""
    kind, value = term
    if kind not in (SET, ARRAY, MAP):
        return True
    parts = [item for _, item in value] if kind == MAP else value
    return all(map(fits_python, parts)) and not (kind == SET and parts and parts[0][0] in (ARRAY, MAP))


@given(s.terms.filter(fits_python))
def test_a_term_survives_python(term: Term) -> None:
    assert to_term(from_term(term)) == term


def test_dates_come_back_aware() -> None:
    moment = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert from_term(to_term(moment)) == moment
    assert from_term(to_term(moment)).tzinfo is UTC


def test_a_set_that_python_cannot_hold_is_a_list() -> None:
    assert from_term(to_term({(1,), (0,)})) == [[0], [1]]
    assert from_term((SET, ((INTEGER, 1), (BOOL, True)))) == [1, True]


@pytest.mark.parametrize("term", [(VARIABLE, "x"), (PARAMETER, "p"), (9, ((VARIABLE, "x"),))])
def test_what_stands_for_a_value_is_none(term: Term) -> None:
    with pytest.raises(ValueError, match="has no value"):
        from_term(term)
