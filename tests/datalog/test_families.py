"""A residual that was made from another token's is the one that would have been made in full."""

from dataclasses import fields, replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capability.datalog.limits import GUARD_LIMITS
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.preparation import Residual
from capability.datalog.program import Check, Closure, Expression, Op, Predicate, Program, Query, Rule, Value
from capability.datalog.residual import Residuals
from capability.datalog.shapes import RequestFact
from capability.datalog.skeletons import _MAX_KNOWN, lifted
from capability.datalog.terms import BOOL, DATE, INTEGER, STRING, VARIABLE, Term
from tests.datalog import programs

TIME = RequestFact("time", (DATE,))
OPERATION = RequestFact("operation", (STRING,))
POLICY = 'right("editor", "read"); allow if user($u), role($r), right($r, $o), operation($o)'


def same(one: Residual | None, other: Residual | None) -> bool:
    """Returns whether two residuals agree in all but who they belong to; code is compared by its text."""
    if one is None or other is None:
        return one is other
    names = [field.name for field in fields(Residual) if field.name not in ("run", "kin", "bound", "size")]
    return (
        one.run.__code__.co_code == other.run.__code__.co_code
        and all(getattr(one, name) == getattr(other, name) for name in names)
        and (one.bound.steps, one.bound.facts, one.bound.rounds)
        == (other.bound.steps, other.bound.facts, other.bound.rounds)
    )


