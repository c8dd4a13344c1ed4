"""Every operator: where it holds, where it does not, and where it fails."""

from collections.abc import Iterator
from typing import Any

from spec.generate.datalog import (
    ADD,
    ALL,
    ANY,
    BIT_AND,
    BIT_OR,
    BIT_XOR,
    CONTAINS,
    DIV,
    EAGER_AND,
    EAGER_OR,
    EQ,
    GE,
    GET,
    GT,
    INTERSECTION,
    LAZY_AND,
    LAZY_OR,
    LE,
    LENGTH,
    LT,
    MUL,
    NE,
    NEGATE,
    PARENS,
    PREFIX,
    REGEX,
    STRICT_EQ,
    STRICT_NE,
    SUB,
    SUFFIX,
    TRY_OR,
    TYPE_OF,
    UNION,
    Binary,
    Closure,
    Date,
    Set,
    Unary,
    Var,
    block,
    check,
    lazy,
)
from spec.generate.signing import chain
from spec.generate.vectors import Vector, token_vector

YES = "allowed"
NO = "denied"
TYPE = "execution.invalid_type"
OVERFLOW = "execution.overflow"
UNSUPPORTED = "execution.unsupported_regex"
ZERO = "execution.division_by_zero"

Case = tuple[str, str, tuple[Any, ...], str]

MAX = 2**63 - 1
MIN = -(2**63)
D1, D2 = Date(1575452801), Date(1607075201)
T1, T2 = "2019-12-04T09:46:41Z", "2020-12-04T09:46:41Z"
V = Var("p")
SAY = Unary(4, "say")
JOIN = Binary(28, "join")


def closure(*ops: Any) -> Closure:
    """Returns the closure over `$p`."""
    return Closure(("p",), ops)


