"""Random expressions and values as source text: typed, so that most of them succeed, and sometimes not.

Parentheses are written where they are needed, now and then one too many or one too few: the two parsers must
agree on precedence, not only on trees.
"""

import random
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Kind(Enum):
    """The type that an expression is meant to have."""

    INTEGER = "integer"
    STRING = "string"
    DATE = "date"
    BYTES = "bytes"
    BOOL = "bool"
    NULL = "null"
    INTEGERS = "set of integers"
    STRINGS = "set of strings"
    ARRAY = "array"
    MAP = "map"


QUOTED: Final = r'"a\"b\\c\nd"'
"""The one string that has to be escaped when it is printed. It never stands in a set or a map."""

CONSTANTS: Final = {
    Kind.INTEGER: ("0", "1", "2", "3", "-1", "7", "9223372036854775807", "-9223372036854775808"),
    Kind.STRING: ('"a"', '"b"', '"ab"', '"read"', '"write"', '"/orders/7"', '"é"', '""', '"("', QUOTED),
    Kind.DATE: ("2020-01-01T00:00:00Z", "2024-02-29T12:00:00+02:00", "1970-01-01T00:00:01Z"),
    Kind.BYTES: ("hex:00", "hex:00ff", "hex:CAFE"),
    Kind.BOOL: ("true", "false"),
    Kind.NULL: ("null",),
    Kind.INTEGERS: ("{1, 2}", "{3, 0, 7}", "{,}", "{-1}"),
    Kind.STRINGS: ('{"a", "b"}', '{"write", "read"}', '{"zz", "é", "ab"}'),
    Kind.ARRAY: ("[]", "[1, 2]", '["a", 1, null]', "[[1], {2}, true]", "[3, 1, 3]", "[hex:00]"),
    Kind.MAP: ('{"a": 1}', '{1: "a", "b": 2}', '{"read": true, "a": [1]}', "{2: {1}}"),
}
PATTERNS: Final = (
    '"a"',
    '"^a"',
    '"b$"',
    '"[a-c]+"',
    '"^/orders/[0-9]+$"',
    '"("',
    '"a|b"',
    '".é?"',
    '"a{1,2}"',
)
KINDS: Final = tuple(Kind)
SCALARS: Final = (Kind.INTEGER, Kind.STRING, Kind.DATE, Kind.BYTES, Kind.BOOL, Kind.NULL)
COLLECTIONS: Final = (Kind.INTEGERS, Kind.STRINGS, Kind.ARRAY, Kind.MAP)

_OR, _AND, _COMPARISON, _XOR, _BAR, _AMPERSAND, _SUM, _PRODUCT, _OPERAND = range(9)
_ARITHMETIC: Final = (
    ("+", _SUM),
    ("-", _SUM),
    ("*", _PRODUCT),
    ("/", _PRODUCT),
    ("&", _AMPERSAND),
    ("|", _BAR),
    ("^", _XOR),
)


@dataclass(frozen=True)
class Text:
    """A piece of source and how tightly its loosest operator binds."""

    source: str
    level: int = _OPERAND


@dataclass
class Scope:
    """Variables and their types; what a variable is bound to by a known fact; and what the source may use."""

    variables: dict[str, Kind | None] = field(default_factory=dict)
    witnesses: dict[str, str] = field(default_factory=dict)
    eager: bool = False
    """Whether `&&!` and `||!` may be written, which the peer prints and does not parse."""


