"""Single statements of Datalog, and the builder of a block.

The parser is imported when there is source to parse and not before: narrowing a token with ready-made checks
must not pay for it.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from capability.datalog import program as syntax
from capability.datalog.program import KeyParameter, KeyScope, Predicate, Program, Scope, ScopeKind
from capability.datalog.terms import PARAMETER, Term
from capability.keys import PublicKey

if TYPE_CHECKING:
    from capability.datalog.parameters import Filled

Parameters = Mapping[str, object] | None
"""Values of the `{name}` of a source: int, str, bool, aware datetime, bytes, None, set, list or dict."""
ScopeParameters = Mapping[str, PublicKey] | None
"""Keys for the `{name}` after `trusting`."""

_Item = TypeVar("_Item", Predicate, syntax.Rule, syntax.Check, syntax.Policy)
_Complete = TypeVar("_Complete", Predicate, syntax.Rule, syntax.Check, syntax.Policy, Program)
_Clause = TypeVar("_Clause", syntax.Query, syntax.Rule)
_Expected = TypeVar("_Expected")


class _Statement(Generic[_Item]):
    """One parsed statement; two are equal when they say the same."""

    __slots__ = ("_item",)
    _item: _Item

    @classmethod
    def of(cls, item: _Item) -> Self:
        """Returns the statement that `item` is, without a source."""
        statement = cls.__new__(cls)
        statement._item = item
        return statement

    @property
    def item(self) -> _Item:
        """What the statement means."""
        return self._item

    def __eq__(self, other: object) -> bool:
        return self._item == other._item if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._item))


class Fact(_Statement[Predicate]):
    """A fact: `right("orders", "read")`.

    Parameters that are not given stay in it as `{name}`; a builder refuses them. Giving one that the source
    does not name is a DatalogError.
    """

    __slots__ = ()

    def __init__(self, source: str, parameters: Parameters = None) -> None:
        from capability.datalog.parser import parse_fact

        self._item = _bind_statement(parse_fact(_text(source)), parameters, None)

    @property
    def name(self) -> str:
        """The predicate's name."""
        return self._item.name

    @property
    def terms(self) -> list[Any]:
        """The terms as Python values: int, str, aware datetime, bytes, bool, None, set, list, dict."""
        from capability.datalog.parameters import from_term

        return [from_term(term) for term in self._item.terms]

    def __repr__(self) -> str:
        from capability.datalog.printer import print_predicate

        return print_predicate(self._item)


class Rule(_Statement[syntax.Rule]):
    """A rule: `may($who) <- member($who, "admins")`. Parameters are as with Fact."""

    __slots__ = ()

    def __init__(
        self, source: str, parameters: Parameters = None, scope_parameters: ScopeParameters = None
    ) -> None:
        from capability.datalog.parser import parse_rule

        self._item = _bind_statement(parse_rule(_text(source)), parameters, scope_parameters)

    def __repr__(self) -> str:
        from capability.datalog.printer import print_rule

        return print_rule(self._item)


class Check(_Statement[syntax.Check]):
    """A check: `check if operation("read")`. Parameters are as with Fact."""

    __slots__ = ()

    def __init__(
        self, source: str, parameters: Parameters = None, scope_parameters: ScopeParameters = None
    ) -> None:
        from capability.datalog.parser import parse_check

        self._item = _bind_statement(parse_check(_text(source)), parameters, scope_parameters)

    def __repr__(self) -> str:
        from capability.datalog.printer import print_check

        return print_check(self._item)


class Policy(_Statement[syntax.Policy]):
    """A policy, for authorizers: `allow if right("orders", "read")`. Parameters are as with Fact."""

    __slots__ = ()

    def __init__(
        self, source: str, parameters: Parameters = None, scope_parameters: ScopeParameters = None
    ) -> None:
        from capability.datalog.parser import parse_policy

        self._item = _bind_statement(parse_policy(_text(source)), parameters, scope_parameters)

    def __repr__(self) -> str:
        from capability.datalog.printer import print_policy

        return print_policy(self._item)


