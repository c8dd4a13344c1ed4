"""Requests of any facts: forms, facts by name, and what a guard answers; with the engine and without it."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest

from capability import (
    BiscuitBuilder,
    BlockBuilder,
    CacheLimits,
    Decision,
    Fact,
    Guard,
    KeyPair,
    Limits,
    Outcome,
)
from capability.datalog.errors import ParseError
from capability.datalog.preparation import MAX_REQUEST_ROWS, MAX_REQUEST_TEXT
from capability.decision import BRIEF
from capability.guard import RequestForm
from capability.store.memory import MemoryStore

ROOT = KeyPair()
NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = """
operation("read") <- http_method($m), {"GET", "HEAD"}.contains($m);
operation("write") <- http_method($m), {"PUT", "POST"}.contains($m);
resource($p) <- http_path($p);
header("X-User", $u) <- user($u);
header("X-Section", $s) <- http_path_segment(0, $s);
header("X-Query", $k) <- http_query($k, $v), $v != "secret";
header("X-Static", "yes");
deny if http_path_segment($i, ".."), $i >= 0;
allow if user($u), operation($o);
"""
HTTP: tuple[tuple[str | type, ...], ...] = (("http_method", str), ("http_path", str))
SEVERAL: tuple[tuple[str | type, ...], ...] = (("http_path_segment", int, str), ("http_query", str, str))
TOKEN = (
    BiscuitBuilder('user("alice"); header("X-User", "root"); header("X-Admin", $u) <- user($u)')
    .build(ROOT.private_key)
    .append(
        BlockBuilder(
            'header("X-User", "root"); header("X-Evil", $m) <- http_method($m);'
            'check all operation($o), {"read", "write"}.contains($o);'
            'check all resource($r), $r == "/a" || $r.starts_with("/a/")'
        )
    )
)
TEXT = TOKEN.to_base64()
Request = tuple[str, str, list[tuple[int, str]], list[tuple[str, str]]]


def guard_of(policy: str = POLICY, **options: Any) -> Guard:
    return Guard(ROOT.public_key, policy, **{"clock": lambda: NOW, "answers": ("header($n, $v)",), **options})


def form_of(guard: Guard) -> RequestForm:
    return guard.form(*HTTP, several=SEVERAL)


def request_of(method: str, path: str, *queries: tuple[str, str]) -> Request:
    return method, path, list(enumerate(path.strip("/").split("/"))), list(queries)


def told(decision: Decision) -> dict[str, Any]:
    return {**decision.to_dict(), "decision_id": ""}


def answers(decision: Decision) -> list[tuple[str, Any]]:
    return [(answer.name, answer.values) for answer in decision.answers]


REQUESTS = (
    request_of("GET", "/a/b"),
    request_of("HEAD", "/a"),
    request_of("GET", "/a/" + "/".join("bcdefg"), ("x", "1"), ("x", "2"), ("y", "secret")),
    request_of("PUT", "/a/..//b", ("", "")),
    request_of("DELETE", "/a/b"),
    request_of("GET", "/b"),
    request_of("GET", "/a/é"),
    request_of("GET", "/a", *[("x", str(number)) for number in range(8)]),
    request_of("GET", "/a", *[("x", str(number)) for number in range(MAX_REQUEST_ROWS + 1)]),
    request_of("GET", "/a/" + "b" * MAX_REQUEST_TEXT),
)


def test_a_form_decides_alike_with_the_engine_and_without_it() -> None:
    guard, plain = guard_of(), guard_of(cache=CacheLimits(0))
    form, expected = form_of(guard), form_of(plain)
    for _ in range(3):
        for request in REQUESTS:
            assert told(form.check(TEXT, *request)) == told(expected.check(TEXT, *request))
    # the first two prepare; the last two requests are larger than what is prepared for
    assert guard.stats().fast == 3 * (len(REQUESTS) - 2) - 2
    assert plain.stats().fast == 0


def test_facts_decide_as_a_form_does() -> None:
    guard, plain = guard_of(), guard_of(cache=CacheLimits(0))
    for _ in range(4):
        for method, path, segments, queries in REQUESTS:
            facts = [Fact("http_method({m})", {"m": method}), Fact("http_path({p})", {"p": path})]
            facts += [Fact("http_path_segment({i}, {s})", {"i": i, "s": s}) for i, s in segments]
            facts += [Fact("http_query({k}, {v})", {"k": k, "v": v}) for k, v in queries]
            decision = guard.check(TEXT, facts=facts)
            expected = form_of(plain).check(TEXT, method, path, segments, queries)
            assert sorted(decision.request) == sorted(expected.request)
            assert (decision.outcome, decision.answers) == (expected.outcome, expected.answers)
            assert decision.failed_checks == expected.failed_checks
    assert guard.stats().fast > 10


def test_keywords_of_any_name_are_decided_without_the_engine() -> None:
    guard = guard_of('allow if region("eu"), level($l), $l > 2, since($s), $s < 2031-01-01T00:00:00Z')
    for _ in range(2):
        guard.check(TEXT, region="eu", level=3, since=NOW)
    fast = guard.stats().fast
    outcomes = [
        guard.check(TEXT, region=region, level=level, since=NOW).allowed
        for region, level in (("eu", 3), ("us", 3), ("eu", 2))
    ]
    assert outcomes == [False] * 3  # the token asks for an operation
    assert guard.stats().fast == fast + 3
    plain = BiscuitBuilder("a(1)").build(ROOT.private_key).to_base64()
    for _ in range(4):
        assert guard.check(plain, region="eu", level=3, since=NOW).allowed
        assert not guard.check(plain, region="eu", level=2, since=NOW).allowed
        assert not guard.check(plain, region="eu", level=3, since=datetime(2032, 1, 1, tzinfo=UTC)).allowed


class Method(StrEnum):
    GET = "GET"


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (("GET", "/a", []), TypeError),
        (("GET", "/a", [], [], []), TypeError),
        (("GET", 1, [], []), TypeError),
        ((None, "/a", [], []), TypeError),
        ((b"GET", "/a", [], []), TypeError),
        (("GET", "/a", [("0", "a")], []), TypeError),
        (("GET", "/a", [(True, "a")], []), TypeError),
        (("GET", "/a", [(0, "a", "b")], []), TypeError),
        (("GET", "/a", [(0,)], []), TypeError),
        (("GET", "/a", [[0, "a"]], []), TypeError),
        (("GET", "/a", ["ab"], []), TypeError),
        (("GET", "/a", [], "ab"), TypeError),
        (("GET", "/a", [], {"a": "b"}), TypeError),
        (("GET", "/a", [], None), TypeError),
        (("GET", "/a\ud800", [], []), ValueError),
        (("GET", "/a", [(0, "\ud800")], []), ValueError),
        (("GET", "/a", [(2**63, "a")], []), ValueError),
    ],
)
def test_values_that_do_not_fit_a_form_are_refused_however_well_known_it_is(
    values: tuple[Any, ...], error: type[Exception]
) -> None:
    guard = guard_of()
    form = form_of(guard)
    for _ in range(4):
        assert form.check(TEXT, *REQUESTS[0]).allowed
        with pytest.raises(error):
            form.check(TEXT, *values)
    with pytest.raises(TypeError, match="token"):
        form.check(1, *REQUESTS[0])  # type: ignore[arg-type]


def test_subclasses_of_the_types_are_what_they_are_worth() -> None:
    form = form_of(guard_of())
    for _ in range(4):
        assert told(form.check(TEXT, Method.GET, "/a", [], [])) == told(form.check(TEXT, "GET", "/a", [], []))


@pytest.mark.parametrize(
    ("facts", "several", "error"),
    [
        ((("time", int),), (), ValueError),
        ((("a b", str),), (), ValueError),
        ((("", str),), (), ValueError),
        ((("a", str), ("a", int)), (), ValueError),
        ((("a", str),), (("a", str),), ValueError),
        ((), (("operation", str),), ValueError),
        ((("a",),), (), TypeError),
        ((("a", float),), (), TypeError),
        ((("a", "str"),), (), TypeError),
        (("a",), (), TypeError),
        (((str, "a"),), (), TypeError),
        (tuple((f"a{n}", str) for n in range(25)), (), ValueError),
        ((("a" * 65, str),), (), ValueError),
    ],
)
def test_what_cannot_be_declared_is_refused(facts: Any, several: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        guard_of().form(*facts, several=several)


def test_a_list_that_is_changed_later_does_not_change_what_was_decided() -> None:
    form = form_of(guard_of())
    segments = [(0, "a")]
    for _ in range(4):
        decision = form.check(TEXT, "GET", "/a", segments, [])
        segments[0] = (0, "other")
        assert 'http_path_segment(0, "a")' in decision.request
        assert ("header", ("X-Section", "a")) in answers(decision)
        segments[0] = (0, "a")


def test_a_form_goes_on_after_a_replacement() -> None:
    guard = guard_of()
    form = form_of(guard)
    for _ in range(3):
        assert form.check(TEXT, *REQUESTS[0]).allowed
    guard.replace(policy="deny if true")
    for _ in range(3):
        assert form.check(TEXT, *REQUESTS[0]).outcome is Outcome.DENIED
    guard.replace(keys=KeyPair().public_key)
    assert form.check(TEXT, *REQUESTS[0]).outcome is Outcome.INVALID_TOKEN


def test_a_yes_at_once_is_a_yes_of_check_and_anything_else_says_nothing() -> None:
    guard = guard_of()
    form = form_of(guard)
    requests = [
        (method, path, tuple(segments), tuple(queries)) for method, path, segments, queries in REQUESTS
    ]
    assert not any(form.allows_at_once(TEXT, request) for request in requests)  # it was never seen
    for request in requests * 3:
        form.check(TEXT, *request)
    fast = guard.stats().fast
    looks = guard.stats().tokens
    told_at_once = [form.allows_at_once(TEXT, request) for request in requests]
    # who is told nothing asks `check`, which counts its look into the cache
    assert guard.stats().tokens.hits == looks.hits + sum(told_at_once)
    assert guard.stats().tokens.misses == looks.misses
    allowed = [form.check(TEXT, *request).allowed for request in requests]
    assert told_at_once[:-2] == allowed[:-2]  # the last two need the engine
    assert not any(told_at_once[-2:])
    assert set(allowed) == {True, False}
    assert guard.stats().fast == fast + sum(told_at_once) + len(requests) - 2
    other = BiscuitBuilder("").build(KeyPair().private_key).to_base64()
    unfit: list[tuple[Any, ...]] = [
        ("GET", "/a", [], []),
        ("GET", "/a", ()),
        (b"GET", "/a", (), ()),
        ("GET", "/\ud800", (), ()),
    ]
    for values in unfit:
        assert not form.allows_at_once(TEXT, values)
    assert not form.allows_at_once(other, requests[0])
    assert not form.allows_at_once(1, requests[0])  # type: ignore[arg-type]


def test_what_is_revoked_expired_or_not_to_be_known_is_no_yes_at_once() -> None:
    moment, store = NOW, MemoryStore()
    guard = guard_of(clock=lambda: moment, revocations=store)
    form, request = form_of(guard), ("GET", "/a/b", ((0, "a"), (1, "b")), ())
    short = TOKEN.attenuate(expires=NOW + timedelta(minutes=1))
    expiring, texts = short.to_base64(), (TEXT, short.to_base64())
    for text in texts * 3:
        assert form.check(text, *request).allowed
    assert all(form.allows_at_once(text, request) for text in texts)
    moment = NOW + timedelta(minutes=2)
    assert [form.allows_at_once(text, request) for text in texts] == [True, False]
    moment = NOW
    assert form.allows_at_once(expiring, request)
    store.revoke([bytes.fromhex(short.revocation_ids[-1])])
    assert [form.allows_at_once(text, request) for text in texts] == [True, False]
    store.close()
    assert not form.allows_at_once(TEXT, request)
    guard.replace(keys=KeyPair().public_key)
    assert not form.allows_at_once(TEXT, request)


def test_a_token_cannot_answer() -> None:
    form = form_of(guard_of())
    for _ in range(4):
        decision = form.check(TEXT, *request_of("GET", "/a/b", ("k", "v"), ("s", "secret")))
        assert answers(decision) == [
            ("header", ("X-Query", "k")),
            ("header", ("X-Section", "a")),
            ("header", ("X-Static", "yes")),
            ("header", ("X-User", "alice")),
        ]
        assert form.check(TEXT, *REQUESTS[4]).answers == ()


@pytest.mark.parametrize("source", ["", "trusting previous"])
def test_what_a_block_says_of_the_subject_is_no_answer(source: str) -> None:
    """A rule of the policy sees what the policy trusts, and no more."""
    policy = 'header("X-User", $u) <- user($u), http_method($m); allow if true'
    attenuated = TOKEN.append(
        BlockBuilder(f'{source + ";" if source else ""} user("root"); user($m) <- http_method($m)')
    )
    form = guard_of(policy).form(("http_method", str), ("operation", str), ("resource", str))
    for _ in range(4):
        decision = form.check(attenuated.to_base64(), "GET", "read", "/a")
        assert answers(decision) == [("header", ("X-User", "alice"))]


def test_answers_are_chosen_by_pattern_and_ordered_by_pattern_and_terms() -> None:
    policy = 'a("x", 2); a("x", 1); a("y", 1); a("z", 3); a("w", "w"); c([1, {2}]); d(1); allow if true;'
    policy += "b($t) <- time($t)"
    wanted = ("b($x)", 'a("y", $n)', "a($x, $x)", 'a("x", $n)', "a($x, 1)", "c($x)")
    guard = guard_of(policy, answers=wanted)
    token = BiscuitBuilder("b(1)").build(ROOT.private_key).to_base64()
    for _ in range(4):
        decision = guard.check(token)
        assert answers(decision) == [
            ("b", (NOW,)),
            ("a", ("y", 1)),
            ("a", ("w", "w")),
            ("a", ("x", 1)),
            ("a", ("x", 2)),
            ("c", ([1, {2}],)),
        ]
        assert str(decision.answers[1]) == 'a("y", 1)'
        assert decision.to_dict()["answers"][0] == "b(2030-01-01T00:00:00Z)"
        assert hash(decision)
    assert guard.stats().fast


@pytest.mark.parametrize(
    ("sources", "error"),
    [
        ("header($n)", TypeError),
        ((1,), TypeError),
        (("header($n) or a($b)",), ValueError),
        (("header($n), a($b)",), ValueError),
        (("header($n), $n > 1",), ValueError),
        (("header($n) trusting previous",), ValueError),
        (("header($n); allow if true",), ValueError),
        (("header({n})",), ValueError),
        (("header(",), ParseError),
        (("true",), ValueError),
        (tuple(f"a({n})" for n in range(65)), ValueError),
    ],
)
def test_answers_are_asked_for_by_a_predicate_each(sources: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        guard_of(answers=sources)


def test_answers_of_several_requests_are_those_of_all() -> None:
    policy = 'header("X-Op", $o) <- operation($o); allow if operation($o), $o != "drop"'
    guard = guard_of(policy)
    token = BiscuitBuilder("a(1)").build(ROOT.private_key).to_base64()
    for _ in range(3):
        decision = guard.check(token, operation=["write", "read"])
        assert answers(decision) == [("header", ("X-Op", "read")), ("header", ("X-Op", "write"))]
        assert guard.check(token, operation=["read", "drop"]).answers == ()


def test_answers_are_bounded_by_the_limits() -> None:
    policy = "header($x, $y) <- n($x), n($y); allow if true"
    token = BiscuitBuilder("; ".join(f"n({n})" for n in range(20))).build(ROOT.private_key).to_base64()
    once = guard_of(policy, answers=(), limits=Limits()).check(token)
    assert once.allowed
    assert len(guard_of(policy, limits=Limits(max_facts=500)).check(token).answers) == 400
    guard = guard_of(policy, limits=Limits(max_steps=once.steps + 10))
    for _ in range(4):
        assert guard.check(token).outcome is Outcome.LIMIT_REACHED
        assert guard.check(token).answers == ()


def never(*_: Any) -> Any:
    raise AssertionError("the decision was made again")


@pytest.mark.parametrize("seen", [0, 1, 4])
def test_what_a_service_sends_on_is_told_without_deciding_again(
    seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = guard_of(revocations=MemoryStore())
    form = form_of(guard)
    plain = told(form_of(guard_of(cache=CacheLimits(0), revocations=MemoryStore())).check(TEXT, *REQUESTS[0]))
    for _ in range(seen):
        form.check(TEXT, *REQUESTS[0])
    decision = form.check(TEXT, *REQUESTS[0])
    monkeypatch.setattr(type(guard._decider), "full", never)
    known = {name: getattr(decision, name) for name in sorted(BRIEF)}
    assert decision.allowed
    assert known["code"] == "allowed"
    assert known["subject"] == plain["subject"] == "alice"
    assert list(known["revocation_ids"]) == plain["revocation_ids"]
    assert (known["revocation_revision"], known["revocation_age"]) == (0, 0.0)
    assert (known["expires_at"], known["key_id"], known["decided_at"]) == (None, None, NOW)
    assert [str(answer) for answer in known["answers"]] == plain["answers"]
    monkeypatch.undo()
    assert len(decision.decision_id) == 32
    assert decision.to_dict()["decision_id"] == known["decision_id"]
    assert {name: getattr(decision, name) for name in sorted(BRIEF)} == known
    assert told(decision) == plain
