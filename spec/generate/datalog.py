"""Blocks of Datalog, written straight to the wire.

Python values stand for terms: int, str, bool, bytes, None, list (array), dict (map), and the classes below
for the rest. An expression is a tuple of operations in postfix order, in which every value that is not an
operation is pushed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spec.generate.protobuf import Field, message

_DEFAULT_NAMES = (
    "read write resource operation right time role owner tenant namespace user team service admin email "
    "group member ip_address client client_ip domain path version cluster node hostname nonce query"
)
DEFAULT_SYMBOLS: Final = tuple(_DEFAULT_NAMES.split())
FIRST_SYMBOL: Final = 1024


@dataclass(frozen=True)
class Var:
    """A variable."""

    name: str


@dataclass(frozen=True)
class Date:
    """A date, in seconds since 1970."""

    seconds: int


class Set(tuple[Any, ...]):
    """A set, written in the order given."""


@dataclass(frozen=True)
class RawTerm:
    """The bytes of a term, for what has no other way to be written."""

    encoded: bytes


@dataclass(frozen=True)
class Symbol:
    """A string by its index, whatever the tables hold."""

    index: int


@dataclass(frozen=True)
class Unary:
    """An operator of one operand."""

    kind: int
    name: str | None = None


@dataclass(frozen=True)
class Binary:
    """An operator of two operands."""

    kind: int
    name: str | None = None


@dataclass(frozen=True)
class Closure:
    """Operations that run later, with `params` bound."""

    params: tuple[str, ...]
    ops: tuple[Any, ...]


NEGATE, PARENS, LENGTH, TYPE_OF = (Unary(kind) for kind in range(4))
(LT, GT, LE, GE, STRICT_EQ, CONTAINS, PREFIX, SUFFIX, REGEX, ADD, SUB, MUL, DIV, EAGER_AND, EAGER_OR) = (
    Binary(kind) for kind in range(15)
)
(INTERSECTION, UNION, BIT_AND, BIT_OR, BIT_XOR, STRICT_NE, EQ, NE, LAZY_AND, LAZY_OR, ALL, ANY, GET) = (
    Binary(kind) for kind in range(15, 28)
)
TRY_OR = Binary(29)


def lazy(*ops: Any) -> Closure:
    """Returns the closure without parameters that stands for a lazy operand."""
    return Closure((), ops)


@dataclass(frozen=True)
class Key:
    """A public key as the wire has it."""

    algorithm: int
    encoded: bytes

    def message(self) -> bytes:
        return message((1, self.algorithm), (2, self.encoded))


AUTHORITY: Final = 0
PREVIOUS: Final = 1
Scope: TypeAlias = int | Key | RawTerm


@dataclass(frozen=True)
class Predicate:
    """A name and its terms."""

    name: str | Symbol
    terms: tuple[Any, ...]


@dataclass(frozen=True)
class Rule:
    """A rule; as a query of a check, its head is `query()`."""

    head: Predicate
    body: tuple[Predicate, ...] = ()
    expressions: tuple[tuple[Any, ...], ...] = ()
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True)
class Check:
    """A check; kind 0 is left out on the wire, as every writer does."""

    queries: tuple[Rule, ...]
    kind: int = 0


def p(name: str, *terms: Any) -> Predicate:
    """Returns a predicate, or a fact."""
    return Predicate(name, terms)


def q(*parts: Predicate | tuple[Any, ...], scopes: Sequence[Scope] = ()) -> Rule:
    """Returns the query of `parts`: predicates and expressions."""
    body = tuple(part for part in parts if isinstance(part, Predicate))
    expressions = tuple(part for part in parts if isinstance(part, tuple))
    return Rule(Predicate("query", ()), body, expressions, tuple(scopes))


def rule(head: Predicate, *parts: Predicate | tuple[Any, ...], scopes: Sequence[Scope] = ()) -> Rule:
    """Returns the rule that derives `head` from `parts`."""
    query = q(*parts, scopes=scopes)
    return Rule(head, query.body, query.expressions, query.scopes)


def check(*parts: Predicate | tuple[Any, ...], kind: int = 0, scopes: Sequence[Scope] = ()) -> Check:
    """Returns a check of one query."""
    return Check((q(*parts, scopes=scopes),), kind)


@dataclass
class Tables:
    """The symbols and keys that a chain of blocks has declared so far."""

    symbols: list[str]
    keys: list[Key]

    def symbol(self, text: str | Symbol) -> int:
        if isinstance(text, Symbol):
            return text.index
        if text in DEFAULT_SYMBOLS:
            return DEFAULT_SYMBOLS.index(text)
        if text not in self.symbols:
            self.symbols.append(text)
        return FIRST_SYMBOL + self.symbols.index(text)

    def key(self, key: Key) -> int:
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key)

    def term(self, value: Any) -> bytes:
        """Returns the encoding of a term."""
        match value:
            case RawTerm(encoded):
                return encoded
            case Symbol(index):
                return message((3, index))
            case Var(name):
                return message((1, self.symbol(name)))
            case bool():
                return message((6, int(value)))
            case int():
                return message((2, value))
            case str():
                return message((3, self.symbol(value)))
            case Date(seconds):
                return message((4, seconds))
            case bytes():
                return message((5, value))
            case Set():
                return message((7, self._terms(value)))
            case None:
                return message((8, b""))
            case list():
                return message((9, self._terms(value)))
            case dict():
                return message((10, message(*((1, self._entry(key, item)) for key, item in value.items()))))
        raise TypeError(f"no term for {value!r}")

    def _terms(self, values: Iterable[Any]) -> bytes:
        return message(*((1, self.term(value)) for value in values))

    def _entry(self, key: int | str, value: Any) -> bytes:
        map_key = message((1, key)) if isinstance(key, int) else message((2, self.symbol(key)))
        return message((1, map_key), (2, self.term(value)))

    def op(self, op: Any) -> bytes:
        """Returns the encoding of one operation."""
        match op:
            case Unary(kind, name) | Binary(kind, name):
                extern = () if name is None else ((2, self.symbol(name)),)
                return message((2 if isinstance(op, Unary) else 3, message((1, kind), *extern)))
            case Closure(params, ops):
                fields: list[Field] = [(1, self.symbol(param)) for param in params]
                return message((4, message(*fields, *((2, self.op(inner)) for inner in ops))))
        return message((1, self.term(op)))

    def predicate(self, predicate: Predicate) -> bytes:
        return message((1, self.symbol(predicate.name)), *((2, self.term(term)) for term in predicate.terms))

    def scope(self, scope: Scope) -> bytes:
        if isinstance(scope, RawTerm):
            return scope.encoded
        return message((2, self.key(scope))) if isinstance(scope, Key) else message((1, scope))

    def rule(self, rule: Rule) -> bytes:
        return message(
            (1, self.predicate(rule.head)),
            *((2, self.predicate(predicate)) for predicate in rule.body),
            *((3, message(*((1, self.op(op)) for op in ops))) for ops in rule.expressions),
            *((4, self.scope(scope)) for scope in rule.scopes),
        )

    def check(self, check: Check) -> bytes:
        kind = ((2, check.kind),) if check.kind else ()
        return message(*((1, self.rule(query)) for query in check.queries), *kind)


Statement: TypeAlias = Predicate | Rule | Check


def sections(tables: Tables, statements: Iterable[Statement], first: int) -> list[Field]:
    """Returns facts, rules and checks as the fields `first`, `first` + 1 and `first` + 2."""
    facts: list[Field] = []
    rules: list[Field] = []
    checks: list[Field] = []
    for statement in statements:
        if isinstance(statement, Predicate):
            facts.append((first, message((1, tables.predicate(statement)))))
        elif isinstance(statement, Rule):
            rules.append((first + 1, tables.rule(statement)))
        else:
            checks.append((first + 2, tables.check(statement)))
    return facts + rules + checks


class Tokens:
    """The tables of one token; blocks are encoded in the order of the chain."""

    def __init__(self) -> None:
        self.tables = Tables([], [])

    def block(
        self,
        *statements: Statement,
        version: int | None = 3,
        context: str | None = None,
        scopes: Sequence[Scope] = (),
        extra_symbols: Sequence[str] = (),
        extra_keys: Sequence[Key] = (),
    ) -> bytes:
        """Returns the payload of the next first-party block; `extra_...` are declared in any case."""
        known_symbols, known_keys = len(self.tables.symbols), len(self.tables.keys)
        self.tables.symbols += extra_symbols
        self.tables.keys += extra_keys
        content = sections(self.tables, statements, 4)
        block_scopes: list[Field] = [(7, self.tables.scope(scope)) for scope in scopes]
        fields: list[Field] = [(1, text.encode()) for text in self.tables.symbols[known_symbols:]]
        if context is not None:
            fields.append((2, context.encode()))
        if version is not None:
            fields.append((3, version))
        fields += content + block_scopes
        fields += [(8, key.message()) for key in self.tables.keys[known_keys:]]
        return message(*fields)


def block(*statements: Statement, **options: Any) -> bytes:
    """Returns the payload of a block with tables of its own: an authority block, or a third party's."""
    return Tokens().block(*statements, **options)
