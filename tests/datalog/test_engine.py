"""Joins, rules, origins and trust, in the words of the language."""

import pytest

from capability.datalog.engine import World
from capability.datalog.errors import EvaluationError, EvaluationReason, UnsafeRule
from capability.datalog.limits import Limits
from capability.datalog.origins import AUTHORITY, AUTHORIZER, block_origin
from capability.datalog.parser import parse_check, parse_fact, parse_program, parse_rule
from capability.datalog.printer import print_predicate
from capability.datalog.program import Predicate, Query, Rule
from capability.datalog.terms import ARRAY, BOOL, DATE, INTEGER, PARAMETER, STRING, VARIABLE, Term

BLOCK_1 = block_origin(1)
BLOCK_2 = block_origin(2)
EVERYONE = AUTHORIZER | AUTHORITY | BLOCK_1 | BLOCK_2


def world_of(source: str, origin: int = AUTHORITY, trusted: int = EVERYONE) -> World:
    """Returns the world of a program whose every part has one origin, at its fixpoint."""
    world = World()
    add(world, source, origin, trusted)
    world.run()
    return world


def add(world: World, source: str, origin: int, trusted: int = EVERYONE) -> None:
    program = parse_program(source)
    for fact in program.facts:
        world.add_fact(fact, origin)
    for rule in program.rules:
        world.add_rule(rule, origin, trusted)


def facts(world: World, name: str) -> list[tuple[int, str]]:
    return [(origin, print_predicate(fact)) for origin, fact in world.facts() if fact.name == name]


def texts(world: World, name: str) -> list[str]:
    return [text for _, text in facts(world, name)]


def query_of(source: str) -> Query:
    return parse_check(f"check if {source}").queries[0]


def matches(world: World, source: str, trusted: int = EVERYONE) -> bool:
    return world.matches(query_of(source), trusted)


def test_transitive_closure() -> None:
    # path(x, y) <- edge(x, y);  path(x, z) <- path(x, y), edge(y, z)
    world = world_of(
        "edge(1, 2); edge(2, 3); edge(3, 1);"
        "path($x, $y) <- edge($x, $y); path($x, $z) <- path($x, $y), edge($y, $z);"
    )
    assert texts(world, "path") == [f"path({x}, {y})" for x in (1, 2, 3) for y in (1, 2, 3)]


def test_both_predicates_of_a_rule_may_be_news_at_once() -> None:
    # path(x, z) <- path(x, y), path(y, z)
    edges = "".join(f"path({n}, {n + 1});" for n in range(9))
    world = world_of(edges + "path($x, $z) <- path($x, $y), path($y, $z);")
    assert len(facts(world, "path")) == 45
    assert world.iterations == 5, "paths double in each round, and one more finds nothing"


def test_rules_that_feed_each_other() -> None:
    world = world_of(
        "succ(0, 1); succ(1, 2); succ(2, 3); succ(3, 4); even(0);"
        "odd($y) <- even($x), succ($x, $y); even($y) <- odd($x), succ($x, $y);"
    )
    assert texts(world, "even") == ["even(0)", "even(2)", "even(4)"]
    assert texts(world, "odd") == ["odd(1)", "odd(3)"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("out($x) <- p($x, $x)", ["out(1)"]),
        ("out($x, $y) <- p($x, $y), p($y, $x)", ["out(1, 1)", "out(1, 2)", "out(2, 1)"]),
        ("out($y) <- p(1, $y)", ["out(1)", "out(2)"]),
        ("out($x) <- p($x, 1), p($x, 2)", ["out(1)"]),
        ("out($x, $y) <- q($x), q($y)", ['out("a", "a")', 'out("a", "b")', 'out("b", "a")', 'out("b", "b")']),
        ("out($x) <- q($x), p(2, 1)", ['out("a")', 'out("b")']),
        ("out($x) <- q($x), p(2, 2)", []),
        ("out($x) <- q($x), nothing($x)", []),
        ("out($x) <- p($x)", []),
        ('out("c", $x, 7) <- q($x)', ['out("c", "a", 7)', 'out("c", "b", 7)']),
        ("out(1) <- q($x)", ["out(1)"]),
        ("out(1) <- true", ["out(1)"]),
        ("out(1) <- 1 == 2", []),
        ("out($z) <- p($x, $y), p($y, $z), p($z, $x), $x != $z", ["out(1)", "out(2)"]),
        ("out($x) <- p($x, $y), $x < $y", ["out(1)"]),
    ],
)
def test_rules(source: str, expected: list[str]) -> None:
    assert texts(world_of(f'p(1, 1); p(1, 2); p(2, 1); q("a"); q("b"); {source};'), "out") == expected


