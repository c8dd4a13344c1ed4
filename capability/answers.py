"""Answers: what a policy derives for the service that asks, as in `header("X-User", $u) <- user($u)`.

Only what the policy itself states or derives by its own rules is an answer. A token may state `header(...)`,
and its rules may derive it, from the request too: none of that is told, however far its block is trusted.
What a token says gets into an answer through the body of a rule of the policy, where its author put it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from capability.authorization import Evaluation
from capability.datalog.origins import AUTHORIZER
from capability.datalog.program import Predicate
from capability.datalog.terms import PARAMETER, VARIABLE, Term
from capability.decision import Answer

Row: TypeAlias = tuple[Any, ...]
"""A fact as `(name, *terms)`."""

_MAX_PATTERNS: Final = 64


@dataclass(frozen=True, slots=True)
class Patterns:
    """Which facts a service wants to be told, in this order."""

    patterns: tuple[Predicate, ...]
    all_of_one: bool
    """Whether every fact of the signatures fits: there is one pattern, and it has variables only."""

    @property
    def signatures(self) -> frozenset[tuple[str, int]]:
        """The names and arities of these facts."""
        return frozenset((pattern.name, len(pattern.terms)) for pattern in self.patterns)

    def select(self, rows: Iterable[Row]) -> tuple[Answer, ...]:
        """Returns the facts that fit, each once, by the first pattern that they fit, then by terms."""
        ordered = sorted(set(rows))
        if self.all_of_one:
            return tuple([Answer(row[0], row[1:]) for row in ordered])
        found: dict[Row, None] = {}
        for pattern in self.patterns:
            for row in ordered:
                if row not in found and _fits(pattern, row):
                    found[row] = None
        return tuple([Answer(row[0], row[1:]) for row in found])


def patterns_of(sources: Iterable[str]) -> Patterns:
    """Returns what `header($name, $value)` and the like ask for.

    Raises ParseError for what is no predicate, TypeError for what is no text, and ValueError for too many.
    """
    if isinstance(sources, str):
        raise TypeError("argument 'answers' must be a list of predicates, not one str")
    patterns = tuple(dict.fromkeys(_pattern(source) for source in sources))
    if len(patterns) > _MAX_PATTERNS:
        raise ValueError(f"argument 'answers' must hold at most {_MAX_PATTERNS} predicates")
    variables = {term for pattern in patterns for term in pattern.terms if term[0] == VARIABLE}
    all_of_one = len(patterns) == 1 and len(variables) == len(patterns[0].terms)
    return Patterns(patterns, all_of_one)


def told(evaluation: Evaluation, signatures: frozenset[tuple[str, int]]) -> list[Row]:
    """Returns what the policy itself says of `signatures` in an evaluation that has run.

    Its rules are asked once more, as the facts of the world do not tell whose rule derived them. Raises
    EvaluationError and LimitExceeded.
    """
    plan = evaluation.plan
    rows: list[Row] = []
    if signatures:
        facts = [fact for fact in plan.program.facts if (fact.name, len(fact.terms)) in signatures]
        rows += [(fact.name, *fact.terms) for fact in facts]
        for rule in plan.program.rules:
            if (rule.head.name, len(rule.head.terms)) in signatures:
                derived = evaluation.world.query(rule, AUTHORIZER, plan.trusted(rule.scopes, None))
                rows += [(fact.name, *fact.terms) for fact, _ in derived]
    return rows


def _pattern(source: str) -> Predicate:
    if not isinstance(source, str):
        raise TypeError(f"argument 'answers' must hold str, not {type(source).__name__}")
    from capability.datalog.parser import parse_program

    program = parse_program(f"check if {source}")
    queries: Sequence[Any] = program.checks[0].queries if len(program.checks) == 1 else ()
    if len(queries) == 1 and not (program.facts or program.rules or program.policies):
        query = queries[0]
        if len(query.body) == 1 and not query.expressions and not query.scopes:
            predicate: Predicate = query.body[0]
            if any(kind == PARAMETER for kind, _ in predicate.terms):
                raise ValueError(f"an answer has no parameters: {source}")
            return predicate
    raise ValueError(f"an answer is asked for by one predicate, as in header($name, $value), not {source}")


def _fits(pattern: Predicate, row: Row) -> bool:
    if pattern.name != row[0] or len(pattern.terms) != len(row) - 1:
        return False
    bound: dict[str, Term] = {}
    for (kind, value), term in zip(pattern.terms, row[1:], strict=True):
        if kind == VARIABLE:
            if bound.setdefault(value, term) != term:
                return False
        elif (kind, value) != term:
            return False
    return True
