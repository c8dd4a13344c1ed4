"""Expressions as Python source.

A value is bare where its type is known beforehand, so that `$t <= 2030-01-01T00:00:00Z` becomes one
comparison of ints; where it is not, the code looks at its kind, and raises Unsure for one that it was not
made for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from capability.datalog.immutable import immutable
from capability.datalog.lifting import StaticType, scalar
from capability.datalog.program import Binary, BinaryKind, Closure, Expression, Op, Unary, UnaryKind, Value
from capability.datalog.shapes import Unsupported, Unsure
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    DATE,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    KIND_NAMES,
    SET,
    STRING,
    VARIABLE,
    Term,
)


@immutable
class Item:
    """A value in generated code: bare when its type is known, a term when it is None."""

    type: StaticType | None
    code: str

    def bare(self, kind: int) -> str:
        """Returns code for the bare value, which raises Unsure unless it is of `kind`."""
        if self.type is None:
            return f"({self.code}[1] if {self.code}[0] == {kind} else unsure())"
        if self.type[0] != kind:
            raise Unsupported("operand of another type")
        return self.code

    def term(self) -> str:
        """Returns code for the term."""
        if self.type is None:
            return self.code
        if not scalar(self.type[0]):
            raise Unsupported("not a scalar")
        return f"({self.type[0]}, {self.code})"

    @property
    def worked_out(self) -> bool:
        """Whether it is more than a place or a literal, so that working it out may fail."""
        return "(" in self.code


_COMPARISONS: Final = {
    BinaryKind.LESS_THAN: "<",
    BinaryKind.GREATER_THAN: ">",
    BinaryKind.LESS_OR_EQUAL: "<=",
    BinaryKind.GREATER_OR_EQUAL: ">=",
}
_EQUALITIES: Final = {
    BinaryKind.EQUAL: ("==", False),
    BinaryKind.NOT_EQUAL: ("!=", False),
    BinaryKind.STRICT_EQUAL: ("==", True),
    BinaryKind.STRICT_NOT_EQUAL: ("!=", True),
}
_ARITHMETIC: Final = {BinaryKind.ADD: "+", BinaryKind.SUB: "-", BinaryKind.MUL: "*"}
_BOOL: Final[StaticType] = (BOOL, None)
_INTEGER: Final[StaticType] = (INTEGER, None)
_STRING: Final[StaticType] = (STRING, None)


def unsure() -> Any:
    """Hands the decision to the engine."""
    raise Unsure


def checked(value: int) -> int:
    """Returns an integer of the language; the engine tells what an overflow is."""
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return value
    raise Unsure


def encodable(text: str) -> None:
    """Leaves text that is no UTF-8 to the engine, which refuses it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unsure from None


HELPERS: Final = {"unsure": unsure, "checked": checked, "encodable": encodable, "KIND_NAMES": KIND_NAMES}
"""What generated code may call and read, by name; nothing else is in its reach but its arguments."""


