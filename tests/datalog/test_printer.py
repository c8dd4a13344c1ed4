"""What is printed, for shapes that a source can write and for those that only the wire can bring."""

import pytest

from capability.datalog.errors import ParseError
from capability.datalog.parser import parse_check, parse_program
from capability.datalog.printer import (
    escape_for_display,
    print_check,
    print_expression,
    print_policy,
    print_predicate,
    print_program,
    print_query,
    print_rule,
    print_scope,
    print_term,
)
from capability.datalog.program import (
    Binary,
    BinaryKind,
    Check,
    CheckKind,
    Closure,
    Expression,
    KeyParameter,
    KeyScope,
    Op,
    Policy,
    PolicyKind,
    Predicate,
    Program,
    Query,
    Rule,
    ScopeKind,
    Unary,
    UnaryKind,
    Value,
)
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    INTEGER,
    NULL_TERM,
    PARAMETER,
    STRING,
    VARIABLE,
    Term,
    make_map,
    make_set,
)

ONE, TWO, THREE = (Value((INTEGER, number)) for number in (1, 2, 3))
NEGATE, PARENS, LENGTH = (Unary(kind) for kind in (UnaryKind.NEGATE, UnaryKind.PARENS, UnaryKind.LENGTH))
ADD, SUB, MUL, AMPERSAND = (
    Binary(kind) for kind in (BinaryKind.ADD, BinaryKind.SUB, BinaryKind.MUL, BinaryKind.BITWISE_AND)
)
LESS, AND, OR = (Binary(kind) for kind in (BinaryKind.LESS_THAN, BinaryKind.LAZY_AND, BinaryKind.LAZY_OR))
ANY, TRY_OR, GET = (Binary(kind) for kind in (BinaryKind.ANY, BinaryKind.TRY_OR, BinaryKind.GET))


def lazily(*ops: Op) -> Closure:
    return Closure((), ops)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ((INTEGER, -3), "-3"),
        ((STRING, 'a"b\\c\nd\te'), '"a\\"b\\\\c\\nd\te"'),
        ((DATE, 0), "1970-01-01T00:00:00Z"),
        ((DATE, 253402300799), "9999-12-31T23:59:59Z"),
        ((BYTES, b""), "hex:"),
        ((BYTES, b"\x00\xff"), "hex:00ff"),
        ((BOOL, True), "true"),
        ((BOOL, False), "false"),
        (NULL_TERM, "null"),
        ((VARIABLE, "a:b"), "$a:b"),
        ((PARAMETER, "p"), "{p}"),
        (make_set([]), "{,}"),
        (make_set([(BOOL, True)]), "{true}"),
        (
            make_set([(STRING, "\uffff"), (STRING, "\U00010000"), (STRING, "b")]),
            '{"b", "\uffff", "\U00010000"}',
        ),
        ((ARRAY, ((INTEGER, 2), (ARRAY, ()))), "[2, []]"),
        (make_map([]), "{}"),
        (make_map([((STRING, "a"), NULL_TERM), ((INTEGER, 3), make_map([]))]), '{3: {}, "a": null}'),
    ],
)
def test_a_term_is_written(term: Term, text: str) -> None:
    assert print_term(term) == text


def test_there_is_no_text_for_a_term_of_no_kind() -> None:
    with pytest.raises(ValueError, match="no term of kind 11"):
        print_term((11, None))


