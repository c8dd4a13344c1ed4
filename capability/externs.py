"""Functions of the host that Datalog calls: `.extern::name(...)`."""

from collections.abc import Callable, Mapping
from typing import Any

from capability.datalog.errors import EvaluationError, EvaluationReason
from capability.datalog.operators import ExternFunction
from capability.datalog.terms import Term
from capability.datalog.values import from_term, to_term

ExternCallable = Callable[..., Any]
"""Takes one or two Python values (int, str, bool, aware datetime, bytes, None, set, list, dict), returns one.

It should depend on its arguments alone: it may be called for every binding that a rule tries, in any order.
What it raises becomes an execution error.
"""


def adapt(functions: Mapping[str, ExternCallable]) -> dict[str, ExternFunction]:
    """Returns `functions` as the engine calls them, on terms."""
    return {name: _adapt(name, function) for name, function in functions.items()}


def require_callable(name: object, function: object) -> None:
    """Raises TypeError unless `function` can be called and `name` is a string."""
    if not isinstance(name, str):
        raise TypeError(f"the name of an extern function is a str, not {type(name).__name__}")
    if not callable(function):
        raise TypeError(f"extern function {name!r} is not callable")


def _adapt(name: str, function: ExternCallable) -> ExternFunction:
    def call(left: Term, right: Term | None) -> Term:
        arguments = [from_term(left)] if right is None else [from_term(left), from_term(right)]
        try:
            return to_term(function(*arguments))
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            # The host's code may raise anything; all of it is an execution error, and never a yes.
            message = f"Error while evaluating extern func {name}: {type(error).__name__}: {error}"
            raise EvaluationError(EvaluationReason.EXTERN_FAILED, message) from error

    return call
