"""Every operator on every pair of types, by a table of our own and beside the Rust engine."""

from itertools import product

import pytest

from capability.datalog.errors import EvaluationError, EvaluationReason
from capability.datalog.limits import Limits, Meter
from capability.datalog.operators import BINARY, MAX_STRING, UNARY, Context
from capability.datalog.parser import parse_check, parse_term
from capability.datalog.plans import compile_rule
from capability.datalog.printer import print_term
from capability.datalog.program import BinaryKind, UnaryKind
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    DATE,
    FALSE,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    NULL_TERM,
    SET,
    STRING,
    TRUE,
    Term,
)
from tests.datalog import peer

VALUES = {
    "integer": ("0", "3", "-7", str(INTEGER_MAX), str(INTEGER_MIN)),
    "string": ('""', '"a"', '"ab"', '"é"'),
    "date": ("1970-01-01T00:00:03Z", "2026-01-01T00:00:00Z"),
    "bytes": ("hex:61", "hex:6162"),
    "bool": ("true", "false"),
    "set": ("{3}", "{3, 4}", '{"a"}', "{,}"),
    "null": ("null",),
    "array": ('[3, "a"]', "[3]", '["a"]', "[]"),
    "map": ('{"a": 3}', "{3: 1}", "{}"),
}

INFIX = ("<", ">", "<=", ">=", "===", "!==", "==", "!=", "+", "-", "*", "/", "&", "|", "^")
METHODS = ("contains", "starts_with", "ends_with", "matches", "intersection", "union", "get")
BINARY_SOURCES = (
    *(f"({{0}}) {operator} ({{1}})" for operator in INFIX),
    *(f"({{0}}).{method}({{1}})" for method in METHODS),
    "({0}) && ({1})",
    "({0}) || ({1})",
    "({0}).any($p -> {1})",
    "({0}).all($p -> {1})",
    "({0}).any($p -> $p == ({1}))",
    "({0}).all($p -> $p == ({1}))",
    "({0}).try_or({1})",
    "(({0}) + 1 > 0).try_or({1})",
)
UNARY_SOURCES = ("!({0})", "({0}).length()", "({0}).type()", "(({0}))")


def value_of(source: str) -> Term:
    """Returns the value of an expression without variables; raises EvaluationError."""
    compiled = compile_rule(parse_check(f"check if {source}").queries[0])
    (evaluate,) = compiled.plan.join(None).conditions
    return evaluate((Context(Meter(Limits()), {}), *compiled.constants))


def assert_same(source: str) -> None:
    """Both engines give the same value, or fail with the same words."""
    failure = None
    try:
        value = value_of(source)
    except EvaluationError as error:
        failure = str(error)
    if failure is not None:
        assert peer.holds(f'({source}).type() == "set"') == failure, source
        return
    if value[0] == SET and len({kind for kind, _ in value[1]}) > 1:
        # Only a union makes a set of two types, and no source can write one to compare it with.
        assert peer.holds(f"({source}).length() == {len(value[1])}") is True, source
        return
    assert peer.holds(f"({source}) === {print_term(value)}") is True, (source, print_term(value))


@pytest.mark.parametrize("left", VALUES)
@pytest.mark.parametrize("template", BINARY_SOURCES)
def test_binary_operators_agree_with_the_rust_engine(template: str, left: str) -> None:
    for right in VALUES:
        for pair in product(VALUES[left], VALUES[right]):
            assert_same(template.format(*pair))


@pytest.mark.parametrize("template", UNARY_SOURCES)
def test_unary_operators_agree_with_the_rust_engine(template: str) -> None:
    for sources in VALUES.values():
        for source in sources:
            assert_same(template.format(source))


def test_every_operator_of_the_wire_is_known() -> None:
    closures = {BinaryKind.LAZY_AND, BinaryKind.LAZY_OR, BinaryKind.ANY, BinaryKind.ALL, BinaryKind.TRY_OR}
    assert set(BINARY) == set(BinaryKind) - closures - {BinaryKind.FFI}
    assert set(UNARY) == set(UnaryKind) - {UnaryKind.FFI}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2", "3"),
        ("-7 / 2", "-3"),
        ("7 / -2", "-3"),
        ("-7 / -2", "3"),
        ("9223372036854775806 + 1", "9223372036854775807"),
        ("-9223372036854775807 - 1", "-9223372036854775808"),
        ("6 & 3", "2"),
        ("6 | 3", "7"),
        ("6 ^ 3", "5"),
        ("-1 & 9223372036854775807", "9223372036854775807"),
        ('"a" + "é"', '"aé"'),
        ('"é".length()', "2"),
        ('"𝄞".length()', "4"),
        ("hex:0001ff.length()", "3"),
        ("{1, 2}.length()", "2"),
        ("[1, 1].length()", "2"),
        ('{"a": 1, "a": 2}.length()', "1"),
        ('{"a": 1, "a": 2}.get("a")', "2"),
        ("{1}.intersection({2})", "{,}"),
        ('{1}.intersection({"a"})', "{,}"),
        ("{1, 2}.intersection({2, 3})", "{2}"),
        ("{1}.union({0})", "{0, 1}"),
        ("[1, 2].get(1)", "2"),
        ("[1, 2].get(2)", "null"),
        ("[1, 2].get(-1)", "null"),
        ('{"a": 1}.get("b")', "null"),
        ('{1: "a"}.get(1)', '"a"'),
        ("1.type()", '"integer"'),
        ("1970-01-01T00:00:01Z.type()", '"date"'),
        ("null.type()", '"null"'),
        ("{,}.type()", '"set"'),
        ("{}.type()", '"map"'),
        ("(false || 1)", "1"),
        ("(true && 1)", "1"),
        ("(1 / 0).try_or(2)", "2"),
        ("(9223372036854775807 + 1).try_or(null)", "null"),
        ("[1, 2].starts_with([1])", "true"),
        ("[1, 2].ends_with([2])", "true"),
        ("[1, 2].ends_with([])", "true"),
        ("[1].ends_with([2, 1])", "false"),
        ('"ab".starts_with("")', "true"),
        ('"abc".contains("bc")', "true"),
        ("{1, 2}.contains({1})", "true"),
        ("{1}.contains({1, 2})", "false"),
        ('{1}.contains("a")', "false"),
        ("[null].contains(null)", "true"),
        ('{"a": 1}.contains("a")', "true"),
        ('{"a": 1}.contains(true)', "false"),
        ("1 == true", "false"),
        ("1 != 1970-01-01T00:00:01Z", "true"),
        ("[1] == [true]", "false"),
        ("{1} == {true}", "false"),
        ('"1" == 1', "false"),
        ('hex:61 == "a"', "false"),
        ("null == null", "true"),
        ("null == false", "false"),
        ("[1] === [true]", "false"),
        ("{,} === {1}", "false"),
        ("{1: 2}.any($e -> $e.get(0) == 1 && $e.get(1) == 2)", "true"),
        ("[].all($x -> false)", "true"),
        ("[].any($x -> true)", "false"),
        ("[1, 0].any($x -> 1 / $x == 1)", "true"),
        ("[2, 0].all($x -> 1 / $x == 1)", "false"),
    ],
)
def test_values(source: str, expected: str) -> None:
    assert value_of(source) == parse_term(expected)


