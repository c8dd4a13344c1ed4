"""The same input has the same outcome: whatever the hash seed, the order of facts and rules, and the run."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError, EvaluationReason
from capability.datalog.limits import Limits
from capability.datalog.origins import AUTHORITY, AUTHORIZER, block_origin
from capability.datalog.parser import parse_program
from capability.datalog.program import Program
from tests.datalog import programs
from tests.datalog.programs import decide

_LIMITS = Limits(max_steps=10_000_000)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(programs.blocks, programs.authorizers, st.integers(0, 2**32))
def test_the_order_of_facts_and_rules_is_irrelevant(
    blocks: programs.Blocks, authorizer: Program, seed: int
) -> None:
    rng = random.Random(seed)

    def shuffled(program: Program) -> Program:
        facts = tuple(rng.sample(program.facts, len(program.facts)))
        rules = tuple(rng.sample(program.rules, len(program.rules)))
        return Program(program.scopes, facts, rules, program.checks, program.policies)

    first = decide(blocks, authorizer, _LIMITS)
    second = decide([(shuffled(program), key) for program, key in blocks], shuffled(authorizer), _LIMITS)
    assert second.outcome == first.outcome
    if first.outcome.decision != "error":
        assert (second.steps, second.iterations) == (first.steps, first.iterations)


SOURCE = """
user("alice"); user("bob"); user("carol");
member("alice", "ops"); member("bob", "dev"); member("carol", "ops");
grants("ops", {"read", "write"}); grants("dev", {"read"});
limit("alice", 3); limit("bob", 0); limit("carol", 2);
may($u, $g) <- user($u), member($u, $g), grants($g, $s), $s.contains("read");
pair($a, $b) <- may($a, $g), may($b, $g), $a != $b;
known($a) <- pair($a, $b); known($b) <- known($a), pair($a, $b);
"""

_PROGRAM = f"""
import hashlib
from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError
from capability.datalog.parser import parse_check, parse_program
world = World()
program = parse_program('''{SOURCE}''')
for fact in program.facts:
    world.add_fact(fact, 2)
for rule in program.rules:
    world.add_rule(rule, 4, 7)
world.run()
print(world.facts(), world.iterations, world.meter.steps)
for source in ("limit($u, $n), 6 / $n == 2", "pair($a, $b)", "limit($u, $n), 6 + $n == 9"):
    query = parse_check("check if " + source).queries[0]
    try:
        print(world.matches(query, 7), world.matches_all(query, 7), world.meter.steps)
    except EvaluationError as error:
        print(error.code, world.meter.steps)
"""


def test_the_hash_seed_is_irrelevant() -> None:
    outputs = set()
    for seed in range(8):
        environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True, env=environment
        )
        outputs.add(done.stdout)
    (output,) = outputs
    assert output.count("pair") == 2
    assert "execution.division_by_zero" in output


def _outcome(source: str, order: Sequence[int]) -> str:
    """Runs `p` with facts in the given order and says what the query `source` came to."""
    world = World(_LIMITS)
    program = parse_program(f"check if {source};")
    for number in order:
        world.add_fact(parse_program(f"p({number});").facts[0], AUTHORITY)
    world.run()
    try:
        return str(world.matches(program.checks[0].queries[0], AUTHORIZER | AUTHORITY))
    except EvaluationError as error:
        return error.code


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("p($x), 6 / $x == 3", "execution.division_by_zero"),
        ("p($x), $x != 0, 6 / $x == 3", "True"),
        ("p($x), p($y), $x == 0 || 6 / $x == $y", "True"),
        ("p($x), p($y), $x > $y && 6 / $y == 3", "execution.division_by_zero"),
        ("p($x), $x == 3 && $x / 0 == 1", "execution.division_by_zero"),
    ],
)
def test_an_error_in_one_binding_beats_a_match_in_another_in_any_order(source: str, expected: str) -> None:
    orders = [random.Random(seed).sample(range(4), 4) for seed in range(24)]
    assert {_outcome(source, order) for order in orders} == {expected}


def test_the_same_error_is_named_every_time_for_the_same_input() -> None:
    reasons = set()
    for _ in range(5):
        world = World()
        program = parse_program('p(0); p("a"); p(true); check if p($x), 1 / $x == 1;')
        for fact in program.facts:
            world.add_fact(fact, block_origin(0))
        with pytest.raises(EvaluationError) as raised:
            world.matches(program.checks[0].queries[0], AUTHORITY)
        reasons.add(raised.value.reason)
    assert reasons == {EvaluationReason.DIVISION_BY_ZERO}
