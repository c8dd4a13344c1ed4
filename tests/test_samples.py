"""The official samples: 38 tokens with 50 validations: result, world, revocation ids and printed source."""

import json
from functools import cache
from typing import Any

import pytest

from capability import (
    AuthorizerBuilder,
    Biscuit,
    Denied,
    ExecutionFailed,
    FormatError,
    LanguageError,
    PublicKey,
    SignatureError,
    UnverifiedBiscuit,
)
from tests.shared import samples_dir

REASONS = {"Overflow": "Overflow", "Shadowed variable": "ShadowedVariable", "Invalid type": "InvalidType"}
"""Our reasons (and biscuit-python's), and what the samples call them."""

World = dict[tuple[str, tuple[int | None, ...]], set[str]]
"""Facts, rules, checks and policies by origin; None is the authorizer."""


@cache
def samples() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((samples_dir() / "samples.json").read_text(encoding="utf-8"))
    return data


def root() -> PublicKey:
    return PublicKey(f"ed25519/{samples()['root_public_key']}")


@pytest.fixture(params=range(1, 39), ids=lambda number: f"test{number:03}")
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    prefix = f"test{request.param:03}_"
    found: list[dict[str, Any]] = [
        case for case in samples()["testcases"] if case["filename"].startswith(prefix)
    ]
    (only,) = found
    return only


def read(case: dict[str, Any]) -> bytes:
    return samples_dir().joinpath(str(case["filename"])).read_bytes()


def test_there_are_38_tokens_and_50_validations() -> None:
    cases = samples()["testcases"]
    assert {case["filename"] for case in cases} == {path.name for path in samples_dir().glob("*.bc")}
    assert (len(cases), sum(len(case["validations"]) for case in cases)) == (38, 50)


def test_validations(case: dict[str, Any]) -> None:
    for name, validation in case["validations"].items():
        assert validate(read(case), validation) == validation["result"], name


def validate(data: bytes, validation: dict[str, Any]) -> dict[str, Any]:
    """Returns the result in the samples' words; asserts that ids and world are those expected."""
    expected: dict[str, Any] = validation["result"]
    if "Format" in expected.get("Err", {}):
        with pytest.raises(SignatureError):
            Biscuit.from_bytes(data, root())
        return expected
    token = Biscuit.from_bytes(data, root())
    assert token.revocation_ids == validation["revocation_ids"]
    builder = AuthorizerBuilder(validation["authorizer_code"])
    builder.register_extern_func("test", extern_test)
    if "InvalidBlockRule" in expected.get("Err", {}).get("FailedLogic", {}):
        with pytest.raises(LanguageError, match=r'operation\(\$unbound, "read"\)'):
            builder.build(token)
        return expected
    authorizer = builder.build(token)
    try:
        result: dict[str, Any] = {"Ok": authorizer.authorize()}
    except Denied as error:
        result = {"Err": {"FailedLogic": unauthorized(error)}}
    except ExecutionFailed as error:
        result = {"Err": {"Execution": REASONS[str(error).removeprefix("Datalog  execution failure: ")]}}
    assert world_of(repr(authorizer)) == expected_world(validation["world"])
    return result


def extern_test(left: object, right: object = None) -> object:
    """The function that sample 35 calls."""
    if right is None:
        return left
    return "equal strings" if left == right else "different strings"


def unauthorized(error: Denied) -> dict[str, Any]:
    checks = [
        {"Authorizer": {"check_id": check.index, "rule": check.source}}
        if check.block is None
        else {"Block": {"block_id": check.block, "check_id": check.index, "rule": check.source}}
        for check in error.checks
    ]
    assert error.policy is not None
    return {"Unauthorized": {"policy": {error.policy.kind.title(): error.policy.index}, "checks": checks}}


def world_of(dump: str) -> World:
    """Reads what an authorizer prints."""
    world: World = {}
    section = ""
    origin: tuple[int | None, ...] = ()
    for line in dump.splitlines():
        if line.startswith("// origin: "):
            names = line.removeprefix("// origin: ").split(", ")
            origin = tuple(None if name == "authorizer" else int(name) for name in names)
        elif line.startswith("// "):
            section, origin = line.removeprefix("// ").removesuffix(":").lower(), ()
        elif line:
            world.setdefault((section, origin), set()).add(line.removesuffix(";"))
    return world


def expected_world(world: dict[str, Any]) -> World:
    found: World = {}
    for group in world["facts"]:
        origin = tuple(sorted(group["origin"], key=lambda block: (block is None, block)))
        found["facts", origin] = set(group["facts"])
    for section in ("rules", "checks"):
        for group in world[section]:
            # the authorizer's own statements stand under the largest index that there is
            own = None if group["origin"] == 2**64 - 1 else group["origin"]
            found[section, (own,)] = set(group[section])
    if world["policies"]:
        found["policies", ()] = set(world["policies"])
    return found


def test_printed_source(case: dict[str, Any]) -> None:
    if case["title"] == "random block":
        # the samples have the source that stood there before
        with pytest.raises(FormatError):
            UnverifiedBiscuit.from_bytes(read(case))
        return
    token = UnverifiedBiscuit.from_bytes(read(case))
    sources = [token.block_source(index) for index in range(token.block_count())]
    expected = [block["code"] for block in case["token"]]
    if case["title"] == "reordered blocks":
        assert sorted(sources) == sorted(expected)
    else:
        assert sources == expected