V3: tuple[Case, ...] = (
    ("less-than", "1 < 2", (1, 2, LT), YES),
    ("less-than-equal-operands", "2 < 2", (2, 2, LT), NO),
    ("less-than-dates", f"{T1} < {T2}", (D1, D2, LT), YES),
    ("less-than-strings", '"a" < "b"', ("a", "b", LT), TYPE),
    ("less-than-mixed", f"1 < {T1}", (1, D1, LT), TYPE),
    ("less-than-bytes", "hex:00 < hex:01", (b"\0", b"\1", LT), TYPE),
    ("greater-than", "2 > 1", (2, 1, GT), YES),
    ("greater-than-equal-operands", "2 > 2", (2, 2, GT), NO),
    ("greater-than-dates", f"{T2} > {T1}", (D2, D1, GT), YES),
    ("greater-than-booleans", "true > false", (True, False, GT), TYPE),
    ("less-or-equal", "2 <= 2", (2, 2, LE), YES),
    ("less-or-equal-negative", "1 <= -1", (1, -1, LE), NO),
    ("less-or-equal-dates", f"{T1} <= {T1}", (D1, D1, LE), YES),
    ("less-or-equal-mixed", '1 <= "1"', (1, "1", LE), TYPE),
    ("greater-or-equal", "2 >= 2", (2, 2, GE), YES),
    ("greater-or-equal-fails", "1 >= 2", (1, 2, GE), NO),
    ("greater-or-equal-dates", f"{T2} >= {T1}", (D2, D1, GE), YES),
    ("greater-or-equal-sets", "{1} >= {1}", (Set([1]), Set([1]), GE), TYPE),
    ("strict-equal-integers", "3 === 3", (3, 3, STRICT_EQ), YES),
    ("strict-equal-fails", '"a" === "b"', ("a", "b", STRICT_EQ), NO),
    ("strict-equal-sets-in-any-order", "{1, 2} === {1, 2}", (Set([2, 1]), Set([1, 2]), STRICT_EQ), YES),
    ("strict-equal-bytes", "hex:12ab === hex:12ab", (b"\x12\xab", b"\x12\xab", STRICT_EQ), YES),
    ("strict-equal-integer-and-boolean", "1 === true", (1, True, STRICT_EQ), TYPE),
    ("strict-equal-integer-and-date", f"1575452801 === {T1}", (1575452801, D1, STRICT_EQ), TYPE),
    ("set-contains", "{1, 2}.contains(2)", (Set([1, 2]), 2, CONTAINS), YES),
    ("set-does-not-contain", "{1, 2}.contains(3)", (Set([1, 2]), 3, CONTAINS), NO),
    ("set-contains-another-type", '{1, 2}.contains("1")', (Set([1, 2]), "1", CONTAINS), NO),
    ("set-contains-boolean-is-not-one", "{1}.contains(true)", (Set([1]), True, CONTAINS), NO),
    ("set-contains-set", "{1, 2}.contains({2})", (Set([1, 2]), Set([2]), CONTAINS), YES),
    ("set-does-not-contain-larger-set", "{1}.contains({1, 2})", (Set([1]), Set([1, 2]), CONTAINS), NO),
    ("set-contains-empty-set", "{1}.contains({,})", (Set([1]), Set(), CONTAINS), YES),
    ("string-contains", '"orders".contains("der")', ("orders", "der", CONTAINS), YES),
    ("string-does-not-contain", '"orders".contains("red")', ("orders", "red", CONTAINS), NO),
    ("integer-contains", "12.contains(1)", (12, 1, CONTAINS), TYPE),
    ("string-contains-integer", '"1".contains(1)', ("1", 1, CONTAINS), TYPE),
    ("bytes-contain", "hex:0102.contains(hex:01)", (b"\1\2", b"\1", CONTAINS), TYPE),
    ("starts-with", '"/orders/7".starts_with("/orders/")', ("/orders/7", "/orders/", PREFIX), YES),
    ("starts-with-fails", '"/orders".starts_with("orders")', ("/orders", "orders", PREFIX), NO),
    ("starts-with-integer", '"12".starts_with(1)', ("12", 1, PREFIX), TYPE),
    ("ends-with", '"report.txt".ends_with(".txt")', ("report.txt", ".txt", SUFFIX), YES),
    ("ends-with-fails", '"report.txt".ends_with("report")', ("report.txt", "report", SUFFIX), NO),
    ("ends-with-bytes", 'hex:00.ends_with("a")', (b"\0", "a", SUFFIX), TYPE),
    ("matches", '"aaabde".matches("a*c?.e")', ("aaabde", "a*c?.e", REGEX), YES),
    ("matches-unanchored", '"xxabcxx".matches("abc")', ("xxabcxx", "abc", REGEX), YES),
    ("matches-fails", '"abc".matches("^b")', ("abc", "^b", REGEX), NO),
    ("matches-end-is-not-before-newline", '"abc\\n".matches("c$")', ("abc\n", "c$", REGEX), NO),
    ("matches-malformed-pattern", '"a".matches("(")', ("a", "(", REGEX), NO),
    ("matches-descending-range", '"a".matches("[z-a]")', ("a", "[z-a]", REGEX), NO),
    ("matches-integer", '1.matches("1")', (1, "1", REGEX), TYPE),
    ("add", "1 + 2 === 3", (1, 2, ADD, 3, STRICT_EQ), YES),
    ("add-not-equal", "1 + 2 === 4", (1, 2, ADD, 4, STRICT_EQ), NO),
    ("add-strings", '"a" + "b" === "ab"', ("a", "b", ADD, "ab", STRICT_EQ), YES),
    ("add-overflow", f"{MAX} + 1 === 0", (MAX, 1, ADD, 0, STRICT_EQ), OVERFLOW),
    ("add-mixed", '1 + "1" === 2', (1, "1", ADD, 2, STRICT_EQ), TYPE),
    ("add-bytes", "hex:00 + hex:01 === hex:0001", (b"\0", b"\1", ADD, b"\0\1", STRICT_EQ), TYPE),
    ("add-booleans", "true + true === 2", (True, True, ADD, 2, STRICT_EQ), TYPE),
    ("subtract", "1 - 2 === -1", (1, 2, SUB, -1, STRICT_EQ), YES),
    ("subtract-not-equal", "1 - 2 === 1", (1, 2, SUB, 1, STRICT_EQ), NO),
    ("subtract-underflow", f"{MIN} - 1 === 0", (MIN, 1, SUB, 0, STRICT_EQ), OVERFLOW),
    ("subtract-dates", f"{T2} - {T1} === 0", (D2, D1, SUB, 0, STRICT_EQ), TYPE),
    ("multiply", "3 * -4 === -12", (3, -4, MUL, -12, STRICT_EQ), YES),
    ("multiply-not-equal", "3 * 4 === 7", (3, 4, MUL, 7, STRICT_EQ), NO),
    ("multiply-overflow", f"{MAX} * 2 === 0", (MAX, 2, MUL, 0, STRICT_EQ), OVERFLOW),
    ("multiply-string", '"a" * 2 === "aa"', ("a", 2, MUL, "aa", STRICT_EQ), TYPE),
    ("divide-truncates", "-7 / 2 === -3", (-7, 2, DIV, -3, STRICT_EQ), YES),
    ("divide-does-not-floor", "-7 / 2 === -4", (-7, 2, DIV, -4, STRICT_EQ), NO),
    ("divide-by-zero", "1 / 0 === 0", (1, 0, DIV, 0, STRICT_EQ), ZERO),
    ("divide-smallest-by-minus-one", f"{MIN} / -1 === 0", (MIN, -1, DIV, 0, STRICT_EQ), ZERO),
    ("divide-strings", '"a" / "b" === 1', ("a", "b", DIV, 1, STRICT_EQ), TYPE),
    ("set-intersection", "{1, 2}.intersection({2, 3}) === {2}",
        (Set([1, 2]), Set([2, 3]), INTERSECTION, Set([2]), STRICT_EQ), YES),
    ("set-intersection-of-other-types-is-empty", '{1}.intersection({"a"}) === {1}',
        (Set([1]), Set(["a"]), INTERSECTION, Set([1]), STRICT_EQ), NO),
    ("integer-intersection", "1.intersection({1}) === {1}",
        (1, Set([1]), INTERSECTION, Set([1]), STRICT_EQ), TYPE),
    ("set-union", "{1, 2}.union({2, 3}) === {1, 2, 3}",
        (Set([1, 2]), Set([2, 3]), UNION, Set([1, 2, 3]), STRICT_EQ), YES),
    ("set-union-not-equal", "{1}.union({2}) === {1}", (Set([1]), Set([2]), UNION, Set([1]), STRICT_EQ), NO),
    ("string-union", '"a".union({"a"}) === {"a"}', ("a", Set(["a"]), UNION, Set(["a"]), STRICT_EQ), TYPE),
    ("negate", "!false", (False, NEGATE), YES),
    ("negate-true", "!true", (True, NEGATE), NO),
    ("negate-integer", "!0", (0, NEGATE), TYPE),
    ("negate-takes-the-comparison-operand", "!false === true", (False, NEGATE, True, STRICT_EQ), YES),
    ("parentheses", "(1 + 2) * 3 === 9", (1, 2, ADD, PARENS, 3, MUL, 9, STRICT_EQ), YES),
    ("parentheses-change-the-value", "1 + 2 * 3 === 9", (1, 2, 3, MUL, ADD, 9, STRICT_EQ), NO),
    ("parentheses-of-nothing-boolean", "(1)", (1, PARENS), TYPE),
    ("string-length-counts-bytes", '"é".length() === 2', ("é", LENGTH, 2, STRICT_EQ), YES),
    ("bytes-length", "hex:000102.length() === 3", (b"\0\1\2", LENGTH, 3, STRICT_EQ), YES),
    ("set-length", "{1, 2}.length() === 3", (Set([1, 2]), LENGTH, 3, STRICT_EQ), NO),
    ("integer-length", "12.length() === 2", (12, LENGTH, 2, STRICT_EQ), TYPE),
    ("eager-and", "true &&! true", (True, True, EAGER_AND), YES),
    ("eager-and-fails", "true &&! false", (True, False, EAGER_AND), NO),
    ("eager-and-integer", "true &&! 1", (True, 1, EAGER_AND), TYPE),
    ("eager-and-runs-both-sides", "false &&! 1 / 0 === 0",
        (False, 1, 0, DIV, 0, STRICT_EQ, EAGER_AND), ZERO),
    ("eager-or", "false ||! true", (False, True, EAGER_OR), YES),
    ("eager-or-fails", "false ||! false", (False, False, EAGER_OR), NO),
    ("eager-or-string", 'false ||! "true"', (False, "true", EAGER_OR), TYPE),
    ("eager-or-runs-both-sides", "true ||! 1 / 0 === 0", (True, 1, 0, DIV, 0, STRICT_EQ, EAGER_OR), ZERO),
    ("not-a-boolean", "1", (1,), TYPE),
)  # fmt: skip