class Expressions:
    """Writes expressions; `constant` finds the code for a lifted constant."""

    def __init__(self, constant: Callable[[Term], Item]) -> None:
        self._constant = constant

    def condition(self, expression: Expression, env: Mapping[str, Item]) -> str:
        """Returns code that is true or false, as `expression` is where `env` has the code of its
        variables.
        """
        return self._expression(expression.ops, env).bare(BOOL)

    def _expression(self, ops: tuple[Op, ...], env: Mapping[str, Item]) -> Item:
        stack: list[Item | Closure] = []
        for op in ops:
            match op:
                case Value((kind, name)) if kind == VARIABLE:
                    if name not in env:
                        raise Unsupported("unknown variable")
                    stack.append(env[name])
                case Value(term):
                    stack.append(self._constant(term))
                case Closure():
                    stack.append(op)
                case Unary(kind):
                    stack.append(self._unary(kind, _item(stack.pop())))
                case Binary(kind):
                    right = stack.pop()
                    stack.append(self._binary(kind, _item(stack.pop()), right, env))
        return _item(stack.pop())

    def _unary(self, kind: UnaryKind, item: Item) -> Item:
        match kind:
            case UnaryKind.PARENS:
                return item
            case UnaryKind.NEGATE:
                return Item(_BOOL, f"(not {item.bare(BOOL)})")
            case UnaryKind.TYPE_OF if item.type is None:
                return Item(_STRING, f"KIND_NAMES[{item.code}[0]]")
            case UnaryKind.TYPE_OF if item.type is not None:
                return Item(_STRING, _told(repr(KIND_NAMES[item.type[0]]), item))
            case UnaryKind.LENGTH if item.type == _STRING:
                return Item(_INTEGER, f"len({item.code}.encode())")
        raise Unsupported(kind.name)

    def _binary(self, kind: BinaryKind, left: Item, right: "Item | Closure", env: Mapping[str, Item]) -> Item:
        if kind in (BinaryKind.LAZY_AND, BinaryKind.LAZY_OR):
            if not isinstance(right, Closure) or right.params:
                raise Unsupported("not a lazy operand")
            word = "and" if kind is BinaryKind.LAZY_AND else "or"
            rest = self._expression(right.ops, env).bare(BOOL)
            return Item(_BOOL, f"({left.bare(BOOL)} {word} {rest})")
        if isinstance(right, Closure):
            raise Unsupported("closure")
        if kind in _EQUALITIES:
            return self._equality(kind, left, right)
        if kind in _COMPARISONS:
            type_ = left.type or right.type
            if type_ is None or type_[0] not in (INTEGER, DATE):
                raise Unsupported("comparison of unknown types")
            return Item(_BOOL, f"({left.bare(type_[0])} {_COMPARISONS[kind]} {right.bare(type_[0])})")
        if kind in _ARITHMETIC and left.type == right.type == _INTEGER:
            return Item(_INTEGER, f"checked({left.code} {_ARITHMETIC[kind]} {right.code})")
        if kind in (BinaryKind.PREFIX, BinaryKind.SUFFIX) and _STRING in (left.type, right.type):
            method = "startswith" if kind is BinaryKind.PREFIX else "endswith"
            return Item(_BOOL, f"{left.bare(STRING)}.{method}({right.bare(STRING)})")
        if kind is BinaryKind.CONTAINS and left.type is not None:
            return self._contains(left, left.type, right)
        raise Unsupported(kind.name)

    def _equality(self, kind: BinaryKind, left: Item, right: Item) -> Item:
        sign, strict = _EQUALITIES[kind]
        if left.type is not None and right.type is not None:
            if left.type[0] == right.type[0] and scalar(left.type[0]):
                return Item(_BOOL, f"({left.code} {sign} {right.code})")
            if strict or not (scalar(left.type[0]) and scalar(right.type[0])):
                raise Unsupported("equality of these types")
            return Item(_BOOL, _told(str(sign == "!="), left, right))
        if strict:
            raise Unsupported("strict equality of unknown types")
        return Item(_BOOL, f"({left.term()} {sign} {right.term()})")

    def _contains(self, left: Item, type_: StaticType, right: Item) -> Item:
        kind, members = type_
        if kind == STRING:
            return Item(_BOOL, f"({right.bare(STRING)} in {left.code})")
        if kind == ARRAY and right.type is not None and scalar(right.type[0]):
            return Item(_BOOL, f"({right.term()} in {left.code})")
        if kind == SET and members is not None and scalar(members):
            if right.type is None or scalar(right.type[0]):
                if right.type is not None and right.type[0] != members:
                    return Item(_BOOL, _told("False", left, right))
                return Item(_BOOL, f"({right.bare(members)} in {left.code})")
            if right.type == type_:
                return Item(_BOOL, f"({left.code} >= {right.code})")
        raise Unsupported("contains of these types")


def _told(literal: str, *operands: Item) -> str:
    """Returns code for what the types of `operands` tell already.

    INVARIANT: they are worked out all the same, as the engine does: an overflow in one outranks their types.
    """
    steps = [operand.code for operand in operands if operand.worked_out]
    return f"({', '.join([*steps, literal])})[-1]" if steps else literal


def _item(value: "Item | Closure") -> Item:
    if isinstance(value, Closure):
        raise Unsupported("closure")
    return value


def same(left: Item, right: Item) -> str | None:
    """Returns the test that two values are the same, None when their types tell that they never are."""
    if left.type is not None and right.type is not None:
        if not (scalar(left.type[0]) and scalar(right.type[0])):
            raise Unsupported("match of these types")
        return f"{left.code} == {right.code}" if left.type == right.type else None
    return f"{left.term()} == {right.term()}"
