"""An authorizer: what a service states about a request, put beside a token and decided.

`capability.authorizer_builder` makes them.
"""

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Final, Self

from capability.authorization import Evaluation, Plan, authorization_error, decide, own_origin
from capability.builders import Fact, Rule
from capability.datalog.errors import EvaluationError, LimitExceeded
from capability.datalog.limits import Limits
from capability.datalog.operators import ExternFunction
from capability.datalog.origins import origin_blocks
from capability.datalog.printer import print_check, print_policy, print_predicate, print_rule
from capability.datalog.program import Predicate, Program
from capability.datalog.terms import Term
from capability.decision import Decision
from capability.templates import LIMITS, Template
from capability.tokens import Biscuit
from capability.wire.snapshot import LoadedBlock, Snapshot, decode_snapshot, encode_snapshot
from capability.wire.text import from_text, to_text

NO_DEADLINE: Final = 2**63 - 1
"""What a snapshot says in nanoseconds when there is no deadline."""
_LAST: Final = sys.maxsize


def loaded_blocks(token: Biscuit) -> tuple[LoadedBlock, ...]:
    """Returns the blocks of a verified token as an authorizer has them."""
    return tuple(
        LoadedBlock(block.program, None if key is None else key.scope, block.context, block.version)
        for block, key in zip(token.blocks, token.external_keys, strict=True)
    )


def nanoseconds(limits: Limits) -> int:
    """Returns the deadline of `limits` as snapshots have it."""
    return NO_DEADLINE if limits.max_time is None else round(limits.max_time * 1_000_000_000)


class Authorizer:
    """A token, or none, beside the statements of an authorizer, ready to be decided.

    Nothing can be added to it. `repr` shows its facts with their origins; once it has run, also what the
    rules derived.
    """

    __slots__ = (
        "_authorized",
        "_elapsed",
        "_evaluation",
        "_externs",
        "_foreseen",
        "_known",
        "_limits",
        "_made",
        "_max_time",
        "_policy",
    )

    def __init__(
        self,
        blocks: tuple[LoadedBlock, ...],
        program: Program,
        limits: Limits,
        externs: Mapping[str, ExternFunction],
        *,
        max_time: int | None = None,
        known: tuple[tuple[int, Predicate], ...] = (),
    ) -> None:
        """For builders and snapshots. `max_time` is what a snapshot is to say, if not what `limits` say.

        Raises LanguageError for a rule of the token that derives facts with variables.
        """
        self._made: Plan | None = Plan(blocks, program)
        self._foreseen: tuple[Biscuit, Template, dict[str, Term]] | None = None
        self._policy: int | None = None
        self._authorized = False
        self._limits = limits
        self._externs = externs
        self._max_time = nanoseconds(limits) if max_time is None else max_time
        self._known = known
        self._evaluation: Evaluation | None = None
        self._elapsed = 0

    @classmethod
    def foreseen(cls, token: Biscuit, template: Template, values: dict[str, Term], policy: int) -> Self:
        """For builders. Returns an authorizer of which it is known that `policy` allows;
        it runs when more is asked.
        """
        authorizer = cls.__new__(cls)
        authorizer._made = None
        authorizer._foreseen = (token, template, values)
        authorizer._policy = policy
        authorizer._authorized = False
        authorizer._limits = LIMITS
        authorizer._externs = {}
        authorizer._max_time = NO_DEADLINE
        authorizer._known = ()
        authorizer._evaluation = None
        authorizer._elapsed = 0
        return authorizer

    @property
    def _plan(self) -> Plan:
        if self._made is None:
            assert self._foreseen is not None
            token, template, values = self._foreseen
            self._made = Plan(loaded_blocks(token), template.bind(values))
        return self._made

    def authorize(self) -> int:
        """Returns the index of the allow policy that matched.

        Raises Denied, ExecutionFailed or LimitReached (all AuthorizationError), which have the policy and
        the checks that decided.
        """
        if self._policy is not None:
            self._authorized = True
            return self._policy
        decision = self.decide()
        decision.require()
        assert decision.policy is not None
        return decision.policy.index

    def decide(self) -> Decision:
        """Returns the decision that `authorize` acts on; it raises nothing."""
        return decide(self._run().fork())

    def query(self, rule: Rule) -> list[Fact]:
        """Returns the facts that `rule` derives from those of the authority and the authorizer.

        A `trusting` of the rule says whom else to believe. Nothing is added. Raises ExecutionFailed and
        LimitReached.
        """
        return self._query(rule, everything=False)

    def query_all(self, rule: Rule) -> list[Fact]:
        """Returns the facts that `rule` derives from those of every block, trusted or not.

        For looking into a token: never decide on what anybody may have appended. Raises as `query` does.
        """
        return self._query(rule, everything=True)

    def raw_snapshot(self) -> bytes:
        """Returns the authorizer as bytes that the Rust engine reads too. Extern functions are not in it."""
        evaluation = self._run() if self._authorized else self._evaluation
        ran = evaluation is not None and not evaluation.failed
        return encode_snapshot(
            Snapshot(
                max_facts=self._limits.max_facts,
                max_iterations=self._limits.max_iterations,
                max_time=self._max_time,
                program=self._plan.program,
                blocks=self._plan.blocks,
                facts=tuple(self._facts()),
                iterations=evaluation.world.iterations if evaluation is not None and ran else 0,
                execution_time=max(1, self._elapsed) if ran else 0,
            )
        )

    def base64_snapshot(self) -> str:
        """Returns `raw_snapshot` as URL-safe base64."""
        return to_text(self.raw_snapshot())

    @classmethod
    def from_raw_snapshot(cls, input: bytes) -> Self:
        """Returns the authorizer of a snapshot; raises BiscuitValidationError when it is not one.

        A snapshot carries no signatures: load none that others may have written. It is run again before it
        decides. Its deadline is written back and not enforced.
        """
        snapshot = decode_snapshot(input)
        limits = Limits(max_facts=snapshot.max_facts, max_iterations=snapshot.max_iterations)
        return cls(
            snapshot.blocks,
            snapshot.program,
            limits,
            {},
            max_time=snapshot.max_time,
            known=snapshot.facts,
        )

    @classmethod
    def from_base64_snapshot(cls, input: str) -> Self:
        """Returns the authorizer of a snapshot, as `from_raw_snapshot` does."""
        return cls.from_raw_snapshot(from_text(input))

    def __repr__(self) -> str:
        return dump(self._plan, self._facts())

    def _run(self) -> Evaluation:
        if self._evaluation is None:
            started = time.perf_counter_ns()
            self._evaluation = Evaluation(self._plan, self._limits, self._externs, known=self._known)
            self._evaluation.try_run()
            self._elapsed = time.perf_counter_ns() - started
        return self._evaluation

    def _query(self, rule: Rule, *, everything: bool) -> list[Fact]:
        if not isinstance(rule, Rule):
            raise TypeError(f"argument 'rule' must be a Rule, not {type(rule).__name__}")
        evaluation = self._run().fork()
        try:
            evaluation.run()
            found = evaluation.query_all(rule.item) if everything else evaluation.query(rule.item)
        except (EvaluationError, LimitExceeded) as error:
            raise authorization_error(error) from error
        return [Fact.of(fact) for fact in found]

    def _facts(self) -> Iterable[tuple[int, Predicate]]:
        """Returns all facts once the rules have run, else those that were stated."""
        if self._authorized:
            self._run()
        if self._evaluation is not None and not self._evaluation.failed:
            return self._evaluation.world.facts()
        stated = [
            (own_origin(block), fact) for block, program in self._plan.programs() for fact in program.facts
        ]
        return dict.fromkeys([*stated, *self._known])


