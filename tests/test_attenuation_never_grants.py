"""Attenuation never grants: whatever is appended to a token, it may do nothing that it might not do before.

Any token, any appended blocks (the holder's own, and those that third parties of the holder's choice sign),
any request. What is excluded by construction is what a token means to allow: blocks signed by a key that
somebody before the holder trusts. That has its own test.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from capability import (
    AuthorizerBuilder,
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    Decision,
    Fact,
    Guard,
    Limits,
    Outcome,
    PolicyError,
    PrivateKey,
    UnsafeRule,
)
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.program import Expression, KeyScope, Predicate, Program, Query, Rule, Scope, Value
from capability.datalog.terms import TRUE
from capability.policy_review import review_policy
from tests.datalog import programs

pytestmark = pytest.mark.filterwarnings("ignore::capability.PolicyWarning")

ROOT, FRIEND, MALLORY, EVE = (PrivateKey(f"ed25519-private/{digit * 64}") for digit in "1234")
PEER = PrivateKey(f"secp256r1-private/{'5' * 64}")
NAMES = {"p": "operation", "q": "application", "r": "resource"}
"""The predicates of random programs, by the names under which a request is told to a guard."""
KNOWN = dict(zip(programs.KEYS, (FRIEND, PEER), strict=True))
"""Third parties that anybody may trust, and whose keys the holder has not."""
STRANGERS = dict(zip(programs.KEYS, (MALLORY, EVE), strict=True))
"""Third parties that sign what the holder likes; nobody before the holder trusts them."""
LIMITS = Limits(max_facts=100_000, max_steps=10_000_000)

_Clause = TypeVar("_Clause", Query, Rule)


@dataclass(frozen=True)
class Case:
    """A token of blocks and who signed each, what the holder appends, and a request to a service."""

    blocks: tuple[tuple[Program, PrivateKey | None], ...]
    appended: tuple[tuple[Program, PrivateKey | None], ...]
    policy: Program
    request: tuple[tuple[str, str | int | bool], ...]

    def parent(self) -> Biscuit:
        (authority, _), *later = self.blocks
        builder = BiscuitBuilder()
        builder.add_program(authority)
        return extended(builder.build(ROOT), tuple(later))

    def child(self) -> Biscuit:
        return extended(self.parent(), self.appended)


def extended(token: Biscuit, blocks: tuple[tuple[Program, PrivateKey | None], ...]) -> Biscuit:
    """Returns the token with `blocks` at its end, as a holder appends them: through bytes."""
    for program, signer in blocks:
        builder = BlockBuilder()
        builder.add_program(program)
        if signer is None:
            token = token.append(builder)
        else:
            signed = token.third_party_request().create_block(signer, builder)
            token = token.append_third_party(signer.public_key, signed)
    return token


def decided(token: Biscuit, case: Case) -> Decision:
    """Returns the guard's decision about a token's text.

    It is the same when it is asked again, of what the guard remembers, and that of an authorizer.
    """
    guard = Guard(ROOT.public_key, case.policy, limits=LIMITS, clock=lambda: 0)
    text = token.to_base64()
    first, *more = [guard.check(text, **dict(case.request)) for _ in range(3)]  # type: ignore[arg-type]
    builder = AuthorizerBuilder()
    builder.set_limits(LIMITS)
    builder.add_program(case.policy)
    for name, value in case.request:
        builder.add_fact(Fact(f"{name}({{value}})", {"value": value}))
    builder.add_fact(Fact("time(1970-01-01T00:00:00Z)"))
    for again in more:
        assert (again.outcome, again.code) == (first.outcome, first.code)
        assert again.failed_checks == first.failed_checks
    by_authorizer = builder.build(token).decide()
    # which of several errors is named depends on what is evaluated first, and a guard adds the request last
    assert by_authorizer.outcome == first.outcome
    assert by_authorizer.failed_checks == first.failed_checks
    return first


def with_keys(program: Program, keys: dict[KeyScope, PrivateKey]) -> Program:
    """Returns a program of `tests.datalog.programs` in the words of requests, with the keys of `keys`."""

    def scopes(trusted: tuple[Scope, ...]) -> tuple[Scope, ...]:
        return tuple(
            keys[scope].public_key.scope if isinstance(scope, KeyScope) else scope for scope in trusted
        )

    def named(predicate: Predicate) -> Predicate:
        return replace(predicate, name=NAMES[predicate.name])

    def clause(item: _Clause) -> _Clause:
        item = replace(item, scopes=scopes(item.scopes), body=tuple(map(named, item.body)))
        if isinstance(item, Rule):
            item = replace(item, head=named(item.head))
        if item.body or item.expressions:
            return item
        return replace(item, expressions=(Expression((Value(TRUE),)),))

    return Program(
        scopes(program.scopes),
        tuple(map(named, program.facts)),
        tuple(map(clause, program.rules)),
        tuple(replace(check, queries=tuple(map(clause, check.queries))) for check in program.checks),
        tuple(replace(policy, queries=tuple(map(clause, policy.queries))) for policy in program.policies),
    )


def may_be_a_policy(program: Program) -> bool:
    """Returns whether a guard takes `program`: one that can never allow anything is refused."""
    try:
        review_policy(program)
    except (PolicyError, UnsafeRule):
        return False
    return True


def signed_blocks(
    keys: dict[KeyScope, PrivateKey], signers: tuple[PrivateKey | None, ...], least: int, most: int
) -> SearchStrategy[tuple[tuple[Program, PrivateKey | None], ...]]:
    program = programs.programs(0).map(lambda found: with_keys(found, keys))
    one = st.tuples(program, st.sampled_from(signers))
    return st.lists(one, min_size=least, max_size=most).map(tuple)


REQUESTS = st.dictionaries(
    st.sampled_from(sorted(NAMES.values())), st.sampled_from([0, 1, 2, "a", True])
).map(lambda found: tuple(found.items()))
WILD: SearchStrategy[Case] = st.builds(
    Case,
    st.tuples(
        signed_blocks(KNOWN, (None,), 1, 1), signed_blocks(KNOWN, (None, None, FRIEND, PEER), 0, 2)
    ).map(lambda pair: (*pair[0], *pair[1])),
    st.one_of(
        signed_blocks(KNOWN, (None, MALLORY), 1, 2), signed_blocks(STRANGERS, (None, MALLORY, EVE), 1, 3)
    ),
    programs.authorizers.map(lambda found: with_keys(found, KNOWN)).filter(may_be_a_policy),
    REQUESTS,
)
"""Programs of everything that the language has, most of which fail or deny."""

_PREDICATES = ("right({})", "member({})", "operation({})")
_ATOMS = tuple(name.format(term) for name in _PREDICATES for term in ("$x", "0", "1"))
_FACTS = st.sampled_from([f"{name.format(term)};" for name in _PREDICATES for term in "01"])
_HEADS = st.sampled_from(_ATOMS)
_BODIES = st.sampled_from(_ATOMS[::3])


def plain(*trusted: str) -> SearchStrategy[str]:
    """Sources that decide: a few facts, rules and checks on them, some with one of the clauses `trusted`."""
    clauses = st.sampled_from(["", "", "", " trusting previous", *(f" trusting {key}" for key in trusted)])
    queries = st.builds("{}{}".format, st.sampled_from(_ATOMS), clauses)
    rules = st.builds("{} <- {}{};".format, _HEADS, _BODIES, clauses)
    checks = st.builds("{} {};".format, st.sampled_from(["check if", "check all", "reject if"]), queries)
    few = st.lists(_FACTS | rules, max_size=3)
    return st.builds(lambda some, check: " ".join([*some, *check]), few, st.lists(checks, max_size=1))


def plain_policies() -> SearchStrategy[str]:
    """Sources with a policy that allows, and perhaps one before it that denies."""
    clauses = st.sampled_from(["", "", f" trusting authority, {FRIEND.public_key!r}", " trusting previous"])
    allows = st.builds("allow if {}{};".format, st.sampled_from([*_ATOMS, "true"]), clauses)
    denies = st.builds("deny if {}{};".format, st.sampled_from(_ATOMS), clauses)
    return st.one_of(allows, allows, st.builds("{} {}".format, denies, allows))


def _blocks(
    source: SearchStrategy[str], signers: tuple[PrivateKey | None, ...], least: int, most: int
) -> SearchStrategy[tuple[tuple[Program, PrivateKey | None], ...]]:
    one = st.tuples(source.map(parse_block), st.sampled_from(signers))
    return st.lists(one, min_size=least, max_size=most).map(tuple)


PLAIN: SearchStrategy[Case] = st.builds(
    Case,
    st.tuples(
        _blocks(plain(repr(FRIEND.public_key)), (None,), 1, 1),
        _blocks(plain(repr(FRIEND.public_key)), (None, FRIEND), 0, 1),
    ).map(lambda pair: (*pair[0], *pair[1])),
    _blocks(plain(repr(MALLORY.public_key)), (None, MALLORY), 1, 2),
    plain_policies().map(parse_program),
    st.sampled_from([(), (("operation", 0),), (("operation", 1),)]),
)
CASES = PLAIN | PLAIN | PLAIN | WILD


def case(blocks: list[str], appended: list[tuple[str, PrivateKey | None]], policy: str) -> Case:
    """Returns a case by its sources; `friend` and `mallory` stand for keys in them."""

    def program(source: str) -> str:
        names = {"friend": FRIEND, "mallory": MALLORY}
        for name, key in names.items():
            source = source.replace(f"{{{name}}}", repr(key.public_key))
        return source

    return Case(
        tuple((parse_block(program(source)), None) for source in blocks),
        tuple((parse_block(program(source)), signer) for source, signer in appended),
        parse_program(program(policy)),
        (),
    )


@settings(max_examples=200, deadline=None)
@example(case(["p(1)"], [("q(1)", None), ("q(1)", MALLORY)], "allow if q(1)"))
@example(case(["p(1)"], [("q($x) <- p($x)", None), ("q($x) <- p($x)", MALLORY)], "allow if q(1), p(1)"))
@example(case(["check if q(1)"], [("q(1)", None), ("q(1)", MALLORY)], "allow if true"))
@example(case(["p(1)", "check if q(1) trusting previous"], [("q(1)", MALLORY)], "allow if true"))
@example(case(["p(1); q($x) <- p($x); reject if q(1)"], [("q(1); p(1)", None)], "allow if true"))
@example(case(["p(1)"], [("p(1); p(2)", MALLORY)], "deny if p(1); allow if true"))
@example(case(["p(1)"], [("trusting previous, {mallory}; q(1)", MALLORY)], "allow if q(1) trusting previous"))
@example(case(["check if q(1) trusting {friend}"], [("q(1)", None), ("q(1)", MALLORY)], "allow if true"))
@example(case(["p(1)"], [("check if 1 / 0 == 1", None)], "allow if true"))
@example(case(["check if 1 / 0 == 1"], [("p(1)", None)], "allow if true"))
@given(CASES)
def test_what_is_appended_grants_nothing(case: Case) -> None:
    parent, child = decided(case.parent(), case), decided(case.child(), case)
    assert parent.allowed or not child.allowed, (parent.code, child.code)


@settings(max_examples=60, deadline=None)
@given(CASES, st.data())
def test_no_prefix_of_a_chain_may_do_less(case: Case, data: st.DataObject) -> None:
    """Block by block too, where no block trusts one of the strangers: each block can only take away."""
    chain = tuple(block for block in case.blocks if block[1] is None)
    holder = signed_blocks(KNOWN, (None, MALLORY, EVE), 1, 3)
    token = extended(replace(case, blocks=chain).parent(), ())
    allowed = [decided(token, case).allowed]
    for block in data.draw(holder):
        token = extended(token, (block,))
        allowed.append(decided(token, case).allowed)
    assert allowed == sorted(allowed, reverse=True)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_a_sealed_twin_gets_the_same_decision(case: Case) -> None:
    token = case.child()
    opened, sealed = decided(token, case), decided(token.seal(), case)
    for name in ("outcome", "code", "reason", "policy", "failed_checks", "facts", "steps", "revocation_ids"):
        assert getattr(opened, name) == getattr(sealed, name), name


def test_a_key_that_is_trusted_may_grant() -> None:
    """The other side: a block signed by a key that the authority or the service trusts is believed."""
    by_service = case(["p(1)"], [("q(1)", FRIEND)], "allow if q(1) trusting {friend}")
    by_authority = case(["check if q(1) trusting {friend}"], [("q(1)", FRIEND)], "allow if true")
    by_block = case(["p(1)", "check if q(1) trusting {friend}"], [("q(1)", FRIEND)], "allow if true")
    by_rule = case(
        ["p(1); r($x) <- q($x) trusting {friend}"],
        [("q(1)", FRIEND)],
        "allow if r(1) trusting authority, {friend}",
    )
    for each in (by_service, by_authority, by_block, by_rule):
        assert decided(each.parent(), each).outcome is Outcome.DENIED
        assert decided(each.child(), each).allowed
        impostor = replace(each, appended=tuple((program, MALLORY) for program, _ in each.appended))
        assert decided(impostor.child(), impostor).outcome is Outcome.DENIED


def test_the_cases_are_no_foregone_conclusion() -> None:
    """Among random cases some parents are allowed and some are not, and likewise their children."""
    seen: set[tuple[bool, bool]] = set()

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(CASES)
    def collect(case: Case) -> None:
        seen.add((decided(case.parent(), case).allowed, decided(case.child(), case).allowed))

    collect()
    assert seen == {(False, False), (True, False), (True, True)}
