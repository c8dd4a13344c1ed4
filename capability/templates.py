"""Authorizer sources that differ from request to request in the values of their facts alone.

`time({now}); operation({op}); allow if ...` is parsed once, and for a token that was asked about before,
what it and the source leave to decide is at hand (`capability.datalog.residual`): then nothing is bound or
run.
"""

from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from capability.builders import Parameters
from capability.datalog.lifting import scalar
from capability.datalog.limits import Limits
from capability.datalog.parameters import bind, names, to_term
from capability.datalog.program import PolicyKind, Predicate, Program
from capability.datalog.shapes import NotYet, RequestFact, Run, Unsure
from capability.datalog.terms import PARAMETER, Term
from capability.tokens import Biscuit

if TYPE_CHECKING:
    from capability.datalog.residual import Residuals

LIMITS: Final = Limits()
"""The limits for which sources are prepared: the default ones."""
_MAX_FORMS: Final = 16
_Form: TypeAlias = tuple[Run, tuple[Any, ...]]
_SEEN: Final[Any] = object()
"""Stands for a form that was asked for once, and is prepared when it is asked for again."""


class Template:
    """A source whose parameters all stand as whole terms of facts that have no other terms.

    `arguments` are their names, in the order of those facts.
    """

    __slots__ = ("_facts", "_program", "_rest", "arguments")

    def __init__(self, program: Program, facts: tuple[Predicate, ...]) -> None:
        self._program = program
        self._facts = facts
        self._rest = _without(program, facts)
        self.arguments = tuple(name for fact in facts for _, name in fact.terms)

    def values(self, parameters: Parameters) -> dict[str, Term]:
        """Returns the parameters as terms; raises as `bind_program` does for what is missing or has no
        term.
        """
        terms = {name: to_term(value) for name, value in (parameters or {}).items()}
        for name in self.arguments:
            if name not in terms:
                self.bind(terms)  # says what is missing
        return terms

    def bind(self, values: dict[str, Term]) -> Program:
        """Returns the program of the source with `values` put in."""
        return bind(self._program, {name: values[name] for name in self.arguments if name in values}, {})

    def allowing(self, token: Biscuit, values: dict[str, Term]) -> int | None:
        """Returns the allow policy that matches without a failed check, if that can be told at once, else
        None.
        """
        terms = [values[name] for name in self.arguments]
        form = self._form(token, tuple([kind for kind, _ in terms]))
        if form is None:
            return None
        run, table = form
        try:
            matched, failed = run(table, *[value for _, value in terms])
        except Unsure:
            return None
        policy = int(matched)
        if failed or policy < 0 or self._rest.policies[policy].kind is not PolicyKind.ALLOW:
            return None
        return policy

    def _form(self, token: Biscuit, kinds: tuple[int, ...]) -> _Form | None:
        """Returns what `token` and the source leave to decide, prepared when it is asked for again."""
        known = token.memory
        key = (self, kinds)
        if key not in known:
            if len(known) < _MAX_FORMS:
                known[key] = _SEEN
            return None
        form: _Form | None = known[key]
        if form is _SEEN:
            try:
                form = known[key] = self._prepare(token, kinds)
            except NotYet:
                return None
        return form

    def _prepare(self, token: Biscuit, kinds: tuple[int, ...]) -> _Form | None:
        if not all(map(scalar, kinds)):
            return None
        left = iter(kinds)
        request = tuple(RequestFact(fact.name, tuple(next(left) for _ in fact.terms)) for fact in self._facts)
        blocks = [
            (block.program, None if key is None else key.scope)
            for block, key in zip(token.blocks, token.external_keys, strict=True)
        ]
        residual = _residuals().prepare(blocks, self._rest, request)
        if residual is None or residual.failed_always:
            return None
        return (residual.run, residual.table)


@cache
def _residuals() -> "Residuals":
    """Returns those of all sources, so that what is kept for them is bounded together."""
    from capability.datalog.residual import Residuals

    return Residuals(LIMITS, eager_shapes=256)


@lru_cache(maxsize=256)
def template_of(source: str) -> Template | None:
    """Returns the template of an authorizer's source, None when it is none; raises ParseError."""
    from capability.datalog.parser import parse_program

    program = parse_program(source)
    facts = tuple(fact for fact in program.facts if any(kind == PARAMETER for kind, _ in fact.terms))
    whole = all(kind == PARAMETER for fact in facts for kind, _ in fact.terms)
    if not facts or not whole or len(set(facts)) != len(facts) or any(names(_without(program, facts))):
        return None
    return Template(program, facts)


def _without(program: Program, facts: tuple[Predicate, ...]) -> Program:
    return replace(program, facts=tuple(fact for fact in program.facts if fact not in facts))
