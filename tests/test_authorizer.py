"""Authorizers: order, trust, structured failures, limits, and what biscuit-python does not have."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from capability import (
    Authorizer,
    AuthorizerBuilder,
    AuthorizerLimits,
    Biscuit,
    BiscuitBuilder,
    BiscuitValidationError,
    BlockBuilder,
    Check,
    Denied,
    ExecutionFailed,
    Fact,
    KeyPair,
    LanguageError,
    LimitReached,
    Limits,
    ParameterError,
    Policy,
    Rule,
)
from capability.datalog.program import Predicate, Program
from capability.datalog.program import Rule as RuleSyntax
from capability.datalog.terms import INTEGER, VARIABLE
from capability.decision import MatchedPolicy, Outcome

ROOT = KeyPair()
THIRD_PARTY = KeyPair()


def token(authority: str, *blocks: str) -> Biscuit:
    built = BiscuitBuilder(authority).build(ROOT.private_key)
    for source in blocks:
        built = built.append(BlockBuilder(source))
    return built


def with_third_party(built: Biscuit, source: str) -> Biscuit:
    request = built.third_party_request()
    block = request.create_block(THIRD_PARTY.private_key, BlockBuilder(source))
    return built.append_third_party(THIRD_PARTY.public_key, block)


def allowed(source: str, built: Biscuit) -> bool:
    return AuthorizerBuilder(source).build(built).decide().allowed


class TestStructure:
    def test_a_denial_names_the_policy_and_the_checks(self) -> None:
        built = token("check if a(1)", "check if true; check if b(1)")
        with pytest.raises(Denied) as caught:
            AuthorizerBuilder("check if c(1); deny if 1 == 2; allow if true").build(built).authorize()
        assert caught.value.code == "denied"
        assert caught.value.policy == MatchedPolicy("allow", 1, "allow if true")
        found = [(check.block, check.index, check.source) for check in caught.value.checks]
        assert found == [(None, 0, "check if c(1)"), (0, 0, "check if a(1)"), (1, 1, "check if b(1)")]
        assert caught.value.decision is not None
        assert caught.value.decision.outcome is Outcome.DENIED

    def test_a_deny_policy(self) -> None:
        with pytest.raises(Denied) as caught:
            AuthorizerBuilder("allow if false; deny if true").build(token("a(1)")).authorize()
        assert caught.value.policy == MatchedPolicy("deny", 1, "deny if true")
        assert caught.value.checks == ()

    def test_no_policy(self) -> None:
        with pytest.raises(Denied) as caught:
            AuthorizerBuilder("").build(token("a(1)")).authorize()
        assert caught.value.policy is None

    def test_an_execution_error(self) -> None:
        with pytest.raises(ExecutionFailed) as caught:
            AuthorizerBuilder("allow if 1 / 0 == 1").build(token("a(1)")).authorize()
        assert caught.value.code == "execution.division_by_zero"
        assert (caught.value.policy, caught.value.checks) == (None, ())

    def test_a_limit(self) -> None:
        builder = AuthorizerBuilder("a(1); a(2); b($x, $y) <- a($x), a($y); allow if true")
        builder.set_limits(Limits(max_facts=4))
        with pytest.raises(LimitReached) as caught:
            builder.build(token("c(1)")).authorize()
        assert caught.value.code == "limit.facts"


class TestOrder:
    def test_the_first_policy_that_matches_wins(self) -> None:
        built = token('user("a")')
        assert AuthorizerBuilder("deny if false; allow if true; deny if true").build(built).authorize() == 1
        assert not allowed("deny if true; allow if true", built)

    def test_an_error_in_any_check_outranks_a_deny(self) -> None:
        for blocks in (("check if 1 / 0 == 1",), ("a(1)", "check if 1 / 0 == 1")):
            for policy in ("deny if true", "allow if true", ""):
                decision = AuthorizerBuilder(f"check if false; {policy}").build(token(*blocks)).decide()
                assert decision.outcome is Outcome.EXECUTION_ERROR

    def test_the_first_error_is_the_one_that_is_told(self) -> None:
        overflow, division = "9223372036854775807 + 1 == 0", "1 / 0 == 1"

        def code(source: str, *blocks: str) -> str:
            return AuthorizerBuilder(source).build(token(*blocks)).decide().code

        assert (
            code(f"check if {overflow}; allow if {division}", f"check if {division}") == "execution.overflow"
        )
        assert code(f"allow if {division}", f"check if {overflow}") == "execution.overflow"
        assert code(f"allow if {overflow}", "a(1)", f"check if {division}") == "execution.overflow"
        assert code(f"allow if true or {division}", "a(1)") == "allowed"
        assert (
            code(f"r($x) <- a($x), {division}; check if {overflow}", "a(1)") == "execution.division_by_zero"
        )

    def test_an_error_beats_a_match_among_the_bindings(self) -> None:
        for facts in ("n(0); n(1)", "n(1); n(0)"):
            decision = AuthorizerBuilder("allow if n($x), 1 / $x == 1").build(token(facts)).decide()
            assert decision.code == "execution.division_by_zero"

    def test_reject_if_fails_when_any_query_matches(self) -> None:
        assert not allowed("reject if a(2) or a(1); allow if true", token("a(1)"))
        assert not allowed("reject if a(1) or a(2); allow if true", token("a(1)"))
        assert allowed("reject if a(2) or a(3); allow if true", token("a(1)"))

    def test_check_all_needs_a_match(self) -> None:
        assert not allowed("check all a($x), $x > 0; allow if true", token("b(1)"))
        assert not allowed("check all a($x), $x > 1; allow if true", token("a(1); a(2)"))
        assert allowed("check all a($x), $x > 0; allow if true", token("a(1); a(2)"))
        assert allowed("check all a($x), $x > 9 or b($x), $x == 1; allow if true", token("a(1); b(1)"))


class TestTrust:
    def test_a_later_block_is_not_believed(self) -> None:
        built = token('user("a")', 'user("admin"); right("all"); operation("read")')
        assert not allowed('allow if user("admin")', built)
        assert not allowed('check if operation("read"); allow if true', built)
        assert not allowed('r($x) <- right($x); allow if r("all")', built)

    def test_a_later_block_satisfies_its_own_checks_only(self) -> None:
        assert allowed("allow if true", token("a(1)", "b(1); check if b(1), a(1)"))
        assert not allowed("allow if true", token("check if b(1)", "b(1)"))
        assert not allowed("allow if true", token("a(1)", "b(1)", "check if b(1)"))
        assert allowed("allow if true", token("a(1)", "b(1)", "check if b(1) trusting previous"))

    def test_previous_means_nothing_in_the_authorizer(self) -> None:
        built = token("a(1)", "b(1)")
        assert not allowed("check if a(1) trusting previous; allow if true", built)
        assert not allowed("check if b(1) trusting authority, previous; allow if true", built)
        assert allowed("c(1); check if c(1) trusting previous; allow if true", built)

    def test_a_block_level_trusting_holds_for_the_whole_authorizer(self) -> None:
        built = token("a(1)")
        assert not allowed("trusting previous; check if a(1); allow if true", built)
        assert not allowed("trusting previous; allow if a(1)", built)
        assert not allowed("trusting previous; r($x) <- a($x); allow if r(1)", built)
        assert allowed("trusting previous; check if a(1) trusting authority; allow if true", built)

    def test_each_source_keeps_its_own_trusting(self) -> None:
        built = token("a(1)")

        def decides(*sources: str) -> bool:
            builder = AuthorizerBuilder("allow if true")
            for source in sources:
                builder.merge(AuthorizerBuilder(source))
            return builder.build(built).decide().allowed

        assert decides("check if a(1)")
        assert not decides("check if a(1)", "trusting previous; check if a(1)")
        assert not decides("trusting previous; check if a(1)", "check if a(1)")
        builder = AuthorizerBuilder("trusting previous; allow if true")
        builder.merge(AuthorizerBuilder("check if a(1)"))
        assert builder.build(built).decide().allowed
        builder.add_check(Check("check if a(1)"))
        assert not builder.build(built).decide().allowed

    def test_a_third_party_is_believed_where_it_is_named(self) -> None:
        key = repr(THIRD_PARTY.public_key)
        built = with_third_party(token("a(1)"), "g(1)")
        assert not allowed("allow if g(1)", built)
        assert allowed(f"allow if g(1) trusting {key}", built)
        assert not allowed(f"allow if a(1) trusting {key}", built)
        assert allowed(f"allow if a(1), g(1) trusting authority, {key}", built)
        assert not allowed(f"allow if g(1) trusting {KeyPair().public_key!r}", built)

    def test_a_third_party_block_that_comes_later_is_believed_too(self) -> None:
        key = repr(THIRD_PARTY.public_key)
        built = token(f"check if g(1) trusting {key}", f"check if g(2) trusting {key}")
        assert not allowed("allow if true", with_third_party(built, "g(1)"))
        assert allowed("allow if true", with_third_party(with_third_party(built, "g(1)"), "g(2)"))

    def test_a_fact_that_mixes_trusted_and_untrusted_is_untrusted(self) -> None:
        built = token("a(1)", "b(1); c($x) <- a($x), b($x)")
        assert not allowed("allow if c(1)", built)
        assert "// origin: 0, 1\nc(1);" in decided(built)

    def test_stating_a_fact_first_does_not_hide_the_authority(self) -> None:
        assert allowed("allow if b(1)", token("a(1); b($x) <- a($x)", "b(1)"))


def decided(built: Biscuit) -> str:
    authorizer = AuthorizerBuilder("allow if true").build(built)
    authorizer.authorize()
    return repr(authorizer)


class TestBuild:
    def test_only_a_verified_token_is_taken(self) -> None:
        from capability import UnverifiedBiscuit

        unverified: Any = UnverifiedBiscuit.from_base64(token("a(1)").to_base64())
        with pytest.raises(TypeError, match="must be a Biscuit, not UnverifiedBiscuit"):
            AuthorizerBuilder("allow if true").build(unverified)

    def test_a_rule_with_an_unbound_head_fails_here(self) -> None:
        rule = RuleSyntax(Predicate("operation", ((VARIABLE, "o"),)), (Predicate("a", ((INTEGER, 1),)),))
        block = BlockBuilder()
        block.add_program(Program(rules=(rule,)))
        for built in (token("a(1)").append(block), with_block(BiscuitBuilder("a(1)"), rule)):
            with pytest.raises(LanguageError, match="unbound variables") as caught:
                AuthorizerBuilder("allow if true").build(built)
            assert isinstance(caught.value, BiscuitValidationError)

    def test_an_unbound_variable_in_an_expression_fails_when_run(self) -> None:
        from capability.datalog.program import Binary, BinaryKind, CheckKind, Expression, Query, Value
        from capability.datalog.program import Check as CheckSyntax

        ops = (Value((VARIABLE, "o")), Value((INTEGER, 1)), Binary(BinaryKind.EQUAL))
        check = CheckSyntax(CheckKind.IF, (Query((Predicate("a", ((INTEGER, 1),)),), (Expression(ops),)),))
        block = BlockBuilder()
        block.add_program(Program(checks=(check,)))
        authorizer = AuthorizerBuilder("allow if true").build(token("a(1)").append(block))
        assert authorizer.decide().code == "execution.unknown_variable"

    def test_one_builder_builds_many(self) -> None:
        builder = AuthorizerBuilder('allow if user("a")')
        assert builder.build(token('user("a")')).authorize() == 0
        assert not builder.build(token('user("b")')).decide().allowed
        builder.add_policy(Policy("allow if true"))
        assert builder.build(token('user("b")')).authorize() == 1

    def test_revocation_ids_are_stated_on_demand_only(self) -> None:
        built = token("a(1)", "b(1)")
        rule = Rule("id($n, $id) <- revocation_id($n, $id)")
        builder = AuthorizerBuilder("allow if revocation_id(1, $id)")
        assert builder.build(built).query(rule) == []
        builder.state_revocation_ids()
        authorizer = builder.build(built)
        found = [fact.terms for fact in authorizer.query(rule)]
        assert found == [[n, bytes.fromhex(text)] for n, text in enumerate(built.revocation_ids)]
        assert authorizer.authorize() == 0
        assert builder.build_unauthenticated().query(rule) == []
        other = AuthorizerBuilder("")
        other.merge(builder)
        assert len(other.build(built).query(rule)) == 2

    def test_the_time_can_be_given(self) -> None:
        builder = AuthorizerBuilder("")
        builder.set_time(datetime(2030, 1, 1, tzinfo=UTC))
        assert repr(builder) == "time(2030-01-01T00:00:00Z);\n"
        with pytest.raises(TypeError):
            builder.set_time(datetime(2030, 1, 1))
        with pytest.raises(TypeError):
            builder.set_time(0)  # type: ignore[arg-type]

    def test_parameters_must_be_bound_before_they_are_added(self) -> None:
        builder = AuthorizerBuilder("")
        adds: list[Callable[[], None]] = [
            lambda: builder.add_fact(Fact("a({x})")),
            lambda: builder.add_check(Check("check if a({x})")),
            lambda: builder.add_policy(Policy("allow if a({x})")),
            lambda: builder.add_rule(Rule("a({x}) <- b($y)")),
        ]
        for add in adds:
            with pytest.raises(ParameterError):
                add()
        assert builder.program == Program()


def with_block(builder: BiscuitBuilder, rule: RuleSyntax) -> Biscuit:
    builder.add_program(Program(rules=(rule,)))
    return builder.build(ROOT.private_key)


class TestQueries:
    def test_query_believes_the_authority_and_query_all_everyone(self) -> None:
        built = with_third_party(token("a(1); own($x) <- a($x)", "a(2)"), "a(3)")
        authorizer = AuthorizerBuilder("a(0); allow if true").build(built)
        assert [fact.terms for fact in authorizer.query(Rule("z($x) <- a($x)"))] == [[0], [1]]
        assert [fact.terms for fact in authorizer.query(Rule("z($x) <- own($x)"))] == [[0], [1]]
        assert [fact.terms for fact in authorizer.query_all(Rule("z($x) <- a($x)"))] == [[0], [1], [2], [3]]

    def test_a_query_says_whom_to_believe(self) -> None:
        built = with_third_party(token("a(1)"), "a(3)")
        authorizer = AuthorizerBuilder("").build(built)
        rule = Rule("z($x) <- a($x) trusting {k}", scope_parameters={"k": THIRD_PARTY.public_key})
        assert [fact.terms for fact in authorizer.query(rule)] == [[3]]

    def test_what_a_query_derives_once_is_one_fact(self) -> None:
        authorizer = AuthorizerBuilder("").build(token("a(1); a(2)", "a(1)"))
        assert repr(authorizer.query_all(Rule("z(0) <- a($x)"))) == "[z(0)]"

    def test_a_query_adds_nothing(self) -> None:
        authorizer = AuthorizerBuilder("allow if z(1)").build(token("a(1)"))
        authorizer.query(Rule("z($x) <- a($x)"))
        assert not authorizer.decide().allowed

    def test_errors(self) -> None:
        authorizer = AuthorizerBuilder("").build(token("a(0)"))
        for query in (authorizer.query, authorizer.query_all):
            with pytest.raises(ExecutionFailed) as caught:
                query(Rule("z($x) <- a($x), 1 / $x == 1"))
            assert caught.value.code == "execution.division_by_zero"
            with pytest.raises(TypeError):
                query("z($x) <- a($x)")  # type: ignore[arg-type]


class TestLimits:
    def test_the_defaults(self) -> None:
        limits = AuthorizerBuilder("").limits()
        assert limits == AuthorizerLimits(10_000, 1_000, None, 500_000)

    def test_a_copy_of_the_limits_changes_nothing_until_it_is_set(self) -> None:
        builder = AuthorizerBuilder("")
        limits = builder.limits()
        limits.max_facts = 1
        limits.max_time = timedelta(milliseconds=5)
        assert builder.limits().max_facts == 10_000
        builder.set_limits(limits)
        assert builder.limits() == limits

    def test_seconds_where_a_timedelta_belongs_are_refused_when_they_are_set(self) -> None:
        limits = AuthorizerLimits(max_time=0.1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="timedelta"):
            AuthorizerBuilder("").set_limits(limits)

    def test_each_limit_has_its_code(self) -> None:
        source = "a(0, 1); a(1, 2); a(2, 3); a(3, 4); a($x, $z) <- a($x, $y), a($y, $z); allow if true"
        for limits, code in (
            (Limits(max_facts=5), "limit.facts"),
            (Limits(max_facts=3), "limit.facts"),
            (Limits(max_iterations=1), "limit.iterations"),
            (Limits(max_steps=10), "limit.steps"),
            (Limits(max_time=0.0), "limit.time"),
        ):
            builder = AuthorizerBuilder(source)
            builder.set_limits(limits)
            authorizer = builder.build(token("n(1)"))
            for _ in range(2):
                decision = authorizer.decide()
                assert (decision.outcome, decision.code) == (Outcome.LIMIT_REACHED, code)
                with pytest.raises(LimitReached, match=r"^Reached Datalog execution limits$"):
                    authorizer.query(Rule("z($x) <- a($x, $y)"))

    def test_a_limit_in_a_check_is_no_denial(self) -> None:
        facts = "".join(f"n({number});" for number in range(30))
        builder = AuthorizerBuilder("check if n($a), n($b), n($c), n($d), $a == -1; allow if true")
        builder.set_limits(Limits(max_steps=5_000))
        assert builder.build(token(facts)).decide().code == "limit.steps"

    def test_each_call_has_the_whole_budget(self) -> None:
        builder = AuthorizerBuilder("n(1); n(2); n(3); check if n($a), n($b), n($c); allow if true")
        authorizer = builder.build(token("a(1)"))
        first = authorizer.decide()
        assert first.steps > 0
        assert {authorizer.decide().steps for _ in range(20)} == {first.steps}

    def test_an_error_stays(self) -> None:
        authorizer = AuthorizerBuilder("a(1); a(0); r($x) <- a($x), 1 / $x == 1; allow if true").build(
            token("b(1)")
        )
        assert {authorizer.decide().code for _ in range(3)} == {"execution.division_by_zero"}


class TestExterns:
    def authorizer(self, source: str, function: Callable[..., Any]) -> Authorizer:
        builder = AuthorizerBuilder(source)
        builder.register_extern_func("f", function)
        return builder.build_unauthenticated()

    @pytest.mark.parametrize(
        ("literal", "value"),
        [
            ("null", None),
            ("{1, 2}", {1, 2}),
            ("{,}", set()),
            ('[1, "a"]', [1, "a"]),
            ('{"k": [true], 2: null}', {"k": [True], 2: None}),
        ],
    )
    def test_values_that_biscuit_python_cannot_pass(self, literal: str, value: object) -> None:
        seen: list[object] = []

        def function(*arguments: object) -> object:
            seen.extend(arguments)
            return arguments[-1]

        check = f"check if ({literal}).extern::f() == {literal}, 1.extern::f({literal}) == {literal}"
        assert self.authorizer(f"{check}; allow if true", function).authorize() == 0
        assert seen == [value, 1, value]

    @pytest.mark.parametrize("result", [1.5, object(), datetime(2030, 1, 1), 2**63, {1, "a"}, {True: 1}])
    def test_results_that_are_no_terms(self, result: object) -> None:
        decision = self.authorizer("allow if 1.extern::f() == 1", lambda _: result).decide()
        assert decision.code == "execution.extern_failed"

    def test_running_out_of_memory_is_not_made_an_answer(self) -> None:
        def exhaust(_: object) -> object:
            raise MemoryError

        with pytest.raises(MemoryError):
            self.authorizer("allow if 1.extern::f().try_or(true)", exhaust).decide()

    def test_what_is_not_callable_is_refused(self) -> None:
        builder = AuthorizerBuilder("")
        registrations: list[Callable[[], None]] = [
            lambda: builder.register_extern_func("f", 1),  # type: ignore[arg-type]
            lambda: builder.register_extern_funcs({"f": 1}),  # type: ignore[dict-item]
            lambda: builder.set_extern_funcs({"f": 1}),  # type: ignore[dict-item]
            lambda: builder.register_extern_func(1, len),  # type: ignore[arg-type]
        ]
        for register in registrations:
            with pytest.raises(TypeError):
                register()


def test_the_order_of_facts_and_rules_is_irrelevant() -> None:
    statements = ["a(1)", "a(2)", "b($x) <- a($x)", "c($x, $y) <- b($x), b($y)", "check if c(1, 2)"]
    results = set()
    for turn in range(len(statements)):
        source = "; ".join(statements[turn:] + statements[:turn])
        authorizer = AuthorizerBuilder(f"{source}; allow if c(2, $x)").build(token("d(1)"))
        decision = authorizer.decide()
        results.add((decision.code, decision.facts, repr(authorizer)))
    assert len(results) == 1
