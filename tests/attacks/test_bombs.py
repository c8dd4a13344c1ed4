"""Tokens that are made to burn time or memory: each ends in its limit, and soon.

Times are those of the processor, and measured generously, since tests share their machine; what they guard
against takes minutes, or gigabytes.
"""

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capability import AuthorizerBuilder, Biscuit, Decision, Limits, Outcome
from capability.datalog.errors import ParseError
from capability.datalog.limits import GUARD_LIMITS
from capability.datalog.parser import parse_block, parse_term
from capability.inspection import remaining
from spec.generate.datalog import (
    ADD,
    ANY,
    CONTAINS,
    EQ,
    GET,
    LAZY_OR,
    LENGTH,
    REGEX,
    STRICT_EQ,
    UNION,
    Closure,
    Set,
    Statement,
    Tokens,
    Var,
    block,
    check,
    lazy,
    p,
    q,
    rule,
)
from spec.generate.datalog import Check as RawCheck
from spec.generate.signing import ROOT, chain
from tests.attacks.doors import guard, public, text_of

DEADLINE = GUARD_LIMITS.max_time or 0.0
SLACK = 1.5
"""Seconds for reading 64 KiB of token on a slow machine, and for a first use of everything."""
X, Y, Z = Var("x"), Var("y"), Var("z")


def token(*statements: Statement) -> bytes:
    return chain(block(*statements, version=6)).open()


def timed(data: bytes) -> Decision:
    """Returns the decision of a guard, having seen that it came soon after the deadline at the latest."""
    started = time.process_time()
    decision = guard(limits=GUARD_LIMITS).check(data)
    assert time.process_time() - started < 2 * DEADLINE + SLACK
    return decision


def numbers(count: int) -> list[Statement]:
    return [p("n", number) for number in range(count)]


def cross(arity: int) -> list[Any]:
    return [p("n", Var(f"v{at}")) for at in range(arity)]


def test_cross_join_stops_within_twice_its_deadline() -> None:
    """Join bomb: a 6-way cross join of 12 facts in 600 bytes, by the deadline alone."""
    data = token(*numbers(12), check(*cross(6), (Var("v0"), 99, STRICT_EQ)))
    assert len(data) < 600
    held = Biscuit.from_bytes(data, public(ROOT.public))
    best = float("inf")
    for _ in range(5):
        builder = AuthorizerBuilder("allow if true")
        builder.set_limits(Limits(max_steps=10**12, max_time=0.2))
        authorizer = builder.build(held)
        started = time.process_time()
        decision = authorizer.decide()
        best = min(best, time.process_time() - started)
        assert decision.code == "limit.time"
    assert best < 0.4
    assert timed(data).code in {"limit.steps", "limit.time"}  # whichever comes first on a busy machine
    assert guard(limits=replace(GUARD_LIMITS, max_time=None)).check(data).code == "limit.steps"


BOMBS: dict[str, Callable[[], list[Statement]]] = {
    "join in a rule": lambda: [*numbers(12), rule(p("m", *(Var(f"v{at}") for at in range(6))), *cross(6))],
    "join in a rule that derives nothing": lambda: [
        *numbers(12), rule(p("m", 1), *cross(6), (Var("v0"), 99, STRICT_EQ)),
    ],
    "transitive closure of everything": lambda: [
        *(p("e", a, b) for a in range(40) for b in range(40)),
        rule(p("e", X, Z), p("e", X, Y), p("e", Y, Z)),
    ],
    "closures in closures": lambda: [check(_nested_any(8))],
    "sets united": lambda: [
        check((Set(range(3000)), *[Set(range(9)), UNION] * 300, LENGTH, 0, EQ)),
    ],
    "a long string for each of many facts": lambda: [
        p("s", "x" * 20_000), *numbers(200),
        check(p("n", X), p("n", Y), p("s", Z), (Z, "y" * 9000, CONTAINS)),
    ],
    "wide rows derived": lambda: [*numbers(22), rule(p("w", *[X, Y, Z] * 3000), *_three())],
    "wide rows compared": lambda: [
        *numbers(20), rule(p("w", *[X, Y, Z] * 900), *_three()), check(p("w", *[Var("a")] * 2700)),
    ],
    "wide rows looked up": lambda: [
        *numbers(21), p("w", *[100] * 4000), rule(p("e", X, Y, Z), *_three()),
        check(p("e", X, Y, Z), p("w", *[X] * 4000)),
    ],
    "patterns": lambda: [check(("a" * 2000, f"(a|b{n}){{1,{200 + n}}}$", REGEX)) for n in range(300)],
    "long pattern": lambda: [check(("a" * 20_000, "(.*)" * 40 + "[ab]{500}$", REGEX))],
}  # fmt: skip
"""What costs more than its limits, in the steps that a guard allows."""


