"""Any flipped bit of a token is refused, but for those of the root key id, which nobody signs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capability import chain
from capability.errors import BiscuitValidationError, FormatError
from capability.keys import PublicKey
from capability.wire.block import decode_block
from capability.wire.envelope import Envelope, decode, encode
from capability.wire.symbols import KeyTable, SymbolTable
from tests.chains import ROOT, TOKEN, TOKENS, root_of


def outcome(data: bytes, root: PublicKey) -> Envelope | None:
    try:
        envelope = decode(data)
        chain.verify(envelope, root)
        symbols, keys = SymbolTable(), KeyTable()
        for block in envelope.blocks:
            decode_block(block.payload, symbols, keys, external=block.external is not None)
    except BiscuitValidationError:
        return None
    return envelope


@pytest.mark.parametrize("name", ["three blocks", "sealed", "third party"])
def test_any_flipped_bit_is_refused(name: str) -> None:
    data = encode(TOKENS[name])
    assert outcome(data, ROOT.public_key) == TOKENS[name]
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            assert outcome(bytes(flipped), ROOT.public_key) is None, (at, bit)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(TOKENS)), st.data())
def test_any_flipped_bits_are_refused_whatever_the_token(name: str, data: st.DataObject) -> None:
    content = encode(TOKENS[name])
    flipped = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if flipped != content:
        assert outcome(bytes(flipped), root_of(name)) is None


def test_a_flipped_bit_of_the_root_key_id_changes_nothing_else() -> None:
    token = replace(TOKEN, root_key_id=5)
    data = encode(token)
    assert data[:2] == b"\x08\x05"
    for bit in range(16):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        read = outcome(bytes(flipped), ROOT.public_key)
        assert read is None or replace(read, root_key_id=5) == token
    flipped = bytearray(data)
    flipped[1] ^= 1
    assert outcome(bytes(flipped), ROOT.public_key) == replace(token, root_key_id=4)


def test_random_bytes_are_refused_before_anything_is_trusted() -> None:
    for data in (b"", b"\0" * 100, encode(TOKEN)[::-1]):
        with pytest.raises(FormatError):
            decode(data)
