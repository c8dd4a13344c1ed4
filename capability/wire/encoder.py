"""Datalog to protobuf messages.

Symbols are numbered in the order in which they are met: facts, rules, checks; in each head, body,
expressions. The Rust engine does the same, so the same source becomes the same bytes.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from capability.datalog.program import (
    Check,
    CheckKind,
    Closure,
    KeyParameter,
    KeyScope,
    Op,
    Policy,
    Predicate,
    Query,
    Rule,
    Scope,
    ScopeKind,
    Unary,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    DATE_MAX,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    MAP,
    MAX_DEPTH,
    NULL,
    SET,
    STRING,
    VARIABLE,
    Term,
)
from capability.errors import BiscuitSerializationError
from capability.keys import PublicKey
from capability.wire import schema
from capability.wire.symbols import QUERY

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer


class Encoder:
    """Writes messages, numbering what they refer to by `symbol` and `key`: the `insert` of the tables.

    All methods raise BiscuitSerializationError for what cannot be written: parameters without a value,
    numbers and dates out of range, terms that nest too deeply. A key after `trusting` that is not usable is a
    KeyFormatError.
    """

    __slots__ = ("_key", "_symbol")

    def __init__(self, symbol: Callable[[str], int], key: Callable[[KeyScope], int]) -> None:
        self._symbol = symbol
        self._key = key

    def fact(self, fact: Predicate) -> schema.Fact:
        """Returns the message of a fact."""
        message = schema.Fact()
        self._predicate(fact, message.predicate)
        return message

    def rule(self, rule: Rule) -> schema.Rule:
        """Returns the message of a rule."""
        message = schema.Rule()
        self._predicate(rule.head, message.head)
        self._body(rule, message)
        return message

    def check(self, check: Check) -> schema.Check:
        """Returns the message of a check; `check if` leaves `kind` out, which version 3 does not have."""
        message = schema.Check()
        self._queries(check.queries, message.queries)
        if check.kind is not CheckKind.IF:
            message.kind = int(check.kind)
        return message

    def policy(self, policy: Policy) -> schema.Policy:
        """Returns the message of a policy."""
        message = schema.Policy(kind=int(policy.kind))
        self._queries(policy.queries, message.queries)
        return message

    def fill(self, message: schema.Term, term: Term) -> None:
        """Writes a term into its message, in place of the one that was there."""
        self._term(term, message, 1)

    def scopes(self, scopes: Iterable[Scope]) -> list[schema.Scope]:
        """Returns the messages of a `trusting` clause."""
        return [self._scope(scope) for scope in scopes]

    def _scope(self, scope: Scope) -> schema.Scope:
        if isinstance(scope, ScopeKind):
            return schema.Scope(scope_type=int(scope))
        if isinstance(scope, KeyScope):
            # a key of Datalog source is read here for the first time
            PublicKey.from_wire(scope.algorithm, scope.key)
            return schema.Scope(public_key=self._key(scope))
        assert isinstance(scope, KeyParameter)
        raise BiscuitSerializationError(f"no key was given for the parameter {{{scope.name}}}")

    # what follows fills messages in place: one that is handed to another is copied, at every level

    def _queries(
        self, queries: Iterable[Query], messages: "RepeatedCompositeFieldContainer[schema.Rule]"
    ) -> None:
        for query in queries:
            message = messages.add()
            message.head.name = QUERY
            self._body(query, message)

    def _body(self, query: Query | Rule, message: schema.Rule) -> None:
        body, expressions = message.body, message.expressions
        for predicate in query.body:
            self._predicate(predicate, body.add())
        for expression in query.expressions:
            self._ops(expression.ops, expressions.add().ops, 1)
        if query.scopes:
            message.scope.extend(self.scopes(query.scopes))

    def _predicate(self, predicate: Predicate, message: schema.Predicate) -> None:
        message.name = self._symbol(predicate.name)
        terms = message.terms
        for term in predicate.terms:
            self._term(term, terms.add(), 1)

    def _term(self, term: Term, message: schema.Term, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise BiscuitSerializationError(f"terms nest deeper than {MAX_DEPTH}")
        kind, value = term
        if kind == STRING:
            message.string = self._symbol(value)
        elif kind == VARIABLE:
            message.variable = self._symbol(value)
        elif kind == INTEGER:
            message.integer = _integer(value)
        elif kind == DATE:
            if not 0 <= value <= DATE_MAX:
                raise BiscuitSerializationError("a date before 1970 or after the year 9999")
            message.date = value
        elif kind == BOOL:
            message.boolean = value
        elif kind == BYTES:
            message.byte_string = value
        elif kind == SET:
            members = [self._separate(member, depth + 1) for member in value]
            if value and value[0][0] == STRING:
                # the Rust engine's order: strings by their symbols' numbers
                members.sort(key=lambda member: member.string)
            message.set.SetInParent()
            message.set.set.extend(members)
        elif kind == ARRAY:
            message.array.SetInParent()
            for member in value:
                self._term(member, message.array.array.add(), depth + 1)
        elif kind == MAP:
            entries = [self._entry(key, member, depth) for key, member in value]
            # integers stand first; the order among strings is again that of their symbols
            entries.sort(key=lambda entry: entry.key.string)
            message.map.SetInParent()
            message.map.entries.extend(entries)
        elif kind == NULL:
            message.null.SetInParent()
        else:
            self._parameter(value, message, depth)

    def _parameter(self, name: str, message: schema.Term, depth: int) -> None:
        raise BiscuitSerializationError(f"no value was given for the parameter {{{name}}}")

    def _separate(self, term: Term, depth: int) -> schema.Term:
        message = schema.Term()
        self._term(term, message, depth)
        return message

    def _entry(self, key: Term, value: Term, depth: int) -> schema.MapEntry:
        message = schema.MapEntry()
        kind, name = key
        if kind == INTEGER:
            message.key.integer = _integer(name)
        elif kind == STRING:
            message.key.string = self._symbol(name)
        else:
            raise BiscuitSerializationError(f"no value was given for the parameter {{{name}}}")
        self._term(value, message.value, depth + 1)
        return message

    def _ops(
        self, ops: Iterable[Op], messages: "RepeatedCompositeFieldContainer[schema.Op]", depth: int
    ) -> None:
        if depth > MAX_DEPTH:
            raise BiscuitSerializationError(f"closures nest deeper than {MAX_DEPTH}")
        for op in ops:
            message = messages.add()
            if isinstance(op, Value):
                self._term(op.term, message.value, depth)
            elif isinstance(op, Closure):
                message.closure.SetInParent()
                message.closure.params.extend([self._symbol(param) for param in op.params])
                self._ops(op.ops, message.closure.ops, depth + 1)
            else:
                operator = message.unary if isinstance(op, Unary) else message.binary
                operator.kind = int(op.kind)
                if op.name is not None:
                    operator.ffi_name = self._symbol(op.name)


class TemplateEncoder(Encoder):
    """Writes statements whose parameters are whole terms, and keeps the messages of these to be filled."""

    __slots__ = ("_met", "holes")

    def __init__(
        self,
        symbol: Callable[[str], int],
        key: Callable[[KeyScope], int],
        met: Callable[[str], None],
    ) -> None:
        """`met` is told the name of each parameter, between what `symbol` and `key` are asked."""
        super().__init__(symbol, key)
        self.holes: list[tuple[str, schema.Term]] = []
        self._met = met

    def _parameter(self, name: str, message: schema.Term, depth: int) -> None:
        self.holes.append((name, message))
        self._met(name)


def _integer(value: int) -> int:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise BiscuitSerializationError("an integer does not fit in 64 bits")
    return value