def _three() -> list[Any]:
    return [p("n", X), p("n", Y), p("n", Z)]


def _nested_any(depth: int) -> tuple[Any, ...]:
    if not depth:
        return (False,)
    return (list(range(30)), Closure((f"p{depth}",), _nested_any(depth - 1)), ANY)


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_reaches_a_limit(name: str) -> None:
    """Join bombs, regex bombs, huge sets and strings, non-terminating work: a limit, never a yes or a no."""
    decision = timed(token(*BOMBS[name]()))
    assert decision.outcome is Outcome.LIMIT_REACHED, decision.reason[:200]


HEAVY: dict[str, Callable[[], list[Statement]]] = {
    "checks that hold": lambda: [check((True,))] * 4000,
    "checks that fail": lambda: [check((False,))] * 4000,
    "checks on facts that are not there": lambda: [check(p("a", 1))] * 2800,
    "branches of one check": lambda: [RawCheck(tuple([q((False,))] * 4400))],
    "operators in one expression": lambda: [check((1, *[1, ADD] * 4500, 0, EQ))],
    "closures in one expression": lambda: [check((False, *[lazy(False), LAZY_OR] * 2500))],
    "predicates in one rule": lambda: [rule(p("a", X), *[p("b", X)] * 5500)],
    "rules": lambda: [rule(p("a", X), p("b", X))] * 2000,
    "wide predicates in one rule": lambda: [
        p("w", *[True] * 440), rule(p("w", False, *[X] * 439), *[p("w", *[X] * 440)] * 23),
    ],
    "one set": lambda: [check((Set(range(8000)), 4, CONTAINS))],
    "one map": lambda: [check(({n: n for n in range(4000)}, 4, GET, 4, EQ))],
}  # fmt: skip
"""What fills a token: its cost is in reading, planning, printing and explaining it."""


@pytest.mark.parametrize("name", HEAVY)
def test_a_token_full_of_statements_takes_no_long(name: str) -> None:
    """64 KiB of checks, rules, expressions: decided, explained, printed and inspected in little time."""
    data = token(*HEAVY[name]())
    assert len(data) > 15_000
    decision = timed(data)
    assert decision.outcome in {Outcome.ALLOWED, Outcome.DENIED, Outcome.LIMIT_REACHED}
    held = Biscuit.from_bytes(data, public(ROOT.public))
    started = time.process_time()
    remaining(each.program for each in held.blocks)
    assert held.block_source(0)
    assert repr(held)
    assert decision.to_json()
    assert time.process_time() - started < SLACK


def test_a_rule_that_never_stops() -> None:
    """Non-terminating rule: one that an extern function would feed for ever; Datalog alone has none."""
    grow = token(
        p("n", 0), *(p("s", n, n + 1) for n in range(1500)), rule(p("n", Y), p("n", X), p("s", X, Y))
    )
    held = Biscuit.from_bytes(grow, public(ROOT.public))
    for limits, code in (
        (Limits(max_iterations=100), "limit.iterations"),
        (Limits(max_facts=1600), "limit.facts"),
        (Limits(max_steps=1600), "limit.steps"),
    ):
        builder = AuthorizerBuilder("allow if true")
        builder.set_limits(limits)
        assert builder.build(held).decide().code == code


@pytest.mark.parametrize("times", [9, 12])
def test_a_string_that_doubles(times: int) -> None:
    """String doubling: `+` of a string with itself, again and again, in a token of a few kilobytes."""
    ops: tuple[Any, ...] = ("x" * 200,)
    for _ in range(times):
        ops = (*ops, *ops, ADD)
    decision = timed(token(check((*ops, LENGTH, 0, EQ))))
    assert decision.code in {"execution.string_too_long", "limit.steps", "limit.time"}


