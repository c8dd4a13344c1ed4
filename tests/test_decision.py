"""Decisions: one yes, no truth value, a stable JSON form, an error and an exit code for each outcome."""

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from capability import (
    AuthorizationError,
    AuthorizerBuilder,
    Decision,
    Denied,
    ExecutionFailed,
    FailedCheck,
    LimitReached,
    Limits,
    MatchedPolicy,
    Outcome,
    Revoked,
)
from capability.decision import EXIT_CODES

FULL = Decision(
    outcome=Outcome.DENIED,
    code="denied",
    reason="no policy matched",
    error="authorization failed: ...",
    request=('operation("read")',),
    policy=MatchedPolicy("allow", 1, "allow if true"),
    failed_checks=(FailedCheck(None, 0, "check if a(1)", "why"), FailedCheck(2, 1, "check if b(1)")),
    revoked_id="00ff",
    subject="alice",
    expires_at=datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    key_id=7,
    revocation_ids=("00ff", "ab"),
    revocation_revision=3,
    revocation_age=1.5,
    limits=Limits(max_time=0.5),
    facts=4,
    iterations=2,
    steps=99,
    decided_at=datetime(2029, 1, 1, tzinfo=UTC),
    decision_id="0" * 32,
)


def minimal(outcome: Outcome = Outcome.ALLOWED) -> Decision:
    return Decision(outcome=outcome, code=outcome.value, reason="because")


def test_only_allowed_is_a_yes() -> None:
    assert [outcome for outcome in Outcome if minimal(outcome).allowed] == [Outcome.ALLOWED]


def test_a_decision_has_no_truth_value() -> None:
    for outcome in Outcome:
        with pytest.raises(TypeError, match="neither true nor false"):
            bool(minimal(outcome))


def test_a_decision_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        minimal(Outcome.DENIED).outcome = Outcome.ALLOWED  # type: ignore[misc]


@pytest.mark.parametrize(
    ("outcome", "error", "exit_code"),
    [
        (Outcome.DENIED, Denied, 1),
        (Outcome.EXPIRED, Denied, 1),
        (Outcome.REVOKED, Revoked, 1),
        (Outcome.INVALID_TOKEN, AuthorizationError, 3),
        (Outcome.EXECUTION_ERROR, ExecutionFailed, 4),
        (Outcome.STORE_UNAVAILABLE, AuthorizationError, 5),
        (Outcome.LIMIT_REACHED, LimitReached, 6),
    ],
)
def test_require_raises_what_was_decided(
    outcome: Outcome, error: type[AuthorizationError], exit_code: int
) -> None:
    decision = minimal(outcome)
    with pytest.raises(error) as caught:
        decision.require()
    assert type(caught.value) is error
    assert caught.value.decision is decision
    assert (caught.value.code, str(caught.value)) == (outcome.value, "because")
    assert decision.exit_code == exit_code


def test_an_allow_raises_nothing_and_exits_with_0() -> None:
    minimal().require()
    assert minimal().exit_code == 0
    assert set(EXIT_CODES) == set(Outcome)


def test_every_decision_has_an_id_of_its_own() -> None:
    assert len({minimal().decision_id for _ in range(100)}) == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_gives_decisions_ids_of_its_own() -> None:
    code = (
        "import os, sys\n"
        "from capability.decision import new_decision_id\n"
        "new_decision_id()\n"
        "child = os.fork()\n"
        "os.write(1, new_decision_id().encode() + b'\\n')\n"
        "child and os.wait()\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, second = said.split()
    assert first[:20] != second[:20]


def test_the_json_form() -> None:
    assert json.loads(FULL.to_json()) == FULL.to_dict()
    assert FULL.to_dict() == {
        "outcome": "denied",
        "allowed": False,
        "code": "denied",
        "reason": "no policy matched",
        "request": ['operation("read")'],
        "policy": {"kind": "allow", "index": 1, "source": "allow if true"},
        "failed_checks": [
            {"block": None, "index": 0, "source": "check if a(1)", "why": "why"},
            {"block": 2, "index": 1, "source": "check if b(1)", "why": ""},
        ],
        "revoked_id": "00ff",
        "subject": "alice",
        "expires_at": "2030-01-01T10:00:00Z",
        "key_id": 7,
        "revocation_ids": ["00ff", "ab"],
        "revocation_revision": 3,
        "revocation_age": 1.5,
        "limits": {"max_facts": 10000, "max_iterations": 1000, "max_steps": 500000, "max_time": 0.5},
        "used": {"facts": 4, "iterations": 2, "steps": 99},
        "decided_at": "2029-01-01T00:00:00Z",
        "decision_id": "0" * 32,
        "answers": [],
    }


def test_every_field_is_in_the_json_form() -> None:
    # `error` repeats policy and checks, in the words of biscuit-python
    told = set(FULL.to_dict()) | set(FULL.to_dict()["used"])
    assert {field.name for field in fields(Decision)} - told == {"error"}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """The few words of JSON schema that ours uses."""
    if "anyOf" in schema:
        return any(fits(value, choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema["type"]
    if kind == "object":
        return (
            isinstance(value, dict)
            and set(schema["required"]) == set(schema["properties"]) == set(value)
            and all(fits(value[name], part) for name, part in schema["properties"].items())
        )
    if kind == "array":
        return isinstance(value, list) and all(fits(member, schema["items"]) for member in value)
    types: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "boolean": (bool,),
        "integer": (int,),
        "number": (int, float),
        "null": (type(None),),
    }
    return isinstance(value, types[kind]) and (kind == "boolean" or not isinstance(value, bool))


def test_the_schema_describes_decisions() -> None:
    schema = Decision.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    real = AuthorizerBuilder("check if a(1); allow if true").build_unauthenticated().decide()
    for decision in (FULL, real, *(minimal(outcome) for outcome in Outcome)):
        assert fits(decision.to_dict(), schema)
    assert not fits({**FULL.to_dict(), "outcome": "perhaps"}, schema)
    assert not fits({**FULL.to_dict(), "key_id": "7"}, schema)
    assert json.loads(json.dumps(schema)) == schema


def test_the_schema_is_a_copy() -> None:
    Decision.json_schema()["properties"].clear()
    assert "outcome" in Decision.json_schema()["properties"]
