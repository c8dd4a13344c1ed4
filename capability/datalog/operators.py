"""What each operator does to values, and what it costs.

Every operator takes its operands and the Context of the run, and returns a term or raises
EvaluationError. Types are checked by kind, never by Python's own idea of a value, and what Python
would do by itself (big integers, floor division, code points) is replaced by what the language says:
i64 with checked overflow, division that truncates, lengths in UTF-8 bytes. An operator that touches
more than 64 bytes charges for them, so that one operation on a long value is not free.
"""

from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias

from capability.datalog.errors import EvaluationError, EvaluationReason
from capability.datalog.limits import Meter
from capability.datalog.program import BinaryKind, UnaryKind
from capability.datalog.regex import match_pattern
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    FALSE,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    KIND_NAMES,
    MAP,
    NULL,
    NULL_TERM,
    SET,
    STRING,
    TRUE,
    Term,
    byte_length,
)

ExternFunction: TypeAlias = Callable[[Term, Term | None], Term]

MAX_STRING: Final = 64 * 1024
"""The longest string that an operator may make, in UTF-8 bytes."""


_ORDERED: Final = frozenset({INTEGER, DATE})
_TEXT: Final = frozenset({STRING, BYTES})
_LISTS: Final = frozenset({SET, ARRAY})
_COLLECTIONS: Final = frozenset({SET, ARRAY, MAP})
_KEYS: Final = frozenset({INTEGER, STRING})


class Context:
    """What operators need of the run that they are part of: its meter and its extern functions."""

    __slots__ = ("externs", "meter")

    def __init__(self, meter: Meter, externs: Mapping[str, ExternFunction]) -> None:
        self.meter = meter
        self.externs = externs


Operator: TypeAlias = Callable[[Term, Term, Context], Term]


def fail(reason: EvaluationReason) -> NoReturn:
    """Raises EvaluationError with the ecosystem's words for `reason`."""
    raise EvaluationError(reason, MESSAGES[reason])


MESSAGES: Final = {
    EvaluationReason.OVERFLOW: "Overflow",
    EvaluationReason.DIVISION_BY_ZERO: "Division by zero",
    EvaluationReason.INVALID_TYPE: "Invalid type",
    EvaluationReason.UNKNOWN_VARIABLE: "Unknown variable",
    EvaluationReason.SHADOWED_VARIABLE: "Shadowed variable",
    EvaluationReason.INVALID_STACK: "Wrong number of elements on stack",
    EvaluationReason.STRING_TOO_LONG: f"String longer than {MAX_STRING} bytes",
    EvaluationReason.NESTING: "Closures nested too deeply",
}


def term_size(term: Term) -> int:
    """Returns about how many bytes a look at the whole of `term` touches."""
    kind, value = term
    if kind in _TEXT:
        return len(value)
    if kind in _LISTS:
        return 16 + sum(map(term_size, value))
    if kind == MAP:
        return 16 + sum(term_size(key) + term_size(item) for key, item in value)
    return 16


def charge_terms(context: Context, *terms: Term) -> None:
    """Charges for the bytes of `terms` beyond the first 63, which their operation's own step covers."""
    touched = 0
    for term in terms:
        kind = term[0]
        if kind in _TEXT:
            touched += len(term[1])
        elif kind in _COLLECTIONS:
            touched += term_size(term)
    if touched >= 64:
        context.meter.charge(touched >> 6)


def _boolean(value: bool) -> Term:
    return TRUE if value else FALSE


def _integer(value: int) -> Term:
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return (INTEGER, value)
    fail(EvaluationReason.OVERFLOW)


# Comparisons. Kinds order values of one type only: integers and dates.


def _less_than(left: Term, right: Term, _: Context) -> Term:
    kind = left[0]
    if kind == right[0] and kind in _ORDERED:
        return TRUE if left[1] < right[1] else FALSE
    fail(EvaluationReason.INVALID_TYPE)


def _greater_than(left: Term, right: Term, _: Context) -> Term:
    kind = left[0]
    if kind == right[0] and kind in _ORDERED:
        return TRUE if left[1] > right[1] else FALSE
    fail(EvaluationReason.INVALID_TYPE)


def _less_or_equal(left: Term, right: Term, _: Context) -> Term:
    kind = left[0]
    if kind == right[0] and kind in _ORDERED:
        return TRUE if left[1] <= right[1] else FALSE
    fail(EvaluationReason.INVALID_TYPE)


