"""What Datalog source and token blocks mean, as immutable values.

The same values are made by the parser, by the wire decoder and by callers; printed by the printer;
encoded on the wire; and run by the engine. Nothing here checks: the parser and the decoder do.
"""

from enum import IntEnum
from typing import TypeAlias, final

from capability.datalog.immutable import immutable
from capability.datalog.terms import Term


class UnaryKind(IntEnum):
    """Operators of one operand, by their numbers on the wire."""

    NEGATE = 0
    PARENS = 1
    LENGTH = 2
    TYPE_OF = 3
    FFI = 4


class BinaryKind(IntEnum):
    """Operators of two operands, by their numbers on the wire."""

    LESS_THAN = 0
    GREATER_THAN = 1
    LESS_OR_EQUAL = 2
    GREATER_OR_EQUAL = 3
    STRICT_EQUAL = 4
    CONTAINS = 5
    PREFIX = 6
    SUFFIX = 7
    REGEX = 8
    ADD = 9
    SUB = 10
    MUL = 11
    DIV = 12
    AND = 13
    OR = 14
    INTERSECTION = 15
    UNION = 16
    BITWISE_AND = 17
    BITWISE_OR = 18
    BITWISE_XOR = 19
    STRICT_NOT_EQUAL = 20
    EQUAL = 21
    NOT_EQUAL = 22
    LAZY_AND = 23
    LAZY_OR = 24
    ALL = 25
    ANY = 26
    GET = 27
    FFI = 28
    TRY_OR = 29


class CheckKind(IntEnum):
    """The forms of a check, by their numbers on the wire."""

    IF = 0
    ALL = 1
    REJECT = 2


class PolicyKind(IntEnum):
    """The forms of a policy, by their numbers on the wire."""

    ALLOW = 0
    DENY = 1


class ScopeKind(IntEnum):
    """The trusted scopes that are not keys, by their numbers on the wire."""

    AUTHORITY = 0
    PREVIOUS = 1


@immutable
class KeyScope:
    """Trust in every block signed by a public key: its wire algorithm number and its raw bytes."""

    algorithm: int
    key: bytes


@immutable
class KeyParameter:
    """A `{name}` after `trusting`, for which a public key is still to be given."""

    name: str


Scope: TypeAlias = ScopeKind | KeyScope | KeyParameter


@final
@immutable
class Predicate:
    """A name and its terms: a fact when no term is a variable."""

    name: str
    terms: tuple[Term, ...]


@immutable
class Value:
    """An operation that pushes a term (or what a variable is bound to)."""

    term: Term


@immutable
class Unary:
    """An operation on the top of the stack; `name` is the function's for FFI, else None."""

    kind: UnaryKind
    name: str | None = None


@immutable
class Binary:
    """An operation on the two topmost values; `name` is the function's for FFI, else None."""

    kind: BinaryKind
    name: str | None = None


@immutable
class Closure:
    """Operations that run later, once for each argument, with `params` (names) bound."""

    params: tuple[str, ...]
    ops: "tuple[Op, ...]"


Op: TypeAlias = Value | Unary | Binary | Closure


@immutable
class Expression:
    """Operations in postfix order, as on the wire."""

    ops: tuple[Op, ...]


@final
@immutable
class Query:
    """One alternative of a check or policy."""

    body: tuple[Predicate, ...]
    expressions: tuple[Expression, ...] = ()
    scopes: tuple[Scope, ...] = ()


@final
@immutable
class Rule:
    """Derives `head` for every binding of `body` that satisfies `expressions`."""

    head: Predicate
    body: tuple[Predicate, ...]
    expressions: tuple[Expression, ...] = ()
    scopes: tuple[Scope, ...] = ()


@final
@immutable
class Check:
    """A condition that must hold for anything to be allowed; `queries` are its `or` branches."""

    kind: CheckKind
    queries: tuple[Query, ...]


@final
@immutable
class Policy:
    """What the authorizer decides when one of `queries` (its `or` branches) matches."""

    kind: PolicyKind
    queries: tuple[Query, ...]


@final
@immutable
class Program:
    """A block's or an authorizer's Datalog; only an authorizer's has policies.

    `scopes` is the block-level `trusting`; empty means the default.
    """

    scopes: tuple[Scope, ...] = ()
    facts: tuple[Predicate, ...] = ()
    rules: tuple[Rule, ...] = ()
    checks: tuple[Check, ...] = ()
    policies: tuple[Policy, ...] = ()