@pytest.mark.parametrize(
    ("ops", "text"),
    [
        ((ONE, TWO, ADD, THREE, ADD), "1 + 2 + 3"),
        ((ONE, TWO, THREE, ADD, ADD), "1 + (2 + 3)"),
        ((ONE, TWO, ADD, THREE, MUL), "(1 + 2) * 3"),
        ((ONE, TWO, THREE, MUL, ADD), "1 + 2 * 3"),
        ((ONE, TWO, ADD, PARENS, THREE, MUL), "(1 + 2) * 3"),
        ((ONE, TWO, LESS, THREE, LESS), "(1 < 2) < 3"),
        ((ONE, TWO, THREE, LESS, LESS), "1 < (2 < 3)"),
        ((ONE, TWO, ADD, NEGATE), "!1 + 2"),
        ((ONE, NEGATE, TWO, ADD), "(!1) + 2"),
        ((ONE, TWO, NEGATE, SUB), "1 - !2"),
        ((ONE, TWO, NEGATE, SUB, THREE, ADD), "(1 - !2) + 3"),
        ((ONE, TWO, NEGATE, SUB, PARENS, THREE, ADD), "(1 - !2) + 3"),
        ((ONE, TWO, NEGATE, MUL, THREE, MUL), "(1 * !2) * 3"),
        ((ONE, TWO, THREE, ADD, NEGATE, MUL), "1 * !2 + 3"),
        ((ONE, TWO, NEGATE, AMPERSAND, THREE, AMPERSAND), "1 & !2 & 3"),
        ((ONE, TWO, LESS, NEGATE), "!(1 < 2)"),
        ((ONE, NEGATE, TWO, LESS), "!1 < 2"),
        ((ONE, NEGATE, NEGATE), "!!1"),
        ((ONE, NEGATE, LENGTH), "(!1).length()"),
        ((ONE, LENGTH, NEGATE), "!1.length()"),
        ((ONE, TWO, ADD, LENGTH), "(1 + 2).length()"),
        ((ONE, TWO, ADD, THREE, NEGATE, GET), "(1 + 2).get(!3)"),
        ((ONE, lazily(TWO), OR, lazily(THREE), AND), "(1 || 2) && 3"),
        ((ONE, lazily(TWO, lazily(THREE), AND), AND), "1 && (2 && 3)"),
        ((ONE, lazily(TWO, lazily(THREE), AND), OR), "1 || 2 && 3"),
        ((ONE, Closure(("p",), (Value((VARIABLE, "p")), TWO, LESS)), ANY), "1.any($p -> $p < 2)"),
        ((lazily(ONE, TWO, ADD), THREE, TRY_OR), "(1 + 2).try_or(3)"),
        ((lazily(ONE, NEGATE), THREE, TRY_OR), "(!1).try_or(3)"),
        ((lazily(ONE, TWO, ADD, PARENS), THREE, TRY_OR), "(1 + 2).try_or(3)"),
        ((ONE, TWO, Binary(BinaryKind.AND), THREE, Binary(BinaryKind.OR)), "1 &&! 2 ||! 3"),
        ((ONE, TWO, NEGATE, Binary(BinaryKind.AND)), "1 &&! !2"),
        ((ONE, Unary(UnaryKind.FFI, "f"), TWO, Binary(BinaryKind.FFI, "g")), "1.extern::f().extern::g(2)"),
    ],
)
def test_parentheses_are_written_where_the_value_needs_them(ops: tuple[Op, ...], text: str) -> None:
    assert print_expression(Expression(ops)) == text
    (query,) = parse_check(f"check if {text}").queries
    assert print_expression(query.expressions[0]) == text


@pytest.mark.parametrize(
    ("ops", "text"),
    [
        ((lazily(ONE), TWO, ADD), "<closure () -> 1> + 2"),
        ((lazily(ONE),), "<closure () -> 1>"),
        ((Closure(("p", "q"), (ONE,)), NEGATE), "!<closure ($p, $q) -> 1>"),
        ((ONE, TWO, AND), "1 && <no closure> 2"),
        ((ONE, Closure(("p",), (TWO,)), OR), "1 || <no closure> <closure ($p) -> 2>"),
        ((ONE, TWO, ANY), "1.any(2)"),
        ((ONE, lazily(TWO), ANY), "1.any(<closure () -> 2>)"),
        ((ONE, Closure(("p", "q"), (TWO,)), ANY), "1.any(<closure ($p, $q) -> 2>)"),
        ((ONE, TWO, TRY_OR), "(1).<no closure>.try_or(2)"),
        ((lazily(ONE), lazily(TWO), TRY_OR), "1.try_or(<closure () -> 2>)"),
        ((lazily(lazily(ONE)), TWO, TRY_OR), "<closure () -> 1>.try_or(2)"),
    ],
)
def test_what_no_source_can_say_is_written_so_that_no_parser_reads_it(ops: tuple[Op, ...], text: str) -> None:
    assert print_expression(Expression(ops)) == text
    with pytest.raises(ParseError):
        parse_check(f"check if {text}")


