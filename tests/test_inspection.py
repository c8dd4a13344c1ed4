"""What can be read off a token's checks: upper bounds, never more narrow than what is enforced."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capability import AuthorizerBuilder, BiscuitBuilder, KeyPair, Vocabulary, remaining
from capability.attenuation import restriction
from capability.datalog.parser import parse_block, parse_check
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    Op,
    Predicate,
    Program,
    Query,
    Value,
)
from capability.datalog.terms import STRING, VARIABLE
from capability.inspection import Window, certain_expiry, expiry, subject, window

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def left(*sources: str) -> Any:
    return remaining([parse_block(source) for source in sources])


def test_nothing_said_is_everything_left() -> None:
    found = left('user("a")', "check if user($u)")
    assert (found.applications, found.operations, found.tenants, found.resources) == (None,) * 4
    assert (found.expires, found.not_before) == (None, None)


def test_what_attenuation_writes() -> None:
    found = remaining(
        [
            restriction(applications=["orders", "mail"], tenants=["acme"], not_before=NOW, now=NOW),
            restriction(
                applications=["orders"], operations=["read"], resources=["/a", "/b/c"], expires=NOW, now=NOW
            ),
            restriction(expires=NOW + timedelta(days=1), resources=["/a/x", "/b"], now=NOW),
        ]
    )
    assert found.applications == ("orders",)
    assert found.operations == ("read",)
    assert found.tenants == ("acme",)
    assert found.resources == ("/a/x", "/a/x/*", "/b/c", "/b/c/*")
    assert (found.not_before, found.expires) == (NOW, NOW)


@pytest.mark.parametrize(
    ("source", "operations"),
    [
        ('check if operation("read")', ("read",)),
        ('check if operation("read") or operation("write")', ("read", "write")),
        ('check if operation($o), $o == "read"', ("read",)),
        ('check if operation($o), "read" === $o', ("read",)),
        ('check if operation($o), ["read", "write"].contains($o)', ("read", "write")),
        ('check all operation($o), ($o == "read" || $o == "write") && {"read"}.contains($o)', ("read",)),
        ('check if operation($o), $o.starts_with("re")', ("re*",)),
        ('check if operation($o), $o == "read", $o == "write"', ()),
        ('check if operation("read"); check if operation("write")', ()),
        ('check if operation($o), {"read"}.contains($o), right($o, $x)', ("read",)),
        ('check if operation("read") or user("admin")', None),
        ('reject if operation("read")', None),
        ('check if operation($o), $o != "read"', None),
        ('check if operation($o), !($o == "read")', None),
        ('check if operation($o), $o == "read" || true', None),
        ('check if operation($o), $o.ends_with("read")', None),
        ('check if operation($o, $x), $o == "read"', None),
        ('check if other($o), $o == "read"', None),
        ('check if operation($p), other($o), $o == "read"', None),
        ('check if operation($o), [["read"]].any($x -> $x.contains($o))', None),
    ],
)
def test_forms_of_checks(source: str, operations: tuple[str, ...] | None) -> None:
    assert left(source).operations == operations


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("check if time($t), $t <= 1970-01-01T00:01:40Z", Window(None, 101)),
        ("check if time($t), $t < 1970-01-01T00:01:40Z", Window(None, 100)),
        ("check if time($t), 1970-01-01T00:01:40Z > $t", Window(None, 100)),
        ("check if time($t), $t >= 1970-01-01T00:01:40Z", Window(100, None)),
        ("check if time($t), $t > 1970-01-01T00:01:40Z", Window(101, None)),
        ("check if time($t), $t > 1970-01-01T00:01:40Z && $t < 1970-01-01T00:03:20Z", Window(101, 200)),
        (
            "check if time($t), $t < 1970-01-01T00:01:40Z or time($t), $t < 1970-01-01T00:03:20Z",
            Window(None, 200),
        ),
        ("check if time($t), $t < 1970-01-01T00:01:40Z or user($t)", None),
        ("check if time($t), $t < 1970-01-01T00:01:40Z || $t > 1970-01-01T00:03:20Z", None),
        ("check if time($t), !($t < 1970-01-01T00:01:40Z)", None),
        ("check if other($t), $t < 1970-01-01T00:01:40Z", None),
        ("check if time($t)", None),
        ("reject if time($t), $t < 1970-01-01T00:01:40Z", None),
    ],
)
def test_windows(source: str, found: Window | None) -> None:
    assert window(parse_check(source)) == found


def test_expiry_is_the_earliest_of_all_blocks() -> None:
    programs = [
        parse_block("check if time($t), $t <= 2031-01-01T00:00:00Z"),
        parse_block("check all time($t), $t < 2030-01-01T00:00:01Z; check if a(1)"),
    ]
    assert expiry(programs) == NOW
    assert expiry(programs[:1]) == datetime(2031, 1, 1, tzinfo=UTC)
    assert expiry([parse_block("check if a(1)")]) is None


def test_another_vocabulary() -> None:
    words = Vocabulary(operation="method", time="now")
    program = restriction(operations=["GET"], expires=NOW, now=NOW - timedelta(days=1), vocabulary=words)
    assert remaining([program], words).operations == ("GET",)
    assert remaining([program], words).expires == NOW
    assert remaining([program]).operations is None
    assert remaining([program]).expires is None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('user("alice")', "alice"),
        ('service("s"); user("alice"); user("bob")', "alice"),
        ('user("alice"); subject("key-1", "x")', "key-1"),
        ("user(7); agent(1); service($s) <- name($s)", None),
        ('user(7); user("bob")', "bob"),
        ('username("alice")', None),
    ],
)
def test_subject(source: str, found: str | None) -> None:
    assert subject(parse_block(source)) == found


def compare(value: str) -> tuple[Op, ...]:
    return (Value((VARIABLE, "o")), Value((STRING, value)), Binary(BinaryKind.EQUAL))


def program_of(ops: tuple[Op, ...]) -> Program:
    body = (Predicate("operation", ((VARIABLE, "o"),)),)
    return Program(checks=(Check(CheckKind.IF, (Query(body, (Expression(ops),)),)),))


def test_long_and_deep_expressions_do_not_exhaust_the_stack() -> None:
    ops = compare("0")
    for number in range(1, 5000):
        ops = (*ops, Closure((), compare(str(number))), Binary(BinaryKind.LAZY_OR)) if number < 300 else ops
    found = remaining([program_of(ops)]).operations
    assert found is not None
    assert len(found) == 300
    eager: list[Op] = list(compare("0"))
    for number in range(1, 5000):
        eager += [*compare(str(number)), Binary(BinaryKind.OR)]
    found = remaining([program_of(tuple(eager))]).operations
    assert found is not None
    assert len(found) == 5000
    deep = compare("0")
    for _ in range(5000):
        deep = (*compare("1"), Closure((), deep), Binary(BinaryKind.LAZY_OR))
    assert remaining([program_of(deep)]).operations is None


def test_malformed_expressions_say_nothing() -> None:
    malformed: list[tuple[Op, ...]] = [
        (),
        (Binary(BinaryKind.EQUAL),),
        (Value((VARIABLE, "o")), Value((STRING, "a"))),
        (*compare("a"), Value((STRING, "a"))),
    ]
    for ops in malformed:
        assert remaining([program_of(ops)]).operations is None


OPERATIONS = ["read", "write", "list", "delete"]
CHECKS = st.lists(
    st.one_of(
        st.sampled_from(OPERATIONS).map(lambda name: f'check if operation("{name}")'),
        st.lists(st.sampled_from(OPERATIONS), min_size=1).map(
            lambda names: "check all operation($o), " + " || ".join(f'$o == "{name}"' for name in names)
        ),
        st.sets(st.sampled_from(OPERATIONS), min_size=1).map(
            lambda names: (
                "check if operation($o), {" + ", ".join(f'"{name}"' for name in names) + "}.contains($o)"
            )
        ),
        st.sampled_from(
            ['check if operation($o), $o.starts_with("l")', 'reject if operation("read")', "check if true"]
        ),
    ),
    max_size=4,
)


@given(CHECKS, st.sampled_from(OPERATIONS))
def test_what_is_allowed_is_among_what_remains(checks: list[str], operation: str) -> None:
    source = "; ".join(checks)
    token = BiscuitBuilder(source).build(ROOT.private_key)
    authorizer = AuthorizerBuilder("operation({name}); allow if true", {"name": operation}).build(token)
    found = left(source).operations
    if authorizer.decide().allowed and found is not None:
        assert any(
            operation.startswith(name[:-1]) if name.endswith("*") else operation == name for name in found
        )


ROOT = KeyPair()


@pytest.mark.parametrize(
    ("sources", "certain"),
    [
        (["check if time($t), $t <= 2030-01-01T00:00:00Z"], True),
        (["check all time($t), $t <= 2030-01-01T00:00:00Z"], True),
        (["a(1)", "check all time($t), $t <= 2030-01-01T00:00:00Z"], True),
        (["a(1)"], False),
        (["time(2020-01-01T00:00:00Z); check if time($t), $t <= 2030-01-01T00:00:00Z"], False),
        (
            ["a(7); time($x) <- a($x); check if time($t), $t <= 2030-01-01T00:00:00Z"],
            False,
        ),
        (["check if time($t), $t <= 2030-01-01T00:00:00Z trusting previous"], False),
        (["trusting previous; check if time($t), $t <= 2030-01-01T00:00:00Z"], False),
        (["time(2020-01-01T00:00:00Z)", "check if time($t), $t <= 2030-01-01T00:00:00Z"], False),
    ],
)
def test_an_expiry_is_certain_where_no_block_gets_around_it(sources: list[str], certain: bool) -> None:
    found = certain_expiry([parse_block(source) for source in sources])
    assert found == (NOW if certain else None)