def test_a_rule_without_a_body_runs_once() -> None:
    world = World()
    world.add_rule(Rule(Predicate("out", ((INTEGER, 1),)), ()), BLOCK_1, AUTHORIZER)
    world.run()
    world.run()
    assert facts(world, "out") == [(BLOCK_1, "out(1)")]


def test_names_and_arities_are_told_apart() -> None:
    world = world_of("p(1); p(1, 2); q(1);")
    assert matches(world, "p(1)")
    assert not matches(world, "p(2)")
    assert matches(world, "p(1, 2)")
    assert not matches(world, "q(1, 2)")


def test_values_of_different_types_never_join() -> None:
    world = World()
    ones: list[Term] = [(INTEGER, 1), (BOOL, True), (DATE, 1), (STRING, "1")]
    for one in ones:
        world.add_fact(Predicate("p", (one,)), AUTHORITY)
        world.add_fact(Predicate("q", ((ARRAY, (one,)),)), AUTHORITY)
    assert len(world.facts()) == 8
    head = Predicate("out", ((VARIABLE, "x"),))
    for name in "pq":
        body = (Predicate(name, head.terms),) * 2
        assert len(world.query(Rule(head, body), AUTHORIZER, EVERYONE)) == 4
    for one in ones:
        assert (
            len(world.query(Rule(head, (Predicate("p", (one,)), Predicate("p", head.terms))), 1, EVERYONE))
            == 4
        )


def test_a_fact_that_holds_variables_matches_nothing() -> None:
    world = World()
    world.add_fact(Predicate("p", ((VARIABLE, "x"),)), AUTHORITY)
    world.run()
    assert not matches(world, "p($x)")
    assert world.facts() == []


# Origins and trust


def test_an_origin_is_every_block_that_had_a_part() -> None:
    world = World()
    add(world, "a(1);", AUTHORITY)
    add(world, "b(1);", BLOCK_1)
    add(world, "both($x) <- a($x), b($x); again($x) <- both($x), a($x);", AUTHORIZER)
    add(world, "echo($x) <- a($x);", BLOCK_2)
    world.run()
    assert facts(world, "both") == [(AUTHORIZER | AUTHORITY | BLOCK_1, "both(1)")]
    assert facts(world, "again") == [(AUTHORIZER | AUTHORITY | BLOCK_1, "again(1)")]
    assert facts(world, "echo") == [(AUTHORITY | BLOCK_2, "echo(1)")]


def test_trust_is_a_subset_not_an_overlap() -> None:
    world = World()
    add(world, "a(1);", AUTHORITY)
    add(world, "b($x) <- a($x);", BLOCK_1)
    world.run()
    assert matches(world, "b(1)", AUTHORITY | BLOCK_1)
    assert not matches(world, "b(1)", AUTHORITY)
    assert not matches(world, "b(1)", BLOCK_1)
    assert not matches(world, "b($x)", AUTHORITY | BLOCK_2)


@pytest.mark.parametrize("order", [(AUTHORITY, BLOCK_1), (BLOCK_1, AUTHORITY)])
def test_a_block_that_states_a_fact_first_does_not_hide_the_authority_s(order: tuple[int, int]) -> None:
    world = World()
    for origin in order:
        world.add_fact(parse_fact("right(1)"), origin)
    world.run()
    assert facts(world, "right") == [(AUTHORITY, "right(1)"), (BLOCK_1, "right(1)")]
    assert matches(world, "right(1)", AUTHORITY)
    assert matches(world, "right(1)", BLOCK_1)


def test_a_derivation_is_kept_for_each_of_its_origins() -> None:
    world = World()
    add(world, "a(1); out($x) <- a($x);", AUTHORITY)
    add(world, "a(1);", BLOCK_1)
    world.run()
    assert facts(world, "out") == [(AUTHORITY, "out(1)"), (AUTHORITY | BLOCK_1, "out(1)")]


