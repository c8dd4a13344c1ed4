"""Writes Datalog: `parse(print(x)) == x` for everything that the parser can make.

What arrives by wire may lack the operators that stand for parentheses; it is printed with those that keep
its value. It may also hold shapes that no source has, such as a closure where a value should be. They are
printed in a form that the parser refuses, because nothing it accepts would mean the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

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
    Program,
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
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    INTEGER,
    MAP,
    NULL,
    PARAMETER,
    SET,
    STRING,
    VARIABLE,
    Term,
)

# How tightly operators bind, from the loosest.
_OR, _AND, _COMPARISON, _XOR, _BAR, _AMPERSAND, _SUM, _PRODUCT, _OPERAND = range(9)

_LEVELS: Final = {
    "||": _OR,
    "||!": _OR,
    "&&": _AND,
    "&&!": _AND,
    "^": _XOR,
    "|": _BAR,
    "&": _AMPERSAND,
    "+": _SUM,
    "-": _SUM,
    "*": _PRODUCT,
    "/": _PRODUCT,
}
_OPERATORS: Final = {kind: text for text, kind in BINARY_OPERATORS.items()}
_LAZY: Final = {kind: text for text, kind in LAZY_OPERATORS.items()}
_METHODS: Final = {kind: text for text, kind in BINARY_METHODS.items()}
_CLOSURE_METHODS: Final = {kind: text for text, kind in CLOSURE_METHODS.items()}
_UNARY_METHODS: Final = {kind: text for text, kind in UNARY_METHODS.items()}
_ALGORITHMS: Final = {number: name for name, (number, _) in KEY_LENGTHS.items()}
_CHECKS: Final = {CheckKind.IF: "check if", CheckKind.ALL: "check all", CheckKind.REJECT: "reject if"}
_POLICIES: Final = {PolicyKind.ALLOW: "allow if", PolicyKind.DENY: "deny if"}
_SCOPES: Final = {ScopeKind.AUTHORITY: "authority", ScopeKind.PREVIOUS: "previous"}
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_EPOCH: Final = datetime(1970, 1, 1)


class _Text(NamedTuple):
    """A part of an expression, printed.

    `level` is that of its loosest operator. `open` says that it ends in a `!` outside parentheses, which
    would take whatever sum or product is written after it. `closure` says that it is one, and `params` are
    its parameters.
    """

    text: str
    level: int = _OPERAND
    open: bool = False
    closure: bool = False
    params: tuple[str, ...] = ()


def print_program(program: Program) -> str:
    """Returns the source of a program, a statement a line: scopes, facts, rules, checks, policies."""
    lines = [f"trusting {_scopes(program.scopes)}"] if program.scopes else []
    lines.extend(print_predicate(fact) for fact in program.facts)
    lines.extend(print_rule(rule) for rule in program.rules)
    lines.extend(print_check(check) for check in program.checks)
    lines.extend(print_policy(policy) for policy in program.policies)
    return "".join(f"{line};\n" for line in lines)


def print_rule(rule: Rule) -> str:
    """Returns the source of a rule, without its `;`."""
    return f"{print_predicate(rule.head)} <- {_query(rule.body, rule.expressions, rule.scopes)}"


def print_check(check: Check) -> str:
    """Returns the source of a check, without its `;`."""
    return f"{_CHECKS[check.kind]} {_queries(check.queries)}"


def print_policy(policy: Policy) -> str:
    """Returns the source of a policy, without its `;`."""
    return f"{_POLICIES[policy.kind]} {_queries(policy.queries)}"


def print_query(query: Query) -> str:
    """Returns the source of one alternative of a check or policy."""
    return _query(query.body, query.expressions, query.scopes)


def print_predicate(predicate: Predicate) -> str:
    """Returns the source of a predicate."""
    return f"{predicate.name}({_terms(predicate.terms)})"


def print_scope(scope: Scope) -> str:
    """Returns the source of a trusted scope; a key is written `ed25519/` or `secp256r1/` and its bytes."""
    if isinstance(scope, KeyScope):
        return f"{_ALGORITHMS[scope.algorithm]}/{scope.key.hex()}"
    if isinstance(scope, KeyParameter):
        return f"{{{scope.name}}}"
    return _SCOPES[scope]


def print_term(term: Term) -> str:
    """Returns the source of a term. Strings are escaped so that none can pose as anything else."""
    kind, value = term
    if kind == STRING:
        return f'"{value.translate(_ESCAPES)}"'
    if kind == INTEGER:
        return str(value)
    if kind == VARIABLE:
        return f"${value}"
    if kind == DATE:
        return f"{(_EPOCH + timedelta(seconds=value)).isoformat()}Z"
    if kind == BYTES:
        return f"hex:{value.hex()}"
    if kind == BOOL:
        return "true" if value else "false"
    if kind == NULL:
        return "null"
    if kind == PARAMETER:
        return f"{{{value}}}"
    if kind == SET:
        return f"{{{_terms(value)}}}" if value else "{,}"
    if kind == ARRAY:
        return f"[{_terms(value)}]"
    if kind == MAP:
        return f"{{{', '.join(f'{print_term(key)}: {print_term(item)}' for key, item in value)}}}"
    raise ValueError(f"there is no term of kind {kind}")


def print_expression(expression: Expression) -> str:
    """Returns the source of an expression; raises ValueError when its operations do not leave one value."""
    return _print_ops(expression.ops).text


def escape_for_display(text: str) -> str:
    """Returns `text` with whatever does not show as itself, new lines apart, as `\\u{...}`.

    That is control, format (bidirectional, zero-width), private and unassigned characters, and all spaces
    but the common one. For people: the parser does not read these escapes.
    """
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() or char == "\n" else f"\\u{{{ord(char):x}}}" for char in text])


def _terms(terms: Iterable[Term]) -> str:
    return ", ".join(map(print_term, terms))


def _scopes(scopes: Iterable[Scope]) -> str:
    return ", ".join(map(print_scope, scopes))


def _queries(queries: Iterable[Query]) -> str:
    return " or ".join(map(print_query, queries))


def _query(body: Sequence[Predicate], expressions: Sequence[Expression], scopes: Sequence[Scope]) -> str:
    parts = [*map(print_predicate, body), *map(print_expression, expressions)]
    # Only the wire has queries with no part at all; they match once, as one with `true` does.
    text = ", ".join(parts) or "true"
    return f"{text} trusting {_scopes(scopes)}" if scopes else text


class _Frame(NamedTuple):
    """Operations being printed, what they have pushed so far, and their closure's parameters."""

    ops: Iterator[Op]
    stack: list[_Text]
    params: tuple[str, ...]


