"""What is filled into a stencil is what would have been read, and nothing else fits one."""

import itertools
from collections.abc import Callable

import pytest

from capability.datalog.parser import parse_block
from capability.datalog.program import KeyScope, Predicate, Program
from capability.wire import schema, statements
from capability.wire.block import decode_block, encode_block
from capability.wire.dates import split
from capability.wire.decoder import Decoder
from capability.wire.messages import parse
from capability.wire.stencils import make
from capability.wire.symbols import KeyTable, SymbolTable

USERS = ("a", "b", "read", "user", "é" * 300)
DATES = ("1970-01-01", "1980-01-01", "2026-11-22", "2100-01-01", "3000-01-01", "9999-12-31")
SOURCES = [
    'user("{user}"); seen("{user}", {date}T00:00:00Z, 7, "{user}"); s({{"{user}", "x", "read"}})',
    "check all time($t), $t <= {date}T00:00:00Z",
    "check if time($t), $t <= {date}T00:00:00Z, $t > 2020-01-01T00:00:00Z",
    'check all r($r), $r == "{user}" || $r.starts_with("{user}/"), {{"{user}", "b"}}.contains($r)',
    'check if p("{user}", hex:20808080808001) or q({date}T00:00:00Z) trusting previous',
    'check if l(["{user}", {date}T00:00:00Z], {{"k": "{user}"}})',
    'p("{user}") <- q({date}T00:00:00Z)',
    "d({{{date}T00:00:00Z, 2026-11-22T00:00:00Z}})",
]


def read_plainly(payload: bytes) -> Program:
    block = parse(schema.Block, payload)
    symbols = SymbolTable(symbol.decode() for symbol in block.symbols)
    decoder = Decoder(symbols.symbol, KeyTable().key)
    return Program(
        (),
        tuple(map(decoder.fact, block.facts)),
        tuple(map(decoder.rule, block.rules)),
        tuple(map(decoder.check, block.checks)),
    )


@pytest.mark.parametrize("source", SOURCES)
def test_all_is_read_as_without_stencils(source: str) -> None:
    for user, date in itertools.product(USERS, DATES):
        program = parse_block(source.format(user=user, date=date))
        payload = encode_block(program, None, SymbolTable(), KeyTable()).payload
        symbols = SymbolTable()
        found = decode_block(payload, symbols, KeyTable(), external=False).program
        assert found == program == read_plainly(payload)


def stencil_of(source: str) -> object:
    """Returns the stencil of a block's only fact."""
    symbols, keys = SymbolTable(), KeyTable()
    payload = encode_block(parse_block(source), None, symbols, keys).payload
    (form,) = parse(schema.BlockOutline, payload).facts

    def read(
        form: bytes, symbol: Callable[[int], str], name: Callable[[int], str], key: Callable[[int], KeyScope]
    ) -> Predicate:
        return Decoder(symbol, key, name).fact(parse(schema.Fact, form))

    statement = read(form, symbols.symbol, symbols.symbol, keys.key)
    return make(form, statement, 3, read, symbols.symbol, keys.key)


def test_a_stencil_is_made_where_dates_are_dates() -> None:
    assert stencil_of("f(2026-11-22T00:00:00Z)") is not None
    assert stencil_of('f("a", {"b", "c"})') is not None
    # the same bytes as those of a date, in a byte string
    assert stencil_of("f(hex:06208080808001)") is None
    # not put together again
    assert stencil_of('f(["a"])') is None
    assert stencil_of("f({2026-11-22T00:00:00Z})") is None


def test_only_dates_are_cut_out() -> None:
    assert split(b"ab\x06\x20\x81\x80\x80\x80\x01cd") == ((b"ab", b"cd"), [2**28 + 1])
    assert split(b"ab\x06\x20\x81\x80\x80\x80\x00cd") == ((b"ab\x06\x20\x81\x80\x80\x80\x00cd",), [])
    assert split(b"\x05\x20\x81\x80\x80\x80\x01") == ((b"\x05\x20\x81\x80\x80\x80\x01",), [])


def test_what_is_referred_to_counts_each_time() -> None:
    source = 'check if user("{0}"), resource("{0}"), time($t), $t < 2030-01-0{1}T00:00:00Z'
    counted = []
    for number in range(1, 6):
        program = parse_block(source.format("x" * 100, number))
        payload = encode_block(program, None, SymbolTable(), KeyTable()).payload
        symbols = SymbolTable()
        decode_block(payload, symbols, KeyTable(), external=False)
        counted.append(symbols._referred)
    assert len(set(counted)) == 1
    assert counted[0] >= 200
    assert statements._CHECKS.stencils
