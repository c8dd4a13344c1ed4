"""Datalog to protobuf messages.

Symbols are numbered in the order in which they are met: facts, rules, checks; in each head, body,
expressions. The Rust engine does the same, so the same source becomes the same bytes.
"""

from collections.abc import Callable, Iterable

from capability.datalog.program import (
    Binary,
    Check,
    CheckKind,
    Closure,
    Expression,
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
from capability.wire import schema_pb2
from capability.wire.symbols import QUERY


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

    def fact(self, fact: Predicate) -> schema_pb2.Fact:
        """Returns the message of a fact."""
        return schema_pb2.Fact(predicate=self._predicate(fact))

    def rule(self, rule: Rule) -> schema_pb2.Rule:
        """Returns the message of a rule."""
        return schema_pb2.Rule(
            head=self._predicate(rule.head),
            body=map(self._predicate, rule.body),
            expressions=map(self._expression, rule.expressions),
            scope=self.scopes(rule.scopes),
        )

    def check(self, check: Check) -> schema_pb2.Check:
        """Returns the message of a check; `check if` leaves `kind` out, which version 3 does not have."""
        return schema_pb2.Check(
            queries=map(self._query, check.queries),
            kind=None if check.kind is CheckKind.IF else int(check.kind),
        )

    def policy(self, policy: Policy) -> schema_pb2.Policy:
        """Returns the message of a policy."""
        return schema_pb2.Policy(queries=map(self._query, policy.queries), kind=int(policy.kind))

    def scopes(self, scopes: Iterable[Scope]) -> list[schema_pb2.Scope]:
        """Returns the messages of a `trusting` clause."""
        return [self._scope(scope) for scope in scopes]

    def _scope(self, scope: Scope) -> schema_pb2.Scope:
        if isinstance(scope, ScopeKind):
            return schema_pb2.Scope(scope_type=int(scope))
        if isinstance(scope, KeyScope):
            # a key of Datalog source is read here for the first time
            PublicKey.from_wire(scope.algorithm, scope.key)
            return schema_pb2.Scope(public_key=self._key(scope))
        assert isinstance(scope, KeyParameter)
        raise BiscuitSerializationError(f"no key was given for the parameter {{{scope.name}}}")

    def _query(self, query: Query) -> schema_pb2.Rule:
        return schema_pb2.Rule(
            head=schema_pb2.Predicate(name=QUERY),
            body=map(self._predicate, query.body),
            expressions=map(self._expression, query.expressions),
            scope=self.scopes(query.scopes),
        )

    def _predicate(self, predicate: Predicate) -> schema_pb2.Predicate:
        # written out, for the order of the symbols: the name comes first
        name = self._symbol(predicate.name)
        return schema_pb2.Predicate(name=name, terms=[self._term(term, 1) for term in predicate.terms])

    def _term(self, term: Term, depth: int) -> schema_pb2.Term:
        if depth > MAX_DEPTH:
            raise BiscuitSerializationError(f"terms nest deeper than {MAX_DEPTH}")
        kind, value = term
        if kind == STRING:
            return schema_pb2.Term(string=self._symbol(value))
        if kind == INTEGER:
            return schema_pb2.Term(integer=_integer(value))
        if kind == VARIABLE:
            return schema_pb2.Term(variable=self._symbol(value))
        if kind == DATE:
            if not 0 <= value <= DATE_MAX:
                raise BiscuitSerializationError("a date before 1970 or after the year 9999")
            return schema_pb2.Term(date=value)
        if kind == BOOL:
            return schema_pb2.Term(boolean=value)
        if kind == BYTES:
            return schema_pb2.Term(byte_string=value)
        if kind == SET:
            members = [self._term(member, depth + 1) for member in value]
            if value and value[0][0] == STRING:
                # the Rust engine's order: strings by their symbols' numbers
                members.sort(key=lambda member: member.string)
            return schema_pb2.Term(set=schema_pb2.TermSet(set=members))
        if kind == ARRAY:
            array = schema_pb2.Array(array=[self._term(member, depth + 1) for member in value])
            return schema_pb2.Term(array=array)
        if kind == MAP:
            entries = [self._entry(key, member, depth) for key, member in value]
            # integers stand first; the order among strings is again that of their symbols
            entries.sort(key=lambda entry: entry.key.string)
            return schema_pb2.Term(map=schema_pb2.Map(entries=entries))
        if kind == NULL:
            return schema_pb2.Term(null=schema_pb2.Empty())
        raise BiscuitSerializationError(f"no value was given for the parameter {{{value}}}")

    def _entry(self, key: Term, value: Term, depth: int) -> schema_pb2.MapEntry:
        kind, name = key
        if kind == INTEGER:
            message = schema_pb2.MapKey(integer=_integer(name))
        elif kind == STRING:
            message = schema_pb2.MapKey(string=self._symbol(name))
        else:
            raise BiscuitSerializationError(f"no value was given for the parameter {{{name}}}")
        return schema_pb2.MapEntry(key=message, value=self._term(value, depth + 1))

    def _expression(self, expression: Expression) -> schema_pb2.Expression:
        return schema_pb2.Expression(ops=self._ops(expression.ops, 1))

    def _ops(self, ops: Iterable[Op], depth: int) -> list[schema_pb2.Op]:
        if depth > MAX_DEPTH:
            raise BiscuitSerializationError(f"closures nest deeper than {MAX_DEPTH}")
        return [self._op(op, depth) for op in ops]

    def _op(self, op: Op, depth: int) -> schema_pb2.Op:
        if isinstance(op, Value):
            return schema_pb2.Op(value=self._term(op.term, depth))
        if isinstance(op, Unary):
            unary = schema_pb2.OpUnary(kind=int(op.kind), ffi_name=self._extern(op.name))
            return schema_pb2.Op(unary=unary)
        if isinstance(op, Binary):
            binary = schema_pb2.OpBinary(kind=int(op.kind), ffi_name=self._extern(op.name))
            return schema_pb2.Op(binary=binary)
        assert isinstance(op, Closure)
        params = [self._symbol(param) for param in op.params]
        return schema_pb2.Op(closure=schema_pb2.OpClosure(params=params, ops=self._ops(op.ops, depth + 1)))

    def _extern(self, name: str | None) -> int | None:
        return None if name is None else self._symbol(name)


def _integer(value: int) -> int:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise BiscuitSerializationError("an integer does not fit in 64 bits")
    return value
