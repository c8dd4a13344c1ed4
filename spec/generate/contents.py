"""What a block must not hold: tables, terms, expressions and messages that no writer writes."""

from collections.abc import Iterator

from spec.generate.datalog import (
    ADD,
    ALL,
    LAZY_AND,
    NEGATE,
    TRY_OR,
    Binary,
    Closure,
    Key,
    Predicate,
    RawTerm,
    Rule,
    Set,
    Symbol,
    Tables,
    Tokens,
    Unary,
    Var,
    block,
    check,
    p,
    q,
    rule,
)
from spec.generate.protobuf import Field, message
from spec.generate.signing import chain, ed25519
from spec.generate.vectors import Vector, refused

KEY = ed25519("alice").public
X = Var("x")


def bad(name: str, about: str, expect: str, *payloads: bytes) -> Vector:
    """Returns the vector of a correctly signed token whose last payload is not to be read."""
    return refused(name, about, chain(*payloads).open(), expect)


def raw(*fields: Field) -> bytes:
    """Returns a version 6 block of the fields given."""
    return message((3, 6), *fields)


def raw_check(*query: Field) -> bytes:
    """Returns a block with one check, whose query has the fields given beside its head."""
    head = message((1, 27))
    return raw((6, message((1, message((1, head), *query)))))


def raw_op(op: bytes) -> bytes:
    """Returns a block with one check of one expression: `true`, then `op`."""
    true = message((1, message((6, 1))))
    return raw_check((3, message((1, true), (1, op))))


def tables() -> Iterator[Vector]:
    """Yields symbols and keys that are not what they must be."""
    yield bad("symbol-undeclared", "A symbol past the end of the table.", "format.symbol",
              block(p("right", Symbol(1024))))  # fmt: skip
    yield bad("symbol-reserved", "A symbol between the defaults and the first own one.", "format.symbol",
              block(p("right", Symbol(28))))  # fmt: skip
    yield bad("symbol-far-away", "A symbol of 64 bits.", "format.symbol",
              block(p("right", Symbol(2**64 - 1))))  # fmt: skip
    yield bad("symbol-of-a-later-block", "A symbol that only a later block declares.", "format.symbol",
              block(p("right", Symbol(1024))), block(p("n", 1)))  # fmt: skip
    yield bad("symbol-redeclared", "A block declares a symbol of an earlier block again.", "format.symbol",
              block(p("n", 1)), block(p("n", 2)))  # fmt: skip
    yield bad("default-symbol-redeclared", "A block declares a default symbol.", "format.symbol",
              block(extra_symbols=["read"]))  # fmt: skip
    yield bad("key-undeclared", "A scope whose key is not in the table.", "format.key_table",
              raw((6, Tables([], []).check(check((True,), scopes=[RawTerm(message((2, 3)))])))))  # fmt: skip
    yield bad("key-index-negative", "A scope with a negative key index.", "format.key_table",
              raw((6, Tables([], []).check(check((True,), scopes=[RawTerm(message((2, -1)))])))))  # fmt: skip
    yield bad("key-declared-twice", "A key stands twice in one table.", "format.key_table",
              block(extra_keys=[KEY, KEY], version=4))  # fmt: skip
    yield bad("key-redeclared", "A block declares a key of an earlier block again.", "format.key_table",
              block(extra_keys=[KEY], version=4), block(extra_keys=[KEY], version=4))  # fmt: skip
    yield bad("scope-empty", "A scope without content.", "format.scope",
              raw((6, Tables([], []).check(check((True,), scopes=[RawTerm(b"")])))))  # fmt: skip
    yield bad("scope-unknown", "A scope type that nobody has defined.", "format.kind",
              block(check((True,), scopes=[2]), version=6))  # fmt: skip
    yield bad("symbol-not-utf8", "A symbol that is not UTF-8.", "format.utf8", raw((1, b"\xff\xfe")))
    yield bad("symbol-surrogate", "A symbol that holds half of a surrogate pair.", "format.utf8",
              raw((1, b"\xed\xa0\x80")))  # fmt: skip
    yield bad("context-not-utf8", "A context that is not UTF-8.", "format.utf8", raw((2, b"\xc3")))
    yield bad(
        "key-table-unknown-algorithm",
        "A key of an unknown algorithm in a block's table.",
        "signature.key",
        block(extra_keys=[Key(7, KEY.encoded)], version=4),
    )


def statements() -> Iterator[Vector]:
    """Yields facts, rules and checks that the language cannot say."""
    yield bad("fact-without-terms", "A fact has at least one term.", "format.predicate", block(p("right")))
    yield bad("predicate-without-terms", "A predicate in a body has at least one term.", "format.predicate",
              block(check(p("right"))))  # fmt: skip
    yield bad("check-without-queries", "A check has at least one query.", "format.check", raw((6, b"")))
    yield bad(
        "check-kind-unknown",
        "A check of an unknown kind must not be read as `check if`.",
        "format.kind",
        block(check((True,), kind=3), version=6),
    )
    yield bad("name-with-a-space", "A predicate's name that the grammar cannot write.", "format.name",
              block(p("is admin", 1)))  # fmt: skip
    yield bad("name-empty", "A predicate without a name.", "format.name", block(p("", 1)))
    yield bad("name-that-fakes-a-statement", "A name that would print as other statements.", "format.name",
              block(p("a(1); b", 1)))  # fmt: skip
    yield bad("variable-name-with-a-quote", "A variable's name that the grammar cannot write.", "format.name",
              block(check(p("n", Var('x"')))))  # fmt: skip
    yield bad("fact-without-predicate", "A fact message without content.", "format.missing", raw((4, b"")))
    yield bad("rule-without-head", "A rule message without a head.", "format.missing", raw((5, b"")))
    yield bad(
        "block-unknown-field",
        "A field that nobody has defined could restrict something.",
        "format.wire",
        raw((9, b"x")),
    )
    yield bad("nested-unknown-field", "An undefined field deep inside a block.", "format.wire",
              raw((4, message((1, message((1, 4), (2, message((2, 1))), (7, 1)))))))  # fmt: skip
    yield bad("block-not-protobuf", "A payload that is no message.", "format.wire", b"\x0a\x05x")
    yield bad("head-name-undeclared", "A query's head is read like any other.", "format.symbol",
              raw((6, message((1, message((1, message((1, 5000)))))))))  # fmt: skip
    yield bad("rule-head-name", "A rule's head with a name that the grammar cannot write.", "format.name",
              block(rule(Predicate("a b", (X,)), p("n", X))))  # fmt: skip