V4: tuple[Case, ...] = (
    ("bitwise-and", "6 & 3 === 2", (6, 3, BIT_AND, 2, STRICT_EQ), YES),
    ("bitwise-and-not-equal", "6 & 3 === 6", (6, 3, BIT_AND, 6, STRICT_EQ), NO),
    ("bitwise-and-booleans", "true & true === true", (True, True, BIT_AND, True, STRICT_EQ), TYPE),
    ("bitwise-or", "6 | 3 === 7", (6, 3, BIT_OR, 7, STRICT_EQ), YES),
    ("bitwise-or-not-equal", "6 | 3 === 6", (6, 3, BIT_OR, 6, STRICT_EQ), NO),
    ("bitwise-or-strings", '"a" | "b" === "c"', ("a", "b", BIT_OR, "c", STRICT_EQ), TYPE),
    ("bitwise-xor", "6 ^ 3 === 5", (6, 3, BIT_XOR, 5, STRICT_EQ), YES),
    ("bitwise-xor-negative", "-1 ^ 0 === 0", (-1, 0, BIT_XOR, 0, STRICT_EQ), NO),
    ("bitwise-xor-set", "{1} ^ 1 === 0", (Set([1]), 1, BIT_XOR, 0, STRICT_EQ), TYPE),
    ("strict-not-equal", "1 !== 2", (1, 2, STRICT_NE), YES),
    ("strict-not-equal-fails", '"a" !== "a"', ("a", "a", STRICT_NE), NO),
    ("strict-not-equal-mixed", '1 !== "1"', (1, "1", STRICT_NE), TYPE),
)  # fmt: skip

