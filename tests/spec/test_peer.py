"""The Rust engine as a second witness: it decides the vectors as they say, but for the listed differences."""

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest

from tests.spec.test_vectors import DIRECTORY, EXTERNS, VECTORS, Vector

# its type stubs lack half of what it has
biscuit_auth: Any = import_module("biscuit_auth")

AGREE = [name for name, vector in VECTORS.items() if vector.get("peer") == "agrees"]
DIFFER = [name for name, vector in VECTORS.items() if vector.get("peer", "").startswith("differs")]
DIFFERENCES = (DIRECTORY.parent / "DIFFERENCES.md").read_text(encoding="utf-8")


TRIES = 50


def outcome(vector: Vector) -> str:
    """Returns what the Rust engine makes of a vector, in words that vectors use.

    A snapshot brings a deadline of 1 ms, which a busy machine passes now and then: it is tried again.
    """
    for _ in range(TRIES):
        found = _outcome(vector)
        if found != "limits":
            break
    return found


def _outcome(vector: Vector) -> str:
    try:
        if vector["kind"] == "snapshot":
            authorizer = snapshot(vector)
        else:
            token = biscuit_auth.Biscuit.from_base64(vector["token"], biscuit_auth.PublicKey(vector["root"]))
            builder = biscuit_auth.AuthorizerBuilder(vector["authorizer"])
            builder.register_extern_funcs({name: EXTERNS[name] for name in vector.get("externs", [])})
            limits = builder.limits()
            limits.max_time = timedelta(seconds=5)
            builder.set_limits(limits)
            authorizer = builder.build(token)
        return f"allowed {authorizer.authorize()}"
    except biscuit_auth.AuthorizationError as error:
        if str(error).startswith("Reached Datalog execution limits"):
            return "limits"
        return "denied" if str(error).startswith("authorization failed") else "execution"
    except biscuit_auth.BiscuitValidationError:
        return "invalid"


def snapshot(vector: Vector) -> Any:
    if vector["builder"]:
        return biscuit_auth.AuthorizerBuilder.from_base64_snapshot(vector["snapshot"]).build_unauthenticated()
    return biscuit_auth.Authorizer.from_base64_snapshot(vector["snapshot"])


def expected(vector: Vector) -> str:
    code: str = vector["expect"]
    if code == "allowed":
        return f"allowed {vector['policy']}"
    if code == "language.block":
        return "invalid"
    return {"expired": "denied"}.get(code, code.partition(".")[0])


def sources(vector: Vector) -> list[str]:
    token = biscuit_auth.Biscuit.from_base64(vector["token"], biscuit_auth.PublicKey(vector["root"]))
    return [token.block_source(index) for index in range(token.block_count())]


@pytest.mark.parametrize("name", AGREE)
def test_the_rust_engine_agrees(name: str) -> None:
    vector = VECTORS[name]
    assert outcome(vector) == expected(vector)
    # escapes in strings are a listed difference
    if vector.get("peer_prints", True) and "sources" in vector and "\\" not in str(vector["sources"]):
        assert sources(vector) == vector["sources"]


@pytest.mark.parametrize("name", DIFFER)
def test_differences_are_listed(name: str) -> None:
    vector = VECTORS[name]
    assert f"`{vector['peer'].removeprefix('differs: ')}`" in DIFFERENCES
    assert f"`{name}`" in DIFFERENCES


def test_most_vectors_have_this_witness() -> None:
    assert len(AGREE) > 250
