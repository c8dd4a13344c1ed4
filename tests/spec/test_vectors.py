"""Runs every vector of the specification through the engine; the vectors are made without it."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from capability import (
    Algorithm,
    Authorizer,
    AuthorizerBuilder,
    Biscuit,
    KeySet,
    PrivateKey,
    PublicKey,
    ThirdPartyBlock,
    ThirdPartyRequest,
)
from capability.datalog.errors import DatalogError, ParseError, UnsafeRule
from capability.datalog.parser import parse_block, parse_program
from capability.datalog.printer import escape_for_display, print_program
from capability.decision import Decision
from capability.errors import CapabilityError
from capability.wire.block import required_version

Vector = dict[str, Any]

DIRECTORY = Path(__file__).parents[2] / "spec" / "vectors"
VECTORS: dict[str, Vector] = {
    f"{file.stem}/{vector['name']}": vector
    for file in sorted(DIRECTORY.glob("*.json"))
    for vector in json.loads(file.read_text(encoding="utf-8"))
}


def load(vector: Vector) -> Biscuit:
    return Biscuit.from_base64(vector["token"], PublicKey(vector["root"]))


def say(value: object, _: object = None) -> object:
    if not isinstance(value, str):
        raise ValueError("only text can be said")
    return value


def join(left: object, right: object) -> object:
    if not isinstance(left, str) or not isinstance(right, str):
        raise ValueError("only text can be joined")
    return left + right


EXTERNS: dict[str, Callable[..., object]] = {"say": say, "join": join}


def build(vector: Vector, token: Biscuit) -> Authorizer:
    builder = AuthorizerBuilder(vector["authorizer"])
    if "externs" in vector:
        builder.register_extern_funcs({name: EXTERNS[name] for name in vector["externs"]})
    if "limits" in vector:
        limits = builder.limits()
        for name, value in vector["limits"].items():
            assert hasattr(limits, name)
            setattr(limits, name, value)
        builder.set_limits(limits)
    return builder.build(token)


def compare(vector: Vector, decision: Decision) -> None:
    assert decision.code == vector["expect"]
    assert decision.allowed is (vector["expect"] == "allowed")
    if vector["expect"] in ("allowed", "denied", "expired"):
        assert (None if decision.policy is None else decision.policy.index) == vector.get("policy")
        assert [[check.block, check.index] for check in decision.failed_checks] == vector.get("failed", [])


def run_token(vector: Vector) -> None:
    if "authorizer" not in vector:
        with pytest.raises(CapabilityError) as caught:
            load(vector)
        assert caught.value.code == vector["expect"]
        return
    token = load(vector)
    look(vector, token)
    if vector["expect"] == "language.block":
        with pytest.raises(CapabilityError) as refused:
            build(vector, token)
        assert refused.value.code == vector["expect"]
        return
    authorizer = build(vector, token)
    compare(vector, authorizer.decide())
    if vector["expect"] == "allowed":
        assert authorizer.authorize() == vector["policy"]
    else:
        with pytest.raises(CapabilityError) as caught:
            authorizer.authorize()
        assert caught.value.code == vector["expect"]


def look(vector: Vector, token: Biscuit) -> None:
    """Compares what the vector says about the token itself, and writes its blocks again."""
    sources = [token.block_source(index) for index in range(token.block_count())]
    seen: dict[str, object] = {
        "sources": sources,
        "revocation_ids": token.revocation_ids,
        "canonical_revocation_ids": [entry.hex() for entry in token.canonical_revocation_ids],
        "sealed": token.sealed,
        "root_key_id": token.root_key_id(),
        "external_keys": [None if key is None else repr(key) for key in token.external_keys],
        "contexts": [token.context(index) for index in range(token.block_count())],
        "versions": [block.version for block in token.blocks],
        "symbols": [list(block.symbols) for block in token.blocks],
        "signature_versions": [block.version for block in token._envelope.blocks],
    }
    for name, value in seen.items():
        if name in vector:
            assert value == vector[name], name
    assert (
        Biscuit.from_bytes(token.to_bytes(), PublicKey(vector["root"])).revocation_ids == token.revocation_ids
    )
    if "sources" in vector and vector.get("reparses", True):
        for source, block in zip(sources, token.blocks, strict=True):
            assert parse_block(source) == block.program


def run_parse(vector: Vector) -> None:
    parse = {"program": parse_program, "block": parse_block}[vector["form"]]
    if vector["expect"] == "ok":
        program = parse(vector["source"])
        assert print_program(program) == vector["printed"]
        assert parse(vector["printed"]) == program
        return
    with pytest.raises(DatalogError) as caught:
        parse(vector["source"])
    error = caught.value
    assert error.code == vector["expect"]
    assert isinstance(error, ParseError | UnsafeRule)
    if isinstance(error, ParseError):
        assert (error.line, error.column) == (vector["line"], vector["column"])
        if "lines" in vector:
            assert [mistake.line for mistake in error.errors] == vector["lines"]


def run_version(vector: Vector) -> None:
    program = parse_block(vector["source"])
    assert required_version(program, third_party=vector["third_party"]) == vector["version"]


def run_display(vector: Vector) -> None:
    assert escape_for_display(vector["text"]) == vector["shown"]


def read_key(vector: Vector) -> PublicKey:
    if "text" in vector:
        return PublicKey(vector["text"])
    if "der" in vector:
        return PublicKey.from_der(bytes.fromhex(vector["der"]))
    if "pem" in vector:
        return PublicKey.from_pem(vector["pem"])
    if "private_pem" in vector:
        return PrivateKey.from_pem(vector["private_pem"]).public_key
    private = PrivateKey(vector["private"])
    if "message" in vector:
        message, signature = vector["message"].encode(), bytes.fromhex(vector["signature"])
        assert private.sign(message) == signature
        private.public_key.verify(message, signature)
    return private.public_key


def run_key(vector: Vector) -> None:
    if vector["expect"] == "ok":
        key = read_key(vector)
        assert repr(key) == vector["public"]
        assert PublicKey.from_pem(key.to_pem()) == key
        assert PublicKey.from_bytes(key.to_bytes(), Algorithm(int(key.algorithm))) == key
        return
    with pytest.raises(CapabilityError) as caught:
        read_key(vector)
    assert caught.value.code == vector["expect"]


def run_keyset(vector: Vector) -> None:
    at = datetime.fromisoformat(vector["at"])

    def select() -> PublicKey:
        return KeySet.from_json(vector["keys"]).select(vector["key_id"], at)

    if vector["expect"] == "ok":
        assert repr(select()) == vector["public"]
        return
    with pytest.raises(CapabilityError) as caught:
        select()
    assert caught.value.code == vector["expect"]


def run_request(vector: Vector) -> None:
    if vector["expect"] == "ok":
        request = ThirdPartyRequest.from_base64(vector["request"])
        assert load(vector).third_party_request().to_base64() == request.to_base64() == vector["request"]
        return
    with pytest.raises(CapabilityError) as caught:
        ThirdPartyRequest.from_base64(vector["request"])
    assert caught.value.code == vector["expect"]


def run_answer(vector: Vector) -> None:
    def append() -> Biscuit:
        block = ThirdPartyBlock.from_base64(vector["block"])
        assert block.to_base64() == vector["block"]
        return load(vector).append_third_party(PublicKey(vector["external_key"]), block)

    if vector["expect"] == "allowed":
        token = append()
        assert AuthorizerBuilder("allow if true;").build(token).authorize() == 0
        assert Biscuit.from_bytes(token.to_bytes(), token.root_key).external_keys == token.external_keys
        return
    with pytest.raises(CapabilityError) as caught:
        append()
    assert caught.value.code == vector["expect"]


def run_snapshot(vector: Vector) -> None:
    def read() -> Authorizer:
        if vector["builder"]:
            builder = AuthorizerBuilder.from_base64_snapshot(vector["snapshot"])
            if "printed" in vector:
                assert print_program(builder.program) == vector["printed"]
            return builder.build_unauthenticated()
        return Authorizer.from_base64_snapshot(vector["snapshot"])

    if vector["expect"] in ("allowed", "denied"):
        authorizer = read()
        compare(vector, authorizer.decide())
        again = Authorizer.from_base64_snapshot(authorizer.base64_snapshot())
        compare(vector, again.decide())
        return
    with pytest.raises(CapabilityError) as caught:
        read()
    assert caught.value.code == vector["expect"]


def run_revocation(vector: Vector) -> None:
    from capability import Guard
    from capability.store.memory import MemoryStore

    store = MemoryStore()
    guard = Guard(keys=PublicKey(vector["root"]), policy="allow if true;", revocations=store)
    assert guard.check(vector["token"]).allowed
    store.revoke([bytes.fromhex(entry) for entry in vector["revoked"]], reason="a test", actor="a test")
    assert guard.check(vector["token"]).code == vector["expect"]


def run_revocations(vector: Vector) -> None:
    from capability.store.signed import SignedRevocations

    first, *later = [bytes.fromhex(each) for each in vector["files"]]

    def take() -> SignedRevocations:
        source = SignedRevocations(first, PublicKey(vector["key"]), clock=lambda: vector["now"])
        for number, each in enumerate(later, 1):
            if number == len(later) and vector["expect"] != "ok":
                with pytest.raises(CapabilityError) as refused:
                    source.update(each)
                assert source.revision() >= 7
                raise refused.value
            source.update(each)
        assert source.name == vector.get("list", source.name)
        return source

    if vector["expect"] == "ok":
        source = take()
        assert source.revision() == vector["revision"]
        for each in vector["revoked"]:
            assert source.status([bytes.fromhex(each)]).revoked_id == bytes.fromhex(each)
        assert source.status([bytes.fromhex(each) for each in vector["free"]]).revoked_id is None
        return
    with pytest.raises(CapabilityError) as caught:
        take()
    assert caught.value.code == vector["expect"]


RUNNERS: dict[str, Callable[[Vector], None]] = {
    "answer": run_answer,
    "display": run_display,
    "key": run_key,
    "keyset": run_keyset,
    "parse": run_parse,
    "request": run_request,
    "revocation": run_revocation,
    "revocations": run_revocations,
    "snapshot": run_snapshot,
    "token": run_token,
    "version": run_version,
}


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name: str) -> None:
    vector = VECTORS[name]
    RUNNERS[vector["kind"]](vector)