def _print_ops(ops: Sequence[Op]) -> _Text:
    """Prints postfix operations. Closures go on a list of frames, so that no depth of them can recurse."""
    frames = [_Frame(iter(ops), [], ())]
    while True:
        todo, stack, params = frames[-1]
        op = next(todo, None)
        if op is None:
            if len(stack) != 1:
                raise ValueError(f"an expression leaves {len(stack)} values, not one")
            frames.pop()
            if not frames:
                return _plain(stack[0])
            body = _plain(stack[0])
            frames[-1].stack.append(body._replace(closure=True, params=params))
        elif isinstance(op, Closure):
            frames.append(_Frame(iter(op.ops), [], op.params))
        elif isinstance(op, Value):
            stack.append(_Text(print_term(op.term)))
        elif isinstance(op, Unary):
            if not stack:
                raise ValueError("an operation of an expression lacks an operand")
            stack.append(_unary(op, stack.pop()))
        else:
            if len(stack) < 2:
                raise ValueError("an operation of an expression lacks an operand")
            right = stack.pop()
            stack.append(_binary(op, stack.pop(), right))


def _unary(op: Unary, operand: _Text) -> _Text:
    operand = _plain(operand)
    if op.kind == UnaryKind.PARENS:
        return _Text(f"({operand.text})")
    if op.kind == UnaryKind.NEGATE:
        return _Text(f"!{_at_least(_SUM, operand)}", open=True)
    method = _UNARY_METHODS.get(op.kind) or f"{EXTERN_PREFIX}{op.name}"
    return _Text(f"{_receiver(operand)}.{method}()")


def _binary(op: Binary, left: _Text, right: _Text) -> _Text:
    kind = op.kind
    if kind == BinaryKind.TRY_OR:
        receiver = _receiver(left._replace(closure=False)) if _lazy(left) else f"({left.text}).<no closure>"
        return _Text(f"{receiver}.try_or({_plain(right).text})")
    left = _plain(left)
    if kind in _CLOSURE_METHODS:
        if right.closure and len(right.params) == 1:
            argument = f"${right.params[0]} -> {right.text}"
        else:
            argument = _plain(right).text
        return _Text(f"{_receiver(left)}.{_CLOSURE_METHODS[kind]}({argument})")
    if kind in _LAZY:
        if not _lazy(right):
            right = _Text(f"<no closure> {_at_least(_OPERAND, _plain(right))}")
        return _infix(_LAZY[kind], left, right)
    right = _plain(right)
    if kind in _OPERATORS:
        return _infix(_OPERATORS[kind], left, right)
    method = _METHODS.get(kind) or f"{EXTERN_PREFIX}{op.name}"
    return _Text(f"{_receiver(left)}.{method}({right.text})")


def _infix(operator: str, left: _Text, right: _Text) -> _Text:
    level = _LEVELS.get(operator, _COMPARISON)
    # Operators group to the left; comparisons not at all.
    first = _at_least(level + 1 if level == _COMPARISON else level, left)
    if level >= _SUM and left.open:
        first = f"({left.text})"
    second = _at_least(level + 1, right)
    return _Text(f"{first} {operator} {second}", level, level >= _SUM and right.open and right.level > level)


def _at_least(level: int, part: _Text) -> str:
    return part.text if part.level >= level else f"({part.text})"


def _receiver(part: _Text) -> str:
    """Returns the text of what a method is called on, in which an operator or a `!` needs parentheses."""
    return f"({part.text})" if part.open or part.level < _OPERAND else part.text


def _lazy(part: _Text) -> bool:
    return part.closure and not part.params


def _plain(part: _Text) -> _Text:
    """Returns a part that stands for a value; a closure there is written in a way that the parser refuses."""
    if not part.closure:
        return part
    params = ", ".join(f"${name}" for name in part.params)
    return _Text(f"<closure ({params}) -> {part.text}>")
