"""What the parser says of a source that is not Datalog, and how it bounds what it reads."""

import time

import pytest

from capability.datalog.errors import ParseError
from capability.datalog.parser import parse_check, parse_program, parse_term
from capability.datalog.program import Expression


def expression(source: str) -> Expression:
    (query,) = parse_check(f"check if {source}").queries
    return query.expressions[0]


def mistakes(source: str) -> list[tuple[int, int, str]]:
    with pytest.raises(ParseError) as raised:
        parse_program(source)
    return [(error.line, error.column, error.message) for error in raised.value.errors]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("foo", [(1, 1, "unexpected `foo`")]),
        ("a()", [(1, 3, "unexpected `)`")]),
        ("a(1) b(2)", [(1, 6, "unexpected `b`")]),
        ("a() <- b(1)", [(1, 3, "unexpected `)`")]),
        ("a(1) <-", [(1, 8, "the statement ends too early")]),
        (
            "a(1);\n  b($x, [1], $y)",
            [(2, 5, "a fact cannot hold the variable $x"), (2, 14, "a fact cannot hold the variable $y")],
        ),
        (
            "a($x) <- b($y), $z > $y",
            [(1, 3, "no predicate of the body binds $x"), (1, 17, "no predicate of the body binds $z")],
        ),
        ("check if b($x), true or $x", [(1, 25, "no predicate of the body binds $x")]),
        ("check if [1].any($p -> $p), $p", [(1, 29, "no predicate of the body binds $p")]),
        ("check if [1].any($p -> $q)", [(1, 24, "no predicate of the body binds $q")]),
        (
            "check a(1)",
            [(1, 1, "unexpected `check` (a check begins with `check if`, `check all` or `reject if`)")],
        ),
        ("check if a(1) TRUSTING authority", [(1, 15, "unexpected `TRUSTING`")]),
        ("check if a(1) trusting", [(1, 23, "the statement ends too early")]),
        ("check if a(1) trusting Authority", [(1, 24, "unexpected `Authority`")]),
        (
            "check if a(1) trusting ed25519/00",
            [(1, 24, "a public key of ed25519 has 64 hexadecimal digits, not 2")],
        ),
        ("check if a(1) trusting ED25519/00", [(1, 24, "unexpected `ED25519`")]),
        (
            "a(1); trusting authority",
            [(1, 7, "`trusting` for the whole block must come before all statements")],
        ),
        ("check if 1 = 1", [(1, 12, "unexpected `=` (equality is written `==`)")]),
        (
            "check if - 3 == 1",
            [(1, 10, "unexpected `-` (no space in a negative integer; a date needs its time and zone)")],
        ),
        ("a('x')", [(1, 3, "unexpected `'` (strings are written in double quotes)")]),
        ('check if "a".foo()', [(1, 14, "unknown method `foo`")]),
        ('check if "a".length(1)', [(1, 21, "unexpected `1`")]),
        ('check if "a".contains()', [(1, 23, "unexpected `)`")]),
        ("check if [1].any(true)", [(1, 18, "unexpected `true`")]),
        ("check if [1].any($p)", [(1, 20, "unexpected `)`")]),
        ("check if [1].contains($p -> true)", [(1, 26, "unexpected `->`")]),
        ("check if 1.extern::f(1, 2)", [(1, 23, "unexpected `,`")]),
        ("check if 1.extern:: f()", [(1, 12, "unknown method `extern::`")]),
        ("check if a(1),", [(1, 15, "the statement ends too early")]),
        ("é(1)", [(1, 1, "unexpected `é`")]),
        ("a(\u202e1)", [(1, 3, "unexpected `\\u{202e}`")]),
        ('a("b); c(1)', [(1, 3, "this string is never closed")]),
        ("a(1); /* b(1);", [(1, 7, "this comment is never closed")]),
        ("a(1);\u00a0b(2)", [(1, 6, "unexpected `\\u{a0}`")]),
    ],
)
def test_a_mistake_is_placed_and_named(source: str, expected: list[tuple[int, int, str]]) -> None:
    assert mistakes(source) == expected


def test_all_mistakes_of_a_source_are_found() -> None:
    source = 'a(1;\nb("x");\nc("\\t;\n");  d($x); check if $y;\n1 < 2; e("'
    assert [(line, column) for line, column, _ in mistakes(source)] == [
        (1, 4),
        (3, 4),
        (4, 8),
        (4, 22),
        (5, 1),
        (5, 10),
    ]


def test_what_would_have_fitted_is_said_in_words() -> None:
    def expected(source: str) -> tuple[str, ...]:
        with pytest.raises(ParseError) as raised:
            parse_program(source)
        return raised.value.expected

    assert expected("a(1") == ("`,`", "`)`")
    assert expected("a(") == ("a value",)
    assert expected("check if") == ("a predicate", "an expression")
    assert expected("check if !") == ("an expression",)
    assert expected("check if (true") == ("an operator", "`.`", "`)`")
    assert expected("check if a(1) trusting x") == (
        "`authority`",
        "`previous`",
        "a public key",
        "`{parameter}`",
    )
    assert expected("check if 1 < 2 < 3") == (
        "an operator that is not a comparison",
        "`;`",
        "`trusting`",
        "`or`",
        "`,`",
        "`.`",
    )
    assert expected("check if [1].any(") == ("a variable",)
    assert expected("a(1) b") == ("`;`", "`<-`")
    assert expected('a({"x": 1, ') == ("a map key (an integer or a string)",)
    assert "a fact" in expected("x")


