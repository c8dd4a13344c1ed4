"""Derivations: the closure of a chain of edges, and a join of users' memberships with what groups may do.

Both builders are filled beforehand; timed are loading, the run to the fixpoint and the policy.
"""

import math
import statistics
from collections.abc import Iterator
from typing import Any, Final

import biscuit_auth

import capability
from benchmarks.measure import Pairs, Row, paired, seconds_a_call
from benchmarks.workload import generous_limits
from capability.datalog.program import Predicate, Program
from capability.datalog.values import to_term

EDGES: Final = (20, 40, 60, 100, 200, 400)
PEER_EDGES: Final = (20, 40, 60)
"""The peer takes a second at 60 already, and ten times that for twice the edges."""
MEMBERSHIPS: Final = (1_000, 10_000, 100_000)
PEER_MEMBERSHIPS: Final = (1_000, 10_000)
GROUPS: Final = 100
NEAR_LINEAR: Final = 1.1
"""The greatest exponent e in `time ~ facts ** e` that counts as near linear."""

_RULES: Final = "path($a, $b) <- edge($a, $b); path($a, $c) <- path($a, $b), edge($b, $c);"


def rows() -> Iterator[Row]:
    """Yields the lines about derivations."""
    yield from _closures()
    yield from _joins()


def closure_source(edges: int) -> str:
    """Returns a chain of so many edges, its closure, and a policy that asks for the longest path."""
    facts = "".join(f"edge({n}, {n + 1});" for n in range(edges))
    return facts + _RULES + f"allow if path(0, {edges});"


def join_source(memberships: int) -> str:
    """Returns so many memberships in groups, what groups may do, and the rule that joins them."""
    members = "".join(f'member("user-{n}", {n % GROUPS});' for n in range(memberships))
    return members + _join_rest()


def join_builder(memberships: int) -> Any:
    """Returns this project's builder of `join_source`, its memberships stated without a text."""
    builder = ours(_join_rest())
    members = (Predicate("member", (to_term(f"user-{n}"), to_term(n % GROUPS))) for n in range(memberships))
    builder.add_program(Program(facts=tuple(members)))
    return builder


def ours(source: str) -> Any:
    """Returns this project's builder for a source, with limits that are not met."""
    builder = capability.AuthorizerBuilder(source)
    builder.set_limits(capability.Limits(10_000_000, 1_000_000, 10**12, None))
    return builder


def theirs(source: str) -> Any:
    """Returns biscuit-python's builder for a source, with limits that are not met."""
    builder: Any = biscuit_auth.AuthorizerBuilder(source)
    builder.set_limits(generous_limits())
    return builder


def _closures() -> Iterator[Row]:
    times: list[tuple[float, float]] = []
    for edges in EDGES:
        source, what = closure_source(edges), f"{edges} edges, {_paths(edges):,} paths"
        builder = ours(source)
        if edges in PEER_EDGES:
            pairs = _beside(builder, theirs(source))
            taken = statistics.median(pairs.ours)
            yield pairs.row("closure", what, 1 / 50 if edges == 60 else None)
        else:
            taken = _alone(builder)
            yield Row("closure", what, taken, None, None)
        times.append((_paths(edges), taken))
    yield _growth("closure", "20 to 400 edges: exponent of time in derived facts", times)


def _joins() -> Iterator[Row]:
    times: list[tuple[float, float]] = []
    for memberships in MEMBERSHIPS:
        what = f"join of {memberships:,} memberships"
        builder = join_builder(memberships)
        if memberships in PEER_MEMBERSHIPS:
            pairs = _beside(builder, theirs(join_source(memberships)))
            taken = statistics.median(pairs.ours)
            yield pairs.row("closure", what)
        else:
            taken = _alone(builder)
            yield Row("closure", what, taken, None, None)
        times.append((memberships, taken))
    yield _growth("closure", "1,000 to 100,000 memberships: exponent of time in derived facts", times)
    source = join_source(MEMBERSHIPS[0])
    pairs = paired(
        lambda n: ours(f"// {n}\n{source}"), lambda n: theirs(f"// {n}\n{source}"), rounds=3, calls=(1, 1)
    )
    yield pairs.row("closure", f"{MEMBERSHIPS[0]:,} memberships: their text read (first sight)")


def _beside(builder: Any, peer: Any) -> Pairs:
    return paired(
        lambda _: builder.build_unauthenticated().authorize(),
        lambda _: peer.build_unauthenticated().authorize(),
        rounds=5,
        calls=(1, 1),
    )


def _join_rest() -> str:
    granted = "".join(f'granted({group}, "operation-{group}");' for group in range(GROUPS))
    rule = "may($user, $operation) <- member($user, $group), granted($group, $operation);"
    return granted + rule + 'allow if may("user-7", "operation-7");'


def _alone(builder: Any) -> float:
    return seconds_a_call(lambda _: builder.build_unauthenticated().authorize(), rounds=3, calls=1)


def _growth(case: str, what: str, times: list[tuple[float, float]]) -> Row:
    """Returns the slope of a straight line through the logarithms, by least squares."""
    xs, ys = [math.log(facts) for facts, _ in times], [math.log(taken) for _, taken in times]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    slope /= sum((x - x_mean) ** 2 for x in xs)
    return Row(case, what, None, None, slope, NEAR_LINEAR, unit="exponent")


def _paths(edges: int) -> int:
    return edges * (edges + 1) // 2
