"""A no in HTTP: statuses, challenges and documents."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from capability import AuthorizationError, BiscuitBuilder, Decision, Guard, KeyPair, Outcome
from capability.http.problems import (
    MALFORMED,
    NO_TOKEN,
    OF_OUTCOME,
    PROBLEMS,
    checked_realm,
    malformed,
    problem_of,
    problem_of_error,
)
from capability.http.requests import is_ambiguous, operations_of

ROOT = Path(__file__).parent.parent.parent


def test_every_outcome_but_allowed_has_its_problem() -> None:
    assert set(OF_OUTCOME) == set(Outcome) - {Outcome.ALLOWED}
    assert {outcome: problem.status for outcome, problem in OF_OUTCOME.items()} == {
        Outcome.DENIED: 403,
        Outcome.EXECUTION_ERROR: 403,
        Outcome.REVOKED: 401,
        Outcome.EXPIRED: 401,
        Outcome.INVALID_TOKEN: 401,
        Outcome.LIMIT_REACHED: 503,
        Outcome.STORE_UNAVAILABLE: 503,
    }


def test_every_problem_is_explained_and_named_once() -> None:
    explained = re.findall(r"^## `(\S+)`$", (ROOT / "docs/problems.md").read_text("utf-8"), re.MULTILINE)
    assert explained == [problem.type for problem in PROBLEMS]
    assert len(set(explained)) == len(explained)


def test_without_a_token_the_challenge_has_no_error_code() -> None:
    assert NO_TOKEN.challenge("orders") == 'Bearer realm="orders"'
    assert "error" not in NO_TOKEN.to_dict()


def test_a_denial_names_what_was_needed() -> None:
    root = KeyPair()
    token = BiscuitBuilder('user("alice")').build(root.private_key).attenuate(operations=["read"])
    decision = Guard(root.public_key, "allow if user($u)").check(token.to_base64(), operation="write")
    problem = problem_of(decision, ["write", 'a "quoted" one'])
    assert dict(problem.headers("orders")) == {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "WWW-Authenticate": 'Bearer realm="orders", error="insufficient_scope", '
        'error_description="the token does not allow this request", scope="write"',
    }
    assert json.loads(problem.body()) == {
        "type": "urn:cap:problem:denied",
        "title": "The token does not allow this",
        "status": 403,
        "detail": "the token does not allow this request",
        "error": "insufficient_scope",
        "required": ["write", 'a "quoted" one'],
        "decision_id": decision.decision_id,
        "instance": f"urn:cap:decision:{decision.decision_id}",
    }


def test_why_a_signature_failed_is_not_told() -> None:
    root, other = KeyPair(), KeyPair()
    token = BiscuitBuilder('user("alice")').build(other.private_key)
    guard = Guard(root.public_key, "allow if user($u)")
    wrong, garbage = guard.check(token.to_base64()), guard.check("garbage")
    assert wrong.code != garbage.code
    documents = [problem_of(decision).to_dict() for decision in (wrong, garbage)]
    for document in documents:
        del document["decision_id"], document["instance"]
    assert documents[0] == documents[1]


def test_the_age_of_what_is_known_of_revocations_is_told_in_milliseconds() -> None:
    decision = Decision(outcome=Outcome.REVOKED, code="revoked", reason="revoked", revocation_age=1.5)
    assert problem_of(decision).to_dict()["revocation_age_ms"] == 1500


def test_a_store_that_is_down_is_no_matter_of_the_token() -> None:
    down = OF_OUTCOME[Outcome.STORE_UNAVAILABLE]
    assert down.challenge("orders") is None
    assert ("Retry-After", "5") in down.headers("orders")


def test_a_yes_is_no_problem() -> None:
    root = KeyPair()
    token = BiscuitBuilder('user("alice")').build(root.private_key).attenuate(expires=timedelta(hours=1))
    with pytest.raises(ValueError, match="no problem"):
        problem_of(Guard(root.public_key, "allow if user($u)").check(token.to_base64()))


def test_errors_are_answered_like_their_decisions() -> None:
    decision = Decision(outcome=Outcome.REVOKED, code="revoked", reason="revoked")
    with pytest.raises(AuthorizationError) as caught:
        decision.require()
    assert problem_of_error(caught.value) == problem_of(decision)
    assert problem_of_error(AuthorizationError("no")).status == 403


def test_what_is_malformed_says_what() -> None:
    assert malformed("two tokens").to_dict() == {**MALFORMED.to_dict(), "detail": "two tokens"}
    assert 'error="invalid_request"' in (MALFORMED.challenge("orders") or "")


@pytest.mark.parametrize("realm", ["", 'a"b', "a\\b", "a\r\nSet-Cookie: x", "ä"])
def test_a_realm_cannot_break_out_of_its_quotes(realm: str) -> None:
    with pytest.raises(ValueError, match="realm"):
        checked_realm(realm)


def test_operations_of_methods() -> None:
    assert [operations_of(method) for method in ("GET", "HEAD", "OPTIONS")] == [("read",)] * 3
    writing = ("POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW", "get", "")
    assert {operations_of(method) for method in writing} == {("write",)}


@pytest.mark.parametrize(
    "path",
    [
        *("/a/../b", "/a/..", "..", "/./a", "//a", "/a//b", "/a\\b", "/a;b", "/a%2e%2e/b", "/a%2Fb", "/%5C"),
        *("/a\0", "/a%00", "/a\n", "/\ud800"),
    ],
)
def test_paths_that_can_be_read_in_two_ways(path: str) -> None:
    assert is_ambiguous(path)


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a.b/.well-known/x", "/a..b", "/...", "/ä/%20", "*"])
def test_paths_that_can_be_read_in_one_way(path: str) -> None:
    assert not is_ambiguous(path)
