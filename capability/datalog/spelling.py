"""How operators, methods and keys are written: one table each, for the parser and for the printer."""

from typing import Final

from capability.datalog.program import BinaryKind, UnaryKind

BINARY_OPERATORS: Final = {
    "<": BinaryKind.LESS_THAN,
    ">": BinaryKind.GREATER_THAN,
    "<=": BinaryKind.LESS_OR_EQUAL,
    ">=": BinaryKind.GREATER_OR_EQUAL,
    "==": BinaryKind.EQUAL,
    "!=": BinaryKind.NOT_EQUAL,
    "===": BinaryKind.STRICT_EQUAL,
    "!==": BinaryKind.STRICT_NOT_EQUAL,
    "^": BinaryKind.BITWISE_XOR,
    "|": BinaryKind.BITWISE_OR,
    "&": BinaryKind.BITWISE_AND,
    "+": BinaryKind.ADD,
    "-": BinaryKind.SUB,
    "*": BinaryKind.MUL,
    "/": BinaryKind.DIV,
    "&&!": BinaryKind.AND,
    "||!": BinaryKind.OR,
}
LAZY_OPERATORS: Final = {"||": BinaryKind.LAZY_OR, "&&": BinaryKind.LAZY_AND}
UNARY_METHODS: Final = {"length": UnaryKind.LENGTH, "type": UnaryKind.TYPE_OF}
BINARY_METHODS: Final = {
    "starts_with": BinaryKind.PREFIX,
    "ends_with": BinaryKind.SUFFIX,
    "matches": BinaryKind.REGEX,
    "contains": BinaryKind.CONTAINS,
    "intersection": BinaryKind.INTERSECTION,
    "union": BinaryKind.UNION,
    "get": BinaryKind.GET,
}
CLOSURE_METHODS: Final = {"all": BinaryKind.ALL, "any": BinaryKind.ANY}
EXTERN_PREFIX: Final = "extern::"
KEY_LENGTHS: Final = {"ed25519": (0, 32), "secp256r1": (1, 33)}
"""For each name of an algorithm its wire number and the bytes of a public key."""
