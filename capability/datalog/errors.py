"""Errors of the language.

    DatalogError (DataLogError is the same class, under the ecosystem's name)
    ├── ParseError        language.parse      the source is not Datalog; holds every SourceError found
    ├── ParameterError    language.parameter  a parameter is missing, unused, or of a type without a term
    ├── UnsafeRule        language.unsafe     a head or expression variable that no predicate binds
    ├── PolicyError       language.policy     a policy by which no request could ever be allowed
    ├── EvaluationError   execution.*         an expression failed, so nothing can be decided
    └── LimitExceeded     limit.*             too many facts, rounds or steps, or too late

Each class has a stable `code`; EvaluationError and LimitExceeded have one for each reason, on the object.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from capability.datalog.immutable import immutable

EXCERPT: Final = 120
"""Characters of a source line that an error shows."""
MENTIONED: Final = 20
"""Mistakes that the text of a ParseError spells out; `errors` has all."""


class DatalogError(Exception):
    """Base of all errors of the language."""

    code: str = "language"


DataLogError = DatalogError


@immutable
class SourceError:
    """One mistake in a source: where (line and column from 1), what it is, what would have fitted."""

    message: str
    line: int
    column: int
    expected: tuple[str, ...] = ()
    source_line: str = ""

    def __str__(self) -> str:
        text = f"line {self.line}, column {self.column}: {self.message}"
        if self.expected:
            text += f"; expected {', '.join(self.expected)}"
        if self.source_line:
            start = max(0, self.column - 1 - EXCERPT // 2)
            excerpt = self.source_line[start : start + EXCERPT]
            # One column for each character, so that the caret fits, and nothing that a terminal would obey.
            shown = "".join(
                [char if char.isprintable() else " " if char == "\t" else "\ufffd" for char in excerpt]
            )
            text += f"\n  {shown}\n  {' ' * (self.column - 1 - start)}^"
        return text


class ParseError(DatalogError):
    """The source is not Datalog. `errors` has every mistake found, in order; the rest is the first's."""

    code = "language.parse"

    def __init__(self, errors: Sequence[SourceError]) -> None:
        self.errors: tuple[SourceError, ...] = tuple(errors)
        first = self.errors[0]
        self.line: int = first.line
        self.column: int = first.column
        self.expected: tuple[str, ...] = first.expected
        text = "\n".join(map(str, self.errors[:MENTIONED]))
        if len(self.errors) > MENTIONED:
            text += f"\nand {len(self.errors) - MENTIONED} more"
        super().__init__(text)


class ParameterError(DatalogError):
    """A parameter was not given, was given but not used, or has no term of its type."""

    code = "language.parameter"


class UnsafeRule(DatalogError):
    """A variable of a rule's head or of an expression is bound by no predicate of the body."""

    code = "language.unsafe"


class PolicyError(DatalogError):
    """A policy by which no request could ever be allowed."""

    code = "language.policy"


class EvaluationReason(StrEnum):
    """Why an expression failed."""

    OVERFLOW = "overflow"
    DIVISION_BY_ZERO = "division_by_zero"
    INVALID_TYPE = "invalid_type"
    UNKNOWN_VARIABLE = "unknown_variable"
    SHADOWED_VARIABLE = "shadowed_variable"
    UNKNOWN_EXTERN = "unknown_extern"
    EXTERN_FAILED = "extern_failed"
    INVALID_STACK = "invalid_stack"
    UNSUPPORTED_REGEX = "unsupported_regex"
    STRING_TOO_LONG = "string_too_long"
    NESTING = "nesting"


class EvaluationError(DatalogError):
    """An expression failed; the outcome is an execution error, never an allow."""

    def __init__(self, reason: EvaluationReason, message: str) -> None:
        self.reason = reason
        self.code = f"execution.{reason.value}"
        super().__init__(message)


class LimitKind(StrEnum):
    """Which limit was reached."""

    FACTS = "facts"
    ITERATIONS = "iterations"
    STEPS = "steps"
    TIME = "time"


class LimitExceeded(DatalogError):
    """Evaluation stopped at a limit; that is neither an allow nor a denial."""

    def __init__(self, limit: LimitKind, message: str) -> None:
        self.limit = limit
        self.code = f"limit.{limit.value}"
        super().__init__(message)
