"""Turns what the grammar recognises into the data model, as it is recognised.

The methods of Transform are named after the rules and terminals of `grammar.lark`, which call them bottom
up, so that there is no tree to walk and nothing here recurses. Positions (of variables, of whatever can be
wrong) travel with the pieces, since one Transform serves all threads and holds no state.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from capability.datalog.literals import Children, Located, Mistake, Mistakes, TermTransform, start_of
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyParameter,
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
from capability.datalog.spelling import (
    BINARY_METHODS,
    BINARY_OPERATORS,
    CLOSURE_METHODS,
    EXTERN_PREFIX,
    KEY_LENGTHS,
    LAZY_OPERATORS,
    UNARY_METHODS,
)
from capability.datalog.terms import MAX_DEPTH, VARIABLE

if TYPE_CHECKING:
    from lark import Token

MAX_EXPRESSION_DEPTH: Final = 64
"""How deeply parentheses, `!` and method calls may nest in a source."""

_BINARY_OPS: Final = {text: Binary(kind) for text, kind in {**BINARY_OPERATORS, **BINARY_METHODS}.items()}
_LAZY_OPS: Final = {text: Binary(kind) for text, kind in LAZY_OPERATORS.items()}
_CLOSURE_OPS: Final = {text: Binary(kind) for text, kind in CLOSURE_METHODS.items()}
_UNARY_OPS: Final = {text: Unary(kind) for text, kind in UNARY_METHODS.items()}
_TRY_OR: Final = Binary(BinaryKind.TRY_OR)
_NEGATE: Final = Unary(UnaryKind.NEGATE)
_PARENS: Final = Unary(UnaryKind.PARENS)
_CHECK_KINDS: Final = {"if": CheckKind.IF, "all": CheckKind.ALL}
_SCOPES: Final = {"authority": ScopeKind.AUTHORITY, "previous": ScopeKind.PREVIOUS}


class Atom(NamedTuple):
    """A predicate, and where its variables stand."""

    predicate: Predicate
    offset: int
    variables: tuple[tuple[str, int], ...]


class Part(NamedTuple):
    """A query, the variables that its predicates bind, and the mistakes in its expressions."""

    query: Query
    bound: frozenset[str]
    mistakes: tuple[Mistake, ...]


class Operand:
    """A part of an expression; it grows in place, since each part is used once, in the next larger one.

    `free` has the variables that it takes from outside, and where they stand. `depth` counts the nesting that
    only a source has, `levels` that of closures and terms, which the wire has too.
    """

    __slots__ = ("depth", "free", "levels", "offset", "ops")

    def __init__(self, op: Op, offset: int, levels: int, free: dict[str, int]) -> None:
        self.ops: list[Op] = [op]
        self.offset = offset
        self.free = free
        self.depth = 0
        self.levels = levels

    def push(self, op: Op) -> None:
        self.ops.append(op)

    def append(self, other: "Operand") -> None:
        """Appends the operations of an operand that stands to the right."""
        self.ops.extend(other.ops)
        self._take(other)

    def append_closure(self, other: "Operand", params: tuple[str, ...] = ()) -> None:
        """Appends an operand that runs later, if at all, with `params` bound."""
        other.close(params)
        self.append(other)

    def close(self, params: tuple[str, ...] = ()) -> None:
        """Makes a closure of the operand."""
        self.ops = [Closure(params, tuple(self.ops))]
        self.levels += 1
        if self.levels > MAX_DEPTH:
            message = f"closures and the terms in them are nested more than {MAX_DEPTH} deep"
            raise Mistakes(Mistake(self.offset, message))
        if params:
            self.free = {name: offset for name, offset in self.free.items() if name not in params}

    def nest(self) -> None:
        """Counts one level of nesting."""
        self.depth += 1
        if self.depth > MAX_EXPRESSION_DEPTH:
            raise Mistakes(too_deep(self.offset))

    def _take(self, other: "Operand") -> None:
        if other.depth > self.depth:
            self.depth = other.depth
        if other.levels > self.levels:
            self.levels = other.levels
        # `free` grows in place, like `ops`: copied for each operator, a long sum would take quadratic time.
        for name, offset in other.free.items():
            self.free.setdefault(name, offset)


def too_deep(offset: int) -> Mistake:
    """Returns the mistake of nesting that would exhaust a stack somewhere."""
    return Mistake(offset, f"nested more than {MAX_EXPRESSION_DEPTH} deep")


class Transform(TermTransform):
    """One method for each rule and each terminal that means something; see the module's docstring."""

    # ---- lists

    def first(self, children: Children) -> list[Any]:
        return [children[0]]

    def following(self, children: Children) -> list[Any]:
        items: list[Any] = children[0]
        items.append(children[1])
        return items

    # ---- statements

    def block_scopes(self, children: Children) -> tuple[Scope, ...]:
        return tuple(children[0])

    def fact(self, children: Children) -> Predicate:
        atom: Atom = children[0]
        if atom.variables:
            raise Mistakes(
                *(
                    Mistake(offset, f"a fact cannot hold the variable ${name}")
                    for name, offset in atom.variables
                )
            )
        return atom.predicate

    def rule(self, children: Children) -> Rule:
        head: Atom = children[0]
        part: Part = children[1]
        mistakes = [_unbound(name, offset) for name, offset in head.variables if name not in part.bound]
        mistakes.extend(part.mistakes)
        if mistakes:
            raise Mistakes(*mistakes)
        query = part.query
        return Rule(head.predicate, query.body, query.expressions, query.scopes)

    def check(self, children: Children) -> Check:
        first, second = children[0].lower().split()
        kind = CheckKind.REJECT if first == "reject" else _CHECK_KINDS[second]
        return Check(kind, _queries(children[1]))

    def policy(self, children: Children) -> Policy:
        allowing = children[0].lower().startswith("allow")
        return Policy(PolicyKind.ALLOW if allowing else PolicyKind.DENY, _queries(children[1]))

    # ---- queries

    def query(self, children: Children) -> Part:
        body: list[Predicate] = []
        bound: set[str] = set()
        operands: list[Operand] = []
        for item in children[0]:
            if isinstance(item, Atom):
                body.append(item.predicate)
                bound.update(name for name, _ in item.variables)
            else:
                operands.append(item)
        mistakes = [
            _unbound(name, offset)
            for operand in operands
            for name, offset in operand.free.items()
            if name not in bound
        ]
        expressions = tuple(Expression(tuple(operand.ops)) for operand in operands)
        scopes = tuple(children[1]) if len(children) > 1 else ()
        return Part(Query(tuple(body), expressions, scopes), frozenset(bound), tuple(mistakes))

    def predicate(self, children: Children) -> Atom:
        name: Token = children[0]
        return _atom(str(name), start_of(name), children[1])

    def single_term(self, children: Children) -> Atom:
        return _atom("", children[0].offset, children)

    # ---- scopes

    def SCOPE(self, token: "Token") -> ScopeKind:  # noqa: N802
        return _SCOPES[token]

    def KEY(self, token: "Token") -> KeyScope:  # noqa: N802
        algorithm, digits = token.split("/")
        number, length = KEY_LENGTHS[algorithm]
        if len(digits) != 2 * length:
            message = f"a public key of {algorithm} has {2 * length} hexadecimal digits, not {len(digits)}"
            raise Mistakes(Mistake(start_of(token), message))
        return KeyScope(number, bytes.fromhex(digits))

    def key_parameter(self, children: Children) -> KeyParameter:
        return KeyParameter(children[0].term[1])

    # ---- expressions

    def logical(self, children: Children) -> Operand:
        left, operator, right = children
        lazy = _LAZY_OPS.get(operator)
        if lazy is None:
            return self.binary(children)
        left.append_closure(right)
        left.push(lazy)
        return left  # type: ignore[no-any-return]

    def binary(self, children: Children) -> Operand:
        left: Operand = children[0]
        left.append(children[2])
        left.push(_BINARY_OPS[children[1]])
        return left

    def negation(self, children: Children) -> Operand:
        return _nested(children[0], _NEGATE)

    def parentheses(self, children: Children) -> Operand:
        return _nested(children[0], _PARENS)

    # ---- methods

    def unary_method(self, children: Children) -> Operand:
        return _nested(children[0], _UNARY_OPS[children[1]])

    def binary_method(self, children: Children) -> Operand:
        children[0].append(children[2])
        return _nested(children[0], _BINARY_OPS[children[1]])

    def closure_method(self, children: Children) -> Operand:
        receiver, method, parameter, body = children
        receiver.append_closure(body, (parameter.term[1],))
        return _nested(receiver, _CLOSURE_OPS[method])

    def try_or(self, children: Children) -> Operand:
        receiver, _, alternative = children
        receiver.close()
        receiver.append(alternative)
        return _nested(receiver, _TRY_OR)

    def extern(self, children: Children) -> Operand:
        receiver: Operand = children[0]
        name = children[1][len(EXTERN_PREFIX) :]
        if len(children) == 2:
            return _nested(receiver, Unary(UnaryKind.FFI, name))
        receiver.append(children[2])
        return _nested(receiver, Binary(BinaryKind.FFI, name))

    def value(self, children: Children) -> Operand:
        term, offset, depth = children[0]
        return Operand(Value(term), offset, depth, {term[1]: offset} if term[0] == VARIABLE else {})


def _atom(name: str, offset: int, terms: list[Located]) -> Atom:
    found = tuple((item.term[1], item.offset) for item in terms if item.term[0] == VARIABLE)
    return Atom(Predicate(name, tuple(item.term for item in terms)), offset, found)


def _unbound(name: str, offset: int) -> Mistake:
    return Mistake(offset, f"no predicate of the body binds ${name}")


def _queries(parts: list[Part]) -> tuple[Query, ...]:
    mistakes = [mistake for part in parts for mistake in part.mistakes]
    if mistakes:
        raise Mistakes(*mistakes)
    return tuple(part.query for part in parts)


def _nested(operand: Operand, op: Op) -> Operand:
    operand.ops.append(op)
    operand.nest()
    return operand
