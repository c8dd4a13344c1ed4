"""Single statements and the builder of blocks, beside biscuit-python."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import biscuit_auth
import pytest

import capability.builders as ours
from capability.builders import BlockBuilder, Check, Fact, Policy, Rule
from capability.datalog.errors import DatalogError, ParameterError, ParseError
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.program import Program, ScopeKind
from capability.keys import KeyPair, PublicKey

KEY_TEXT = "ed25519/" + "57" * 32
PEER_KEY = biscuit_auth.KeyPair().public_key
KEY = PublicKey(repr(PEER_KEY))

SOURCES = [
    ("Fact", 'f(1, "a", hex:00ff, true, null, 2020-01-01T00:00:00Z, {1, 2}, [1, "a"], {"k": 1}, {,}, -3)'),
    ("Fact", "a:b(1)"),
    ("Rule", "a($x) <- b($x), $x > 1 trusting authority, previous"),
    ("Rule", "a($x, 1) <- b($x), c($x, [1]), $x.length() > 2 && true"),
    ("Check", "check if a($x), $x > 1 or b(2)"),
    ("Check", "check all a($x), $x > 1 && true"),
    ("Check", 'reject if a($x), $x.type() == "integer"'),
    ("Policy", "allow if a($x), $x > 1 trusting previous"),
    ("Policy", "deny if true or false"),
]


@pytest.mark.parametrize(("kind", "source"), SOURCES)
def test_statements_print_as_in_biscuit_python(kind: str, source: str) -> None:
    mine, theirs = getattr(ours, kind)(source), getattr(biscuit_auth, kind)(source)
    assert repr(mine) == str(mine) == repr(theirs)
    assert getattr(ours, kind)(repr(mine)) == mine


@pytest.mark.parametrize(
    ("kind", "source", "parameters"),
    [
        ("Fact", "f({a}, [{b}])", {"a": 1, "b": "x"}),
        ("Fact", "f({a})", {"a": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)}),
        ("Fact", "f({a})", {"a": b"\x00\x01"}),
        ("Fact", "f({a})", {"a": {"k": 1}}),
        ("Fact", "f({a})", {"a": {1, 2}}),
        ("Fact", "f({a})", {"a": True}),
        ("Fact", "f({a}, {b})", {"a": 1}),
        ("Fact", "f({a})", {}),
        ("Rule", "f($x) <- g($x, {a}), $x > {b}", {"a": 1, "b": 2}),
        ("Check", "check if g({a})", {"a": "x"}),
        ("Policy", "allow if g({a})", {"a": "x"}),
    ],
)
def test_parameters_are_bound_as_in_biscuit_python(
    kind: str, source: str, parameters: dict[str, Any]
) -> None:
    mine = getattr(ours, kind)(source, parameters)
    assert repr(mine) == repr(getattr(biscuit_auth, kind)(source, parameters))


@pytest.mark.parametrize("kind", ["Rule", "Check", "Policy"])
def test_scope_parameters_are_bound_as_in_biscuit_python(kind: str) -> None:
    source = {"Rule": "f(1) <- g(1)", "Check": "check if g(1)", "Policy": "allow if g(1)"}[kind]
    source += " trusting {key}"
    mine = getattr(ours, kind)(source, None, {"key": KEY})
    assert repr(mine) == repr(getattr(biscuit_auth, kind)(source, None, {"key": PEER_KEY}))
    assert repr(getattr(ours, kind)(source)) == source


@pytest.mark.parametrize("kind", ["Fact", "Rule", "Check", "Policy"])
def test_a_value_without_a_parameter_is_an_error_in_a_single_statement(kind: str) -> None:
    source = {"Fact": "f(1)", "Rule": "f(1) <- g(1)", "Check": "check if g(1)", "Policy": "allow if g(1)"}[
        kind
    ]
    for module in (ours, biscuit_auth):
        with pytest.raises((DatalogError, biscuit_auth.DataLogError), match=r'Unused parameters: \["b"\]'):
            getattr(module, kind)(source, {"b": 3})


@pytest.mark.parametrize(
    ("source", "parameters", "error"),
    [
        ("f({a})", {"a": 1.5}, TypeError),
        ("f({a})", {"a": object()}, TypeError),
        ("f({a})", {"a": datetime(2020, 1, 1)}, TypeError),
    ],
)
def test_values_without_a_term_are_type_errors_as_in_biscuit_python(
    source: str, parameters: dict[str, Any], error: type[Exception]
) -> None:
    for module in (ours, biscuit_auth):
        with pytest.raises(error):
            module.Fact(source, parameters)


def test_values_of_one_set_have_one_type() -> None:
    with pytest.raises(ValueError, match="one type"):
        Fact("f({a})", {"a": {1, "a"}})


def test_values_that_only_we_take() -> None:
    east = datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    taken = [(None, "null"), (east, "2020-01-01T00:00:00Z"), ([None], "[null]")]
    for value, printed in taken:
        assert repr(Fact("f({a});", {"a": value})) == f"f({printed})"
        with pytest.raises((TypeError, ValueError)):
            biscuit_auth.Fact("f({a})", {"a": value})


def test_a_list_is_an_array_even_of_small_numbers() -> None:
    assert repr(Fact("f({a})", {"a": [1, 2]})) == "f([1, 2])"


@pytest.mark.parametrize("source", ["f(", "f", "f()", "f(1) f(2)", "f(1); f(2)", "f($x)", ""])
def test_what_is_no_fact_is_a_datalog_error(source: str) -> None:
    with pytest.raises(ParseError):
        Fact(source)
    with pytest.raises(biscuit_auth.DataLogError):
        biscuit_auth.Fact(source)


@pytest.mark.parametrize("kind", [Fact, Rule, Check, Policy, BlockBuilder])
@pytest.mark.parametrize("source", [3, b"f(1)"])
def test_a_source_is_text(kind: Any, source: Any) -> None:
    with pytest.raises(TypeError):
        kind(source)


def test_fact_has_a_name_and_python_values() -> None:
    source = 'f(1, "a", hex:0001, true, 2020-01-01T00:00:00Z)'
    fact, theirs = Fact(source), biscuit_auth.Fact(source)
    assert (fact.name, fact.terms) == (theirs.name, theirs.terms)
    assert list(map(type, fact.terms)) == list(map(type, theirs.terms))
    assert Fact('f(null, {1, 2}, [1, "a"], {"k": [true]})').terms == [None, {1, 2}, [1, "a"], {"k": [True]}]


def test_statements_that_say_the_same_are_equal_and_types_never_meet() -> None:
    assert Fact("f(1)") == Fact("f( 1 );")
    assert hash(Fact("f(1)")) == hash(Fact("f( 1 );"))
    assert Fact("f(1)") != Fact("f(true)")
    assert Rule("f(1) <- g(1)") != Check("check if g(1)")
    assert Fact("f(1)") != "f(1)"
    assert Fact.of(Fact("f(1)").item) == Fact("f(1)")


BLOCKS = [
    "",
    "f(1); f(2); f(1)",
    'r($x) <- f($x), $x > 1 trusting previous; check if f(1) or f(2), true || 1 == 2; f("a")',
    'check all f($x), $x.starts_with("/a"); reject if f($y)',
]


@pytest.mark.parametrize("source", BLOCKS)
def test_a_builder_prints_as_in_biscuit_python(source: str) -> None:
    assert repr(BlockBuilder(source)) == repr(biscuit_auth.BlockBuilder(source))
    assert str(BlockBuilder(source)) == str(biscuit_auth.BlockBuilder(source))


def build_up(module: Any, key: Any) -> Any:
    builder = module.BlockBuilder("f(1); z({a})", {"a": 1, "unused": 2})
    builder.merge(module.BlockBuilder("g(1); f(1)"))
    builder.add_fact(module.Fact('h("a")'))
    builder.add_rule(module.Rule("h($x) <- f($x)"))
    builder.add_check(module.Check("check if f(1)"))
    builder.add_code("z({a}) ; check if z(1) trusting {k}", {"a": b"\x01"}, {"k": key})
    return builder


def test_a_builder_collects_as_in_biscuit_python() -> None:
    assert repr(build_up(ours, KEY)) == repr(build_up(biscuit_auth, PEER_KEY))


def test_a_builder_without_source_is_empty() -> None:
    for arguments in ((), (None,), (None, None, None)):
        assert repr(BlockBuilder(*arguments)) == repr(biscuit_auth.BlockBuilder(*arguments)) == ""
        assert BlockBuilder(*arguments).program == Program()


@pytest.mark.parametrize(
    "arguments",
    [
        ("f({a}, {b}); check if g({c}) trusting {k}",),
        ("f({a})", {"b": 1}),
        ("check if g(1) trusting {a}", {"a": 1}),
    ],
)
def test_a_parameter_without_a_value_is_an_error_in_a_builder(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ParameterError, match=r"Missing parameters: \[\"a\""):
        BlockBuilder(*arguments)
    with pytest.raises((biscuit_auth.DataLogError, TypeError)):
        biscuit_auth.BlockBuilder(*arguments)


def test_a_builder_refuses_statements_with_open_parameters() -> None:
    builder = BlockBuilder()
    with pytest.raises(ParameterError, match="Missing"):
        builder.add_fact(Fact("f({a})"))
    with pytest.raises(ParameterError, match="Missing"):
        builder.add_rule(Rule("f($x) <- g($x, {z})"))
    with pytest.raises(ParameterError, match="Missing"):
        builder.add_rule(Rule("f($x) <- g($x) trusting {z}"))
    with pytest.raises(ParameterError, match="Missing"):
        builder.add_check(Check("check if g({a})"))
    assert builder.program == Program()


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("add_fact", "f(1)"),
        ("add_rule", Fact("f(1)")),
        ("add_check", "check if true"),
        ("merge", "f(1)"),
        ("add_code", None),
        ("set_context", b"note"),
    ],
)
def test_a_builder_takes_only_what_it_names(method: str, value: Any) -> None:
    with pytest.raises(TypeError):
        getattr(BlockBuilder(), method)(value)


def test_scope_parameters_are_public_keys() -> None:
    with pytest.raises(TypeError, match="PublicKey"):
        BlockBuilder("check if true trusting {k}", None, {"k": KEY_TEXT})  # type: ignore[dict-item]


def test_a_block_has_no_policies() -> None:
    with pytest.raises(DatalogError):
        BlockBuilder("allow if true")
    with pytest.raises(ValueError, match="policies"):
        BlockBuilder().add_program(parse_program("allow if true"))


def test_the_block_s_clause_is_kept_and_printed() -> None:
    builder = BlockBuilder("trusting previous; check if f(1)")
    assert builder.program.scopes == (ScopeKind.PREVIOUS,)
    assert repr(builder) == "trusting previous;\ncheck if f(1);\n"
    builder.add_code("check if g(1)")
    assert builder.program == parse_block("trusting previous; check if f(1); check if g(1)")


def test_a_later_clause_holds_for_its_own_statements_only() -> None:
    builder = BlockBuilder("check if a(1)")
    builder.add_code("trusting previous; r(1) <- b(1); check if c(1) trusting authority or d(1); e(1)")
    assert builder.program == parse_block(
        "check if a(1); r(1) <- b(1) trusting previous;"
        "check if c(1) trusting authority or d(1) trusting previous; e(1)"
    )


def test_merging_keeps_what_each_statement_trusts() -> None:
    builder = BlockBuilder("trusting previous; check if a(1)")
    builder.merge(BlockBuilder("check if b(1)"))
    builder.merge(BlockBuilder("trusting previous; check if c(1)"))
    assert builder.program == parse_block(
        "trusting previous; check if a(1); check if b(1) trusting authority; check if c(1)"
    )


def test_a_program_s_statements_keep_what_they_trust_too() -> None:
    builder = BlockBuilder("trusting previous")
    builder.add_program(parse_block("check if a(1); trusts(1) <- b(1) trusting previous"))
    assert builder.program == parse_block(
        "trusting previous; check if a(1) trusting authority; trusts(1) <- b(1) trusting previous"
    )
    with pytest.raises(ParameterError, match="Missing"):
        builder.add_program(parse_block("check if a({x})"))


def test_merging_takes_the_context_only_where_there_is_none() -> None:
    first, second = BlockBuilder("f(1)"), BlockBuilder("f(2)")
    second.set_context("second")
    first.merge(second)
    assert first.context == "second"
    first.set_context("first")
    first.merge(second)
    assert (first.context, second.context) == ("first", "second")
    first.set_context(None)
    assert first.context is None


def test_merging_with_itself_doubles() -> None:
    builder = BlockBuilder("f(1)")
    builder.merge(builder)
    assert repr(builder) == "f(1);\nf(1);\n"


def test_a_program_taken_from_a_builder_does_not_change_with_it() -> None:
    builder = BlockBuilder("f(1)")
    program = builder.program
    builder.add_code("f(2)")
    assert program == parse_block("f(1)")


def test_keys_of_our_own_are_scope_parameters() -> None:
    key = KeyPair().public_key
    assert BlockBuilder("check if true trusting {k}", {}, {"k": key}).program == parse_block(
        f"check if true trusting {key!r}"
    )