def terms() -> Iterator[Vector]:
    """Yields terms that are none."""
    bad_terms: list[tuple[str, str, str, object]] = [
        ("term-empty", "A term without content.", "format.term", RawTerm(b"")),
        ("set-of-mixed-types", "A set holds one type.", "format.set", Set([1, "read"])),
        ("set-of-sets", "A set holds no sets.", "format.set", Set([Set([1])])),
        ("set-with-variable", "A variable inside a set.", "format.variable", Set([X])),
        ("array-with-variable", "A variable inside an array.", "format.variable", [X]),
        ("map-with-variable", "A variable inside a map.", "format.variable", {"read": X}),
        (
            "map-key-empty",
            "A map entry with an empty key.",
            "format.term",
            RawTerm(message((10, message((1, message((1, b""), (2, message((2, 1))))))))),
        ),
        (
            "map-value-missing",
            "A map entry without a value.",
            "format.missing",
            RawTerm(message((10, message((1, message((1, message((1, 1))))))))),
        ),
        (
            "date-after-9999",
            "A date that RFC 3339 cannot write.",
            "format.date",
            RawTerm(message((4, 253402300800))),
        ),
        (
            "two-contents",
            "A term that is an integer and a string.",
            "format.wire",
            RawTerm(message((2, 1), (3, 0))),
        ),
    ]
    for name, about, expect, term in bad_terms:
        yield bad(name, about, expect, block(p("n", term), version=6))


def expressions() -> Iterator[Vector]:
    """Yields operations that do not form an expression."""
    cases: list[tuple[str, str, tuple[object, ...]]] = [
        ("operand-missing", "An operator without operands.", (ADD,)),
        ("one-operand-missing", "A binary operator with one operand.", (1, ADD)),
        ("unary-operand-missing", "A unary operator without an operand.", (NEGATE,)),
        ("value-left-over", "An expression that leaves two values.", (True, True)),
        ("expression-empty", "An expression of no operations.", ()),
        ("closure-left-over", "An expression that ends in a closure.", (Closure((), (True,)),)),
        ("closure-as-operand", "A closure where a value must stand.", (1, Closure((), (1,)), ADD)),
        ("value-where-a-closure-must-stand", "A lazy operator without a closure.", (True, True, LAZY_AND)),
        (
            "closure-with-wrong-parameters",
            "`all` with a closure of two parameters.",
            (Set([1]), Closure(("a", "b"), (True,)), ALL),
        ),
        (
            "closure-on-the-wrong-side",
            "`try_or` with its closure on the right.",
            (True, Closure((), (True,)), TRY_OR),
        ),
        ("closure-empty", "A closure of no operations.", (True, Closure((), ()), LAZY_AND)),
        ("call-without-a-function", "An extern call that names no function.", (1, Unary(4))),
        ("function-without-a-call", "An operator that names a function.", (True, Unary(0, "f"))),
        (
            "binary-call-without-a-function",
            "A binary extern call that names no function.",
            (1, 2, Binary(28)),
        ),
    ]
    for name, about, ops in cases:
        yield bad(name, about, "format.expression", block(check(ops), version=6))
    yield bad("operation-empty", "An operation without content.", "format.expression", raw_op(b""))
    yield bad("unary-operator-unknown", "A unary operator that nobody has defined.", "format.kind",
              raw_op(message((2, message((1, 5))))))  # fmt: skip
    yield bad("binary-operator-unknown", "A binary operator that nobody has defined.", "format.kind",
              block(check((1, 2, Binary(30))), version=6))  # fmt: skip
    yield bad("operator-kind-negative", "An operator with a negative number.", "format.kind",
              raw_op(message((2, message((1, -1))))))  # fmt: skip
    yield bad(
        "operator-kind-missing", "An operator without a number.", "format.missing", raw_op(message((2, b"")))
    )


def unrunnable() -> Iterator[Vector]:
    """Yields Datalog that reads and cannot be run."""
    tokens = Tokens()
    later = chain(tokens.block(p("n", 1)), tokens.block(rule(p("m", X), p("n", 1))))
    vector = refused(
        "unbound-head-in-a-later-block",
        "A rule with an unbound head variable, in a later block.",
        later.open(),
        "language.block",
    )
    yield {**vector, "authorizer": "allow if true;"}
    query = q(p("n", 1), (X, 1, ADD, 2, Binary(4)))
    unbound = Rule(p("m", 1), query.body, query.expressions)
    vector = refused(
        "unbound-variable-in-a-rule",
        "A rule's expression with an unbound variable fails when it runs.",
        chain(block(p("n", 1), unbound)).open(),
        "execution.unknown_variable",
    )
    yield {**vector, "authorizer": "allow if true;"}


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (tables, statements, terms, expressions, unrunnable):
        yield from topic()
