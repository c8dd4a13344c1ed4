"""The envelope of a token: read, written, refused."""

from typing import Any

import pytest

from capability import chain
from capability.errors import BiscuitValidationError, FormatError, SignatureError
from capability.keys import Algorithm, KeyPair, PrivateKey
from capability.wire import schema
from capability.wire.envelope import MAX_BLOCKS, MAX_BYTES, Envelope, FinalSignature, decode, encode

ROOT = PrivateKey("ed25519-private/" + "11" * 32)
PARTY = PrivateKey("ed25519-private/" + "22" * 32)
NEXT = PrivateKey("ed25519-private/" + "33" * 32)


def token(blocks: int = 3, root_key_id: int | None = None) -> Envelope:
    envelope = chain.start(ROOT, b"authority", 3, root_key_id, next_key=NEXT)
    for _ in range(blocks - 1):
        envelope = chain.append(envelope, b"block", 3, next_key=NEXT)
    return envelope


def third_party() -> Envelope:
    envelope = token(1)
    external = chain.sign_external(PARTY, b"external", envelope.blocks[0].signature)
    return chain.append_external(envelope, b"external", external, next_key=NEXT)


def message(envelope: Envelope) -> schema.Biscuit:
    return schema.Biscuit.FromString(encode(envelope))


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(BiscuitValidationError) as caught:
        decode(data, **limits)
    return caught.value.code


@pytest.mark.parametrize("root_key_id", [None, 0, 7, 2**32 - 1])
def test_what_is_written_reads_back(root_key_id: int | None) -> None:
    p256 = KeyPair(Algorithm.Secp256r1).private_key
    for envelope in (
        token(1, root_key_id),
        token(3, root_key_id),
        chain.seal(token(2, root_key_id)),
        third_party(),
        chain.start(p256, b"", 6, root_key_id, next_key=p256),
    ):
        assert decode(encode(envelope)) == envelope


def test_version_0_is_left_out_on_the_wire() -> None:
    assert not message(token(1)).authority.HasField("version")
    assert message(third_party()).blocks[0].version == 1


def test_nothing_secret_or_long_is_shown() -> None:
    for envelope in (token(2), chain.seal(token(2))):
        shown = repr(envelope)
        assert repr(NEXT.to_bytes()) not in shown
        assert "authority" not in shown
        assert repr(envelope.blocks[0].signature) not in shown
        assert repr(NEXT.public_key) in shown


def test_a_token_longer_than_the_limit_is_refused_before_it_is_parsed() -> None:
    assert refusal(b"\xff" * (MAX_BYTES + 1)) == "format.size"
    assert refusal(b"\xff" * MAX_BYTES) == "format.wire"
    data = encode(token())
    assert refusal(data, max_bytes=len(data) - 1) == "format.size"
    assert decode(data, max_bytes=len(data)) == token()


def test_a_token_with_more_blocks_than_the_limit_is_refused() -> None:
    longest = encode(token(MAX_BLOCKS))
    assert len(decode(longest).blocks) == MAX_BLOCKS == 64
    one_more = chain.append(token(MAX_BLOCKS), b"block", 3)
    assert refusal(encode(one_more)) == "format.size"
    assert refusal(encode(token(3)), max_blocks=2) == "format.size"
    assert len(decode(encode(one_more), max_blocks=65).blocks) == 65


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff", b"hello", b"\x0a", b"\x08\x01", b"\x12\x00"])
def test_what_is_not_a_token_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("format.")


def test_every_truncation_is_refused() -> None:
    data = encode(token(2, 1))
    for end in range(len(data)):
        assert refusal(data[:end]).startswith("format.")


@pytest.mark.parametrize(
    "tail", [b"\0", b"\xff", b"\x28\x01", b"\x32\x00", b"\xf8\x01\x01", b"\x08\x01\x08\x01", b"\x22\x00"]
)
def test_trailing_bytes_are_refused_even_when_they_are_fields(tail: bytes) -> None:
    assert refusal(encode(token(1)) + tail) == "format.wire"


