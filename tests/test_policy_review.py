"""What is wrong with a policy is told when the guard is built."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from capability import BiscuitBuilder, Guard, KeyPair, PolicyError, PolicyWarning, Program, UnsafeRule
from capability.datalog.parser import parse_program
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    Policy,
    PolicyKind,
    Predicate,
    Query,
    Rule,
    Value,
)
from capability.datalog.terms import INTEGER, TRUE, VARIABLE
from capability.policy_review import review_policy

ROOT = KeyPair().public_key


def messages(source: str, token_facts: set[str] | None = None) -> list[str]:
    return [finding.message for finding in review_policy(parse_program(source), token_facts)]


SOUND = """
right("admin", "write"); right("guest", "read");
can($op) <- role($r), right($r, $op);
check if resource($r), $r.starts_with("/");
reject if tenant("closed");
deny if user("mallory");
allow if operation($op), can($op), application("orders"), time($t), $t < 2040-01-01T00:00:00Z;
allow if role("root") or operation("ping");
"""


@pytest.mark.parametrize("token_facts", [None, {"role", "user"}])
def test_a_sound_policy_is_built_without_a_word(token_facts: set[str] | None) -> None:
    assert messages(SOUND, token_facts) == []
    Guard(ROOT, SOUND, token_facts=token_facts)


@pytest.mark.parametrize(
    "source",
    [
        "allow if true",
        "deny if true",
        "deny if user($u); deny if true",
        "allow if right($r, $o), operation($o)",
        'sources("a"); allow if source($s)',
        "allow if right($r), rights($r)",
        "rights(1); allow if right($r)",
        "allow if option($o), source($s), ctime($t)",
        "check if 1 < 2; allow if true",
        "allow if user($u), $u.extern::f()",
        "allow if 1.extern::f()",
        "allow if 1 / 0 === 1; allow if true",
    ],
)
def test_nothing_to_say(source: str) -> None:
    assert messages(source) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "allow if user($u); allow if true; deny if user($u)",
            "policy 2 is never reached, as policy 1 ",
        ),
        ("deny if false; allow if true", "policy 0 never matches"),
        ("allow if user($u), 1 > 2; allow if true", "policy 0 never matches"),
        ("allow if user($u), false or true", "alternative 0 never matches"),
        ("reject if false; allow if true", "this check never rejects anything"),
        ("p(1) <- user($u), false; allow if true", "this rule never fires"),
        ("p($u) <- user($u), false; allow if p($u)", "no rule that derives p($u) ever fires"),
        ("allow if operatoin($o)", "operatoin($o) looks like operation(...) misspelt"),
        ("allow if Operations($o) or operations($o)", "operations($o) looks like operation(...) misspelt"),
        ('right("a", "b"); allow if rihgt("a", $o), operation($o)', 'rihgt("a", $o) looks like right(...)'),
        ("check if user($u), ressource($r); allow if true", "ressource($r) looks like resource(...)"),
        (
            "allow if operation($o, $p)",
            "a request states operation(...) with 1 term, and operation($o, $p)",
        ),
        ("p($t) <- time($t, 1); allow if p($t)", "a request states time(...) with 1 term"),
    ],
)
def test_a_part_without_effect(source: str, message: str) -> None:
    found = messages(source)
    assert any(text.startswith(message) for text in found), found
    with pytest.warns(PolicyWarning):
        Guard(ROOT, source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("allow if nobody($u); allow if user($u)", "policy 0 never matches, for nothing supplies nobody($u)"),
        ("allow if nobody($u) or user($u)", "nothing supplies nobody($u)"),
        ("p($u) <- nobody($u); allow if user($u)", "this rule never fires, for nothing supplies nobody($u)"),
        ("p($u) <- nobody($u); q($u) <- p($u); allow if user($u) or q(1)", "nothing supplies q(1)"),
        (
            "reject if nobody($u); allow if user($u)",
            "this check never rejects anything, for nothing",
        ),
        ("allow if user($u), operation($o, $p); allow if user(1)", "policy 0 never matches, for nothing"),
    ],
)
def test_a_predicate_that_nothing_supplies(source: str, message: str) -> None:
    found = messages(source, {"user"})
    assert any(text.startswith(message) for text in found), found
    assert messages(source.replace("operation($o, $p)", "operation($o)"), {"user", "nobody"}) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "it has no allow policy"),
        ("right(1)", "it has no allow policy"),
        ("deny if user($u)", "it has no allow policy"),
        ("allow if false", "nothing could ever be allowed by this policy"),
        ("allow if user($u), 1 == 2", "nothing could ever be allowed by this policy"),
        ("deny if true; allow if user($u)", "nothing could ever be allowed by this policy"),
        ("check if false; allow if true", "this check never holds: check if false"),
        ("check all user($u), false; allow if true", "this check never holds"),
        ("reject if true; allow if true", "this check always rejects"),
    ],
)
def test_a_policy_that_never_allows(source: str, message: str) -> None:
    with pytest.raises(PolicyError, match="nothing could ever be allowed") as raised:
        Guard(ROOT, source)
    assert message in str(raised.value)
    assert raised.value.code == "language.policy"


@pytest.mark.parametrize(
    "source",
    ["allow if nobody($u)", "check if nobody($u); allow if true", "p($x) <- nobody($x); allow if p($x)"],
)
def test_a_policy_that_lacks_a_fact_never_allows(source: str) -> None:
    assert messages(source) == []
    with pytest.raises(PolicyError, match="for nothing supplies"):
        Guard(ROOT, source, token_facts=["user"])


def test_a_guard_may_be_locked() -> None:
    """`deny if true` says what is meant."""
    guard = Guard(ROOT, "allow if true")
    guard.replace(policy="deny if true")
    assert not guard.check("").allowed


UNBOUND = Expression((Value((VARIABLE, "x")), Value((INTEGER, 1)), Binary(BinaryKind.EQUAL)))
LAZY = Expression((Value(TRUE), Closure((), UNBOUND.ops), Binary(BinaryKind.LAZY_AND)))
ALLOW = Policy(PolicyKind.ALLOW, (Query(()),))


@pytest.mark.parametrize(
    "program",
    [
        Program(policies=(Policy(PolicyKind.ALLOW, (Query((), (UNBOUND,)),)),)),
        Program(policies=(Policy(PolicyKind.DENY, (Query(()), Query((), (LAZY,)))), ALLOW)),
        Program(checks=(Check(CheckKind.ALL, (Query((), (UNBOUND,)),)),), policies=(ALLOW,)),
        Program(rules=(Rule(Predicate("p", ((VARIABLE, "x"),)), ()),), policies=(ALLOW,)),
        Program(rules=(Rule(Predicate("p", ((INTEGER, 1),)), (), (LAZY,)),), policies=(ALLOW,)),
    ],
)
def test_an_unbound_variable(program: Program) -> None:
    with pytest.raises(UnsafeRule, match=r"binds \$x: "):
        Guard(ROOT, program)


def test_the_warning_points_at_whoever_builds_the_guard() -> None:
    with pytest.warns(PolicyWarning, match="misspelt: allow if operatoin") as caught:
        guard = Guard(ROOT, "allow if operatoin($o)")
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(PolicyWarning) as caught:
        guard.replace(policy="allow if tennant($o)")
    assert Path(caught[0].filename) == Path(__file__)


def test_a_warning_that_is_an_error_changes_nothing() -> None:
    root = KeyPair()
    guard = Guard(root.public_key, "allow if true")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PolicyWarning):
            guard.replace(policy="allow if operatoin($o)")
    assert guard.check(BiscuitBuilder("a(1)").build(root.private_key).to_base64()).allowed


def test_names_given_once_hold_for_replacements() -> None:
    guard = Guard(ROOT, "allow if user($u)", token_facts=["user"])
    with pytest.raises(PolicyError):
        guard.replace(policy="allow if group($g)")


@pytest.mark.parametrize("token_facts", ["user", [1], 7])
def test_wrong_types(token_facts: Any) -> None:
    with pytest.raises(TypeError):
        Guard(ROOT, "allow if user($u)", token_facts=token_facts)


def test_many_policies() -> None:
    policies = "".join(f"allow if role{n}($r), operation($o), right{n}($r, $o);" for n in range(200))
    assert review_policy(parse_program(policies)) == []