def test_one_fact_too_many() -> None:
    """Fact limit: at the limit it is decided, one above it the limit is the outcome."""
    held = Biscuit.from_bytes(token(*numbers(100)), public(ROOT.public))
    for limit, outcome in ((100, Outcome.ALLOWED), (99, Outcome.LIMIT_REACHED)):
        builder = AuthorizerBuilder("allow if true")
        builder.set_limits(Limits(max_facts=limit))
        assert builder.build(held).decide().outcome is outcome


def test_values_listed_on_both_sides() -> None:
    """Thousands of values in each of several checks: what remains is found without comparing all with all."""
    values = [f"{number:03x}" for number in range(3000)]
    listed = check(p("operation", X), (Set(values), X, CONTAINS))
    held = Biscuit.from_bytes(token(listed, listed, listed), public(ROOT.public))
    started = time.process_time()
    left = remaining(each.program for each in held.blocks)
    assert time.process_time() - started < SLACK
    assert left.operations is not None
    assert len(left.operations) == 3000


CHILD = """
import base64, json, resource, sys
from capability import AuthorizerBuilder, Biscuit, PublicKey
resource.setrlimit(resource.RLIMIT_AS, (768 << 20, 768 << 20))
key, text = sys.stdin.read().split()
held = Biscuit.from_base64(text, PublicKey(key))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decision = AuthorizerBuilder("allow if true").build(held).decide()
print(json.dumps([decision.code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
@pytest.mark.parametrize("name", ["wide rows derived", "wide rows compared"])
def test_memory_is_bounded_without_a_deadline(name: str) -> None:
    """Memory bombs: rows thousands of terms wide, made by the thousand, under the builder's larger limits."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=f"{public(ROOT.public)!r} {text_of(token(*BOMBS[name]()))}",
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    code, kilobytes = json.loads(done.stdout)
    assert code in {"limit.steps", "limit.facts"}
    assert kilobytes < 200 * 1024


def test_what_a_guard_remembers_is_counted() -> None:
    """Memory bomb: thousands of symbols that every prefix of a long chain has in its tables."""
    tokens = Tokens()
    first = tokens.block(p("a", 1), extra_symbols=[f"{number:x}" for number in range(8000)])
    data = chain(first, *(tokens.block(p("a", number)) for number in range(2, 42))).open()
    watch = guard()
    watch.check(chain(block(p("a", 1))).open())
    tracemalloc.start()
    try:
        watch.check(data)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stats = watch.stats()
    assert taken < 2 * (stats.decoded.size + stats.chains.size + stats.tokens.size)


SOURCES = {
    "brackets": "f(" + "[" * 60_000,
    "parentheses": "check if " + "(" * 60_000,
    "negations": "check if " + "!" * 60_000 + "true",
    "methods": "check if 1" + ".length()" * 7_000,
    "closures": "check if true" + ".any($x -> true" * 4_000,
    "lazy operators to the right": "check if " + "(true || " * 7_000,
    "maps": "f(" + '{"a": ' * 10_000,
    "mistakes": "a;" * 30_000,
    "mistakes in strings": 'a("x);' * 10_000,
    "variables in one sum": "check if p($a), " + " + ".join(f"$v{n}" for n in range(8_000)) + " == 1",
    "comments": "/*" * 30_000,
    "backslashes": 'f("' + "\\" * 60_000,
    "digits": "f(" + "9" * 60_000 + ")",
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_that_nest_or_err_without_end(name: str) -> None:
    """Nesting bombs and floods of mistakes in source text: a ParseError, soon, never a RecursionError."""
    started = time.process_time()
    with pytest.raises(ParseError) as refused:
        parse_block(SOURCES[name])
    assert time.process_time() - started < 4
    assert len(str(refused.value)) < 20_000
    assert len(refused.value.errors) < 10_000
    assert refused.value.errors[0].line == 1


@pytest.mark.parametrize("source", ["[" * 60_000, "{" * 60_000, '{"a": [' * 9_000])
def test_values_that_nest_without_end(source: str) -> None:
    """Nesting bombs in single values, as the command line takes them."""
    with pytest.raises(ParseError):
        parse_term(source)
