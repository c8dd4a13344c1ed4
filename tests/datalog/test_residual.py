"""What is left of a token and a policy decides as the engine does, wherever it decides at all."""

import gc
import json
import weakref
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from capability import Biscuit, PublicKey
from capability.datalog.limits import GUARD_LIMITS, Limits
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.preparation import MAX_REQUEST_TEXT, Residual
from capability.datalog.program import Program
from capability.datalog.residual import Residuals
from capability.datalog.shapes import RequestFact, Unsure
from capability.datalog.terms import DATE, INTEGER, INTEGER_MAX, STRING
from capability.errors import BiscuitValidationError, KeyFormatError
from tests.datalog import programs
from tests.paths import LIMITS, assert_paths_agree
from tests.shared import samples_dir

VECTORS = Path(__file__).resolve().parent.parent.parent / "spec" / "vectors"
_residuals = Residuals(LIMITS, eager_shapes=10**9)
_seen: Counter[str] = Counter()


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(programs.blocks, programs.authorizers)
def _random_programs_agree(blocks: programs.Blocks, authorizer: Program) -> None:
    assert_paths_agree(_residuals, blocks, authorizer, _seen)


def test_random_programs() -> None:
    _seen.clear()
    _random_programs_agree()
    assert _seen["allowed"] > 5, _seen
    assert _seen["not allowed"] > 20, _seen
    assert _seen["grouped"] > 25, _seen
    assert _seen["rows answered"] > 10, _seen


def token_blocks(token: Biscuit) -> programs.Blocks:
    return tuple(
        (block.program, None if key is None else key.scope)
        for block, key in zip(token.blocks, token.external_keys, strict=True)
    )


def test_official_samples() -> None:
    data = json.loads((samples_dir() / "samples.json").read_text(encoding="utf-8"))
    root = PublicKey(f"ed25519/{data['root_public_key']}")
    seen: Counter[str] = Counter()
    for case in data["testcases"]:
        try:
            token = Biscuit.from_bytes((samples_dir() / case["filename"]).read_bytes(), root)
        except BiscuitValidationError:
            continue
        for validation in case["validations"].values():
            program = parse_program(validation["authorizer_code"])
            assert_paths_agree(_residuals, token_blocks(token), program, seen)
    assert seen["allowed"] + seen["not allowed"] >= 25, seen


def test_vectors() -> None:
    seen: Counter[str] = Counter()
    for path in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(path.read_text(encoding="utf-8")):
            if vector["kind"] != "token" or "authorizer" not in vector or "limits" in vector:
                continue
            try:
                token = Biscuit.from_base64(vector["token"], PublicKey(vector["root"]))
            except (BiscuitValidationError, KeyFormatError):
                continue
            program = parse_program(vector["authorizer"])
            assert_paths_agree(_residuals, token_blocks(token), program, seen)
    assert seen["allowed"] + seen["not allowed"] >= 150, seen


TIME = RequestFact("time", (DATE,))
OPERATION = RequestFact("operation", (STRING,))


def prepared(
    *blocks: str, policy: str = "allow if true", request: tuple[RequestFact, ...] = (TIME, OPERATION)
) -> Residual | None:
    parsed = [(parse_block(block), None) for block in blocks]
    return Residuals(GUARD_LIMITS).prepare(parsed, parse_program(policy), request)


def test_answers_name_the_policy_and_each_failed_check() -> None:
    residual = prepared(
        'role("r"); check if operation("read"); check if time($t), $t < 2030-01-01T00:00:00Z',
        'check if role("none")',
        policy='right("r", "read"); deny if operation("drop");'
        " allow if role($r), right($r, $o), operation($o)",
    )
    assert residual is not None
    assert residual.checks == ((0, 0), (0, 1))
    assert residual.failed_always == ((1, 0),)
    assert residual.run(residual.table, 0, "read") == (1, 0)
    assert residual.run(residual.table, 1893456000, "drop") == (0, 0b11)
    assert residual.run(residual.table, 0, "write") == (-1, 0b01)


