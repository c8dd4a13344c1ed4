"""What the parser reads, what it refuses, and what it says then."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import biscuit_auth
import pytest

from capability.datalog.errors import ParseError, SourceError
from capability.datalog.parser import (
    parse_block,
    parse_check,
    parse_fact,
    parse_policy,
    parse_program,
    parse_rule,
    parse_term,
)
from capability.datalog.printer import print_check, print_program
from capability.datalog.program import (
    CheckKind,
    Closure,
    Expression,
    KeyParameter,
    KeyScope,
    Op,
    PolicyKind,
    Predicate,
    Program,
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
    MAP,
    NULL_TERM,
    PARAMETER,
    SET,
    STRING,
    VARIABLE,
    Term,
)

ED25519 = "ed25519/acdd6d5b53bfee478bf689f8e012fe7988bf755e3d7c5152947abc149bc20189"
SECP256R1 = "secp256r1/025e918fd4463832aea2823dfd9716a36b4d9b1377bd53dd82ddf4c0bc75ed6bbf"

_SIGNS = {
    "LESS_THAN": "<",
    "EQUAL": "==",
    "STRICT_EQUAL": "===",
    "ADD": "+",
    "SUB": "-",
    "MUL": "*",
    "DIV": "/",
    "BITWISE_AND": "&",
    "BITWISE_OR": "|",
    "BITWISE_XOR": "^",
    "AND": "&&!",
    "OR": "||!",
    "LAZY_AND": "&&",
    "LAZY_OR": "||",
}


def postfix(ops: tuple[Op, ...]) -> str:
    """Returns operations as words: values, operators, `()` for parentheses, closures in braces."""
    words = []
    for op in ops:
        if isinstance(op, Value):
            words.append(f"${op.term[1]}" if op.term[0] == VARIABLE else str(op.term[1]))
        elif isinstance(op, Closure):
            words.append(f"{{{','.join(op.params)}->{postfix(op.ops)}}}")
        elif isinstance(op, Unary):
            words.append(
                {UnaryKind.NEGATE: "!", UnaryKind.PARENS: "()"}.get(op.kind, op.name or op.kind.name)
            )
        else:
            words.append(op.name or _SIGNS.get(op.kind.name, op.kind.name))
    return " ".join(words)


def expression(source: str) -> Expression:
    (query,) = parse_check(f"check if {source}").queries
    return query.expressions[0]


# ---- terms


@pytest.mark.parametrize(
    ("source", "term"),
    [
        ("12", (INTEGER, 12)),
        ("-3", (INTEGER, -3)),
        ("007", (INTEGER, 7)),
        ("-0", (INTEGER, 0)),
        ("9223372036854775807", (INTEGER, 2**63 - 1)),
        ("-9223372036854775808", (INTEGER, -(2**63))),
        ('""', (STRING, "")),
        (r'"a\"b\\c\nd"', (STRING, 'a"b\\c\nd')),
        ('"x\n\ty"', (STRING, "x\n\ty")),
        ('"é😁; // /* "', (STRING, "é😁; // /* ")),
        ("hex:", (BYTES, b"")),
        ("hex:00fF", (BYTES, b"\x00\xff")),
        ("true", (BOOL, True)),
        ("false", (BOOL, False)),
        ("null", NULL_TERM),
        ("{,}", (SET, ())),
        ("{ , }", (SET, ())),
        ("{2, 1, 2}", (SET, ((INTEGER, 1), (INTEGER, 2)))),
        ("{true}", (SET, ((BOOL, True),))),
        ("{ null }", (SET, (NULL_TERM,))),
        ("{hex:00}", (SET, ((BYTES, b"\0"),))),
        ("{[1], [0]}", (SET, ((ARRAY, ((INTEGER, 0),)), (ARRAY, ((INTEGER, 1),))))),
        ("[]", (ARRAY, ())),
        (
            '[1, "a", [null], {1}]',
            (ARRAY, ((INTEGER, 1), (STRING, "a"), (ARRAY, (NULL_TERM,)), (SET, ((INTEGER, 1),)))),
        ),
        ("{}", (MAP, ())),
        ("{ }", (MAP, ())),
        ('{"b": 1, 2: {}}', (MAP, (((INTEGER, 2), (MAP, ())), ((STRING, "b"), (INTEGER, 1))))),
        ('{"a": 1, "a": 2}', (MAP, (((STRING, "a"), (INTEGER, 2)),))),
        ("1970-01-01T00:00:00Z", (DATE, 0)),
        ("1970-01-01t00:00:01z", (DATE, 1)),
        ("2020-12-21T09:23:12.999Z", (DATE, 1608542592)),
        ("2020-12-21T10:23:12+01:00", (DATE, 1608542592)),
        ("2020-12-20T23:23:12-10:00", (DATE, 1608542592)),
        ("2016-12-31T23:59:60Z", (DATE, 1483228799)),
        ("9999-12-31T23:59:59Z", (DATE, 253402300799)),
        ("9999-12-31T23:59:59+00:01", (DATE, 253402300739)),
    ],
)
def test_a_term_is_read(source: str, term: Term) -> None:
    assert parse_term(source) == term
    assert parse_fact(f"f({source})").terms == (term,)


@pytest.mark.parametrize(
    ("source", "offset", "message"),
    [
        ("9223372036854775808", 0, "this integer does not fit in 64 bits"),
        ("-9223372036854775809", 0, "this integer does not fit in 64 bits"),
        ("9" * 5000, 0, "this integer does not fit in 64 bits"),
        ("+1", 0, "unexpected `+`"),
        (r'"a\tb"', 2, "unknown escape `\\t` in a string"),
        ('"\ud800"', 0, "this string is not valid Unicode"),
        ("hex:0", 0, "bytes need an even number of hexadecimal digits"),
        ("{hex:0}", 1, "bytes need an even number of hexadecimal digits"),
        ("HEX:00", 0, "unexpected `HEX:00`"),
        ("True", 0, "unexpected `True`"),
        ("1969-12-31T23:59:59.999Z", 0, "dates reach from 1970 to the end of 9999"),
        ("1970-01-01T00:00:00+00:01", 0, "dates reach from 1970 to the end of 9999"),
        ("9999-12-31T23:59:59-00:01", 0, "dates reach from 1970 to the end of 9999"),
        ("2021-02-29T00:00:00Z", 0, "there is no such date: day is out of range for month"),
        ("2021-02-28T00:00:00+24:00", 0, "there is no such date: offset out of range"),
        ('{1, "a"}', 0, "a set holds values of one type only"),
        ('[{{p}, 1, "a"}]', 1, "a set holds values of one type only"),
        ("{{1}}", 0, "a set cannot hold sets or variables"),
        ("{$x}", 1, "a set cannot hold the variable $x"),
        ("[1, $x]", 4, "an array cannot hold the variable $x"),
        ('{"a": $x}', 6, "a map cannot hold the variable $x"),
        ("{true: 1}", 1, "unexpected `true:`"),
        ("[1,]", 3, "unexpected `]`"),
        ("1 2", 2, "unexpected `2`"),
        ("$x", 0, "a value is needed, without variables and parameters"),
        ("[{p}]", 0, "a value is needed, without variables and parameters"),
        ("1;", 1, "unexpected `;`"),
        ("", 0, "the statement ends too early"),
    ],
)
def test_a_term_is_refused(source: str, offset: int, message: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse_term(source)
    (error,) = raised.value.errors
    assert (error.line, error.column, error.message) == (1, offset + 1, message)


@pytest.mark.parametrize(
    ("source", "term"),
    [
        ("{p}", (PARAMETER, "p")),
        ("{ p }", (PARAMETER, "p")),
        ("{p:q_1}", (PARAMETER, "p:q_1")),
        ("{TRUE}", (PARAMETER, "TRUE")),
        ("{hex:zz}", (PARAMETER, "hex:zz")),
        ("[{p}]", (ARRAY, ((PARAMETER, "p"),))),
        ("{{p}, {q}}", (SET, ((PARAMETER, "p"), (PARAMETER, "q")))),
        ("{{p}: {q}}", (MAP, (((PARAMETER, "p"), (PARAMETER, "q")),))),
    ],
)
def test_parameters_stay_until_they_are_bound(source: str, term: Term) -> None:
    assert parse_fact(f"f({source})").terms == (term,)


# ---- expressions


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 - 2 - 3", "1 2 - 3 -"),
        ("1 + 2 * 3 - 4 / 2", "1 2 3 * + 4 2 / -"),
        ("1 ^ 2 | 3 & 4 + 5 * 6", "1 2 3 4 5 6 * + & | ^"),
        ("1 ^ 2 ^ 3 | 4 | 5 & 6", "1 2 ^ 3 4 | 5 6 & | ^"),
        ("1 | 2 ^ 3 === 0", "1 2 | 3 ^ 0 ==="),
        ("1 + 2 == 3 && 4 < 5", "1 2 + 3 == {->4 5 <} &&"),
        ("true || false && true || false", "True {->False {->True} &&} || {->False} ||"),
        ("true && false && true", "True {->False} && {->True} &&"),
        ("(true || false) && true", "True {->False} || () {->True} &&"),
        ("true &&! false ||! true", "True False &&! True ||!"),
        ("true &&!false", "True {->False !} &&"),
        ("true ||!(false)", "True {->False () !} ||"),
        ("!1 + 2", "1 2 + !"),
        ("1 + !2 + 3", "1 2 3 + ! +"),
        ("1 - !2 * 3 + 4", "1 2 3 * 4 + ! -"),
        ("2 * !1 * 3 + 4", "2 1 3 * 4 + ! *"),
        ("1 & !2 & 3", "1 2 ! & 3 &"),
        ("!1 + 2 == 3", "1 2 + ! 3 =="),
        ("(!1) + 2", "1 ! () 2 +"),
        ("!!true", "True ! !"),
        ("! true || false", "True ! {->False} ||"),
        ("!true.type()", "True TYPE_OF !"),
        ("1 -3", "1 3 -"),
        ("1-3", "1 3 -"),
        ("1 - -3", "1 -3 -"),
        ("1--3", "1 -3 -"),
        ("-3.type()", "-3 TYPE_OF"),
        ("1 <-3", "1 -3 <"),
        ('"a".length()', "a LENGTH"),
        ("1 + 2.try_or(3)", "1 {->2} 3 TRY_OR +"),
        ("1.try_or(2).try_or(3)", "{->{->1} 2 TRY_OR} 3 TRY_OR"),
        ("(1 / 0).try_or(2)", "{->1 0 / ()} 2 TRY_OR"),
        ("[1].any($p -> $p == 1 && true)", "((2, 1),) {p->$p 1 == {->True} &&} ANY"),
        ("[1].all($p->[2].any($q->$p<$q))", "((2, 1),) {p->((2, 2),) {q->$p $q <} ANY} ALL"),
        ("true.extern::f()", "True f"),
        ("true.extern::1a:b(2 + 3)", "True 2 3 + 1a:b"),
        ('"a".extern::length().length()', "a length LENGTH"),
        ('"a".contains("b")', "a b CONTAINS"),
        ('"a".starts_with("b")', "a b PREFIX"),
        ('"a".ends_with("b")', "a b SUFFIX"),
        ('"a".matches("b")', "a b REGEX"),
        ("1.intersection(2)", "1 2 INTERSECTION"),
        ("1.union(2)", "1 2 UNION"),
        ("1.get(2)", "1 2 GET"),
    ],
)
def test_operators_group_as_the_ecosystem_groups_them(source: str, expected: str) -> None:
    assert postfix(expression(source).ops) == expected


# ---- statements


def test_every_kind_of_statement() -> None:
    program = parse_program(
        f"""
        // a comment; with a semicolon
        trusting authority, {ED25519};
        right("a", 1); /* another; */ user("b")
        ;
        head($x) <- right($x, 1), $x != "z" trusting previous, {{key}};
        check if user($u) or user("c"), true trusting {SECP256R1};
        CHECK All user($u), $u.length() > 0;
        reject  if banned("b");
        Allow If user("b") trusting authority OR true;
        deny
          if true"""
    )
    assert program.scopes == (ScopeKind.AUTHORITY, KeyScope(0, bytes.fromhex(ED25519.split("/")[1])))
    assert program.facts == (
        Predicate("right", ((STRING, "a"), (INTEGER, 1))),
        Predicate("user", ((STRING, "b"),)),
    )
    (rule,) = program.rules
    assert rule.head == Predicate("head", ((VARIABLE, "x"),))
    assert rule.body == (Predicate("right", ((VARIABLE, "x"), (INTEGER, 1))),)
    assert postfix(rule.expressions[0].ops) == "$x z NOT_EQUAL"
    assert rule.scopes == (ScopeKind.PREVIOUS, KeyParameter("key"))
    assert [check.kind for check in program.checks] == [CheckKind.IF, CheckKind.ALL, CheckKind.REJECT]
    first, second = program.checks[0].queries
    assert (first.scopes, second.scopes) == ((), (KeyScope(1, bytes.fromhex(SECP256R1.split("/")[1])),))
    assert (len(second.body), len(second.expressions)) == (1, 1)
    assert [policy.kind for policy in program.policies] == [PolicyKind.ALLOW, PolicyKind.DENY]
    assert program.policies[0].queries[0].scopes == (ScopeKind.AUTHORITY,)


@pytest.mark.parametrize(
    "name", ["or", "if", "true", "check", "trusting", "1a", ":a", "_a", "allow", "12", "hex:00"]
)
def test_keywords_are_not_reserved(name: str) -> None:
    assert parse_fact(f"{name}(1)").name == name
    (query,) = parse_check(f"check if {name}(1), {name} (2)").queries
    assert [predicate.name for predicate in query.body] == [name, name]
    assert len(parse_check(f"check if {name}(1) or {name}(2)").queries) == 2


def test_a_word_before_a_parenthesis_is_a_keyword_only_where_no_predicate_can_stand() -> None:
    assert print_check(parse_check("check if(1 == 1)")) == "check if (1 == 1)"
    assert print_check(parse_check("check if a(1)or(true)")) == "check if a(1) or (true)"
    assert print_check(parse_check("check if a(1)trusting authority or or(1)")) == (
        "check if a(1) trusting authority or or(1)"
    )


def test_keywords_ignore_the_case_of_ascii_letters_only() -> None:
    assert parse_program("CHECK IF a(1) oR a(2); aLLoW If a(1)") == parse_program(
        "check if a(1) or a(2); allow if a(1)"
    )
    with pytest.raises(ParseError):
        parse_check("chec\u212a if a(1)")


@pytest.mark.parametrize("source", ["", " \n", ";", "; ;", "// x", "/* a; b */", "// x\n;"])
def test_a_source_may_say_nothing(source: str) -> None:
    assert parse_program(source) == Program()


@pytest.mark.parametrize("name", ["0", "a:b", "_", "x1", "1x"])
def test_variables_may_start_with_a_digit(name: str) -> None:
    assert parse_rule(f"h(${name}) <- b(${name})").head.terms == ((VARIABLE, name),)


def test_comments_may_stand_wherever_white_space_may() -> None:
    assert parse_program("a/* ( */ // (\n(1);// x\nb( /* ; */ 2 /***/)//") == parse_program("a(1);b(2)")
    assert parse_check("check if // yes; really\n true /* so */") == parse_check("check if true")
    assert parse_check('check if "a" /* x */ . /* y */ length() > 0 ') == parse_check(
        'check if "a".length() > 0'
    )


# ---- the parser as a whole


def test_a_block_has_no_policies() -> None:
    with pytest.raises(ParseError) as raised:
        parse_block("a(1); allow if true")
    assert raised.value.errors == (
        SourceError(
            "a policy cannot stand here",
            1,
            7,
            ("`trusting` for the whole block", "a fact", "a rule", "a check"),
            "a(1); allow if true",
        ),
    )
    assert parse_block("trusting authority; a(1)").facts == parse_program("a(1)").facts


@pytest.mark.parametrize(
    ("parse", "fitting", "other"),
    [
        (parse_fact, "a(1)", "a(1) <- b(1)"),
        (parse_rule, "a(1) <- b(1)", "a(1)"),
        (parse_check, "check if true", "allow if true"),
        (parse_policy, "deny if true", "check if true"),
    ],
)
def test_a_single_statement_is_one_of_its_kind(
    parse: Callable[[str], object], fitting: str, other: str
) -> None:
    assert parse(fitting) == parse(f" {fitting} ; // done")
    for source in (other, "", f"{fitting}; {fitting}", f"trusting authority; {fitting}"):
        with pytest.raises(ParseError):
            parse(source)


def test_a_source_is_parsed_once() -> None:
    source = "cached(1); check if cached($x), $x > 0"
    assert parse_program(source) is parse_program(source)
    assert parse_block(source) is parse_block(source)
    assert parse_check("check if cached(1)") is parse_check("check if cached(1)")
    with pytest.raises(ParseError):
        parse_policy("check if cached(1)")
    long = source + ";" + " " * 20_000
    assert parse_program(long) == parse_program(source)


def test_the_grammar_is_read_only_when_there_is_source_to_parse() -> None:
    script = (
        "import sys, capability.datalog.parser, capability.datalog.printer, capability.datalog.parameters;"
        "sys.exit('lark' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_share_the_parser() -> None:
    sources = [f"a({n}); check if a($x{n}), $x{n} == {n} || [{n}].any($p -> $p == $x{n})" for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        printed = list(pool.map(lambda source: print_program(parse_program(source)), sources))
    assert [text.replace("\n", " ").strip() for text in printed] == [f"{source};" for source in sources]


@pytest.mark.parametrize(
    "source",
    [
        "check if !1 + 2 == 3 && 1 - -3 < 2 || 4 ^ 5 | 6 & 7 * 8 / 9 === 1",
        'check if "a".length() == 1, [1].any($p -> {2}.all($q -> $p > $q)), (1 / 0).try_or(2) == 2',
        'check if a($0), {"k": [1, null]}.get("k").contains(null) or b("x") trusting previous, authority',
        "h($x, 1) <- b($x), $x.extern::f(1 + 2) trusting authority",
        'reject if a(2020-12-21T09:23:12Z), true.type() == "bool"',
        "or(hex:00ff, {1, 2}, {,}, true, null, -1)",
        "check if true || !false && 2 * !1 + 3 == 4",
    ],
)
def test_the_ecosystems_engine_reads_and_prints_the_same(source: str) -> None:
    ours = print_program(parse_block(source))
    assert ours == f"{source};\n"
    assert repr(biscuit_auth.BlockBuilder(source)) == ours
