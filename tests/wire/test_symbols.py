"""Symbol and key tables."""

import biscuit_auth
import pytest

from capability.datalog.program import KeyScope
from capability.errors import FormatError
from capability.wire.symbols import DEFAULT_SYMBOLS, OFFSET, QUERY, KeyTable, SymbolTable

KEYS = [KeyScope(0, bytes([index]) * 32) for index in range(3)]


def test_the_defaults_are_those_of_the_format() -> None:
    assert len(DEFAULT_SYMBOLS) == 28
    assert DEFAULT_SYMBOLS[0] == "read"
    assert DEFAULT_SYMBOLS[QUERY] == "query"
    assert QUERY == 27


def test_biscuit_python_has_the_same_defaults() -> None:
    builder = biscuit_auth.BiscuitBuilder()
    for symbol in DEFAULT_SYMBOLS:
        builder.add_fact(biscuit_auth.Fact(f'{symbol}("{symbol}")'))
    token = builder.build(biscuit_auth.KeyPair().private_key)
    assert "symbols: []" in repr(token)


def test_symbols_are_numbered_from_the_offset_in_order_of_insertion() -> None:
    table = SymbolTable()
    assert [table.insert(symbol) for symbol in ("a", "read", "b", "a")] == [OFFSET, 0, OFFSET + 1, OFFSET]
    assert table.own == ("a", "b")
    assert table.since(1) == ("b",)
    assert [table.symbol(index) for index in (0, 27, OFFSET, OFFSET + 1)] == ["read", "query", "a", "b"]


@pytest.mark.parametrize("index", [28, 1000, OFFSET - 1, OFFSET + 2, 2**32, 2**64 - 1])
def test_a_number_without_a_symbol_is_refused(index: int) -> None:
    with pytest.raises(FormatError) as caught:
        SymbolTable(["a", "b"]).symbol(index)
    assert caught.value.code == "format.symbol"


@pytest.mark.parametrize("symbol", ["a", "read", "query"])
def test_a_symbol_that_stood_before_is_refused(symbol: str) -> None:
    table = SymbolTable(["a"])
    with pytest.raises(FormatError) as caught:
        table.extend(["b", symbol])
    assert caught.value.code == "format.symbol"
    assert table.own == ("a",)


def test_a_symbol_twice_in_one_block_has_two_numbers_and_is_written_with_the_first() -> None:
    table = SymbolTable()
    table.extend(["a", "a", "b"])
    for copy in (table, table.copy()):
        assert [copy.symbol(OFFSET + at) for at in range(3)] == ["a", "a", "b"]
        assert copy.insert("a") == OFFSET
        assert copy.insert("c") == OFFSET + 3


def test_a_copy_grows_apart() -> None:
    table, keys = SymbolTable(["a"]), KeyTable(KEYS[:1])
    table.copy().insert("b")
    keys.copy().insert(KEYS[1])
    assert table.own == ("a",)
    assert keys.keys == tuple(KEYS[:1])


def test_keys_are_numbered_in_order_of_insertion() -> None:
    table = KeyTable()
    assert [table.insert(key) for key in (KEYS[0], KEYS[1], KEYS[0], KEYS[2])] == [0, 1, 0, 2]
    assert table.keys == tuple(KEYS)
    assert table.since(2) == (KEYS[2],)
    assert table.key(1) == KEYS[1]


@pytest.mark.parametrize("index", [-1, 3, 2**63 - 1, -(2**63)])
def test_an_index_without_a_key_is_refused(index: int) -> None:
    with pytest.raises(FormatError) as caught:
        KeyTable(KEYS).key(index)
    assert caught.value.code == "format.key_table"


def test_a_key_declared_twice_is_refused_within_a_block_and_across_blocks() -> None:
    with pytest.raises(FormatError) as caught:
        KeyTable().extend([KEYS[0], KEYS[1], KEYS[0]])
    assert caught.value.code == "format.key_table"
    with pytest.raises(FormatError):
        KeyTable(KEYS).extend([KEYS[2]])


def test_keys_of_two_algorithms_are_two_keys() -> None:
    table = KeyTable()
    table.extend([KeyScope(0, bytes(32)), KeyScope(1, bytes(32))])
    assert len(table) == 2