def test_tokens_of_one_shape_share_their_code() -> None:
    residuals = Residuals(GUARD_LIMITS)
    policy = parse_program("allow if user($u)")
    made = [
        residuals.prepare(
            [(parse_block(f'user("{name}"); check if operation("{name}")'), None)], policy, (TIME, OPERATION)
        )
        for name in ("alice", "bob")
    ]
    alice, bob = made
    assert alice is not None
    assert bob is not None
    assert alice.run is bob.run
    assert bob.run(bob.table, 0, "bob") == (0, 0)
    assert bob.run(bob.table, 0, "alice") == (0, 1)


def test_code_that_nobody_has_is_freed_at_once() -> None:
    residual = prepared('check if operation("read")')
    assert residual is not None
    code = weakref.ref(residual.run)
    gc.disable()
    try:
        del residual
        assert code() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("p($x) <- operation($x); operation($x) <- p($x)", id="recursion"),
        pytest.param('check if operation($o), $o.matches("a.*")', id="regular expression"),
        pytest.param("check if operation($o), $o.extern::f()", id="extern"),
        pytest.param("check if operation($o), [1, 2].any($p -> $p > 0)", id="closure"),
        pytest.param("check if operation($o), 1 / 0 === 1", id="division"),
        pytest.param('check if 9223372036854775807 + 1 > 0, operation("read")', id="static error is dynamic"),
        pytest.param("check if 1 / 0 === 1", id="static error"),
        pytest.param("check if operation($o), " + "(" * 60 + "true" + ")" * 60, id="long expression"),
        pytest.param("check if " + ", ".join("operation($o)" for _ in range(20)), id="long body"),
    ],
)
def test_what_has_no_residual_is_left_to_the_engine(source: str) -> None:
    residual = prepared(source)
    if residual is not None:
        with pytest.raises(Unsure):
            residual.run(residual.table, 0, "read")


def test_work_that_could_reach_a_limit_is_left_to_the_engine() -> None:
    facts = "".join(f"a({n}); b({n}); " for n in range(100))
    body = "check if operation($o), a($x), b($y), $x != $y"
    assert prepared(facts + body) is None
    few = "".join(f"a({n}); b({n}); " for n in range(3))
    assert prepared(few + body) is not None
    assert (
        Residuals(Limits(max_steps=200)).prepare(
            [(parse_block(few + body), None)], parse_program("allow if true"), (OPERATION,)
        )
        is None
    )


def test_long_and_odd_values_are_left_to_the_engine() -> None:
    residual = prepared('check if operation($o), $o.starts_with("a")')
    assert residual is not None
    assert residual.run(residual.table, 0, "a" * MAX_REQUEST_TEXT) == (0, 0)
    assert residual.run(residual.table, 0, "aé") == (0, 0)
    for text in ("a" * (MAX_REQUEST_TEXT + 1), "a\ud800"):
        with pytest.raises(Unsure):
            residual.run(residual.table, 0, text)
    number = prepared("check if n($n), $n > 0", request=(RequestFact("n", (INTEGER,)),))
    assert number is not None
    assert number.run(number.table, 1) == (0, 0)
    with pytest.raises(Unsure):
        number.run(number.table, 2**63)


@pytest.mark.parametrize(
    "condition",
    [
        '$n + 1 != "a"',
        '"a" != $n + 1',
        '!("a" == $n + 1)',
        '!{"a"}.contains($n + 1)',
        '($n + 1).type() == "integer"',
        '($n + 1 > 0).type() != "date"',
        "$n + 1 != true || $n > 0",
    ],
)
def test_an_operand_that_overflows_is_left_to_the_engine_though_types_tell_the_rest(condition: str) -> None:
    residual = prepared(f"check if n($n), {condition}", request=(RequestFact("n", (INTEGER,)),))
    assert residual is not None
    assert residual.run(residual.table, 1) == (0, 0)
    with pytest.raises(Unsure):
        residual.run(residual.table, INTEGER_MAX)