class Changed:
    """Returns programs with some constants changed to others of their type, now and then to long ones."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def term(self, term: Term) -> Term:
        kind, value = term
        if self._random.random() < 0.4:
            return term
        if kind == STRING:
            return (STRING, self._random.choice(["a", "b", "read", "x" * 70, value, "editor"]))
        if kind in (INTEGER, DATE):
            return (kind, self._random.choice([0, 1, 2, value]))
        return (BOOL, self._random.random() < 0.5) if kind == BOOL else term

    def atom(self, atom: Predicate) -> Predicate:
        return Predicate(atom.name, tuple(map(self.term, atom.terms)))

    def ops(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        changed: list[Op] = []
        for op in ops:
            if isinstance(op, Value) and op.term[0] != VARIABLE:
                changed.append(Value(self.term(op.term)))
            else:
                changed.append(Closure(op.params, self.ops(op.ops)) if isinstance(op, Closure) else op)
        return tuple(changed)

    def query(self, query: Query) -> Query:
        expressions = tuple(Expression(self.ops(each.ops)) for each in query.expressions)
        return Query(tuple(map(self.atom, query.body)), expressions, query.scopes)

    def rule(self, rule: Rule) -> Rule:
        query = self.query(Query(rule.body, rule.expressions, rule.scopes))
        return Rule(self.atom(rule.head), query.body, query.expressions, query.scopes)

    def program(self, program: Program) -> Program:
        return replace(
            program,
            facts=tuple(map(self.atom, program.facts)),
            rules=tuple(map(self.rule, program.rules)),
            checks=tuple(Check(each.kind, tuple(map(self.query, each.queries))) for each in program.checks),
        )


_tried = [0, 0]


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(programs.blocks, programs.authorizers, st.integers(0, 2**32))
def _relatives_agree(blocks: programs.Blocks, authorizer: Program, seed: int) -> None:
    request = tuple(
        {fact.name: RequestFact(fact.name, (STRING,)) for fact in authorizer.facts[:2]}.values()
    ) or (TIME,)
    residuals = Residuals(GUARD_LIMITS)
    residuals.prepare(blocks, authorizer, request)
    changed = Changed(Random(seed))
    for _ in range(4):
        relatives = [(changed.program(program), key) for program, key in blocks]
        found = residuals.at_once(relatives, authorizer, request)
        expected = Residuals(GUARD_LIMITS).prepare(relatives, authorizer, request)
        _tried[0] += 1
        if found is not None:
            _tried[1] += 1
            assert same(found, expected)
        residuals.prepare(relatives, authorizer, request)


def test_random_relatives() -> None:
    _tried[:] = [0, 0]
    _relatives_agree()
    assert _tried[1] > 40, _tried


def related(first: str, second: str, policy: str = POLICY) -> Residual | None:
    """Returns the residual of `second` where that of `first` is known; holds it to the one made in full."""
    program, residuals = parse_program(policy), Residuals(GUARD_LIMITS)
    request = (TIME, OPERATION)
    assert residuals.prepare([(parse_block(first), None)], program, request) is not None
    blocks = [(parse_block(second), None)]
    found = residuals.at_once(blocks, program, request)
    if found is not None:
        assert same(found, Residuals(GUARD_LIMITS).prepare(blocks, program, request))
    return found


def test_what_a_table_has_is_the_tokens_own() -> None:
    source = (
        'user("{}"); role("editor"); check all time($t), $t <= {}-01-01T00:00:00Z; check if operation("{}")'
    )
    found = related(source.format("alice", 2030, "read"), source.format("bob", 2040, "write"))
    assert found is not None
    assert found.run(found.table, 2208988800, "write") == (-1, 0)
    assert found.run(found.table, 2208988801, "read") == (0, 0b11)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param('user("a"); role("editor")', 'user("a"); role("auditor")', id="joined"),
        pytest.param('user("a")', 'user("a"); user("b")', id="another number of facts"),
        pytest.param('user("a")', "user(1)", id="another type"),
        pytest.param('user("a")', f'user("{"a" * 64}")', id="another size"),
        pytest.param('user("a"); user("a")', 'user("a"); user("b")', id="the same fact twice"),
        pytest.param('user("a"); check if user("a")', 'user("b"); check if user("a")', id="asked for"),
        pytest.param(
            'user("a"); check if user($u), $u == "a"', 'user("b"); check if user($u), $u == "a"', id="used"
        ),
        pytest.param(
            'check if user("a") or operation("a")', 'check if user("b") or operation("a")', id="static"
        ),
        pytest.param('p($u) <- user($u); user("a")', 'p($u) <- user($u); user("b")', id="read by a rule"),
        pytest.param('p("a") <- user($u); user("a")', 'p("b") <- user($u); user("a")', id="another rule"),
        pytest.param('operation("a")', 'operation("b")', id="beside the request"),
        pytest.param(
            "check if operation($o), {1, 2}.contains(1)",
            'check if operation($o), {"a"}.contains("a")',
            id="another type of members",
        ),
        pytest.param(
            'check if operation("a") trusting previous', 'check if operation("a")', id="another scope"
        ),
        pytest.param('check all operation("a")', 'check if operation("a")', id="another kind"),
    ],
)
def test_no_family(first: str, second: str) -> None:
    assert related(first, second) is None


def test_a_policy_has_families_of_its_own() -> None:
    residuals, request = Residuals(GUARD_LIMITS), (TIME, OPERATION)
    blocks = [(parse_block('user("a")'), None)]
    residuals.prepare(blocks, parse_program("allow if user($u)"), request)
    assert residuals.at_once(blocks, parse_program("deny if user($u)"), request) is None


@pytest.mark.parametrize(
    "source",
    [
        'user("a", 1, hex:00, {1, 2})',
        'check if time($t), $t <= 2030-01-01T00:00:00Z, resource($r), $r == "a" || $r.starts_with("b")',
        'check all p($x, "c"), [1, 2].any($y -> $y == $x) or q(1) trusting previous',
        "reject if true",
    ],
)
def test_a_statement_is_put_together_again(source: str) -> None:
    program = parse_block(source)
    statements: list[Predicate | Check] = [*program.facts, *program.checks]
    for statement in statements:
        found = lifted(statement)
        assert found is not None
        assert found.skeleton.fill(found.constants) == statement


def test_statements_are_alike_also_after_their_skeletons_were_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after, other = parse_program("forgotten(1); forgotten(2); another(1, 2, 3)").facts
    found = lifted(before)
    monkeypatch.setattr("capability.datalog.skeletons._skeletons", dict.fromkeys(range(_MAX_KNOWN)))
    assert lifted(other)  # for which there is no room
    again, alike = lifted(before), lifted(after)
    assert found
    assert again
    assert alike
    assert found.skeleton is not again.skeleton is alike.skeleton