V6: tuple[Case, ...] = (
    ("lenient-equal", "1 == 1", (1, 1, EQ), YES),
    ("lenient-equal-mixed-is-false", '1 == "1"', (1, "1", EQ), NO),
    ("lenient-equal-boolean-is-not-one", "true == 1", (True, 1, EQ), NO),
    ("lenient-equal-null", "null == null", (None, None, EQ), YES),
    ("lenient-equal-operand-fails", "1 / 0 == 1", (1, 0, DIV, 1, EQ), ZERO),
    ("lenient-not-equal-mixed", '1 != "1"', (1, "1", NE), YES),
    ("lenient-not-equal-fails", "[1] != [1]", ([1], [1], NE), NO),
    ("lenient-not-equal-operand-fails", "{1} + 1 != 1", (Set([1]), 1, ADD, 1, NE), TYPE),
    ("strict-equal-null", "null === null", (None, None, STRICT_EQ), YES),
    ("strict-equal-null-and-integer", "null === 0", (None, 0, STRICT_EQ), TYPE),
    ("strict-equal-arrays", "[1, 2] === [2, 1]", ([1, 2], [2, 1], STRICT_EQ), NO),
    ("lazy-and", "true && true", (True, lazy(True), LAZY_AND), YES),
    ("lazy-and-fails", "true && false", (True, lazy(False), LAZY_AND), NO),
    ("lazy-and-skips-its-right-side", "false && 1 / 0 === 1",
        (False, lazy(1, 0, DIV, 1, STRICT_EQ), LAZY_AND), NO),
    ("lazy-and-integer", "1 && true", (1, lazy(True), LAZY_AND), TYPE),
    ("lazy-or", "false || true", (False, lazy(True), LAZY_OR), YES),
    ("lazy-or-fails", "false || false", (False, lazy(False), LAZY_OR), NO),
    ("lazy-or-skips-its-right-side", "true || 1 / 0 === 1",
        (True, lazy(1, 0, DIV, 1, STRICT_EQ), LAZY_OR), YES),
    ("lazy-or-right-side-must-end-boolean", "false || 1", (False, lazy(1), LAZY_OR), TYPE),
    ("lazy-or-right-side-may-be-compared", "(false || 1) == 1",
        (False, lazy(1), LAZY_OR, PARENS, 1, EQ), YES),
    ("all", "{1, 2}.all($p -> $p > 0)", (Set([1, 2]), closure(V, 0, GT), ALL), YES),
    ("all-fails", "[1, 2].all($p -> $p > 1)", ([1, 2], closure(V, 1, GT), ALL), NO),
    ("all-of-empty-set", "{,}.all($p -> $p > 1)", (Set(), closure(V, 1, GT), ALL), YES),
    ("all-binds-map-entries", '{"a": 1}.all($p -> $p.get(1) === 1)',
        ({"a": 1}, closure(V, 1, GET, 1, STRICT_EQ), ALL), YES),
    ("all-must-yield-booleans", "[1].all($p -> $p)", ([1], closure(V), ALL), TYPE),
    ("all-of-integer", "1.all($p -> true)", (1, closure(True), ALL), TYPE),
    ("any", "{1, 2}.any($p -> $p > 1)", (Set([1, 2]), closure(V, 1, GT), ANY), YES),
    ("any-fails", "[1, 2].any($p -> $p > 2)", ([1, 2], closure(V, 2, GT), ANY), NO),
    ("any-of-empty-array", "[].any($p -> true)", ([], closure(True), ANY), NO),
    ("any-must-yield-booleans", '["a"].any($p -> $p)', (["a"], closure(V), ANY), TYPE),
    ("any-of-string", '"a".any($p -> true)', ("a", closure(True), ANY), TYPE),
    ("any-element-fails", "[0].any($p -> 1 / $p === 1)",
        ([0], closure(1, V, DIV, 1, STRICT_EQ), ANY), ZERO),
    ("closure-shadows", "[true].any($p -> [true].all($p -> $p))",
        ([True], closure([True], closure(V), ALL), ANY), "execution.shadowed_variable"),
    ("array-get", '[1, "a"].get(1) === "a"', ([1, "a"], 1, GET, "a", STRICT_EQ), YES),
    ("array-get-out-of-range-is-null", "[1].get(1) == 1", ([1], 1, GET, 1, EQ), NO),
    ("array-get-negative-is-null", "[1].get(-1) === null", ([1], -1, GET, None, STRICT_EQ), YES),
    ("array-get-string", '[1].get("0") == 1', ([1], "0", GET, 1, EQ), TYPE),
    ("map-get", '{"k": 1}.get("k") === 1', ({"k": 1}, "k", GET, 1, STRICT_EQ), YES),
    ("map-get-missing-is-null", '{"k": 1}.get("x") == 1', ({"k": 1}, "x", GET, 1, EQ), NO),
    ("map-get-boolean", '{"k": 1}.get(true) == 1', ({"k": 1}, True, GET, 1, EQ), TYPE),
    ("set-get", "{1}.get(0) == 1", (Set([1]), 0, GET, 1, EQ), TYPE),
    ("try-or-recovers", "(1 / 0 === 1).try_or(true)",
        (lazy(1, 0, DIV, 1, STRICT_EQ, PARENS), True, TRY_OR), YES),
    ("try-or-without-error", "(1 === 2).try_or(true)",
        (lazy(1, 2, STRICT_EQ, PARENS), True, TRY_OR), NO),
    ("try-or-hands-back-its-operand", "true.try_or(1)", (lazy(True), 1, TRY_OR), YES),
    ("try-or-replacement-must-end-boolean", "(1 / 0).try_or(1)",
        (lazy(1, 0, DIV, PARENS), 1, TRY_OR), TYPE),
    ("union-of-two-types", '{1}.union({"a"}).length() === 2',
        (Set([1]), Set(["a"]), UNION, LENGTH, 2, STRICT_EQ), YES),
    ("type-of-integer", '1.type() === "integer"', (1, TYPE_OF, "integer", STRICT_EQ), YES),
    ("type-of-string", '"a".type() === "string"', ("a", TYPE_OF, "string", STRICT_EQ), YES),
    ("type-of-date", f'{T1}.type() === "date"', (D1, TYPE_OF, "date", STRICT_EQ), YES),
    ("type-of-bytes", 'hex:00.type() === "bytes"', (b"\0", TYPE_OF, "bytes", STRICT_EQ), YES),
    ("type-of-bool", 'true.type() === "bool"', (True, TYPE_OF, "bool", STRICT_EQ), YES),
    ("type-of-set", '{1}.type() === "set"', (Set([1]), TYPE_OF, "set", STRICT_EQ), YES),
    ("type-of-null", 'null.type() === "null"', (None, TYPE_OF, "null", STRICT_EQ), YES),
    ("type-of-array", '[1].type() === "array"', ([1], TYPE_OF, "array", STRICT_EQ), YES),
    ("type-of-map", '{1: 1}.type() === "map"', ({1: 1}, TYPE_OF, "map", STRICT_EQ), YES),
    ("type-of-differs", '1.type() === "string"', (1, TYPE_OF, "string", STRICT_EQ), NO),
    ("type-of-failing-operand", '(1 / 0).type() === "integer"',
        (1, 0, DIV, PARENS, TYPE_OF, "integer", STRICT_EQ), ZERO),
    ("array-contains", '["a", 1].contains(1)', (["a", 1], 1, CONTAINS), YES),
    ("array-does-not-contain", "[1].contains(true)", ([1], True, CONTAINS), NO),
    ("map-contains-key", '{"k": 1}.contains("k")', ({"k": 1}, "k", CONTAINS), YES),
    ("map-contains-tests-keys-only", '{"k": 1}.contains(1)', ({"k": 1}, 1, CONTAINS), NO),
    ("map-contains-a-type-no-key-has", '{"k": 1}.contains(true)', ({"k": 1}, True, CONTAINS), NO),
    ("set-contains-null", "{1}.contains(null)", (Set([1]), None, CONTAINS), TYPE),
    ("set-contains-array", "{1}.contains([1])", (Set([1]), [1], CONTAINS), TYPE),
    ("array-starts-with", "[1, 2, 3].starts_with([1, 2])", ([1, 2, 3], [1, 2], PREFIX), YES),
    ("array-starts-with-fails", "[1, 2].starts_with([2])", ([1, 2], [2], PREFIX), NO),
    ("array-starts-with-integer", "[1].starts_with(1)", ([1], 1, PREFIX), TYPE),
    ("array-ends-with", "[1, 2, 3].ends_with([3])", ([1, 2, 3], [3], SUFFIX), YES),
    ("array-ends-with-longer", "[1].ends_with([0, 1])", ([1], [0, 1], SUFFIX), NO),
    ("array-length", "[1, [2, 3]].length() === 2", ([1, [2, 3]], LENGTH, 2, STRICT_EQ), YES),
    ("map-length", '{"a": 1, "b": 2}.length() === 2', ({"a": 1, "b": 2}, LENGTH, 2, STRICT_EQ), YES),
    ("null-length", "null.length() === 0", (None, LENGTH, 0, STRICT_EQ), TYPE),
    ("extern-unary", '"a".extern::say() === "a"', ("a", SAY, "a", STRICT_EQ), "execution.unknown_extern"),
    ("extern-binary", '"a".extern::join("b") === "ab"',
        ("a", "b", JOIN, "ab", STRICT_EQ), "execution.unknown_extern"),
)  # fmt: skip