_OVERFLOW = EvaluationReason.OVERFLOW
_ZERO = EvaluationReason.DIVISION_BY_ZERO
_TYPE = EvaluationReason.INVALID_TYPE


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("9223372036854775807 + 1", _OVERFLOW),
        ("-9223372036854775808 - 1", _OVERFLOW),
        ("4294967296 * 2147483648", _OVERFLOW),
        ("1 / 0", _ZERO),
        ("-9223372036854775808 / -1", _ZERO),
        ('1 + "a"', _TYPE),
        ('"a" - "a"', _TYPE),
        ('"a" < "b"', _TYPE),
        ("hex:61 < hex:62", _TYPE),
        ("true < false", _TYPE),
        ("1 < 1970-01-01T00:00:01Z", _TYPE),
        ("hex:61 + hex:62", _TYPE),
        ("hex:6162.contains(hex:61)", _TYPE),
        ("1 === true", _TYPE),
        ("1 !== 1970-01-01T00:00:01Z", _TYPE),
        ("null === 1", _TYPE),
        ("{1}.contains(null)", _TYPE),
        ("{1}.contains([1])", _TYPE),
        ("{1}.contains({})", _TYPE),
        ('[1].get("a")', _TYPE),
        ("[1].get(null)", _TYPE),
        ("{1: 1}.get(true)", _TYPE),
        ("{1}.get(1)", _TYPE),
        ("1.length()", _TYPE),
        ("null.length()", _TYPE),
        ("!1", _TYPE),
        ("1 && true", _TYPE),
        ("1 || true", _TYPE),
        ("true &&! 1", _TYPE),
        ("true ||! 1", _TYPE),
        ("false &&! 1", _TYPE),
        ("[1].any($x -> $x)", _TYPE),
        ("1.any($x -> true)", _TYPE),
        ('1.matches("a")', _TYPE),
    ],
)
def test_failures(source: str, reason: EvaluationReason) -> None:
    with pytest.raises(EvaluationError) as raised:
        value_of(source)
    assert raised.value.reason is reason
    assert raised.value.code == f"execution.{reason.value}"


def test_one_and_true_and_the_first_second_never_meet() -> None:
    """Python holds 1 == True, and hashes 1, True and 1.0 alike; so does a date that is held as seconds."""
    ones: list[Term] = [(INTEGER, 1), (BOOL, True), (DATE, 1)]
    for kind in (ARRAY, SET):
        wrapped: list[Term] = [(kind, (one,)) for one in ones]
        for left, right in product(range(3), repeat=2):
            context = Context(Meter(Limits()), {})
            equal = TRUE if left == right else FALSE
            assert BINARY[BinaryKind.EQUAL](ones[left], ones[right], context) == equal
            assert BINARY[BinaryKind.EQUAL](wrapped[left], wrapped[right], context) == equal
            assert BINARY[BinaryKind.CONTAINS](wrapped[left], ones[right], context) == equal
            key: Term = (10, ((ones[left], NULL_TERM),))
            assert BINARY[BinaryKind.CONTAINS](key, ones[right], context) == equal


@pytest.mark.parametrize(("left", "right"), [("a", "b" * (MAX_STRING - 1)), ("é" * (MAX_STRING // 2), "")])
def test_the_longest_string_can_be_made(left: str, right: str) -> None:
    add = BINARY[BinaryKind.ADD]
    assert add((STRING, left), (STRING, right), Context(Meter(Limits()), {})) == (STRING, left + right)


@pytest.mark.parametrize(("left", "right"), [("a", "b" * MAX_STRING), ("é" * (MAX_STRING // 2), "a")])
def test_a_longer_string_cannot_be_made(left: str, right: str) -> None:
    add = BINARY[BinaryKind.ADD]
    with pytest.raises(EvaluationError) as raised:
        add((STRING, left), (STRING, right), Context(Meter(Limits()), {}))
    assert raised.value.reason is EvaluationReason.STRING_TOO_LONG