def dump(plan: Plan, facts: Iterable[tuple[int, Predicate]]) -> str:
    """Returns facts, rules, checks and policies by origin, in the layout of biscuit-python."""
    fact_lines: dict[int, list[str]] = {}
    for origin, fact in facts:
        fact_lines.setdefault(origin, []).append(print_predicate(fact))
    # A world has a rule once, however often a block states it; checks and policies are counted, so all show.
    rule_lines = {
        own_origin(block): list(dict.fromkeys(map(print_rule, program.rules)))
        for block, program in plan.programs()
    }
    check_lines = {
        own_origin(block): [print_check(check) for check in program.checks]
        for block, program in plan.programs()
    }
    sections = [
        _section("Facts", {origin: sorted(lines) for origin, lines in fact_lines.items()}),
        _section("Rules", {origin: sorted(lines) for origin, lines in rule_lines.items()}),
        _section("Checks", check_lines),
    ]
    if plan.program.policies:
        sections.append(
            "// Policies:\n" + "".join(f"{print_policy(policy)};\n" for policy in plan.program.policies)
        )
    return "".join(sections)


def _section(title: str, lines: Mapping[int, list[str]]) -> str:
    text = ""
    for origin in sorted(lines, key=_blocks):
        if lines[origin]:
            names = ("authorizer" if block == _LAST else str(block) for block in _blocks(origin))
            text += f"// origin: {', '.join(names)}\n" + "".join(f"{line};\n" for line in lines[origin])
    return f"// {title}:\n{text}\n" if text else ""


def _blocks(origin: int) -> list[int]:
    """Returns the blocks of an origin, the authorizer as the last of them."""
    return sorted(_LAST if block is None else block for block in origin_blocks(origin))