def _greater_or_equal(left: Term, right: Term, _: Context) -> Term:
    kind = left[0]
    if kind == right[0] and kind in _ORDERED:
        return TRUE if left[1] >= right[1] else FALSE
    fail(EvaluationReason.INVALID_TYPE)


def _equal(left: Term, right: Term, context: Context) -> Term:
    if left[0] != right[0]:
        return FALSE
    charge_terms(context, left)
    return TRUE if left[1] == right[1] else FALSE


def _not_equal(left: Term, right: Term, context: Context) -> Term:
    return FALSE if _equal(left, right, context) is TRUE else TRUE


def _strict_equal(left: Term, right: Term, context: Context) -> Term:
    if left[0] != right[0]:
        fail(EvaluationReason.INVALID_TYPE)
    return _equal(left, right, context)


def _strict_not_equal(left: Term, right: Term, context: Context) -> Term:
    return FALSE if _strict_equal(left, right, context) is TRUE else TRUE


# Arithmetic


def _add(left: Term, right: Term, context: Context) -> Term:
    if left[0] == INTEGER and right[0] == INTEGER:
        return _integer(left[1] + right[1])
    if left[0] == STRING and right[0] == STRING:
        length = byte_length(left[1]) + byte_length(right[1])
        if length > MAX_STRING:
            fail(EvaluationReason.STRING_TOO_LONG)
        context.meter.charge(length >> 6)
        return (STRING, left[1] + right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _subtract(left: Term, right: Term, _: Context) -> Term:
    if left[0] == INTEGER and right[0] == INTEGER:
        return _integer(left[1] - right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _multiply(left: Term, right: Term, _: Context) -> Term:
    if left[0] == INTEGER and right[0] == INTEGER:
        return _integer(left[1] * right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _divide(left: Term, right: Term, _: Context) -> Term:
    if left[0] != INTEGER or right[0] != INTEGER:
        fail(EvaluationReason.INVALID_TYPE)
    dividend: int = left[1]
    divisor: int = right[1]
    # MIN / -1 is the one quotient that i64 cannot hold; the ecosystem reports it in these words too.
    if divisor == 0 or (divisor == -1 and dividend == INTEGER_MIN):
        fail(EvaluationReason.DIVISION_BY_ZERO)
    quotient = abs(dividend) // abs(divisor)
    return (INTEGER, quotient if (dividend < 0) == (divisor < 0) else -quotient)


def _bitwise_and(left: Term, right: Term, _: Context) -> Term:
    if left[0] == INTEGER and right[0] == INTEGER:
        return (INTEGER, left[1] & right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _bitwise_or(left: Term, right: Term, _: Context) -> Term:
    if left[0] == INTEGER and right[0] == INTEGER:
        return (INTEGER, left[1] | right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _bitwise_xor(left: Term, right: Term, _: Context) -> Term:
    if left[0] == INTEGER and right[0] == INTEGER:
        return (INTEGER, left[1] ^ right[1])
    fail(EvaluationReason.INVALID_TYPE)


# Booleans. The lazy forms take a closure and live in `expressions`.


def _and(left: Term, right: Term, _: Context) -> Term:
    if left[0] == BOOL and right[0] == BOOL:
        return _boolean(left[1] and right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _or(left: Term, right: Term, _: Context) -> Term:
    if left[0] == BOOL and right[0] == BOOL:
        return _boolean(left[1] or right[1])
    fail(EvaluationReason.INVALID_TYPE)


# Strings and collections


def _contains(left: Term, right: Term, context: Context) -> Term:
    kind = left[0]
    charge_terms(context, left, right)
    if kind == SET:
        if right[0] == SET:
            return _boolean(set(left[1]).issuperset(right[1]))
        if right[0] in (NULL, ARRAY, MAP):
            fail(EvaluationReason.INVALID_TYPE)
        return _boolean(right in left[1])
    if kind == ARRAY:
        return _boolean(right in left[1])
    if kind == MAP:
        return _boolean(any(key == right for key, _ in left[1]))
    if kind == STRING and right[0] == STRING:
        return _boolean(right[1] in left[1])
    fail(EvaluationReason.INVALID_TYPE)


def _prefix(left: Term, right: Term, context: Context) -> Term:
    charge_terms(context, right)
    if left[0] == STRING and right[0] == STRING:
        return _boolean(left[1].startswith(right[1]))
    if left[0] == ARRAY and right[0] == ARRAY:
        return _boolean(left[1][: len(right[1])] == right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _suffix(left: Term, right: Term, context: Context) -> Term:
    charge_terms(context, right)
    if left[0] == STRING and right[0] == STRING:
        return _boolean(left[1].endswith(right[1]))
    if left[0] == ARRAY and right[0] == ARRAY:
        shorter = len(left[1]) - len(right[1])
        return _boolean(shorter >= 0 and left[1][shorter:] == right[1])
    fail(EvaluationReason.INVALID_TYPE)


def _regex(left: Term, right: Term, context: Context) -> Term:
    if left[0] == STRING and right[0] == STRING:
        return _boolean(match_pattern(right[1], left[1], context.meter))
    fail(EvaluationReason.INVALID_TYPE)


def _intersection(left: Term, right: Term, context: Context) -> Term:
    if left[0] != SET or right[0] != SET:
        fail(EvaluationReason.INVALID_TYPE)
    charge_terms(context, left, right)
    return (SET, tuple(sorted(set(left[1]).intersection(right[1]))))


def _union(left: Term, right: Term, context: Context) -> Term:
    # Sets of two types make a mixed one, here and in the ecosystem, although source cannot write it.
    if left[0] != SET or right[0] != SET:
        fail(EvaluationReason.INVALID_TYPE)
    charge_terms(context, left, right)
    return (SET, tuple(sorted(set(left[1]).union(right[1]))))


def _get(left: Term, right: Term, context: Context) -> Term:
    kind = right[0]
    if left[0] == ARRAY and kind == INTEGER:
        return left[1][right[1]] if 0 <= right[1] < len(left[1]) else NULL_TERM
    if left[0] == MAP and kind in _KEYS:
        context.meter.charge(len(left[1]) >> 2)
        return next((item for key, item in left[1] if key == right), NULL_TERM)
    fail(EvaluationReason.INVALID_TYPE)


# Operators of one operand; the second argument is not used.


def _negate(operand: Term, _: Term, __: Context) -> Term:
    if operand[0] == BOOL:
        return FALSE if operand[1] else TRUE
    fail(EvaluationReason.INVALID_TYPE)


def _parens(operand: Term, _: Term, __: Context) -> Term:
    return operand


def _length(operand: Term, _: Term, context: Context) -> Term:
    kind, value = operand
    if kind == STRING:
        context.meter.charge(len(value) >> 6)
        return (INTEGER, byte_length(value))
    if kind == BYTES or kind in _COLLECTIONS:
        return (INTEGER, len(value))
    fail(EvaluationReason.INVALID_TYPE)


def _type_of(operand: Term, _: Term, __: Context) -> Term:
    return (STRING, KIND_NAMES[operand[0]])


UNARY: Final[Mapping[UnaryKind, Operator]] = {
    UnaryKind.NEGATE: _negate,
    UnaryKind.PARENS: _parens,
    UnaryKind.LENGTH: _length,
    UnaryKind.TYPE_OF: _type_of,
}

BINARY: Final[Mapping[BinaryKind, Operator]] = {
    BinaryKind.LESS_THAN: _less_than,
    BinaryKind.GREATER_THAN: _greater_than,
    BinaryKind.LESS_OR_EQUAL: _less_or_equal,
    BinaryKind.GREATER_OR_EQUAL: _greater_or_equal,
    BinaryKind.STRICT_EQUAL: _strict_equal,
    BinaryKind.STRICT_NOT_EQUAL: _strict_not_equal,
    BinaryKind.EQUAL: _equal,
    BinaryKind.NOT_EQUAL: _not_equal,
    BinaryKind.CONTAINS: _contains,
    BinaryKind.PREFIX: _prefix,
    BinaryKind.SUFFIX: _suffix,
    BinaryKind.REGEX: _regex,
    BinaryKind.ADD: _add,
    BinaryKind.SUB: _subtract,
    BinaryKind.MUL: _multiply,
    BinaryKind.DIV: _divide,
    BinaryKind.BITWISE_AND: _bitwise_and,
    BinaryKind.BITWISE_OR: _bitwise_or,
    BinaryKind.BITWISE_XOR: _bitwise_xor,
    BinaryKind.AND: _and,
    BinaryKind.OR: _or,
    BinaryKind.INTERSECTION: _intersection,
    BinaryKind.UNION: _union,
    BinaryKind.GET: _get,
}
