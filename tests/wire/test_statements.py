"""Statements are remembered by all that their bytes and their meaning depend on."""

import pytest

from capability.datalog.parser import parse_block
from capability.datalog.program import KeyScope, Program
from capability.errors import FormatError, UnsupportedVersion
from capability.wire import schema, statements
from capability.wire.block import decode_block, encode_block
from capability.wire.symbols import KeyTable, SymbolTable

ONE, OTHER = (KeyScope(0, bytes([5]) + bytes(30) + bytes([number])) for number in (1, 2))
SOURCE = 'f("a", 1); f("b", 1); g($x) <- f($x, $y), $y < 2; check if g("a");'


def encode(source: str, symbols: tuple[str, ...] = (), program: Program | None = None) -> bytes:
    table = SymbolTable(symbols)
    return encode_block(parse_block(source) if program is None else program, None, table, KeyTable()).payload


def decode(payload: bytes, symbols: tuple[str, ...] = (), keys: tuple[KeyScope, ...] = ()) -> Program:
    return decode_block(payload, SymbolTable(symbols), KeyTable(keys), external=False).program


@pytest.mark.parametrize("symbols", [(), ("z",), ("b", "a"), ("x", "g", "f", "y"), ("z", "z2", "a")])
def test_one_statement_is_written_against_many_tables(symbols: tuple[str, ...]) -> None:
    program = parse_block(SOURCE)
    first_time = encode(SOURCE, symbols, program=parse_block(SOURCE + "\n"))
    for _ in range(2):
        assert encode(SOURCE, symbols, program=program) == first_time
        assert decode(first_time, symbols) == program


def test_more_tables_than_are_remembered() -> None:
    program = parse_block(SOURCE)
    for count in range(30):
        symbols = tuple(f"own{number}" for number in range(count))
        assert decode(encode(SOURCE, symbols, program=program), symbols) == program


def test_the_same_bytes_mean_other_strings_in_another_token() -> None:
    payload = encode('operation("a");', ("a",))
    for name in ("a", "b", "a", "c"):
        assert decode(payload, (name,)) == parse_block(f'operation("{name}");')


def test_the_same_bytes_mean_other_keys_in_another_token() -> None:
    message = schema.Block(version=4)
    query = message.checks.add().queries.add()
    query.head.name = 27
    query.body.add(name=0).terms.add(integer=1)
    query.scope.add(public_key=0)
    payload = message.SerializeToString()
    for key in (ONE, OTHER, ONE):
        (check,) = decode(payload, keys=(key,)).checks
        assert check.queries[0].scopes == (key,)
    with pytest.raises(FormatError, match="public key 0"):
        decode(payload)


def test_a_remembered_statement_still_needs_its_symbols() -> None:
    payload = encode('operation("a");', ("a",))
    decode(payload, ("a",))
    with pytest.raises(FormatError, match="symbol 1024 is not declared"):
        decode(payload)


def test_a_remembered_statement_still_must_not_declare_again() -> None:
    payload = encode('operation("a");')
    decode(payload)
    with pytest.raises(FormatError, match="declared before"):
        decode(payload, ("a",))


def test_a_name_is_judged_again_for_every_string() -> None:
    payload = encode("f(1);", ("f",))
    decode(payload, ("f",))
    for _ in range(2):
        with pytest.raises(FormatError, match="characters"):
            decode(payload, ("f(",))


def test_a_remembered_statement_still_needs_its_version() -> None:
    message = schema.Block.FromString(encode("reject if f(1);"))
    decode(message.SerializeToString())
    message.version = 5
    for _ in range(2):
        with pytest.raises(UnsupportedVersion):
            decode(message.SerializeToString())


def test_facts_rules_and_checks_of_the_same_bytes_stay_apart() -> None:
    message = schema.BlockOutline.FromString(encode("check if read(1);"))
    (form,) = message.checks
    decode(message.SerializeToString())
    for other in (
        schema.BlockOutline(version=3, facts=[form]),
        schema.BlockOutline(version=3, rules=[form]),
    ):
        with pytest.raises(FormatError):
            decode(other.SerializeToString())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_STATEMENTS", 5)
    memory = statements._Memory[int, int]()
    for number in range(12):
        memory.remember(number, number)
    assert list(memory) == [7, 8, 9, 10, 11]


def test_a_long_statement_is_read_and_written_but_not_remembered() -> None:
    source = f'long("{"x" * statements.MAX_SIZE}");'
    payload = encode(source)
    assert decode(payload) == parse_block(source)
    assert not any(name == "long" for _, names, _ in statements._FACTS.statements for name in names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(1);", "f(true);"),
        ("f(0);", "f(1970-01-01T00:00:00Z);"),
        ('f("a", "b");', 'f("b", "b");'),
        ("f(hex:61);", 'f("a");'),
        ("f(null);", "f(0);"),
        ("f([1]);", "f({1});"),
        ("f(1);", "f(1, 1);"),
    ],
)
def test_facts_that_look_alike_are_written_apart(one: str, other: str) -> None:
    for source in (one, other, one):
        assert decode(encode(source)) == parse_block(source)
