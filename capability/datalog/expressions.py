"""Expressions, compiled once into straight-line code over numbered registers.

The constants and variables of a rule already have places in its bindings (see `plans`), so an expression is
only its operators: each reads two registers and writes one. Postfix order is execution order, and the
depth of an expression costs no Python stack; only a closure runs nested, and closures nest no deeper
than terms may. What is wrong with the form of an expression (an unknown variable, a stack that does not
come out even) is an instruction that fails when it is reached: code that is never reached may not fail.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from capability.datalog.errors import EvaluationError, EvaluationReason
from capability.datalog.immutable import immutable
from capability.datalog.operators import BINARY, UNARY, Context, Operator, charge_terms, fail
from capability.datalog.program import BinaryKind, UnaryKind
from capability.datalog.terms import ARRAY, BOOL, FALSE, MAP, MAX_DEPTH, SET, TRUE, Term


@immutable
class OpShape:
    """An operator (its kind, and the name of an extern function) or a closure, without any constant."""

    kind: UnaryKind | BinaryKind | None
    name: str | None = None
    params: tuple[int, ...] = ()
    ops: "tuple[Operation, ...]" = ()


Operation: TypeAlias = int | OpShape
"""An int pushes a value: variable number n as n, constant number k as ~k."""

Registers: TypeAlias = Any
"""A tuple or list: at 0 the Context, then constants and facts, then what the code computes."""

Evaluator: TypeAlias = Callable[[Registers], Term]

_Step: TypeAlias = tuple[Callable[..., Term], int, int, int]
"""(operation, register written, left, right); -1 for right: an operation on (left value, all registers)."""

_UNCATCHABLE: Final = frozenset(
    {EvaluationReason.UNSUPPORTED_REGEX, EvaluationReason.STRING_TOO_LONG, EvaluationReason.NESTING}
)
"""Limits of this engine that others may not have: with `try_or`, two engines would decide differently."""


class _Code:
    """Instructions and the register of their result."""

    __slots__ = ("cost", "params", "result", "steps")

    def __init__(self, cost: int, params: tuple[int, ...]) -> None:
        self.steps: list[_Step] = []
        self.result = 0
        self.cost = cost
        self.params = params

    def run(self, registers: list[Any]) -> Term:
        context: Context = registers[0]
        context.meter.charge(self.cost)
        for operation, target, left, right in self.steps:
            if right >= 0:
                registers[target] = operation(registers[left], registers[right], context)
            else:
                registers[target] = operation(registers[left], registers)
        return registers[self.result]  # type: ignore[no-any-return]


class _Compiler:
    """Compiles one expression; `places` maps the variables in scope to registers."""

    def __init__(self, places: Mapping[int, int], width: int) -> None:
        self.places = dict(places)
        self.width = width

    def allocate(self) -> int:
        self.width += 1
        return self.width - 1

    def code(self, ops: tuple[Operation, ...], params: tuple[int, ...], depth: int) -> _Code:
        code = _Code(max(1, len(ops)), params)
        stack: list[int | OpShape] = []
        for op in ops:
            reason = self._operation(op, stack, code, depth)
            if reason is not None:
                code.steps.append((_failing(reason), 0, 0, -1))
                return code
        if len(stack) == 1 and isinstance(stack[0], int):
            code.result = stack[0]
        else:
            code.steps.append((_failing(EvaluationReason.INVALID_STACK), 0, 0, -1))
        return code

    def _operation(self, op: Operation, stack: list[Any], code: _Code, depth: int) -> EvaluationReason | None:
        """Emits one operation; returns why it can only fail, if so."""
        if isinstance(op, int):
            place = 1 + ~op if op < 0 else self.places.get(op)
            if place is None:
                return EvaluationReason.UNKNOWN_VARIABLE
            stack.append(place)
            return None
        if op.kind is None:
            stack.append(op)
            return None
        if isinstance(op.kind, UnaryKind):
            if not stack or isinstance(stack[-1], OpShape):
                return EvaluationReason.INVALID_STACK
            operand = stack.pop()
            function = _extern_unary(op.name) if op.kind is UnaryKind.FFI else UNARY[op.kind]
            step: _Step = (function, self.allocate(), operand, 0)
        else:
            if len(stack) < 2:
                return EvaluationReason.INVALID_STACK
            right = stack.pop()
            left = stack.pop()
            if isinstance(left, OpShape) and isinstance(right, OpShape):
                return EvaluationReason.INVALID_STACK
            # The ecosystem takes a closure on either side, whichever the operator writes it on.
            if isinstance(left, OpShape):
                emitted = self._closure_step(op.kind, left, right, depth)
            elif isinstance(right, OpShape):
                emitted = self._closure_step(op.kind, right, left, depth)
            else:
                binary = _extern_binary(op.name) if op.kind is BinaryKind.FFI else BINARY.get(op.kind)
                emitted = (
                    EvaluationReason.INVALID_TYPE
                    if binary is None
                    else (binary, self.allocate(), left, right)
                )
            if isinstance(emitted, EvaluationReason):
                return emitted
            step = emitted
        code.steps.append(step)
        stack.append(step[1])
        return None

    def _closure_step(
        self, kind: BinaryKind, closure: OpShape, operand: int, depth: int
    ) -> _Step | EvaluationReason:
        make = _CLOSURE_OPERATORS.get(kind)
        if make is None:
            return EvaluationReason.INVALID_TYPE
        if depth >= MAX_DEPTH:
            return EvaluationReason.NESTING
        if any(param in self.places for param in closure.params):
            return EvaluationReason.SHADOWED_VARIABLE
        if len(closure.params) != (1 if kind in (BinaryKind.ANY, BinaryKind.ALL) else 0):
            return EvaluationReason.INVALID_TYPE
        registers = tuple(self.allocate() for _ in closure.params)
        self.places.update(zip(closure.params, registers, strict=True))
        body = self.code(closure.ops, registers, depth + 1)
        for param in closure.params:
            del self.places[param]
        return (make(body), self.allocate(), operand, -1)


def compile_expression(ops: tuple[Operation, ...], places: Mapping[int, int], width: int) -> Evaluator:
    """Returns a function from a binding of `width` registers to the value of the expression `ops`.

    `places` gives the registers of the variables that the binding has. The function charges for its
    work and raises EvaluationError.
    """
    compiler = _Compiler(places, width)
    code = compiler.code(ops, (), 0)
    if len(code.steps) == 1 and code.steps[0][3] >= 0:
        return _single(code)
    scratch = (None,) * (compiler.width - width)

    def evaluate(binding: tuple[Any, ...]) -> Term:
        return code.run([*binding, *scratch])

    return evaluate


def _single(code: _Code) -> Evaluator:
    """Most expressions are one operator, which needs no registers of its own."""
    operation, _, left, right = code.steps[0]
    cost = code.cost

    def evaluate(binding: tuple[Any, ...]) -> Term:
        context: Context = binding[0]
        context.meter.charge(cost)
        return operation(binding[left], binding[right], context)

    return evaluate


def _failing(reason: EvaluationReason) -> Callable[..., Term]:
    def operation(_: object, __: object) -> Term:
        fail(reason)

    return operation


def _extern_unary(name: str | None) -> Operator:
    def call(operand: Term, _: Term, context: Context) -> Term:
        return _call_extern(name, operand, None, context)

    return call


def _extern_binary(name: str | None) -> Operator:
    def call(left: Term, right: Term, context: Context) -> Term:
        return _call_extern(name, left, right, context)

    return call


def _call_extern(name: str | None, left: Term, right: Term | None, context: Context) -> Term:
    function = context.externs.get(name or "")
    if function is None:
        raise EvaluationError(EvaluationReason.UNKNOWN_EXTERN, f"Undefined extern func: {name}")
    result = function(left, right)
    charge_terms(context, left, result)
    return result


def _lazy_and(body: _Code) -> Callable[..., Term]:
    def operation(left: Term, registers: list[Any]) -> Term:
        if left[0] != BOOL:
            fail(EvaluationReason.INVALID_TYPE)
        return body.run(registers) if left[1] else FALSE

    return operation


def _lazy_or(body: _Code) -> Callable[..., Term]:
    def operation(left: Term, registers: list[Any]) -> Term:
        if left[0] != BOOL:
            fail(EvaluationReason.INVALID_TYPE)
        return TRUE if left[1] else body.run(registers)

    return operation


def _members(collection: Term) -> Iterable[Term]:
    kind, value = collection
    if kind in (SET, ARRAY):
        return value  # type: ignore[no-any-return]
    if kind != MAP:
        fail(EvaluationReason.INVALID_TYPE)
    return ((ARRAY, entry) for entry in value)


def _holds(body: _Code, member: Term, registers: list[Any]) -> bool:
    registers[body.params[0]] = member
    kind, value = body.run(registers)
    if kind != BOOL:
        fail(EvaluationReason.INVALID_TYPE)
    return value  # type: ignore[no-any-return]


def _any(body: _Code) -> Callable[..., Term]:
    def operation(left: Term, registers: list[Any]) -> Term:
        return TRUE if any(_holds(body, member, registers) for member in _members(left)) else FALSE

    return operation


def _all(body: _Code) -> Callable[..., Term]:
    def operation(left: Term, registers: list[Any]) -> Term:
        return TRUE if all(_holds(body, member, registers) for member in _members(left)) else FALSE

    return operation


def _try_or(body: _Code) -> Callable[..., Term]:
    def operation(fallback: Term, registers: list[Any]) -> Term:
        try:
            return body.run(registers)
        except EvaluationError as error:
            if error.reason in _UNCATCHABLE:
                raise
            return fallback

    return operation


_CLOSURE_OPERATORS: Final[Mapping[BinaryKind, Callable[[_Code], Callable[..., Term]]]] = {
    BinaryKind.LAZY_AND: _lazy_and,
    BinaryKind.LAZY_OR: _lazy_or,
    BinaryKind.ANY: _any,
    BinaryKind.ALL: _all,
    BinaryKind.TRY_OR: _try_or,
}
