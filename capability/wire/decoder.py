"""Datalog from protobuf messages.

Everything that the language cannot say is refused here, so that whatever a block holds can be printed and
run: names outside the grammar, facts and body predicates without terms, checks without queries, dates that
RFC 3339 cannot write, variables inside sets, arrays and maps, operations that do not form one expression.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyScope,
    Op,
    Policy,
    PolicyKind,
    Predicate,
    Query,
    Rule,
    Scope,
    ScopeKind,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    DATE_MAX,
    INTEGER,
    MAX_DEPTH,
    NULL_TERM,
    STRING,
    VARIABLE,
    Term,
    make_map,
    make_set,
)
from capability.errors import FormatError
from capability.wire import schema
from capability.wire.messages import read_key

_NAME: Final = re.compile(r"[A-Za-z0-9_:]+")

K = TypeVar("K", CheckKind, PolicyKind, ScopeKind)

_UNARY_OPS: Final = {int(kind): Unary(kind) for kind in UnaryKind}
_BINARY_OPS: Final = {int(kind): Binary(kind) for kind in BinaryKind}

_VALUE: Final = -1
"""What stands on the stack for anything but a closure, for which its number of parameters stands."""
_ONE_VALUE: Final = [_VALUE]
_TWO_VALUES: Final = [_VALUE, _VALUE]
_OPERANDS: Final = {
    BinaryKind.LAZY_AND: [_VALUE, 0],
    BinaryKind.LAZY_OR: [_VALUE, 0],
    BinaryKind.ALL: [_VALUE, 1],
    BinaryKind.ANY: [_VALUE, 1],
    BinaryKind.TRY_OR: [0, _VALUE],
}
"""The operands of the operators that take a closure; all others take values."""


class Decoder:
    """Reads what messages mean, looking up what they refer to by `symbol` and `key`: those of the tables.

    `name` looks up the symbols that stand for names, where those differ. All methods raise FormatError.
    """

    __slots__ = ("_key", "_names", "_symbol", "_symbol_of_name")

    def __init__(
        self,
        symbol: Callable[[int], str],
        key: Callable[[int], KeyScope],
        name: Callable[[int], str] | None = None,
    ) -> None:
        self._symbol = symbol
        self._symbol_of_name = symbol if name is None else name
        self._key = key
        self._names: dict[int, str] = {}

    def fact(self, message: schema.Fact) -> Predicate:
        """Returns a fact."""
        return self._with_terms(message.predicate)

    def rule(self, message: schema.Rule) -> Rule:
        """Returns a rule."""
        query = self._query(message)
        if not message.head.terms:
            raise FormatError("a rule whose head has no terms", code="format.predicate")
        return Rule(self._predicate(message.head), query.body, query.expressions, query.scopes)

    def check(self, message: schema.Check) -> Check:
        """Returns a check; one without `kind` is a `check if`."""
        return Check(_kind(CheckKind, message.kind, "check"), self._queries(message.queries))

    def policy(self, message: schema.Policy) -> Policy:
        """Returns a policy."""
        return Policy(_kind(PolicyKind, message.kind, "policy"), self._queries(message.queries))

    def scopes(self, messages: Iterable[schema.Scope]) -> tuple[Scope, ...]:
        """Returns a `trusting` clause."""
        return tuple(map(self._scope, messages))

    def _scope(self, message: schema.Scope) -> Scope:
        match message.WhichOneof("content"):
            case "scope_type":
                return _kind(ScopeKind, message.scope_type, "scope")
            case "public_key":
                return self._key(message.public_key)
            case _:
                raise FormatError("an empty scope", code="format.scope")

    def _queries(self, messages: Iterable[schema.Rule]) -> tuple[Query, ...]:
        queries = tuple(map(self._query, messages))
        if not queries:
            raise FormatError("a check or policy without queries", code="format.check")
        return queries

    def _query(self, message: schema.Rule) -> Query:
        # the head of a query says nothing, but it must be readable like a rule's
        self._predicate(message.head)
        if not message.body and not message.expressions:
            raise FormatError("a rule or query with nothing to match", code="format.rule")
        return Query(
            tuple(map(self._with_terms, message.body)),
            tuple(map(self._expression, message.expressions)),
            self.scopes(message.scope),
        )

    def _with_terms(self, message: schema.Predicate) -> Predicate:
        if not message.terms:
            raise FormatError("a fact or predicate without terms", code="format.predicate")
        return self._predicate(message)

    def _predicate(self, message: schema.Predicate) -> Predicate:
        return Predicate(self._name(message.name), tuple([self._term(term, 1) for term in message.terms]))

    def _name(self, index: int) -> str:
        name = self._names.get(index)
        if name is None:
            name = self._symbol_of_name(index)
            if _NAME.fullmatch(name) is None:
                raise FormatError(
                    "a name with characters that the language does not allow", code="format.name"
                )
            self._names[index] = name
        return name

    def _term(self, message: schema.Term, depth: int) -> Term:
        """Returns a term; a variable may stand here, not inside. `depth` counts it and its containers."""
        content = message.WhichOneof("content")
        if content == "variable":
            return (VARIABLE, self._name(message.variable))
        return self._value(message, content, depth)

    def _inner(self, message: schema.Term, depth: int) -> Term:
        if depth > MAX_DEPTH:
            raise FormatError(f"terms nest deeper than {MAX_DEPTH}", code="format.nesting")
        return self._value(message, message.WhichOneof("content"), depth)

    def _value(self, message: schema.Term, content: str | None, depth: int) -> Term:
        match content:
            case "integer":
                return (INTEGER, message.integer)
            case "string":
                return (STRING, self._symbol(message.string))
            case "boolean":
                return (BOOL, message.boolean)
            case "date":
                if message.date > DATE_MAX:
                    raise FormatError("a date after the year 9999", code="format.date")
                return (DATE, message.date)
            case "byte_string":
                return (BYTES, message.byte_string)
            case "set":
                members = [self._inner(member, depth + 1) for member in message.set.set]
                try:
                    return make_set(members)
                except ValueError as error:
                    raise FormatError(str(error), code="format.set") from error
            case "null":
                return NULL_TERM
            case "array":
                return (ARRAY, tuple([self._inner(member, depth + 1) for member in message.array.array]))
            case "map":
                return make_map(
                    [
                        (self._map_key(entry.key), self._inner(entry.value, depth + 1))
                        for entry in message.map.entries
                    ]
                )
            case "variable":
                raise FormatError("a variable inside a set, array or map", code="format.variable")
            case _:
                raise FormatError("an empty term", code="format.term")

    def _map_key(self, message: schema.MapKey) -> Term:
        match message.WhichOneof("content"):
            case "integer":
                return (INTEGER, message.integer)
            case "string":
                return (STRING, self._symbol(message.string))
            case _:
                raise FormatError("an empty map key", code="format.term")

    def _expression(self, message: schema.Expression) -> Expression:
        return Expression(self._ops(message.ops, 1))

    def _ops(self, messages: Iterable[schema.Op], depth: int) -> tuple[Op, ...]:
        """Returns operations that leave one value; a closure counts as a level of depth, like a container."""
        if depth > MAX_DEPTH:
            raise FormatError(f"closures nest deeper than {MAX_DEPTH}", code="format.nesting")
        ops: list[Op] = []
        stack: list[int] = []
        for message in messages:
            match message.WhichOneof("content"):
                case "value":
                    ops.append(Value(self._term(message.value, depth)))
                    stack.append(_VALUE)
                case "unary":
                    ops.append(self._unary(message.unary))
                    _apply(stack, _ONE_VALUE)
                case "binary":
                    binary = self._binary(message.binary)
                    ops.append(binary)
                    _apply(stack, _OPERANDS.get(binary.kind, _TWO_VALUES))
                case "closure":
                    params = tuple(map(self._name, message.closure.params))
                    ops.append(Closure(params, self._ops(message.closure.ops, depth + 1)))
                    stack.append(len(params))
                case _:
                    raise FormatError("an empty operation", code="format.expression")
        if stack != _ONE_VALUE:
            raise FormatError("an expression that does not leave one value", code="format.expression")
        return tuple(ops)

    def _unary(self, message: schema.OpUnary) -> Unary:
        op = _UNARY_OPS.get(message.kind)
        if op is None:
            raise FormatError(f"unknown unary operator {message.kind}", code="format.kind")
        name = self._extern(message, op.kind is UnaryKind.FFI)
        return op if name is None else Unary(op.kind, name)

    def _binary(self, message: schema.OpBinary) -> Binary:
        op = _BINARY_OPS.get(message.kind)
        if op is None:
            raise FormatError(f"unknown binary operator {message.kind}", code="format.kind")
        name = self._extern(message, op.kind is BinaryKind.FFI)
        return op if name is None else Binary(op.kind, name)

    def _extern(self, message: schema.OpUnary | schema.OpBinary, expected: bool) -> str | None:
        if message.HasField("ffi_name") is not expected:
            raise FormatError(
                "a call without a function, or a function without a call", code="format.expression"
            )
        return self._name(message.ffi_name) if expected else None


def read_keys(messages: Iterable[schema.PublicKey]) -> tuple[KeyScope, ...]:
    """Returns the keys of a key table; raises SignatureError when one is unusable."""
    return tuple([read_key(message).scope for message in messages])


def _kind(kinds: Callable[[int], K], number: int, what: str) -> K:
    try:
        return kinds(number)
    except ValueError as error:
        raise FormatError(f"unknown {what} {number}", code="format.kind") from error


def _apply(stack: list[int], operands: list[int]) -> None:
    if stack[-len(operands) :] != operands:
        raise FormatError("an operator does not find its operands", code="format.expression")
    stack[-len(operands) :] = _ONE_VALUE