class Expressions:
    """Writes expressions over the variables of a scope."""

    def __init__(self, rng: random.Random, scope: Scope) -> None:
        self.rng = rng
        self.scope = scope
        self.closures = 0

    def condition(self) -> str:
        """Returns a boolean expression; with known facts one that is likely to hold."""
        if self.scope.witnesses and self.rng.random() < 0.75:
            return self._likely()
        return self._any(Kind.BOOL, self.rng.choice((1, 1, 2, 3))).source

    def constant(self, kind: Kind) -> str:
        return self.rng.choice(CONSTANTS[kind])

    def _likely(self) -> str:
        rng = self.rng
        variable, value = rng.choice(sorted(self.scope.witnesses.items()))
        kind = self.scope.variables[variable]
        forms = [f"{variable} == {value}", f"{variable} === {value}", f"{value} == {variable}"]
        if kind in SCALARS and kind is not Kind.NULL and value != QUOTED:
            forms.append(f"[{self.constant(kind)}, {value}].contains({variable})")
            forms.append(f"[{value}, {value}].any($m -> $m == {variable})")
        if kind in (Kind.INTEGER, Kind.DATE):
            forms += [f"{{{value}, {value}}}.contains({variable})"]
            forms += [f"{variable} <= {value}", f"{variable} >= {value}", f"!({variable} < {value})"]
        if kind is Kind.STRING:
            forms += [f"{variable}.starts_with({value})", f"{variable}.ends_with({value})"]
            forms += [
                f"{variable}.contains({value})",
                f"{variable}.length() < 12",
                f'{variable}.matches(".*")',
            ]
            forms.append(f'{variable} + "x" != {value}')
        if kind is not None:
            forms.append(f"{variable} != {self.constant(rng.choice(KINDS))}")
        forms.append(f"{variable}.type() == ({value}).type()")
        text = rng.choice(forms)
        if rng.random() < 0.15:
            other = self._any(Kind.BOOL, 1)
            text += f" {rng.choice(('&&', '||'))} {self._at(other, _COMPARISON)}"
        return text

    def _any(self, kind: Kind, depth: int) -> Text:
        """Returns an expression of `kind`, or rarely of another."""
        rng = self.rng
        if rng.random() < 0.045:
            kind = rng.choice(KINDS)
        if depth <= 0 or rng.random() < 0.1:
            return self._leaf(kind)
        if rng.random() < 0.03:
            return self._try_or(kind, depth)
        match kind:
            case Kind.BOOL:
                return self._bool(depth)
            case Kind.INTEGER:
                return self._integer(depth)
            case Kind.STRING if rng.random() < 0.5:
                return self._binary("+", _SUM, Kind.STRING, Kind.STRING, depth)
            case Kind.STRING if rng.random() < 0.3:
                return self._method(rng.choice(KINDS), "type()", depth)
            case Kind.INTEGERS | Kind.STRINGS if rng.random() < 0.5:
                name = rng.choice(("union", "intersection"))
                return self._method(kind, f"{name}({self._any(kind, depth - 1).source})", depth)
        return self._leaf(kind)

    def _leaf(self, kind: Kind) -> Text:
        known = [name for name, its in self.scope.variables.items() if its in (kind, None)]
        if known and self.rng.random() < 0.6:
            return Text(self.rng.choice(known))
        return Text(self.constant(kind))

    def _integer(self, depth: int) -> Text:
        if self.rng.random() < 0.65:
            operator, level = self.rng.choice(_ARITHMETIC)
            return self._binary(operator, level, Kind.INTEGER, Kind.INTEGER, depth)
        measured = (Kind.STRING, Kind.BYTES, *COLLECTIONS)
        return self._method(self.rng.choice(measured), "length()", depth)

    def _bool(self, depth: int) -> Text:
        rng = self.rng
        makers = (
            self._equality,
            self._equality,
            self._order,
            self._order,
            self._logic,
            self._negation,
            self._contains,
            self._contains,
            self._string_test,
            self._each,
            self._each,
            self._element,
            self._extern,
        )
        return rng.choice(makers)(depth)

    def _equality(self, depth: int) -> Text:
        rng = self.rng
        kind = rng.choice(KINDS)
        other = kind if rng.random() < 0.7 else rng.choice(KINDS)
        strict = kind is other and rng.random() < 0.4
        operator = rng.choice(("===", "!==")) if strict or rng.random() < 0.03 else rng.choice(("==", "!="))
        return self._binary(operator, _COMPARISON, kind, other, depth)

    def _order(self, depth: int) -> Text:
        kind = self.rng.choice((Kind.INTEGER, Kind.INTEGER, Kind.DATE))
        return self._binary(self.rng.choice(("<", ">", "<=", ">=")), _COMPARISON, kind, kind, depth)

    def _logic(self, depth: int) -> Text:
        eager = "!" if self.scope.eager and self.rng.random() < 0.3 else ""
        operator, level = self.rng.choice((("&&", _AND), ("||", _OR)))
        return self._binary(operator + eager, level, Kind.BOOL, Kind.BOOL, depth)

    def _negation(self, depth: int) -> Text:
        # Looser than it is: whatever is tighter than a comparison puts it in parentheses.
        operand = self._any(Kind.BOOL, depth - 1)
        return Text(f"!{self._at(operand, _OPERAND)}", _COMPARISON + 1)

    def _contains(self, depth: int) -> Text:
        rng = self.rng
        kind, item = rng.choice(
            (
                (Kind.STRING, Kind.STRING),
                (Kind.INTEGERS, Kind.INTEGER),
                (Kind.INTEGERS, Kind.INTEGERS),
                (Kind.STRINGS, Kind.STRING),
                (Kind.STRINGS, Kind.STRINGS),
                (Kind.ARRAY, rng.choice(KINDS)),
                (Kind.MAP, rng.choice(KINDS)),
                (Kind.INTEGERS, rng.choice(SCALARS)),
            )
        )
        return self._method(kind, f"contains({self._any(item, depth - 1).source})", depth)

    def _string_test(self, depth: int) -> Text:
        rng = self.rng
        if rng.random() < 0.35:
            return self._method(Kind.STRING, f"matches({rng.choice(PATTERNS)})", depth)
        kind = rng.choice((Kind.STRING, Kind.STRING, Kind.ARRAY))
        name = rng.choice(("starts_with", "ends_with"))
        return self._method(kind, f"{name}({self._any(kind, depth - 1).source})", depth)

    def _each(self, depth: int) -> Text:
        rng = self.rng
        kind = rng.choice(COLLECTIONS)
        members = {Kind.INTEGERS: Kind.INTEGER, Kind.STRINGS: Kind.STRING, Kind.MAP: Kind.ARRAY}
        self.closures += 1
        param = f"$c{self.closures}"
        if self.scope.variables and rng.random() < 0.02:
            param = rng.choice(sorted(self.scope.variables))
        before = dict(self.scope.variables)
        self.scope.variables[param] = members.get(kind)
        if kind is Kind.STRINGS or rng.random() < 0.5:
            # Over strings nothing that may fail: the peer visits these in the order of its symbol table.
            body = Text(
                f"{param} {rng.choice(('==', '!='))} {self._leaf(rng.choice(KINDS)).source}", _COMPARISON
            )
        else:
            body = self._any(Kind.BOOL, depth - 1)
        self.scope.variables = before
        return self._method(kind, f"{rng.choice(('any', 'all'))}({param} -> {body.source})", depth)

    def _element(self, depth: int) -> Text:
        rng = self.rng
        kind = rng.choice((Kind.ARRAY, Kind.MAP))
        key = Kind.INTEGER if kind is Kind.ARRAY else rng.choice((Kind.INTEGER, Kind.STRING))
        found = self._method(kind, f"get({self._any(key, depth - 1).source})", depth)
        return Text(
            f"{found.source} {rng.choice(('==', '!='))} {self._leaf(rng.choice(KINDS)).source}", _COMPARISON
        )

    def _extern(self, depth: int) -> Text:
        rng = self.rng
        # The peer cannot hand null, sets, arrays and maps to Python, so nothing here may turn out to be one.
        kind = rng.choice((Kind.INTEGER, Kind.STRING, Kind.BYTES, Kind.BOOL))
        argument = (
            self._method(rng.choice(KINDS), "type()", depth)
            if kind is Kind.STRING
            else Text(self.constant(kind))
        )
        if rng.random() < 0.8:
            return Text(f"{argument.source}.extern::same({self.constant(kind)})")
        return Text(
            f"{argument.source}.{rng.choice(('extern::same()', 'extern::fails()', 'extern::missing()'))}"
        )

    def _try_or(self, kind: Kind, depth: int) -> Text:
        return self._method(kind, f"try_or({self._any(kind, depth - 1).source})", depth)

    def _method(self, kind: Kind, call: str, depth: int) -> Text:
        receiver = self._any(kind, depth - 1)
        if receiver.source.endswith(CONSTANTS[Kind.DATE]):
            # The peer does not parse a method straight after a date.
            return Text(f"({receiver.source}).{call}")
        return Text(f"{self._at(receiver, _OPERAND)}.{call}")

    def _binary(self, operator: str, level: int, left: Kind, right: Kind, depth: int) -> Text:
        first, second = self._any(left, depth - 1), self._any(right, depth - 1)
        tighter = level + 1 if level == _COMPARISON else level
        # The peer takes what stands straight after a date, and `&&!` as one operator, for something else.
        spaced = ":" in first.source or operator.endswith("!") or self.rng.random() < 0.95
        space = " " if spaced else ""
        source = f"{self._at(first, tighter)}{space}{operator}{space}{self._at(second, level + 1)}"
        return Text(source, level)

    def _at(self, text: Text, level: int) -> str:
        """Returns `text` where an operand must bind as tightly as `level`, in parentheses if need be."""
        needed = text.level < level
        if self.rng.random() < 0.03:
            needed = not needed
        return f"({text.source})" if needed else text.source