UNCATCHABLE: Case = (
    "try-or-does-not-catch-what-only-some-engines-refuse",
    '("a".matches("a{1001}") === true).try_or(true)',
    (lazy("a", "a{1001}", REGEX, True, STRICT_EQ, PARENS), True, TRY_OR),
    UNSUPPORTED,
)

EXTERN: tuple[Case, ...] = (
    ("extern-unary-called", '"a".extern::say() === "a"', ("a", SAY, "a", STRICT_EQ), YES),
    ("extern-unary-false", '"a".extern::say() === "b"', ("a", SAY, "b", STRICT_EQ), NO),
    ("extern-unary-raises", '1.extern::say() === "1"', (1, SAY, "1", STRICT_EQ), "execution.extern_failed"),
    ("extern-binary-called", '"a".extern::join("b") === "ab"', ("a", "b", JOIN, "ab", STRICT_EQ), YES),
    ("extern-binary-false", '"a".extern::join("b") === "ba"', ("a", "b", JOIN, "ba", STRICT_EQ), NO),
    ("extern-binary-raises", '"a".extern::join(1) === "a1"',
        ("a", 1, JOIN, "a1", STRICT_EQ), "execution.extern_failed"),
)  # fmt: skip

REGEX_DIFFERS: tuple[Case, ...] = (
    ("regex-look-around", '"ab".matches("a(?=b)")', ("ab", "a(?=b)", REGEX), UNSUPPORTED),
    ("regex-classes-are-ascii", '"é".matches("\\\\w")', ("é", "\\w", REGEX), NO),
    ("regex-repetition-too-large", '"a".matches("a{1001}")', ("a", "a{1001}", REGEX), UNSUPPORTED),
    ("regex-doubled-star", '"a".matches("a**")', ("a", "a**", REGEX), UNSUPPORTED),
    ("regex-verbose-flag", '"a".matches("(?x)a")', ("a", "(?x)a", REGEX), UNSUPPORTED),
    ("regex-class-set-operation", '"b".matches("[a-z&&[^b]]")', ("b", "[a-z&&[^b]]", REGEX), UNSUPPORTED),
    ("regex-word-start", '"a".matches("\\\\<a")', ("a", "\\<a", REGEX), UNSUPPORTED),
)  # fmt: skip

WORDS = {YES: "holds", NO: "does not hold"}


def case_vector(case: Case, version: int, **more: Any) -> Vector:
    """Returns the vector of one expression, as the only check of a token."""
    name, source, ops, expect = case
    says = WORDS.get(expect, f"fails with {expect}")
    return token_vector(
        name,
        f"`{source}` {says}.",
        chain(block(check(ops), version=version)),
        expect,
        policy=0 if expect == NO else None,
        failed=[(0, 0)] if expect == NO else (),
        sources=[f"check if {source};\n"],
        **more,
    )


def vectors() -> Iterator[Vector]:
    """Yields the vectors of all operators."""
    for version, cases in ((3, V3), (4, V4), (6, V6)):
        for case in cases:
            yield case_vector(case, version)
    for case in REGEX_DIFFERS:
        yield case_vector(case, 3, peer="differs: regular-expressions")
    yield case_vector(UNCATCHABLE, 6, peer="differs: limits-are-not-caught")
    for case in EXTERN:
        yield case_vector(case, 6, externs=["say", "join"])
