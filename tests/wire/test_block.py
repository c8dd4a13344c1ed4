"""Blocks: what is written reads back, and everything that is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyParameter,
    KeyScope,
    Policy,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    ScopeKind,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    DATE,
    DATE_MAX,
    INTEGER,
    MAP,
    MAX_DEPTH,
    NULL_TERM,
    PARAMETER,
    SET,
    STRING,
    TRUE,
    VARIABLE,
    Term,
)
from capability.errors import BiscuitSerializationError, FormatError, KeyFormatError, SignatureError
from capability.wire import schema
from capability.wire.block import Block, Encoded, decode_block, encode_block
from capability.wire.symbols import KeyTable, SymbolTable
from tests.wire.programs import KEYS, programs

ONE: Term = (INTEGER, 1)


def encode(program: Program, *, third_party: bool = False) -> Encoded:
    return encode_block(program, None, SymbolTable(), KeyTable(), third_party=third_party)


def decode(payload: bytes, *, external: bool = False) -> Block:
    return decode_block(payload, SymbolTable(), KeyTable(), external=external)


def fact(*terms: Term) -> Program:
    return Program(facts=(Predicate("f", terms),))


def check(*ops: Any) -> Program:
    return Program(checks=(Check(CheckKind.IF, (Query((), (Expression(ops),)),)),))


@settings(max_examples=100)
@given(programs, st.none() | st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_what_is_written_reads_back(program: Program, context: str | None, third_party: bool) -> None:
    encoded = encode_block(program, context, SymbolTable(), KeyTable(), third_party=third_party)
    assert encoded.block.program == program
    assert encoded.block.context == context
    assert decode(encoded.payload, external=third_party) == encoded.block


@settings(max_examples=30)
@given(st.lists(programs, min_size=2, max_size=4))
def test_the_blocks_of_a_token_share_their_tables(several: list[Program]) -> None:
    written, read = (SymbolTable(), KeyTable()), (SymbolTable(), KeyTable())
    for program in several:
        encoded = encode_block(program, None, *written)
        assert decode_block(encoded.payload, *read, external=False) == encoded.block
    assert read[0].own == written[0].own
    assert read[1].keys == written[1].keys
    assert len(set(read[0].own)) == len(read[0])


@settings(max_examples=100)
@given(programs, st.data())
def test_any_bytes_are_a_block_or_a_format_error(program: Program, data: st.DataObject) -> None:
    payload = bytearray(encode(program).payload)
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        block = decode(bytes(payload))
    except (FormatError, SignatureError):
        return
    encode_block(block.program, block.context, SymbolTable(), KeyTable())


def test_a_third_party_block_neither_sees_nor_changes_the_tables() -> None:
    program = Program(facts=(Predicate("mine", ((STRING, "theirs"),)),), scopes=(KEYS[0],))
    symbols, keys = SymbolTable(["theirs"]), KeyTable([KEYS[1], KEYS[0]])
    encoded = encode(program, third_party=True)
    block = decode_block(encoded.payload, symbols, keys, external=True)
    assert block.program == program
    assert block.symbols == ("mine", "theirs")
    assert block.public_keys == (KEYS[0],)
    assert symbols.own == ("theirs",)
    assert keys.keys == (KEYS[1], KEYS[0])


def test_a_third_party_block_cannot_use_the_symbols_or_keys_of_the_token() -> None:
    symbols, keys = SymbolTable(["f"]), KeyTable([KEYS[0]])
    by_symbol = encode_block(fact(ONE), None, symbols, KeyTable(), third_party=True).payload
    by_key = encode_block(Program(scopes=(KEYS[0],)), None, SymbolTable(), keys, third_party=True).payload
    for payload, code in ((by_symbol, "format.symbol"), (by_key, "format.key_table")):
        with pytest.raises(FormatError) as caught:
            decode_block(payload, symbols.copy(), keys.copy(), external=True)
        assert caught.value.code == code


# ---- what cannot be written


def nested(containers: int, wrap: Callable[[Term], Term], innermost: Term = ONE) -> Term:
    term = innermost
    for _ in range(containers):
        term = wrap(term)
    return term


WRAPS: dict[str, Callable[[Term], Term]] = {
    "array": lambda term: (ARRAY, (term,)),
    "map": lambda term: (MAP, ((ONE, term),)),
    "set of arrays": lambda term: (SET, (term,)) if term[0] == ARRAY else (ARRAY, (term,)),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_terms_nest_to_the_limit_and_no_deeper(wrap: Callable[[Term], Term]) -> None:
    # in a check, the place furthest inside: protobuf itself stops at 100 messages
    deepest = check(Value(nested(MAX_DEPTH - 1, wrap)))
    assert decode(encode(deepest).payload).program == deepest
    too_deep = check(Value(nested(MAX_DEPTH, wrap)))
    with pytest.raises(BiscuitSerializationError, match="deeper than 32"):
        encode(too_deep)


def test_closures_count_as_levels() -> None:
    def closures(levels: int, innermost: Term) -> Program:
        ops: tuple[Any, ...] = (Value(innermost),)
        for _ in range(levels):
            ops = (Value(TRUE), Closure((), ops), Binary(BinaryKind.LAZY_AND))
        return check(*ops)

    for levels, containers in ((31, 0), (16, 15), (1, 30)):
        deepest = closures(levels, nested(containers, WRAPS["map"]))
        assert decode(encode(deepest).payload).program == deepest
        for too_deep in (
            closures(levels + 1, nested(containers, WRAPS["map"])),
            closures(levels, nested(containers + 1, WRAPS["map"])),
        ):
            with pytest.raises(BiscuitSerializationError, match="deeper than 32"):
                encode(too_deep)


UNWRITABLE = {
    "a parameter": fact((PARAMETER, "p")),
    "a parameter as a map key": fact((MAP, (((PARAMETER, "p"), ONE),))),
    "a key parameter": Program(scopes=(KeyParameter("p"),)),
    "an integer too large": fact((INTEGER, 2**63)),
    "an integer too small": fact((INTEGER, -(2**63) - 1)),
    "a date before 1970": fact((DATE, -1)),
    "a date after 9999": fact((DATE, DATE_MAX + 1)),
    "a lone surrogate": fact((STRING, "\ud800")),
    "a policy": Program(policies=(Policy(PolicyKind.ALLOW, (Query((), (Expression((Value(TRUE),)),)),)),)),
}


@pytest.mark.parametrize("program", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_what_a_block_cannot_hold_is_not_written(program: Program) -> None:
    with pytest.raises(BiscuitSerializationError):
        encode(program)


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"short"])
def test_an_unusable_scope_key_is_refused_in_source_and_in_the_key_table(key: bytes) -> None:
    with pytest.raises(KeyFormatError):
        encode(Program(scopes=(KeyScope(0, key),)))
    written = schema.Block(version=3)
    written.public_keys.add(algorithm=0, key=key)
    with pytest.raises(SignatureError) as caught:
        decode(written.SerializeToString())
    assert caught.value.code == "signature.key"


# ---- what is refused when read: messages that no encoder of ours writes, in protobuf's text format

PREFIX = 'version: 6  symbols: "f"  symbols: "g"  symbols: "a b"'
"""Declares f as 1024, g as 1025, and a string that is no name as 1026."""
V = "ops { value { boolean: true } }"


def message(text: str) -> schema.Block:
    return text_format.Parse(f"{PREFIX} {text}", schema.Block())


def term(text: str) -> str:
    return f"facts {{ predicate {{ name: 1024  terms {{ {text} }} }} }}"


def query(text: str) -> str:
    return f"checks {{ queries {{ head {{ name: 27 }} {text} }} }}"


def expression(*ops: str) -> str:
    return query(f"expressions {{ {' '.join(ops)} }}")


def unary(kind: int, rest: str = "") -> str:
    return f"ops {{ unary {{ kind: {kind} {rest} }} }}"


def binary(kind: int, rest: str = "") -> str:
    return f"ops {{ binary {{ kind: {kind} {rest} }} }}"


def closure(*params: int, ops: str = V) -> str:
    return f"ops {{ closure {{ {' '.join(f'params: {param}' for param in params)} {ops} }} }}"


def arrays(levels: int) -> str:
    return term("array { array { " * levels + "integer: 1" + " } }" * levels)


REFUSED = {
    "a fact without terms": ("format.predicate", "facts { predicate { name: 1024 } }"),
    "a body predicate without terms": ("format.predicate", query("body { name: 1024 }")),
    "a rule head without terms": (
        "format.predicate",
        f"rules {{ head {{ name: 1024 }} expressions {{ {V} }} }}",
    ),
    "a check without queries": ("format.check", "checks {}"),
    "a query with nothing": ("format.rule", query("")),
    "a rule with nothing": ("format.rule", "rules { head { name: 1024  terms { integer: 1 } } }"),
    "an unknown kind of check": ("format.kind", f"checks {{ kind: 3 {expression(V)[8:]}"),
    "a negative kind of check": ("format.kind", f"checks {{ kind: -1 {expression(V)[8:]}"),
    "a name outside the grammar": ("format.name", "facts { predicate { name: 1026  terms { integer: 1 } } }"),
    "a variable outside the grammar": ("format.name", term("variable: 1026")),
    "an undeclared symbol": ("format.symbol", term("string: 1027")),
    "the first reserved symbol": ("format.symbol", term("string: 28")),
    "the last reserved symbol": ("format.symbol", term("string: 1023")),
    "the highest symbol": ("format.symbol", term("string: 18446744073709551615")),
    "an undeclared head": (
        "format.symbol",
        f"checks {{ queries {{ head {{ name: 500 }} expressions {{ {V} }} }} }}",
    ),
    "a redeclared default": ("format.symbol", 'symbols: "read"'),
    "an undeclared key": ("format.key_table", "scope { public_key: 0 }"),
    "a negative key": ("format.key_table", "scope { public_key: -1 }"),
    "an unknown scope": ("format.kind", "scope { scope_type: 2 }"),
    "an empty scope": ("format.scope", "scope {}"),
    "an empty term": ("format.term", term("")),
    "an empty map key": ("format.term", term("map { entries { key {} value { integer: 1 } } }")),
    "a map entry without a value": ("format.missing", term("map { entries { key { integer: 1 } } }")),
    "a date after 9999": ("format.date", term(f"date: {DATE_MAX + 1}")),
    "a variable in a set": ("format.variable", term("set { set { variable: 1024 } }")),
    "a variable in an array": ("format.variable", term("array { array { variable: 1024 } }")),
    "a variable in a map": (
        "format.variable",
        term("map { entries { key { integer: 1 } value { variable: 1024 } } }"),
    ),
    "a set in a set": ("format.set", term("set { set { set {} } }")),
    "a set of two types": ("format.set", term("set { set { integer: 1 } set { boolean: true } }")),
    "33 levels": ("format.nesting", arrays(MAX_DEPTH)),
    "51 levels, more than protobuf reads": ("format.wire", arrays(50)),
    "invalid UTF-8 in a symbol": ("format.utf8", r'symbols: "\xff"'),
    "a surrogate in a symbol": ("format.utf8", r'symbols: "\xed\xa0\x80"'),
    "invalid UTF-8 in the context": ("format.utf8", r'context: "\xff"'),
    "no operations": ("format.expression", expression()),
    "an empty operation": ("format.expression", expression("ops {}")),
    "two values": ("format.expression", expression(V, V)),
    "a unary operator without operand": ("format.expression", expression(unary(0))),
    "a binary operator with one operand": ("format.expression", expression(V, binary(13))),
    "a closure alone": ("format.expression", expression(closure())),
    "a closure that stays": ("format.expression", expression(closure(), V)),
    "a negated closure": ("format.expression", expression(closure(), unary(0))),
    "a closure for a value": ("format.expression", expression(V, closure(), binary(13))),
    "a value for a closure": ("format.expression", expression(V, V, binary(23))),
    "any on a closure without parameter": ("format.expression", expression(V, closure(), binary(26))),
    "all on a closure of two parameters": ("format.expression", expression(V, closure(0, 1), binary(25))),
    "|| on a closure with a parameter": ("format.expression", expression(V, closure(0), binary(24))),
    "try_or the wrong way round": ("format.expression", expression(V, closure(), binary(29))),
    "an unbalanced closure": ("format.expression", expression(V, closure(ops=V + V), binary(23))),
    "an undeclared closure parameter": ("format.symbol", expression(V, closure(1027), binary(26))),
    "an unknown unary operator": ("format.kind", expression(V, unary(5))),
    "a negative unary operator": ("format.kind", expression(V, unary(-1))),
    "an unknown binary operator": ("format.kind", expression(V, V, binary(30))),
    "a call without a function": ("format.expression", expression(V, unary(4))),
    "a binary call without a function": ("format.expression", expression(V, V, binary(28))),
    "a function without a call": ("format.expression", expression(V, unary(0, "ffi_name: 1024"))),
    "a function on +": ("format.expression", expression(V, V, binary(9, "ffi_name: 1024"))),
    "a function outside the grammar": ("format.name", expression(V, unary(4, "ffi_name: 1026"))),
}


@pytest.mark.parametrize(("code", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_language_cannot_say_is_refused(code: str, text: str) -> None:
    assert refusal(message(text).SerializePartialToString()) == code


def refusal(payload: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        decode(payload)
    return caught.value.code


@pytest.mark.parametrize("path", ["", "facts", "facts.predicate", "facts.predicate.terms", "scope"])
def test_an_unknown_field_is_refused_at_every_level(path: str) -> None:
    altered = message(term("integer: 1") + "scope { scope_type: 0 }")
    decode(altered.SerializeToString())
    target: Any = altered
    for step in filter(None, path.split(".")):
        target = getattr(target, step)
        target = target[0] if hasattr(target, "__getitem__") else target
    target.MergeFromString(b"\xf8\x01\x01")
    assert refusal(altered.SerializeToString()) == "format.wire"


def test_nesting_without_end_is_refused_without_recursion() -> None:
    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    innermost = b"\x10\x01"
    for _ in range(5000):
        innermost = field(9, field(1, innermost))
    assert refusal(b"\x18\x06" + field(4, field(1, b"\x08\x00" + field(2, innermost)))) == "format.wire"


def test_a_duplicate_key_in_the_key_table_is_refused() -> None:
    altered = message("")
    for _ in range(2):
        altered.public_keys.add(algorithm=0, key=KEYS[0].key)
    assert refusal(altered.SerializeToString()) == "format.key_table"


def test_trailing_bytes_and_truncation_are_refused() -> None:
    payload = encode(fact(ONE)).payload
    for altered in (payload + b"\0", payload + b"\x18", payload[:-1], payload[1:], payload + payload):
        with pytest.raises(FormatError):
            decode(altered)


def test_an_empty_payload_has_no_version() -> None:
    assert refusal(b"") == "format.version"


# ---- odd, but read


def test_variables_in_facts_and_unbound_variables_load() -> None:
    variable: Term = (VARIABLE, "x")
    program = Program(
        facts=(Predicate("f", (variable,)),),
        rules=(Rule(Predicate("f", (variable,)), (Predicate("g", (ONE,)),)),),
    )
    assert decode(encode(program).payload).program == program


def test_sets_and_maps_arrive_in_any_order_with_duplicates() -> None:
    members = term("set { set { integer: 3 } set { integer: 1 } set { integer: 3 } }")
    entries = "".join(
        f"entries {{ key {{ integer: {key} }} value {{ integer: {number} }} }}"
        for key, number in ((2, 20), (1, 10), (2, 21))
    )
    block = decode(message(members + term(f"map {{ {entries} }}")).SerializeToString())
    first, second = block.program.facts
    assert first.terms == ((SET, (ONE, (INTEGER, 3))),)
    assert second.terms == ((MAP, ((ONE, (INTEGER, 10)), ((INTEGER, 2), (INTEGER, 21)))),)


def test_a_symbol_declared_twice_in_one_block_is_read_by_both_numbers() -> None:
    second = "facts { predicate { name: 1027  terms { integer: 1 } } }"
    block = decode(message(f'symbols: "f" {term("integer: 1")} {second}').SerializeToString())
    assert block.program.facts == (Predicate("f", (ONE,)),) * 2


def test_the_head_of_a_query_says_nothing() -> None:
    text = f"checks {{ queries {{ head {{ name: 1024  terms {{ integer: 1 }} }} expressions {{ {V} }} }} }}"
    assert decode(message(text).SerializeToString()).program == check(Value(TRUE))


def test_check_if_is_written_without_kind_and_read_with_it() -> None:
    written = schema.Block.FromString(encode(check(Value(TRUE))).payload)
    assert not written.checks[0].HasField("kind")
    written.checks[0].kind = 0
    assert decode(written.SerializeToString()).program == check(Value(TRUE))


def test_a_null_and_scopes_of_each_kind_read_back() -> None:
    program = Program(scopes=(ScopeKind.AUTHORITY, ScopeKind.PREVIOUS, KEYS[0]), facts=fact(NULL_TERM).facts)
    assert decode(encode(program).payload).program == program