class StatementBuilder:
    """What the builders of blocks and of tokens share: an append-only list of statements."""

    __slots__ = ("_checks", "_context", "_facts", "_filled", "_rules", "_scopes")

    def __init__(
        self,
        source: str | None = None,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
    ) -> None:
        self._scopes: tuple[Scope, ...] = ()
        self._facts: list[Predicate] = []
        self._rules: list[syntax.Rule] = []
        self._checks: list[syntax.Check] = []
        self._context: str | None = None
        self._filled: Filled | None = None
        if source is not None:
            self._filled = _filled(source, parameters, scope_parameters)

    @property
    def program(self) -> Program:
        """The statements so far."""
        self._settle()
        return Program(self._scopes, tuple(self._facts), tuple(self._rules), tuple(self._checks))

    @property
    def filled(self) -> "Filled":
        """`program`, not put together yet where it is all of one source: that is enough to write it out."""
        from capability.datalog.parameters import Filled

        return Filled(self.program, {}) if self._filled is None else self._filled

    @property
    def context(self) -> str | None:
        """The free text that goes with the block, which no rule can read."""
        return self._context

    def set_context(self, context: str | None) -> None:
        """Sets the block's context, a note for people and logs."""
        self._context = None if context is None else _text(context)

    def add_code(
        self, source: str, parameters: Parameters = None, scope_parameters: ScopeParameters = None
    ) -> None:
        """Adds all statements of `source`.

        Raises ParseError, and ParameterError for a `{name}` without a value. A value without a `{name}` is
        ignored, so that one mapping can serve several sources. A `trusting` at the head of `source` holds
        for the statements of `source`; the first one to come before any rule or check holds for the whole
        block.
        """
        self._extend(_filled(source, parameters, scope_parameters).program)

    def add_program(self, program: Program) -> None:
        """Adds all statements of `program`, each trusting what it trusts there.

        Raises ValueError when it has policies, ParameterError when a parameter in it has no value.
        """
        if program.policies:
            raise ValueError("only an authorizer has policies")
        program = complete(program)
        self._settle()
        if self._scopes and not program.scopes:
            program = with_clauses(program, (ScopeKind.AUTHORITY,))
        self._extend(program)

    def add_fact(self, fact: Fact) -> None:
        """Adds `fact`; raises ParameterError when a parameter in it has no value."""
        self._settle()
        self._facts.append(complete(expect(Fact, fact, "fact").item))

    def add_rule(self, rule: Rule) -> None:
        """Adds `rule`; raises ParameterError when a parameter in it has no value."""
        self._settle()
        self._rules.append(complete(expect(Rule, rule, "rule").item))

    def add_check(self, check: Check) -> None:
        """Adds `check`; raises ParameterError when a parameter in it has no value."""
        self._settle()
        self._checks.append(complete(expect(Check, check, "check").item))

    def merge(self, builder: "BlockBuilder") -> None:
        """Adds all statements of `builder`, each trusting what it trusted there; `builder` stays as it is."""
        self.add_program(expect(BlockBuilder, builder, "builder").program)
        if self._context is None:
            self._context = builder.context

    def _settle(self) -> None:
        """Puts the builder's first source together, since something else comes to it."""
        filled, self._filled = self._filled, None
        if filled is not None:
            self._extend(filled.program)

    def _extend(self, program: Program) -> None:
        self._settle()
        if program.scopes and not (self._scopes or self._rules or self._checks):
            self._scopes = program.scopes
        elif program.scopes and program.scopes != self._scopes:
            program = with_clauses(program, program.scopes)
        self._facts += program.facts
        self._rules += program.rules
        self._checks += program.checks

    def __repr__(self) -> str:
        from capability.datalog.printer import print_program

        return print_program(self.program)


class BlockBuilder(StatementBuilder):
    """Collects the statements of a block that is to be appended to a token.

    >>> BlockBuilder('check if operation({name})', {"name": "read"})
    check if operation("read");
    <BLANKLINE>
    """

    __slots__ = ()


def bind_program(program: Program, parameters: Parameters, scope_parameters: ScopeParameters) -> Program:
    """Returns `program` with its parameters replaced; values that it does not name are ignored."""
    from capability.datalog.parameters import fill

    return fill(program, *_values(parameters, scope_parameters)).program


def _filled(source: str, parameters: Parameters, scope_parameters: ScopeParameters) -> "Filled":
    from capability.datalog.parameters import fill
    from capability.datalog.parser import parse_block

    return fill(parse_block(_text(source)), *_values(parameters, scope_parameters))


def _bind_statement(item: _Item, parameters: Parameters, scope_parameters: ScopeParameters) -> _Item:
    """Returns `item` with the parameters that are given replaced; the others stay."""
    from capability.datalog.parameters import bind, names

    term_names, key_names = names(item)
    if not (parameters or scope_parameters or term_names or key_names):
        return item
    terms, keys = _values(parameters, scope_parameters)
    open_terms: dict[str, Term] = {name: (PARAMETER, name) for name in term_names}
    open_keys: dict[str, Scope] = {name: KeyParameter(name) for name in key_names}
    return bind(item, open_terms | terms, open_keys | keys)


def _values(
    parameters: Parameters, scope_parameters: ScopeParameters
) -> tuple[dict[str, Term], dict[str, KeyScope]]:
    from capability.datalog.parameters import to_term

    terms = {name: to_term(value) for name, value in (parameters or {}).items()}
    keys = {
        name: expect(PublicKey, key, f"scope_parameters[{name!r}]").scope
        for name, key in (scope_parameters or {}).items()
    }
    return terms, keys


def complete(item: _Complete) -> _Complete:
    """Returns `item`; raises ParameterError when a parameter in it has no value."""
    from capability.datalog.parameters import bind

    return bind(item, {}, {})


def with_clauses(program: Program, scopes: tuple[Scope, ...]) -> Program:
    """Returns `program` with `scopes` written out wherever the block's clause would have held."""
    from dataclasses import replace

    def clause(item: _Clause) -> _Clause:
        return item if item.scopes else replace(item, scopes=scopes)

    def clauses(items: Iterable[_Clause]) -> tuple[_Clause, ...]:
        return tuple(clause(item) for item in items)

    return Program(
        (),
        program.facts,
        clauses(program.rules),
        tuple(replace(check, queries=clauses(check.queries)) for check in program.checks),
        tuple(replace(policy, queries=clauses(policy.queries)) for policy in program.policies),
    )


def expect(kind: type[_Expected], value: object, name: str) -> _Expected:
    """Returns `value`, or raises TypeError: the argument `name` is of another type."""
    if not isinstance(value, kind):
        raise TypeError(f"argument {name!r} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Datalog and contexts are str, not {type(value).__name__}")
    return value
