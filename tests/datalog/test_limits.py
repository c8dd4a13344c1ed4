"""Limits stop work wherever it is done, at the same step every time; they neither allow nor deny."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError, LimitExceeded, LimitKind
from capability.datalog.limits import GUARD_LIMITS, Limits, Meter
from capability.datalog.origins import AUTHORITY, AUTHORIZER, block_origin
from capability.datalog.parser import parse_check, parse_fact, parse_rule
from capability.datalog.program import Predicate, Query
from capability.datalog.terms import ARRAY, INTEGER, STRING, VARIABLE, Term

_EVERYONE = AUTHORIZER | AUTHORITY


def query_of(source: str) -> Query:
    return parse_check(f"check if {source}").queries[0]


def numbers(count: int, limits: Limits, name: str = "p") -> World:
    world = World(limits)
    for number in range(count):
        world.add_fact(Predicate(name, ((INTEGER, number),)), AUTHORITY)
    world.run()
    return world


def limit_of(action: Callable[[], object]) -> LimitKind:
    with pytest.raises(LimitExceeded) as raised:
        action()
    assert raised.value.code == f"limit.{raised.value.limit.value}"
    return raised.value.limit


class Clock:
    """A clock that goes on by `tick` seconds each time somebody looks."""

    def __init__(self, tick: float) -> None:
        self.now = 0.0
        self.tick = tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


CROSS_JOIN = "p($a), p($b), p($c), p($d), p($e), p($f)"


def test_the_defaults() -> None:
    assert Limits() == Limits(max_facts=10_000, max_iterations=1_000, max_steps=500_000, max_time=None)
    assert Limits(max_facts=10_000, max_iterations=1_000, max_steps=50_000, max_time=0.1) == GUARD_LIMITS


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("max_time", timedelta(seconds=1), "total_seconds"),
        ("max_time", "1", "seconds"),
        ("max_time", True, "seconds"),
        ("max_time", float("nan"), "no number"),
        ("max_facts", 1.5, "int"),
        ("max_iterations", None, "int"),
        ("max_steps", True, "int"),
    ],
)
def test_what_is_no_limit_is_refused_when_it_is_made(name: str, value: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Limits(**{name: value})


@pytest.mark.parametrize("expressions", ["", ", $a + $b + $c + $d + $e + $f == 1000"])
def test_a_cross_join_stops_at_the_step_limit(expressions: str) -> None:
    """Three million bindings from a token of 600 bytes."""
    world = numbers(12, Limits(max_steps=50_000))
    assert limit_of(lambda: world.matches(query_of(CROSS_JOIN + expressions), _EVERYONE)) == LimitKind.STEPS


def test_a_cross_join_stops_within_twice_the_deadline() -> None:
    limits = Limits(max_steps=10**12, max_time=0.2)
    world = numbers(12, limits)
    started = time.thread_time()  # which does not count that the machine did something else
    assert limit_of(lambda: world.matches(query_of(CROSS_JOIN), _EVERYONE)) == LimitKind.TIME
    assert time.thread_time() - started < 0.4


def test_a_cross_join_in_a_rule_stops_too() -> None:
    world = numbers(12, Limits(max_steps=50_000))
    world.add_rule(parse_rule(f"out($a) <- {CROSS_JOIN}"), AUTHORITY, _EVERYONE)
    assert limit_of(world.run) == LimitKind.STEPS


def test_the_clock_is_looked_at_inside_a_join() -> None:
    world = World(Limits(max_steps=10**12, max_time=1.0), clock=Clock(0.01))
    for number in range(12):
        world.add_fact(Predicate("p", ((INTEGER, number),)), AUTHORITY)
    assert limit_of(lambda: world.matches(query_of(CROSS_JOIN), _EVERYONE)) == LimitKind.TIME
    assert world.meter.steps < 100 * (Meter.CLOCK_INTERVAL + 12 * 256)


def test_steps_are_counted_exactly() -> None:
    """The limit is a property of the input: one step less and it stops, always at the same place."""
    free = numbers(12, Limits())
    assert free.matches(query_of("p($a), p($b), p($c), $a + $b == $c"), _EVERYONE)
    needed = free.meter.steps
    for _ in range(2):
        enough = numbers(12, Limits(max_steps=needed))
        assert enough.matches(query_of("p($a), p($b), p($c), $a + $b == $c"), _EVERYONE)
        short = numbers(12, Limits(max_steps=needed - 1))
        action = lambda: short.matches(query_of("p($a), p($b), p($c), $a + $b == $c"), _EVERYONE)  # noqa: B023, E731
        assert limit_of(action) == LimitKind.STEPS


def test_every_candidate_counts_the_untrusted_and_the_unfit_too() -> None:
    world = World()
    for number in range(1000):
        world.add_fact(Predicate("p", ((INTEGER, number), (INTEGER, number + 1))), block_origin(1))
    world.run()
    for source in ("p($x, $y)", "p($x, $x)"):
        before = world.meter.steps
        assert not world.matches(query_of(source), _EVERYONE)
        assert world.meter.steps - before >= 1000


def test_an_indexed_look_up_counts_what_it_finds() -> None:
    world = numbers(1000, Limits())
    world.matches(query_of("p(1)"), _EVERYONE)
    before = world.meter.steps
    assert world.matches(query_of("p(2)"), _EVERYONE)
    assert world.meter.steps - before < 10


def test_too_many_facts() -> None:
    limits = Limits(max_facts=100)
    assert len(numbers(100, limits).facts()) == 100
    assert limit_of(lambda: numbers(101, limits)) == LimitKind.FACTS
    world = numbers(10, limits)
    world.add_rule(parse_rule("out($x, $y) <- p($x), p($y)"), AUTHORITY, _EVERYONE)
    assert limit_of(world.run) == LimitKind.FACTS
    world = numbers(10, Limits(max_facts=110))
    world.add_rule(parse_rule("out($x, $y) <- p($x), p($y)"), AUTHORITY, _EVERYONE)
    world.run()
    assert len(world.facts()) == 110


def test_a_fact_counts_once_however_often_it_is_stated_or_derived() -> None:
    world = World(Limits(max_facts=2))
    for _ in range(5):
        world.add_fact(parse_fact("p(1)"), AUTHORITY)
    world.add_rule(parse_rule("out(1) <- p($x)"), AUTHORITY, _EVERYONE)
    world.add_rule(parse_rule("out(1) <- p(1)"), AUTHORITY, _EVERYONE)
    world.run()
    assert len(world.facts()) == 2


def test_derived_facts_are_not_kept_beyond_the_limit() -> None:
    """The limit is looked at while a rule runs, not when millions of facts have been derived."""
    world = numbers(100, Limits(max_facts=1_000, max_steps=10**9, max_time=5.0))
    world.add_rule(parse_rule("out($a, $b, $c, $d) <- p($a), p($b), p($c), p($d)"), AUTHORITY, _EVERYONE)
    assert limit_of(world.run) == LimitKind.FACTS
    assert world.meter.steps < 100_000


def test_too_many_rounds() -> None:
    def chain(limits: Limits) -> World:
        world = World(limits)
        for number in range(20):
            world.add_fact(Predicate("next", ((INTEGER, number), (INTEGER, number + 1))), AUTHORITY)
        world.add_fact(parse_fact("at(0)"), AUTHORITY)
        world.add_rule(parse_rule("at($y) <- at($x), next($x, $y)"), AUTHORITY, _EVERYONE)
        return world

    enough = chain(Limits(max_iterations=21))
    enough.run()
    assert enough.iterations == 21
    assert limit_of(chain(Limits(max_iterations=20)).run) == LimitKind.ITERATIONS


def _text(length: int) -> Term:
    return (STRING, "a" * length)


@pytest.mark.parametrize(
    "source",
    [
        "{0} == {1}",
        "{0} != {1}",
        "{0} === {1}",
        "({0} + {1}).length() > 0",
        "{0}.length() > 0",
        "{0}.contains({1})",
        "{0}.ends_with({1})",
        "{1}.starts_with({0})",
        '{0}.matches("a")',
        "[{0}] == [{1}]",
        "[{0}].contains({1})",
        "{{{0}}}.contains({1})",
        "{{{0}}}.union({{{1}}}).length() == 1",
        "{{{0}}}.intersection({{{1}}}).length() == 1",
    ],
)
def test_operators_charge_for_the_bytes_that_they_touch(source: str) -> None:
    def steps(length: int) -> int:
        world = World()
        text = "a" * length
        world.matches(query_of(source.format(f'"{text}"', f'"{text}"')), _EVERYONE)
        return world.meter.steps

    assert steps(32_000) - steps(10) >= 32_000 // 64


def test_large_facts_make_each_step_of_a_join_dearer() -> None:
    """A look-up hashes the whole term, and Python does not remember the hash of a tuple."""

    def steps(length: int) -> int:
        world = World()
        large: Term = (ARRAY, tuple((INTEGER, number) for number in range(length)))
        for number in range(10):
            world.add_fact(Predicate("p", ((INTEGER, number), large)), AUTHORITY)
        world.run()
        world.matches(query_of("p($a, $x), p($b, $x), p($c, $x)"), _EVERYONE)
        return world.meter.steps

    assert steps(1000) > 100 * steps(1)


def test_large_constants_are_charged_for() -> None:
    def steps(length: int) -> int:
        world = numbers(10, Limits())
        body = (Predicate("p", ((VARIABLE, "x"),)), Predicate("q", (_text(length),)))
        world.add_fact(body[1], AUTHORITY)
        world.matches(Query(body), _EVERYONE)
        return world.meter.steps

    assert steps(64_000) > 50 * steps(10)


def test_closures_charge_for_every_run() -> None:
    members = ", ".join(map(str, range(100)))
    world = World(Limits(max_steps=10_000))
    source = f"[{members}].all($x -> [{members}].all($y -> [{members}].all($z -> $x + $y + $z >= 0)))"
    assert limit_of(lambda: world.matches(query_of(source), _EVERYONE)) == LimitKind.STEPS


def test_a_limit_is_no_evaluation_error() -> None:
    """What catches one must not catch the other: `try_or` and callers."""
    assert not issubclass(LimitExceeded, EvaluationError)
    assert not issubclass(EvaluationError, LimitExceeded)


def test_rules_that_never_find_anything_are_not_free() -> None:
    world = numbers(1, Limits(max_steps=10_000))
    rule = parse_rule("out($x) <- p($x), q($x)")
    for _ in range(10_000):
        world.add_rule(rule, AUTHORITY, _EVERYONE)
    assert limit_of(world.run) == LimitKind.STEPS


def test_the_time_starts_anew_in_a_fork() -> None:
    clock = Clock(0.0)
    world = World(Limits(max_time=1.0), clock=clock)
    clock.now = 5.0
    assert limit_of(lambda: world.matches(query_of("1 + 1 == 2"), _EVERYONE)) == LimitKind.TIME
    assert world.fork().matches(query_of("1 + 1 == 2"), _EVERYONE)


def test_a_chain_of_60_edges_takes_milliseconds() -> None:
    world = World()
    for number in range(60):
        world.add_fact(Predicate("edge", ((INTEGER, number), (INTEGER, number + 1))), AUTHORITY)
    world.add_rule(parse_rule("path($x, $y) <- edge($x, $y)"), AUTHORITY, _EVERYONE)
    world.add_rule(parse_rule("path($x, $z) <- path($x, $y), edge($y, $z)"), AUTHORITY, _EVERYONE)
    started = time.thread_time()
    world.run()
    assert len(world.facts()) == 60 + 60 * 61 // 2
    assert world.meter.steps < 10_000, "each path is looked at once, not in every round"
    assert time.thread_time() - started < 0.5