def test_a_rule_sees_what_it_trusts_only() -> None:
    world = World()
    for origin in (AUTHORIZER, AUTHORITY, BLOCK_1, BLOCK_2):
        world.add_fact(Predicate("a", ((INTEGER, origin),)), origin)
    world.add_rule(parse_rule("out($x) <- a($x)"), BLOCK_1, AUTHORIZER | AUTHORITY | BLOCK_1)
    world.run()
    assert sorted(texts(world, "out")) == ["out(1)", "out(2)", "out(4)"]


def test_trust_holds_for_indexed_and_repeated_variables_too() -> None:
    world = World()
    add(world, "a(1); p(1, 1);", AUTHORITY)
    add(world, "a(2); p(2, 2); p(1, 2);", BLOCK_1)
    world.run()
    assert not matches(world, "a($x), p($x, 2)", AUTHORITY)
    assert not matches(world, "p(2, $x)", AUTHORITY)
    assert not matches(world, "p($x, $x), $x == 2", AUTHORITY)
    assert matches(world, "p($x, $x), $x == 2", AUTHORITY | BLOCK_1)


def test_many_blocks() -> None:
    world = World()
    blocks = [block_origin(index) for index in range(64)]
    for index, origin in enumerate(blocks):
        world.add_fact(Predicate("p", ((INTEGER, index),)), origin)
    world.run()
    assert world.matches(query_of("p(63)"), blocks[63])
    assert not world.matches(query_of("p(63)"), sum(blocks[:63]) | AUTHORIZER)


# Queries


def test_query_derives_without_adding_and_is_sorted() -> None:
    world = world_of("p(3); p(1); p(2);")
    world.add_fact(parse_fact("p(1)"), BLOCK_1)
    world.run()
    found = world.query(parse_rule("out($x) <- p($x)"), AUTHORIZER, AUTHORIZER | AUTHORITY)
    assert [(print_predicate(fact), origin) for fact, origin in found] == [
        ("out(1)", AUTHORIZER | AUTHORITY),
        ("out(2)", AUTHORIZER | AUTHORITY),
        ("out(3)", AUTHORIZER | AUTHORITY),
    ]
    assert len(world.query(parse_rule("out($x) <- p($x)"), AUTHORIZER, EVERYONE)) == 4
    assert len(world.query(parse_rule("out(1) <- p($x)"), AUTHORIZER, AUTHORITY)) == 1
    assert facts(world, "out") == []


def test_check_if_wants_one_match_and_check_all_wants_no_other() -> None:
    world = world_of("p(1); p(2);")
    assert world.matches(query_of("p($x), $x == 1"), EVERYONE)
    assert not world.matches(query_of("p($x), $x == 3"), EVERYONE)
    assert not world.matches_all(query_of("p($x), $x == 1"), EVERYONE)
    assert world.matches_all(query_of("p($x), $x < 3"), EVERYONE)
    assert not world.matches_all(query_of("q($x)"), EVERYONE), "no fact at all fails"
    assert not world.matches_all(query_of("q($x), true"), EVERYONE)


def test_a_query_without_predicates_has_one_binding() -> None:
    world = World()
    assert world.matches(query_of("true"), EVERYONE)
    assert world.matches_all(query_of("true"), EVERYONE)
    assert not world.matches(query_of("false"), EVERYONE)
    assert not world.matches_all(query_of("false"), EVERYONE)
    assert world.matches(Query(()), EVERYONE)


@pytest.mark.parametrize("values", [(0, 1), (1, 0)])
def test_an_error_beats_a_match_wherever_it_comes(values: tuple[int, int]) -> None:
    world = world_of("".join(f"p({value});" for value in values))
    for ask in (world.matches, world.matches_all):
        with pytest.raises(EvaluationError) as raised:
            ask(query_of("p($x), 1 / $x == 1"), EVERYONE)
        assert raised.value.reason is EvaluationReason.DIVISION_BY_ZERO
    with pytest.raises(EvaluationError):
        world.query(parse_rule("out($x) <- p($x), 1 / $x == 1"), AUTHORIZER, EVERYONE)


def test_expressions_run_on_complete_bindings_only() -> None:
    world = world_of("p(0); q(1);")
    assert not matches(world, "p($x), nothing($y), 1 / $x == 1")
    assert not matches(world, "p($x), q($x), 1 / $x == 1")
    assert not matches(world, "p($x), $x == 1, 1 / $x == 1"), "the first false expression ends a binding"
    with pytest.raises(EvaluationError):
        matches(world, "p($x), 1 / $x == 1, $x == 1")


