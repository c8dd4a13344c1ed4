"""Values for the parameters of a source."""

import pytest

from capability.datalog import parameters
from capability.datalog.errors import ParameterError
from capability.datalog.parameters import Names, bind, names, to_term
from capability.datalog.parser import parse_check, parse_fact, parse_policy, parse_program, parse_rule
from capability.datalog.printer import print_check, print_policy, print_predicate, print_program, print_rule
from capability.datalog.program import KeyParameter, KeyScope
from capability.datalog.terms import PARAMETER, Term

SOURCE = """
trusting {key}, authority;
user({name});
group("x");
nested([{name}], {{name}: {v}}, {1, {v}});
right($u, {v}) <- user($u), $u == {name} trusting {key};
right($u, 1) <- user($u);
check if group("x");
check if user($u) or [1].any($p -> $p == {v} && true), true trusting {other};
allow if user({name});
deny if true;
"""
KEY, OTHER = KeyScope(0, b"k" * 32), KeyScope(1, b"o" * 33)
TERMS: dict[str, Term] = {"name": to_term("bob"), "v": to_term(3)}
KEYS = {"key": KEY, "other": OTHER}


def test_every_place_of_a_parameter_is_found_and_bound() -> None:
    program = parse_program(SOURCE)
    assert names(program) == Names(frozenset({"name", "v"}), frozenset({"key", "other"}))
    k, o = "ed25519/" + "6b" * 32, "secp256r1/" + "6f" * 33
    assert print_program(bind(program, TERMS, KEYS)) == (
        f"trusting {k}, authority;\n"
        'user("bob");\n'
        'group("x");\n'
        'nested(["bob"], {"bob": 3}, {1, 3});\n'
        f'right($u, 3) <- user($u), $u == "bob" trusting {k};\n'
        "right($u, 1) <- user($u);\n"
        'check if group("x");\n'
        f"check if user($u) or [1].any($p -> $p == 3 && true), true trusting {o};\n"
        'allow if user("bob");\n'
        "deny if true;\n"
    )


def test_what_holds_no_parameter_is_handed_back_as_it_is() -> None:
    program = parse_program(SOURCE)
    bound = bind(program, TERMS, KEYS)
    assert bound.facts[1] is program.facts[1]
    assert bound.rules[1] is program.rules[1]
    assert bound.checks[0] is program.checks[0]
    assert bound.policies[1] is program.policies[1]
    plain = parse_program("a(1); check if a($x)")
    assert bind(plain, {}, {}) is plain


def test_single_statements_are_bound() -> None:
    one = {"p": to_term(1)}
    assert print_predicate(bind(parse_fact("f({p})"), one, {})) == "f(1)"
    assert print_rule(bind(parse_rule("f({p}) <- g({p})"), one, {})) == "f(1) <- g(1)"
    assert print_check(bind(parse_check("check all g({p})"), one, {})) == "check all g(1)"
    assert print_policy(bind(parse_policy("deny if g({p})"), one, {})) == "deny if g(1)"
    query = parse_check("check if g($x), $x > {p} trusting {k}").queries[0]
    assert names(query) == Names(frozenset({"p"}), frozenset({"k"}))
    bound = bind(query, one, {"k": KEY})
    assert (bound.scopes, names(bound)) == ((KEY,), (frozenset(), frozenset()))


def test_terms_and_keys_have_names_of_their_own() -> None:
    check = parse_check("check if g({k}) trusting {k}")
    assert print_check(bind(check, {"k": to_term("x")}, {"k": KEY})) == (
        f'check if g("x") trusting ed25519/{"6b" * 32}'
    )


@pytest.mark.parametrize(
    ("terms", "keys", "missing", "unused"),
    [
        ({}, {}, '["k", "p", "q"]', "[]"),
        ({"p": to_term(1), "z": to_term(1)}, {"y": KEY}, '["k", "q"]', '["y", "z"]'),
        ({"p": to_term(1), "q": to_term(1), "k": to_term(1)}, {"k": KEY}, "[]", '["k"]'),
    ],
)
def test_all_that_is_missing_or_unused_is_named(
    terms: dict[str, Term], keys: dict[str, KeyScope], missing: str, unused: str
) -> None:
    with pytest.raises(ParameterError) as raised:
        bind(parse_check("check if g({q}, {p}) trusting {k}"), terms, keys)
    assert str(raised.value) == (
        "datalog parameters must all be bound, provided values must all be used.\n"
        f"Missing parameters: {missing}\nUnused parameters: {unused}"
    )


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("f({1, {p}})", "a", "a set holds values of one type only"),
        ("f({{p}})", {1}, "a set cannot hold sets or variables"),
        ("f({{p}: 1})", True, "the parameter {p} is a key of a map: an integer or a string"),
        ("f({{p}: 1})", [1], "the parameter {p} is a key of a map: an integer or a string"),
        ("f(" + "[" * 31 + "{p}" + "]" * 31 + ")", [1], "a term is nested more than 32 deep"),
    ],
)
def test_a_value_must_fit_where_its_parameter_stands(source: str, value: object, message: str) -> None:
    with pytest.raises(ParameterError) as raised:
        bind(parse_fact(source), {"p": to_term(value)}, {})
    assert message in str(raised.value)
    assert raised.value.code == "language.parameter"


def test_a_parameter_can_be_left_open_by_itself() -> None:
    check = parse_check("check if g({p}, {q}) trusting {k}")
    partly = bind(check, {"p": to_term(1), "q": (PARAMETER, "q")}, {"k": KeyParameter("k")})
    assert print_check(partly) == "check if g(1, {q}) trusting {k}"


def test_equal_values_meet_in_sets_and_maps() -> None:
    fact = bind(parse_fact("f({1, {p}}, {{p}: 1, 1: 2})"), {"p": to_term(1)}, {})
    assert print_predicate(fact) == "f({1}, {1: 2})"


def test_only_so_many_plans_are_remembered() -> None:
    for number in range(600):
        program = parse_program(f"f({number}, {{p}})")
        assert print_program(bind(program, {"p": to_term(0)}, {})) == f"f({number}, 0);\n"
    assert len(parameters._plans) <= 256
