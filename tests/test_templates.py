"""Sources that differ in the values of their facts alone: each time, an authorizer tells the same."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capability import (
    AuthorizationError,
    Authorizer,
    AuthorizerBuilder,
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    Check,
    Fact,
    Guard,
    KeyPair,
    LanguageError,
    Limits,
    Outcome,
    ParameterError,
    Policy,
    Rule,
    chain,
)
from capability.builders import bind_program
from capability.datalog import residual
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.program import Predicate
from capability.datalog.shapes import Code, Shape
from capability.datalog.terms import VARIABLE
from capability.templates import template_of
from capability.wire import envelope as wire
from capability.wire.block import encode_block
from capability.wire.symbols import KeyTable, SymbolTable

ROOT = KeyPair()
NOW = datetime(2030, 1, 1, tzinfo=UTC)
SOURCE = """
time({now}); operation({op}); resource({path}); right("alice", "read");
deny if operation("drop"); allow if user($u), operation($o), right($u, $o)
"""
TOKEN = (
    BiscuitBuilder('user("alice"); n(1)')
    .build(ROOT.private_key)
    .attenuate(operations=["read", "drop"], expires=NOW + timedelta(days=1), now=NOW)
)
VALUES: tuple[dict[str, Any], ...] = (
    {"op": "read", "path": "/a", "now": NOW},
    {"op": "write", "path": "/a", "now": NOW},
    {"op": "drop", "path": "/é", "now": NOW},
    {"op": "read", "path": "/a", "now": NOW + timedelta(days=2)},
    {"op": 1, "path": True, "now": NOW},
    {"op": "read", "path": b"\x00", "now": 7},
    {"op": {"read"}, "path": [1], "now": None},
    {"op": "read" * 200, "path": "/", "now": NOW},
)


def told(authorizer: Authorizer) -> list[object]:
    """Returns all that an authorizer says, in the order in which programs ask."""
    questions: tuple[Callable[[], object], ...] = (
        lambda: repr(authorizer),
        authorizer.authorize,
        lambda: repr(authorizer),
        lambda: {**authorizer.decide().to_dict(), "decision_id": "", "decided_at": ""},
        lambda: repr(authorizer.query(Rule("f($o) <- operation($o)"))),
        lambda: repr(authorizer.query_all(Rule("f($n) <- n($n)"))),
        lambda: repr(Authorizer.from_raw_snapshot(authorizer.raw_snapshot())),
    )
    return [answer(question) for question in questions]


def answer(question: Callable[[], object]) -> object:
    try:
        return question()
    except AuthorizationError as error:
        return (type(error), str(error))


def plain(values: dict[str, Any], token: Biscuit = TOKEN, source: str = SOURCE) -> Authorizer:
    """An authorizer that has nothing to do with templates."""
    builder = AuthorizerBuilder()
    builder.add_program(bind_program(parse_program(source), values, None))
    return builder.build(token)


def fresh() -> Biscuit:
    """The token, of which nobody has asked anything yet."""
    return Biscuit.from_bytes(TOKEN.to_bytes(), ROOT.public_key)


def test_which_sources_have_templates() -> None:
    assert template_of(SOURCE) is not None
    for source in (
        "allow if true",
        "a({x}, 1); allow if true",
        "a({x}); a({x}); allow if true",
        "a({x}); allow if a({x})",
        "a({x}); check if true trusting {key}; allow if true",
    ):
        assert template_of(source) is None, source


@pytest.mark.parametrize("values", VALUES, ids=lambda values: repr(values["op"])[:12])
def test_every_round_tells_the_same(values: dict[str, Any]) -> None:
    token, expected = fresh(), told(plain(values))
    for _ in range(4):
        assert told(AuthorizerBuilder(SOURCE, values).build(token)) == expected


def test_rounds_of_different_values_do_not_mix() -> None:
    token = fresh()
    expected = [told(plain(values)) for values in VALUES]
    for _ in range(3):
        for values, answer in zip(VALUES, expected, strict=True):
            assert told(AuthorizerBuilder(SOURCE, values).build(token)) == answer


def foreseen() -> tuple[Biscuit, Callable[[], AuthorizerBuilder]]:
    """Returns a token of which it is known that VALUES[0] are allowed."""
    token = fresh()
    for _ in range(3):
        assert AuthorizerBuilder(SOURCE, VALUES[0]).build(token).authorize() == 1
    return token, lambda: AuthorizerBuilder(SOURCE, VALUES[0])


CHANGES: dict[str, Callable[[AuthorizerBuilder], object]] = {
    "nothing": lambda builder: None,
    "a fact": lambda builder: builder.add_fact(Fact('operation("drop")')),
    "a check": lambda builder: builder.add_check(Check("check if never(1)")),
    "a rule": lambda builder: builder.add_rule(Rule("n(2) <- user($u)")),
    "a policy": lambda builder: builder.add_policy(Policy("allow if true")),
    "code": lambda builder: builder.add_code("check if operation({op})", {"op": "write"}),
    "the time": lambda builder: builder.set_time(NOW + timedelta(days=9)),
    "a merge": lambda builder: builder.merge(AuthorizerBuilder("reject if n($n); deny if true")),
    "a block": lambda builder: builder.merge_block(BlockBuilder("check if n(7)")),
    "revocation ids": lambda builder: builder.state_revocation_ids(),
    "an extern function": lambda builder: builder.register_extern_func("f", lambda value: True),
    "limits": lambda builder: builder.set_limits(Limits(max_facts=2)),
    "as few steps": lambda builder: builder.set_limits(Limits(max_steps=3)),
    "its own limits": lambda builder: builder.set_limits(builder.limits()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_added_after_the_constructor_counts(change: str) -> None:
    token, make = foreseen()
    expected = AuthorizerBuilder()
    expected.add_program(bind_program(parse_program(SOURCE), VALUES[0], None))
    CHANGES[change](expected)
    for _ in range(3):
        builder = make()
        CHANGES[change](builder)
        assert repr(builder) == repr(expected)
        assert builder.raw_snapshot() == expected.raw_snapshot()
        assert told(builder.build(token)) == told(expected.build(TOKEN))


def test_merged_into_another_builder() -> None:
    token, make = foreseen()
    for _ in range(3):
        outer = AuthorizerBuilder('check if operation("write")')
        outer.merge(make())
        with pytest.raises(AuthorizationError, match="Check n°0 in authorizer"):
            outer.build(token).authorize()


def test_a_builder_builds_for_other_tokens() -> None:
    _, make = foreseen()
    builder = make()
    stranger = BiscuitBuilder('user("bob")').build(ROOT.private_key)
    for _ in range(3):
        assert told(builder.build(stranger)) == told(plain(VALUES[0], stranger))
        with pytest.raises(AuthorizationError):
            builder.build_unauthenticated().authorize()


def test_parameters_are_refused_each_time_alike() -> None:
    token, _ = foreseen()
    wrong: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
        ({"op": "read", "path": "/a"}, ParameterError),
        ({**VALUES[0], "op": 2**63}, ValueError),
        ({**VALUES[0], "now": datetime(2030, 1, 1)}, TypeError),
        ({**VALUES[0], "op": object()}, TypeError),
    )
    for values, kind in wrong:
        texts = set()
        for _ in range(3):
            with pytest.raises(kind) as ours:
                AuthorizerBuilder(SOURCE, values).build(token)
            texts.add(str(ours.value))
        with pytest.raises(kind) as expected:
            plain(values)
        assert texts == {str(expected.value)}


def test_tokens_that_are_derived_begin_anew() -> None:
    token, make = foreseen()
    narrow = token.append(BlockBuilder('check if operation("write")'))
    for _ in range(3):
        assert make().build(token).authorize() == 1
        with pytest.raises(AuthorizationError):
            make().build(narrow).authorize()
        assert make().build(token.seal()).authorize() == 1


@pytest.mark.parametrize(
    "body", ["operation(1)", 'operation("read")', "time($t), operation(1)", 'user("bob")']
)
def test_a_token_that_no_authorizer_takes_is_taken_by_none_later(body: str) -> None:
    program = parse_block(f'user("alice"); f("a") <- {body}')
    unsafe = replace(program.rules[0], head=Predicate("f", ((VARIABLE, "free"),)))
    encoded = encode_block(replace(program, rules=(unsafe,)), None, SymbolTable(), KeyTable())
    envelope = chain.start(ROOT.private_key, encoded.payload, encoded.version, next_key=KeyPair().private_key)
    token = Biscuit.from_bytes(wire.encode(envelope), ROOT.public_key)
    guard = Guard(ROOT.public_key, 'allow if operation("read")')
    for _ in range(5):
        with pytest.raises(LanguageError, match="unbound variables"):
            AuthorizerBuilder("operation({op}); allow if true", {"op": "read"}).build(token)
        assert guard.check(token.to_bytes(), operation="read").outcome is Outcome.INVALID_TOKEN


def test_one_builder_builds_again_and_its_authorizers_are_asked_in_any_order() -> None:
    token, make = foreseen()
    questions: tuple[Callable[[Authorizer], object], ...] = (
        repr,
        Authorizer.authorize,
        # how long it took is in a snapshot, and not in what is read from it
        lambda authorizer: repr(Authorizer.from_raw_snapshot(authorizer.raw_snapshot())),
        lambda authorizer: repr(authorizer.query(Rule("f($o) <- operation($o)"))),
        lambda authorizer: {**authorizer.decide().to_dict(), "decision_id": "", "decided_at": ""},
    )
    builder = make()
    for order in itertools.permutations(questions, 3):
        authorizer, expected = builder.build(token), plain(VALUES[0])
        assert [ask(authorizer) for ask in order] == [ask(expected) for ask in order]


def test_shapes_without_end_are_compiled_when_they_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Shape] = []
    generate = residual._generate

    def counting(shape: Shape) -> Code | None:
        compiled.append(shape)
        return generate(shape)

    monkeypatch.setattr("capability.datalog.residual._generate", counting)
    prepared = residual.Residuals(Limits(), eager_shapes=2)
    monkeypatch.setattr("capability.templates._residuals", lambda: prepared)
    base = fresh()
    for number in range(6):
        token = base.append(BlockBuilder("check if operation($o);" * (number + 1)))
        authorizers = [AuthorizerBuilder(SOURCE, VALUES[0]).build(token) for _ in range(8)]
        assert {authorizer.authorize() for authorizer in authorizers} == {1}
        # the first two at their second sight; of the others, each is asked for four times first
        assert len(compiled) == number + 1
        assert sum(authorizer._made is None for authorizer in authorizers) == (7 if number < 2 else 4)