def test_what_is_not_trusted_cannot_cause_an_error() -> None:
    world = World()
    add(world, "p(1);", AUTHORITY)
    add(world, "p(0);", BLOCK_1)
    world.run()
    assert matches(world, "p($x), 1 / $x == 1", AUTHORITY)


def test_an_error_in_a_rule_is_an_error_of_the_run() -> None:
    with pytest.raises(EvaluationError):
        world_of("p(0); out($x) <- p($x), 1 / $x == 1;")
    assert facts(world_of("p(1); out($x) <- p($x), 1 / $x == 1;"), "out") == [(AUTHORITY, "out(1)")]


def test_a_head_variable_that_the_body_does_not_bind_is_refused() -> None:
    unsafe = Rule(Predicate("out", ((VARIABLE, "x"), (VARIABLE, "y"))), (Predicate("p", ((VARIABLE, "x"),)),))
    with pytest.raises(UnsafeRule, match=r"\$y"):
        World().add_rule(unsafe, AUTHORITY, EVERYONE)
    with pytest.raises(UnsafeRule):
        World().query(unsafe, AUTHORITY, EVERYONE)


def test_a_parameter_without_a_value_is_refused() -> None:
    query = Query((Predicate("p", ((PARAMETER, "name"),)),))
    with pytest.raises(UnsafeRule, match="name"):
        World().matches(query, EVERYONE)


# Incremental runs


def test_a_later_run_adds_what_the_new_facts_and_rules_derive() -> None:
    world = world_of("edge(1, 2); path($x, $y) <- edge($x, $y); path($x, $z) <- path($x, $y), edge($y, $z);")
    steps = world.meter.steps
    world.run()
    assert world.meter.steps == steps, "nothing is new"
    world.add_fact(parse_fact("edge(2, 3)"), AUTHORITY)
    world.run()
    assert texts(world, "path") == ["path(1, 2)", "path(1, 3)", "path(2, 3)"]
    add(world, "back($y, $x) <- path($x, $y);", AUTHORITY)
    world.run()
    assert texts(world, "back") == ["back(2, 1)", "back(3, 1)", "back(3, 2)"]


def test_forks_do_not_see_each_other() -> None:
    base = world_of("p(1); out($x) <- p($x), q($x);")
    one, two = base.fork(), base.fork()
    add(one, "q(1);", AUTHORIZER)
    add(two, "q(2); p(2);", AUTHORIZER)
    add(base, "q(3); p(3);", AUTHORIZER)
    for world in (one, two, base):
        world.run()
    assert [texts(world, "out") for world in (one, two, base)] == [["out(1)"], ["out(2)"], ["out(3)"]]
    assert [texts(world, "p") for world in (one, two, base)] == [
        ["p(1)"],
        ["p(2)", "p(1)"],
        ["p(3)", "p(1)"],
    ]


def test_a_fork_of_a_world_that_has_not_run_runs_everything() -> None:
    base = World()
    add(base, "p(1); out($x) <- p($x);", AUTHORITY)
    fork = base.fork()
    fork.run()
    base.run()
    assert fork.facts() == base.facts()
    assert texts(fork, "out") == ["out(1)"]


def test_a_fork_carries_the_steps_and_counts_its_own() -> None:
    base = world_of("".join(f"p({n});" for n in range(50)) + "out($x) <- p($x);")
    first, second = base.fork(), base.fork()
    assert first.meter.steps == base.meter.steps > 50
    for fork in (first, second):
        add(fork, "p(50); q(7);", AUTHORIZER)
        fork.run()
        assert matches(fork, "q($x), p($x), out($x)")
    assert first.meter.steps == second.meter.steps > base.meter.steps, (
        "an index that exists is charged for all the same"
    )


def test_a_long_body_is_joined_without_recursion() -> None:
    world = World(Limits(max_steps=5_000_000))
    world.add_fact(parse_fact("p(1)"), AUTHORITY)
    body = tuple(Predicate("p", ((VARIABLE, f"x{n}"),)) for n in range(3000))
    assert world.matches(Query(body), EVERYONE)
