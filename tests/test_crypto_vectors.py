"""Signature vectors of others, through our wrappers, in the strict reading.

Wycheproof agrees with the strict reading in every vector. CCTV has no verdicts: its flags say what is odd,
and `REFUSED` says what we make of them.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from capability.errors import KeyFormatError, SignatureError
from capability.keys import Algorithm, PublicKey
from tests.shared import crypto_vectors_dir

REFUSED = {
    # the key or the point R has small order: signatures of all messages could be made for it
    "low_order_A",
    "low_order_R",
    # y >= p: a second encoding of the same point
    "non_canonical_A",
    "non_canonical_R",
    # the equation holds only once both sides are multiplied by 8: RFC 8032 leaves that to the implementation,
    # and libsodium does not multiply
    "low_order_residue",
}
"""CCTV's flags that mean refusal.

What is left is accepted: `low_order_component_*` is a torsion component in a key or R of large order, where
the equation still holds exactly, and which only the maker of the private key can bring about. (`reencoded_k`
says how a vector was made, and comes with non-canonical points only.)
"""


def read(name: str) -> Any:
    return json.loads((crypto_vectors_dir() / name).read_text())


def accepts(key: PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except SignatureError:
        return False
    return True


@cache
def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    groups: list[dict[str, Any]] = read(name)["testGroups"]
    return [(group, test) for group in groups for test in group["tests"]]


def disagreements(name: str, key: Any) -> Iterator[tuple[int, str]]:
    for group, test in wycheproof(name):
        message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
        if accepts(key(group), message, signature) != (test["result"] == "valid"):
            yield test["tcId"], test["comment"]


def test_wycheproof_ed25519() -> None:
    name = "wycheproof_ed25519_test.json"

    def key(group: dict[str, Any]) -> PublicKey:
        raw = PublicKey.from_bytes(bytes.fromhex(group["publicKey"]["pk"]), Algorithm.Ed25519)
        assert raw == PublicKey.from_der(bytes.fromhex(group["publicKeyDer"]))
        assert raw == PublicKey.from_pem(group["publicKeyPem"])
        return raw

    assert len(wycheproof(name)) == 151
    assert list(disagreements(name, key)) == []


def test_wycheproof_ecdsa() -> None:
    name = "wycheproof_ecdsa_secp256r1_sha256_test.json"

    def key(group: dict[str, Any]) -> PublicKey:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        compressed = bytes([2 + point[-1] % 2]) + point[1:33]
        raw = PublicKey.from_bytes(compressed, Algorithm.Secp256r1)
        assert raw == PublicKey.from_der(bytes.fromhex(group["publicKeyDer"]))
        with pytest.raises(KeyFormatError):
            PublicKey.from_bytes(point, Algorithm.Secp256r1)
        return raw

    assert len(wycheproof(name)) == 484
    assert list(disagreements(name, key)) == []


def test_every_valid_ecdsa_signature_has_a_twin_with_the_same_canonical_form() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    seen = 0
    for group, test in wycheproof("wycheproof_ecdsa_secp256r1_sha256_test.json"):
        if test["result"] != "valid":
            continue
        key = PublicKey.from_der(bytes.fromhex(group["publicKeyDer"]))
        signature, message = bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"])
        r_end = 4 + signature[3]
        s = int.from_bytes(signature[r_end + 2 :], "big")
        content = (order - s).to_bytes((order - s).bit_length() // 8 + 1, "big")
        body = signature[2:r_end] + b"\x02" + bytes([len(content)]) + content
        twin = b"\x30" + bytes([len(body)]) + body
        assert twin != signature
        assert accepts(key, message, twin)
        assert key.canonical_signature(twin) == key.canonical_signature(signature)
        assert key.canonical_signature(signature) == (signature if s <= order // 2 else twin)
        seen += 1
    assert seen == 174


def test_cctv_odd_points() -> None:
    vectors: list[dict[str, Any]] = read("cctv_ed25519vectors.json")
    verdicts = {True: 0, False: 0}
    for vector in vectors:
        flags = set(vector["flags"] or ())
        try:
            key = PublicKey.from_wire(0, bytes.fromhex(vector["key"]))
        except KeyFormatError:
            assert flags & {"low_order_A", "non_canonical_A"}, vector["number"]
            verdict = False
        else:
            assert not flags & {"low_order_A", "non_canonical_A"}, vector["number"]
            verdict = accepts(key, vector["msg"].encode(), bytes.fromhex(vector["sig"]))
        assert verdict == (not flags & REFUSED), vector["number"]
        verdicts[verdict] += 1
    assert verdicts == {True: 43, False: 871}