def test_a_root_key_id_can_be_changed_since_nobody_signs_it() -> None:
    changed = decode(encode(token(1)) + b"\x08\x05")
    assert changed.root_key_id == 5
    assert changed.blocks == token(1).blocks


def test_an_unknown_field_is_refused_at_every_level() -> None:
    for path in ("authority", "proof", "blocks", "authority.next_key"):
        altered = message(third_party())
        target: Any = altered
        for name in path.split("."):
            target = getattr(target, name)
        if path == "blocks":
            target = target[0].external_signature
        target.MergeFromString(b"\x98\x06\x01")
        assert refusal(altered.SerializeToString()) == "format.wire"


def test_a_number_longer_than_need_be_is_refused() -> None:
    data = encode(token(1, 1))
    assert data[:2] == b"\x08\x01"
    assert decode(data[2:] + data[:2]) == token(1, 1)  # the order of fields is free
    assert refusal(b"\x08\x81\x00" + data[2:]) == "format.wire"


@pytest.mark.parametrize(
    "field", ["authority", "proof", "authority.block", "authority.next_key", "authority.signature"]
)
def test_a_missing_field_is_refused(field: str) -> None:
    altered = message(token(2))
    *path, name = field.split(".")
    target: Any = altered
    for step in path:
        target = getattr(target, step)
    target.ClearField(name)
    assert refusal(altered.SerializePartialToString()) == "format.missing"


@pytest.mark.parametrize("field", ["algorithm", "key"])
def test_a_key_without_a_part_is_refused(field: str) -> None:
    altered = message(token(2))
    target: Any = altered.blocks[0].next_key
    target.ClearField(field)
    assert refusal(altered.SerializePartialToString()) == "format.missing"


def test_an_empty_proof_is_refused() -> None:
    altered = message(token(1))
    altered.proof.Clear()
    altered.proof.SetInParent()
    assert refusal(altered.SerializeToString()) == "format.missing"


def test_two_proofs_are_refused() -> None:
    data = encode(token(1))
    other = schema.Biscuit()
    other.proof.final_signature = bytes(64)
    assert refusal(data + other.SerializePartialToString()) == "format.wire"


BAD_KEYS = {
    "small order": (0, bytes(32)),
    "not canonical": (0, b"\xff" * 31 + b"\x7f"),
    "too short": (0, bytes(31)),
    "unknown algorithm": (2, ROOT.public_key.to_bytes()),
    "negative algorithm": (-1, ROOT.public_key.to_bytes()),
    "P-256 by name only": (1, ROOT.public_key.to_bytes()),
    "uncompressed": (1, b"\x04" + bytes(64)),
    "not on the curve": (1, b"\x02" + bytes(31) + b"\x01"),
}


@pytest.mark.parametrize("where", ["authority", "last", "external"])
@pytest.mark.parametrize(("algorithm", "key"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_an_unusable_key_is_refused_wherever_it_stands(where: str, algorithm: int, key: bytes) -> None:
    altered = message(third_party())
    target = {
        "authority": altered.authority.next_key,
        "last": altered.blocks[0].next_key,
        "external": altered.blocks[0].external_signature.public_key,
    }[where]
    target.algorithm, target.key = algorithm, key
    with pytest.raises(SignatureError) as caught:
        decode(altered.SerializeToString())
    assert caught.value.code == "signature.key"


def test_an_algorithm_is_not_read_as_another_when_the_number_overflows() -> None:
    altered = message(token(1)).SerializeToString()
    key = b"\x08\x00\x12\x20"
    assert altered.count(key) == 1
    # 2^32, which a 32 bit reader could take for 0
    longer = altered.replace(key, b"\x08\x80\x80\x80\x80\x10\x12\x20")
    with pytest.raises(BiscuitValidationError):
        decode(longer)


def test_no_error_of_the_library_escapes() -> None:
    with pytest.raises(FormatError) as caught:
        decode(b"\xff\xff")
    assert type(caught.value) is FormatError
    assert isinstance(decode(encode(chain.seal(token(1)))).proof, FinalSignature)