@pytest.mark.parametrize(
    "ops", [(), (ONE, TWO), (ADD,), (ONE, ADD), (NEGATE,), (lazily(), ONE, TRY_OR), (lazily(ONE, ADD),)]
)
def test_operations_that_leave_no_single_value_have_no_text(ops: tuple[Op, ...]) -> None:
    with pytest.raises(ValueError, match=r"lacks an operand|leaves \d values"):
        print_expression(Expression(ops))


def test_no_depth_of_closures_exhausts_the_stack() -> None:
    ops: tuple[Op, ...] = (ONE,)
    for _ in range(5_000):
        ops = (lazily(*ops), TWO, TRY_OR)
    assert print_expression(Expression(ops)) == "1" + ".try_or(2)" * 5_000


def test_statements_are_written_in_the_order_of_the_specification() -> None:
    key = KeyScope(1, b"\x02" + bytes(32))
    user = Predicate("user", ((VARIABLE, "u"),))
    compared = Expression((Value((VARIABLE, "u")), Value((STRING, "a")), Binary(BinaryKind.EQUAL)))
    query = Query((user,), (compared,), (ScopeKind.PREVIOUS, key))
    program = Program(
        (ScopeKind.AUTHORITY, KeyParameter("k")),
        (Predicate("f", ((INTEGER, 1), (STRING, ";\n"))),),
        (Rule(user, (user,)),),
        tuple(Check(kind, (query, Query((user,)))) for kind in CheckKind),
        tuple(Policy(kind, (query,)) for kind in PolicyKind),
    )
    trusted = f"previous, secp256r1/02{'00' * 32}"
    assert print_program(program) == (
        "trusting authority, {k};\n"
        'f(1, ";\\n");\n'
        "user($u) <- user($u);\n"
        f'check if user($u), $u == "a" trusting {trusted} or user($u);\n'
        f'check all user($u), $u == "a" trusting {trusted} or user($u);\n'
        f'reject if user($u), $u == "a" trusting {trusted} or user($u);\n'
        f'allow if user($u), $u == "a" trusting {trusted};\n'
        f'deny if user($u), $u == "a" trusting {trusted};\n'
    )
    assert parse_program(print_program(program)) == program
    assert print_program(Program()) == ""


def test_single_statements_have_no_semicolon() -> None:
    body = (Predicate("b", ((INTEGER, 1),)),)
    assert print_predicate(body[0]) == "b(1)"
    assert print_rule(Rule(body[0], body, (), (ScopeKind.AUTHORITY,))) == "b(1) <- b(1) trusting authority"
    assert print_query(Query(body)) == "b(1)"
    assert print_check(Check(CheckKind.IF, (Query(body),))) == "check if b(1)"
    assert print_policy(Policy(PolicyKind.DENY, (Query(body), Query(body)))) == "deny if b(1) or b(1)"
    assert print_scope(KeyScope(0, bytes(32))) == f"ed25519/{'00' * 32}"


def test_a_query_of_nothing_is_written_as_what_it_means() -> None:
    assert print_check(Check(CheckKind.IF, (Query(()),))) == "check if true"
    assert print_query(Query((), (), (ScopeKind.PREVIOUS,))) == "true trusting previous"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('right("é", "日本")\n', 'right("é", "日本")\n'),
        ("a\x1b[31mb", "a\\u{1b}[31mb"),
        ("a\tb\rc\x00", "a\\u{9}b\\u{d}c\\u{0}"),
        ("admin\u202egnp.exe\u2066", "admin\\u{202e}gnp.exe\\u{2066}"),
        ("a\u200bb\ufeff\u00ad\u00a0\u2028", "a\\u{200b}b\\u{feff}\\u{ad}\\u{a0}\\u{2028}"),
        ("\x7f\x85\ud800\U000e0041", "\\u{7f}\\u{85}\\u{d800}\\u{e0041}"),
    ],
)
def test_what_does_not_show_as_itself_is_escaped_for_display(text: str, shown: str) -> None:
    assert escape_for_display(text) == shown


def test_a_string_cannot_pose_as_a_statement() -> None:
    text = print_program(Program(facts=(Predicate("f", ((STRING, 'x");\nright("admin'),)),)))
    assert text.count("\n") == 1
    assert parse_program(text).facts == (Predicate("f", ((STRING, 'x");\nright("admin'),)),)
