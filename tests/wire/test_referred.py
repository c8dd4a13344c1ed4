"""What the statements of a token refer to is bounded, however short their bytes are."""

import pytest

from capability.datalog.program import Check, CheckKind, Expression, Program, Query, Value
from capability.datalog.terms import ARRAY, STRING, Term
from capability.errors import FormatError
from capability.wire import schema
from capability.wire.block import decode_block, encode_block
from capability.wire.symbols import MAX_REFERRED, KeyTable, SymbolTable


def check_of(*terms: Term) -> Program:
    return Program(checks=(Check(CheckKind.IF, (Query((), (Expression((Value((ARRAY, terms)),)),)),)),))


def read(*programs: Program) -> None:
    written, reading = (SymbolTable(), KeyTable()), (SymbolTable(), KeyTable())
    for program in programs:
        payload = encode_block(program, None, *written).payload
        decode_block(payload, *reading, external=False)


def test_one_string_in_many_places() -> None:
    text: Term = (STRING, "x" * 16384)
    read(check_of(*[text] * 63))
    with pytest.raises(FormatError, match=f"more than {MAX_REFERRED} characters") as raised:
        read(check_of(*[text] * 65))
    assert raised.value.code == "format.size"


def test_small_statements_add_up_over_the_blocks_though_they_are_remembered() -> None:
    text: Term = (STRING, "y" * 256)
    block = check_of(*[text] * 60)  # 15,360 characters, in bytes few enough to be remembered
    read(*[block] * 60)
    with pytest.raises(FormatError):
        read(*[block] * 70)


def test_keys_are_counted_before_they_are_read() -> None:
    keys = [schema.PublicKey(algorithm=1, key=b"\x02" + number.to_bytes(32, "big")) for number in range(129)]
    payload = schema.Block(version=4, public_keys=keys).SerializeToString()
    with pytest.raises(FormatError) as caught:
        decode_block(payload, SymbolTable(), KeyTable(), external=False)
    assert caught.value.code == "format.size"
