"""The official sample tokens: signatures, revocation ids, tables, versions, the same bytes when written."""

import json
from typing import Any

import pytest

from capability import chain
from capability.datalog.parser import parse_block
from capability.errors import FormatError, SignatureError
from capability.keys import PrivateKey, PublicKey
from capability.wire.block import Block, decode_block, encode_block
from capability.wire.envelope import Envelope, decode, encode
from capability.wire.symbols import KeyTable, SymbolTable
from tests.shared import samples_dir

NUMBERS = range(1, 39)
BAD_SIGNATURES = {2, 3, 4, 5, 6}
"""Another root key, a signature cut short, a random block, a changed signature, reordered blocks."""
NOT_AS_LISTED = {4, 6}
"""Their blocks are not those of samples.json: one is random bytes, the others are in another order."""
UNBOUND = 18
"""Its source has an unbound variable, which only the wire can bring."""


def sample(number: int) -> tuple[dict[str, Any], bytes]:
    cases = json.loads((samples_dir() / "samples.json").read_text())["testcases"]
    (case,) = (case for case in cases if case["filename"].startswith(f"test{number:03}_"))
    return case, (samples_dir() / case["filename"]).read_bytes()


def root_key() -> PublicKey:
    content = json.loads((samples_dir() / "samples.json").read_text())
    key = PrivateKey(f"ed25519-private/{content['root_private_key']}").public_key
    assert repr(key) == f"ed25519/{content['root_public_key']}"
    return key


def read_blocks(envelope: Envelope) -> list[Block]:
    symbols, keys = SymbolTable(), KeyTable()
    return [
        decode_block(block.payload, symbols, keys, external=block.external is not None)
        for block in envelope.blocks
    ]


def test_all_samples_are_there() -> None:
    assert len(list(samples_dir().glob("*.bc"))) == len(NUMBERS)


def test_a_block_of_random_bytes_is_refused() -> None:
    _, data = sample(4)
    with pytest.raises(FormatError) as caught:
        read_blocks(decode(data))
    assert caught.value.code == "format.wire"


@pytest.mark.parametrize("number", NUMBERS)
def test_the_envelope_is_written_again_byte_for_byte(number: int) -> None:
    _, data = sample(number)
    assert encode(decode(data)) == data


@pytest.mark.parametrize("number", [number for number in NUMBERS if number not in BAD_SIGNATURES])
def test_the_chain_verifies_and_its_revocation_ids_are_those_expected(number: int) -> None:
    case, data = sample(number)
    envelope = decode(data)
    chain.verify(envelope, root_key())
    for validation in case["validations"].values():
        assert [id_.hex() for id_ in chain.revocation_ids(envelope)] == validation["revocation_ids"]


@pytest.mark.parametrize("number", BAD_SIGNATURES)
def test_a_chain_that_must_not_verify_does_not(number: int) -> None:
    case, data = sample(number)
    with pytest.raises(SignatureError) as caught:
        chain.verify(decode(data), root_key())
    assert caught.value.code == "signature.invalid"
    for validation in case["validations"].values():
        assert "Format" in validation["result"]["Err"]


@pytest.mark.parametrize("number", [number for number in NUMBERS if number not in NOT_AS_LISTED])
def test_each_block_has_the_expected_tables_version_and_external_key(number: int) -> None:
    case, data = sample(number)
    envelope = decode(data)
    blocks = read_blocks(envelope)
    assert len(blocks) == len(case["token"])
    for signed, block, expected in zip(envelope.blocks, blocks, case["token"], strict=True):
        external = None if signed.external is None else repr(signed.external.public_key)
        assert block.version == expected["version"]
        assert list(block.symbols) == expected["symbols"]
        assert [repr(PublicKey.from_wire(key.algorithm, key.key)) for key in block.public_keys] == expected[
            "public_keys"
        ]
        assert external == expected["external_key"]


@pytest.mark.parametrize("number", [number for number in NUMBERS if number != 4])
def test_each_block_is_written_again_byte_for_byte(number: int) -> None:
    _, data = sample(number)
    envelope = decode(data)
    symbols, keys = SymbolTable(), KeyTable()
    for signed, block in zip(envelope.blocks, read_blocks(envelope), strict=True):
        tables = (symbols, keys) if signed.external is None else (SymbolTable(), KeyTable())
        third_party = signed.external is not None
        again = encode_block(block.program, block.context, *tables, third_party=third_party)
        assert again.payload == signed.payload
        assert again.block == block


@pytest.mark.parametrize("number", [number for number in NUMBERS if number not in NOT_AS_LISTED | {UNBOUND}])
def test_the_source_of_each_block_means_what_the_block_says(number: int) -> None:
    case, data = sample(number)
    for block, expected in zip(read_blocks(decode(data)), case["token"], strict=True):
        assert parse_block(expected["code"]) == block.program