def test_the_text_of_an_error_shows_the_line_and_a_caret() -> None:
    with pytest.raises(ParseError) as raised:
        parse_program("a(1);\n\tb(2,);")
    assert str(raised.value) == "line 2, column 6: unexpected `)`; expected a value\n   b(2,);\n       ^"
    assert (raised.value.line, raised.value.column) == (2, 6)


def test_an_error_shows_a_part_of_a_long_line_and_nothing_that_a_terminal_would_obey() -> None:
    with pytest.raises(ParseError) as raised:
        parse_program(f'a("{"x" * 500}\x1b[31m\u202e" b')
    _, line, caret = str(raised.value).split("\n")
    assert len(line) < 130
    assert line[caret.index("^")] == "b"
    assert "\x1b" not in str(raised.value)
    assert "\u202e" not in str(raised.value)


def test_the_text_of_many_errors_is_short() -> None:
    with pytest.raises(ParseError) as raised:
        parse_program("x;" * 150)
    assert len(raised.value.errors) == 150
    assert str(raised.value).endswith("\nand 130 more")


# ---- bounds


@pytest.mark.parametrize(
    "source",
    [
        "(" * 100_000,
        "check if " + "(" * 100_000,
        "check if " + "(" * 100_000 + "1" + ")" * 100_000,
        "a(" + "[" * 100_000,
        "a(" + "{" * 100_000,
        'a({"a":' + '{"a":' * 100_000,
        "check if " + "!" * 100_000,
        "check if " + "! " * 100_000 + "true",
        "check if " + "1 + !" * 100_000,
        "check if 1" + ".length()" * 100_000,
        "check if 1" + ".try_or(1)" * 100_000,
        "check if 1" + ".try_or(" * 100_000,
        "check if " + "[1].any($p -> " * 100_000,
        "check if " + "true && (" * 100_000,
        "check if " + "1 ^ 2 | 3 & 4 + 5 * (" * 100_000,
    ],
    ids=lambda source: source[:24],
)
def test_nesting_without_end_is_a_parse_error_and_quickly(source: str) -> None:
    started = time.thread_time()
    with pytest.raises(ParseError, match="nested more than"):
        parse_program(source)
    assert time.thread_time() - started < 5


def test_length_without_nesting_is_no_matter() -> None:
    for source, count in (("1 + ", 2_000), ("true || ", 2_000), ("1, ", 2_000)):
        (query,) = parse_check(f"check if {source * count}1").queries
        assert sum(len(each.ops) for each in query.expressions) > count
    assert len(parse_program("a(1);" * 2_000).facts) == 2_000


def test_expressions_nest_64_levels() -> None:
    expression("(" * 64 + "1" + ")" * 64)
    expression("!" * 64 + "true")
    expression("1 + (" * 64 + "1" + ")" * 64)
    for source in (
        "(" * 65 + "1" + ")" * 65,
        "1 + (" * 65 + "1" + ")" * 65,
        "[1].contains(" * 65 + "1" + ")" * 65,
        "!" * 65 + "true",
        "1" + ".length()" * 65,
    ):
        with pytest.raises(ParseError, match="nested more than 64 deep"):
            expression(source)


def test_the_deepest_expression_of_all_operators_fits() -> None:
    tight = "3 == 4 ^ 5 | 6 & 7 + 8 * ("
    loose = f"1 || 2 && {tight}"
    expression(loose * 15 + tight * 49 + "1" + ")" * 64)


def test_terms_nest_32_levels_and_no_more() -> None:
    for opening, closing, center in (("[", "]", "1"), ('{"k": ', "}", "1"), ("[", "]", "{1}")):
        levels = 31 if center == "1" else 30
        parse_term(opening * levels + center + closing * levels)
        with pytest.raises(ParseError, match="nested more than 32 deep"):
            parse_term(opening * (levels + 1) + center + closing * (levels + 1))


def test_closures_nest_together_with_the_terms_in_them() -> None:
    expression("1" + ".try_or(2)" * 31)
    with pytest.raises(ParseError, match="closures and the terms in them are nested more than 32 deep"):
        expression("1" + ".try_or(2)" * 32)
    expression("true && (" * 31 + "1" + ")" * 31)
    with pytest.raises(ParseError, match="closures and the terms in them are nested more than 32 deep"):
        expression("true && (" * 32 + "1" + ")" * 32)
    expression("[" * 20 + "]" * 20 + ".try_or(2)" * 12)
    with pytest.raises(ParseError, match="nested more than 32 deep"):
        expression("[" * 20 + "]" * 20 + ".try_or(2)" * 13)


@pytest.mark.parametrize("sign", ["<", ">", "<=", ">=", "==", "!=", "===", "!=="])
def test_comparisons_do_not_chain(sign: str) -> None:
    expression(f"1 {sign} 2")
    expression(f"(1 {sign} 2) {sign} 3")
    assert mistakes(f"check if 1 {sign} 2 {sign} 3") == [
        (1, 15 + len(sign), f"unexpected `{sign}` (comparisons cannot be chained)")
    ]
