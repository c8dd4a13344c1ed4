"""Collects what a service states about a request, and builds the authorizer that decides it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

from capability.authorizer import Authorizer, loaded_blocks, nanoseconds
from capability.builders import (
    BlockBuilder,
    Check,
    Fact,
    Parameters,
    Policy,
    Rule,
    ScopeParameters,
    bind_program,
    complete,
    expect,
    with_clauses,
)
from capability.datalog.limits import Limits
from capability.datalog.parameters import to_term
from capability.datalog.printer import print_program
from capability.datalog.program import Predicate, Program, ScopeKind
from capability.datalog.terms import Term
from capability.errors import FormatError
from capability.externs import ExternCallable, adapt, require_callable
from capability.templates import LIMITS, Template, template_of
from capability.tokens import Biscuit
from capability.wire.snapshot import LoadedBlock, Snapshot, decode_snapshot, encode_snapshot
from capability.wire.text import from_text, to_text


@dataclass(slots=True)
class AuthorizerLimits:
    """Bounds on an authorizer's work, to be changed and handed back with `set_limits`; see `Limits`.

    `max_time` is None for no deadline.
    """

    max_facts: int = LIMITS.max_facts
    max_iterations: int = LIMITS.max_iterations
    max_time: timedelta | None = None
    max_steps: int = LIMITS.max_steps


class AuthorizerBuilder:
    """Collects facts, rules, checks and policies, and puts them beside a token.

    State what is true of the request as facts, `time` and all, and give values as parameters, never by
    formatting them into the source. Without an allow policy nothing is allowed.

    >>> builder = AuthorizerBuilder('operation({op}); allow if user($u)', {"op": "read"})
    >>> builder
    operation("read");
    allow if user($u);
    <BLANKLINE>
    """

    __slots__ = ("_externs", "_limits", "_max_time", "_own", "_states_revocation_ids", "_template", "_values")

    def __init__(
        self,
        source: str | None = None,
        parameters: Parameters = None,
        scope_parameters: ScopeParameters = None,
    ) -> None:
        self._own = Program()
        self._limits = LIMITS
        self._max_time: int | None = None
        self._externs: dict[str, ExternCallable] = {}
        self._states_revocation_ids = False
        self._template: Template | None = None
        self._values: dict[str, Term] = {}
        if source is not None:
            template = None if scope_parameters else template_of(source)
            if template is None:
                self.add_code(source, parameters, scope_parameters)
            else:
                self._values = template.values(parameters)
                self._template = template

    @property
    def program(self) -> Program:
        """The statements so far."""
        return self._program

    @property
    def _program(self) -> Program:
        # A source whose parameters are only those of facts is bound when somebody asks what it says.
        if self._template is not None:
            template, self._template = self._template, None
            self.add_program(template.bind(self._values))
        return self._own

    @_program.setter
    def _program(self, program: Program) -> None:
        self._own = program

    def add_code(
        self, source: str, parameters: Parameters = None, scope_parameters: ScopeParameters = None
    ) -> None:
        """Adds all statements of `source`, policies included.

        Raises ParseError, and ParameterError for a `{name}` without a value; a value without a `{name}` is
        ignored. A `trusting` at the head of `source` holds for the statements of `source`; the first one to
        come before any rule, check or policy holds for the whole builder.
        """
        from capability.datalog.parser import parse_program

        if not isinstance(source, str):
            raise TypeError(f"Datalog is str, not {type(source).__name__}")
        self.add_program(bind_program(parse_program(source), parameters, scope_parameters))

    def add_program(self, program: Program) -> None:
        """Adds all statements of `program`, which has no parameters left."""
        own = self._program
        if program.scopes and not (own.scopes or own.rules or own.checks or own.policies):
            own = replace(own, scopes=program.scopes)
        elif program.scopes and program.scopes != own.scopes:
            program = with_clauses(program, program.scopes)
        self._program = Program(
            own.scopes,
            own.facts + program.facts,
            own.rules + program.rules,
            own.checks + program.checks,
            own.policies + program.policies,
        )

    def add_fact(self, fact: Fact) -> None:
        """Adds `fact`; raises ParameterError when a parameter in it has no value."""
        self.add_program(Program(facts=(complete(expect(Fact, fact, "fact").item),)))

    def add_rule(self, rule: Rule) -> None:
        """Adds `rule`; raises ParameterError when a parameter in it has no value."""
        self.add_program(Program(rules=(complete(expect(Rule, rule, "rule").item),)))

    def add_check(self, check: Check) -> None:
        """Adds `check`; raises ParameterError when a parameter in it has no value."""
        self.add_program(Program(checks=(complete(expect(Check, check, "check").item),)))

    def add_policy(self, policy: Policy) -> None:
        """Adds `policy` after those that are there; raises ParameterError when a parameter has no value."""
        self.add_program(Program(policies=(complete(expect(Policy, policy, "policy").item),)))

    def merge(self, builder: "AuthorizerBuilder") -> None:
        """Adds all that `builder` states, and its extern functions; `builder` stays as it is."""
        other = expect(AuthorizerBuilder, builder, "builder")
        self._merge(other.program)
        self._externs |= other._externs
        self._states_revocation_ids |= other._states_revocation_ids

    def merge_block(self, builder: BlockBuilder) -> None:
        """Adds all that `builder` states; `builder` stays as it is."""
        self._merge(expect(BlockBuilder, builder, "builder").program)

    def set_time(self, now: datetime | None = None) -> None:
        """Adds the fact `time(now)`; None is the current time."""
        moment = datetime.now(UTC) if now is None else expect(datetime, now, "now")
        self.add_program(Program(facts=(Predicate("time", (to_term(moment),)),)))

    def state_revocation_ids(self) -> None:
        """Adds `revocation_id(<block index>, <bytes>)` for each block of the token, when it is built.

        They are the ids as the token has them. A Guard asks a store of revocations in the canonical form
        instead, which no holder can change.
        """
        self._states_revocation_ids = True

    def limits(self) -> AuthorizerLimits:
        """Returns a copy of the limits; `set_limits` puts a changed one in force."""
        limits = self._limits
        deadline = None if limits.max_time is None else timedelta(seconds=limits.max_time)
        return AuthorizerLimits(limits.max_facts, limits.max_iterations, deadline, limits.max_steps)

    def set_limits(self, limits: AuthorizerLimits | Limits) -> None:
        """Sets the bounds on what `authorize`, `query` and `query_all` may use, each call for itself."""
        if isinstance(limits, Limits):
            self._limits = limits
        else:
            given = expect(AuthorizerLimits, limits, "limits")
            given_time = given.max_time
            deadline = (
                None if given_time is None else expect(timedelta, given_time, "max_time").total_seconds()
            )
            self._limits = Limits(given.max_facts, given.max_iterations, given.max_steps, deadline)
        self._max_time = None

    def register_extern_func(self, name: str, func: ExternCallable) -> None:
        """Makes `func` callable as `.extern::name(...)`; see `capability.externs.ExternCallable`."""
        require_callable(name, func)
        self._externs[name] = func

    def register_extern_funcs(self, funcs: Mapping[str, ExternCallable]) -> None:
        """Makes each of `funcs` callable by its name."""
        for name, func in funcs.items():
            self.register_extern_func(name, func)

    def set_extern_funcs(self, funcs: Mapping[str, ExternCallable]) -> None:
        """Makes `funcs` callable, and nothing else."""
        for name, func in funcs.items():
            require_callable(name, func)
        self._externs = dict(funcs)

    def build(self, token: Biscuit) -> Authorizer:
        """Returns the authorizer of a verified token; this builder can build others.

        Raises TypeError for anything but a Biscuit, and LanguageError for a token with a rule that cannot
        be run.
        """
        expect(Biscuit, token, "token")
        if self._template is not None and not self._externs and not self._states_revocation_ids:
            policy = self._template.allowing(token, self._values) if self._limits is LIMITS else None
            if policy is not None:
                return Authorizer.foreseen(token, self._template, self._values, policy)
        return self._build(
            loaded_blocks(token), self._revocation_facts(token) if self._states_revocation_ids else ()
        )

    def build_unauthenticated(self) -> Authorizer:
        """Returns an authorizer without a token, for requests that have none."""
        return self._build((), ())

    def raw_snapshot(self) -> bytes:
        """Returns the builder as bytes that the Rust engine reads too.

        Extern functions are not in it, nor whether revocation ids are stated.
        """
        return encode_snapshot(
            Snapshot(
                max_facts=self._limits.max_facts,
                max_iterations=self._limits.max_iterations,
                max_time=nanoseconds(self._limits) if self._max_time is None else self._max_time,
                program=self._program,
            )
        )

    def base64_snapshot(self) -> str:
        """Returns `raw_snapshot` as URL-safe base64."""
        return to_text(self.raw_snapshot())

    @classmethod
    def from_raw_snapshot(cls, input: bytes) -> Self:
        """Returns the builder of a snapshot; raises BiscuitValidationError when it is not a builder's.

        A snapshot carries no signatures: load none that others may have written. Its deadline is written
        back and not enforced.
        """
        snapshot = decode_snapshot(input)
        if snapshot.blocks or snapshot.facts or snapshot.iterations or snapshot.execution_time:
            raise FormatError("the snapshot is of an authorizer, not of its builder", code="format.snapshot")
        builder = cls()
        builder._program = snapshot.program
        builder._limits = Limits(max_facts=snapshot.max_facts, max_iterations=snapshot.max_iterations)
        builder._max_time = snapshot.max_time
        return builder

    @classmethod
    def from_base64_snapshot(cls, input: str) -> Self:
        """Returns the builder of a snapshot, as `from_raw_snapshot` does."""
        return cls.from_raw_snapshot(from_text(input))

    def __repr__(self) -> str:
        return print_program(self._program)

    def _build(self, blocks: tuple[LoadedBlock, ...], facts: tuple[Predicate, ...]) -> Authorizer:
        program = replace(self._program, facts=self._program.facts + facts) if facts else self._program
        return Authorizer(blocks, program, self._limits, adapt(self._externs), max_time=self._max_time)

    def _revocation_facts(self, token: Biscuit) -> tuple[Predicate, ...]:
        return tuple(
            Predicate("revocation_id", (to_term(index), to_term(bytes.fromhex(identifier))))
            for index, identifier in enumerate(token.revocation_ids)
        )

    def _merge(self, program: Program) -> None:
        if self._program.scopes and not program.scopes:
            # What trusted the default there must not trust this builder's clause here.
            program = with_clauses(program, (ScopeKind.AUTHORITY,))
        self.add_program(program)
