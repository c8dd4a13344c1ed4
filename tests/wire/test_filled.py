"""Sources with values are written by templates: what comes out must be what their program is written as."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capability.builders import BlockBuilder
from capability.datalog.errors import ParameterError
from capability.datalog.program import Program
from capability.wire.block import Encoded, decode_block, encode_block
from capability.wire.symbols import KeyTable, SymbolTable

SOURCES = [
    "fact({a}, {b});",
    'fact({a}, "x", {b}, "new"); other("new", {a});',
    "check if fact($x), $x == {a}, {b} != $x;",
    'check all fact({a}), {"p", "q"}.contains($x), fact($x) or other({b}, "tail");',
    'head({a}, $x) <- fact($x, {b}), $x != "read" trusting previous;',
    "reject if fact({a}); check if fact({b}) trusting authority;",
    'trusting previous; fact("fixed"); check if {a} == {b};',
    "fact([{a}, 1], {b});",
    "check if fact($x), [1, 2].any($y -> $y == {a}), $x == {b};",
    "fact({{a}, {b}});",
    'fact({a}); check if [{b}].contains(1) || {"k": {a}}.get("k") == 1;',
]
FLAT = (
    st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from(["read", "x", "new", "p", "tail", "", "fixed", "é"])
    | st.text(max_size=4).filter(lambda text: text.isprintable())
    | st.booleans()
    | st.binary(max_size=4)
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))
)
VALUES = FLAT | st.none() | st.lists(st.integers(0, 3), max_size=2) | st.sets(st.integers(0, 3), max_size=2)


def written(content: Any, known: list[str]) -> tuple[Encoded, SymbolTable]:
    symbols = SymbolTable(dict.fromkeys(known))
    return encode_block(content, None, symbols, KeyTable()), symbols


@given(
    source=st.sampled_from(SOURCES),
    values=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=4),
    known=st.lists(st.sampled_from(["x", "q", "tail", "new", "fact"]), max_size=3, unique=True),
)
def test_a_template_writes_what_its_program_is_written_as(
    source: str, values: list[tuple[Any, Any]], known: list[str]
) -> None:
    for a, b in values:
        try:
            builder = BlockBuilder(source, {"a": a, "b": b})
        except ParameterError:
            continue
        by_template, symbols = written(builder.filled, known)
        program = BlockBuilder(source, {"a": a, "b": b}).program
        by_program, others = written(program, known)
        assert by_template.payload == by_program.payload
        assert symbols.own == others.own
        assert by_template.block == by_program.block
        assert by_template.block.program == program
        read = decode_block(
            by_template.payload, SymbolTable(dict.fromkeys(known)), KeyTable(), external=False
        )
        assert read == by_template.block


def test_only_one_source_alone_is_left_as_a_template() -> None:
    values = {"a": 1, "b": "two"}
    alone = BlockBuilder(SOURCES[0], values)
    assert alone.filled.terms
    assert alone.program == BlockBuilder('fact(1, "two");').program
    assert alone.filled.terms == {}
    more = BlockBuilder(SOURCES[0], values)
    more.add_code("fact({a}, {a});", values)
    assert more.filled.program == BlockBuilder('fact(1, "two"); fact(1, 1);').program
    assert BlockBuilder().filled.program == Program()


@pytest.mark.parametrize("values", [{"a": 1}, {"b": 1}, {}, None])
def test_what_is_missing_is_said_at_once(values: dict[str, object] | None) -> None:
    with pytest.raises(ParameterError, match="Missing parameters"):
        BlockBuilder(SOURCES[0], values)


def test_threads_do_not_fill_one_another_s_templates() -> None:
    wrong: list[int] = []

    def write(first: int) -> None:
        for number in range(first, first + 400):
            builder = BlockBuilder("check if fact({a}), {b} == {a};", {"a": number, "b": f"b{number}"})
            encoded, symbols = written(builder.filled, [])
            read = decode_block(encoded.payload, SymbolTable(), KeyTable(), external=False)
            if read.program != builder.program or symbols.own != ("fact", f"b{number}"):
                wrong.append(number)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
