"""Sources: what they print as, and where they are wrong."""

from collections.abc import Iterator

from spec.generate.signing import ed25519, key_text, p256
from spec.generate.vectors import Vector, parse_vector

ALICE = key_text(ed25519("alice").public)
BOB = key_text(p256("bob").public)

# name, source, printed (None: as it stands)
PRINTED: list[tuple[str, str, str | None]] = [
    ("fact", 'right("orders", "read");', None),
    ("last-semicolon-left-out", 'right("orders", "read")', 'right("orders", "read");'),
    ("white-space", ' right (\n "a" ,\t1 ) ; ', 'right("a", 1);'),
    ("statements-by-kind", "check if n(1); n(1); m($x) <- n($x);", "n(1);\nm($x) <- n($x);\ncheck if n(1);"),
    ("line-comment", "// first\nn(1); // last", "n(1);"),
    ("block-comment", "/* a; \n * b */ n(1); /**/ m(2);", "n(1);\nm(2);"),
    ("empty", "", ""),
    ("only-a-comment", "// nothing", ""),
    ("rule", "m($x) <- n($x), $x > 1;", None),
    ("rule-without-variables", 'm("a") <- n(1);', None),
    ("rule-trusting", "m($x) <- n($x) trusting authority;", None),
    ("check-of-expressions-alone", "check if 1 < 2;", None),
    ("check-or", "check if n(1) or m(2), 1 < 2;", None),
    ("check-all", "check all n($x), $x > 1;", None),
    ("reject", "reject if n(1) or m(1);", None),
    ("allow", "allow if n(1) or m(1);", None),
    ("deny", "deny if true;", None),
    ("keywords-in-any-case", "CHECK IF n(1); Allow If true;", "check if n(1);\nallow if true;"),
    ("keywords-as-names", "or(1); if(1); trusting(1); check(1); all(1); hex(1);", None),
    ("trusting-several", f"check if n(1) trusting authority, previous, {ALICE}, {BOB};", None),
    ("trusting-each-branch", "check if n(1) trusting authority or m(1) trusting previous;", None),
    ("trusting-block", "trusting previous; n(1);", "trusting previous;\nn(1);"),
    ("names", "a:b_c9(1); 1a(2); :x(3);", None),
    ("variable-with-digit", "check if n($0), $0 > 1;", None),
    ("integers", "n(0, -1, 9223372036854775807, -9223372036854775808);", None),
    ("integer-leading-zero", "n(007);", "n(7);"),
    ("string-escapes", r'n("a\"b\\c\nd");', None),
    ("string-unicode", 'n("héllo 日本");', None),
    ("string-with-comment", 'n("// no /* comment */;");', None),
    ("bytes", "n(hex:00Ff);", "n(hex:00ff);"),
    ("bytes-empty", "n(hex:);", None),
    ("date", "n(2024-02-29T12:00:00Z);", None),
    ("date-offset", "n(2024-03-01T01:30:00+02:00);", "n(2024-02-29T23:30:00Z);"),
    ("date-fraction", "n(2024-03-01T00:00:00.999Z);", "n(2024-03-01T00:00:00Z);"),
    ("booleans-and-null", "n(true, false, null);", None),
    ("set", 'n({3, 1, 2, 1}, {"b", "a"});', 'n({1, 2, 3}, {"a", "b"});'),
    ("set-empty", "n({,});", None),
    ("set-of-one-keyword", "n({true}, {false}, {null});", None),
    ("array", 'n([1, "a", [true]]);', None),
    ("array-empty", "n([]);", None),
    ("map", 'n({"b": 1, 2: [1], "a": {"x": null}});', 'n({2: [1], "a": {"x": null}, "b": 1});'),
    ("map-empty", "n({});", None),
    ("map-key-twice", 'n({"a": 1, "a": 2});', 'n({"a": 2});'),
    ("precedence", "check if 1 + 2 * 3 - 4 / 2 === 5 && true || false;", None),
    ("precedence-bits", "check if 1 | 2 & 3 ^ 4 === 7;", None),
    ("parentheses-stay", "check if (1 + 2) * 3 === 9, (true);", None),
    ("left-associative", "check if 10 - 4 - 3 === 3, 16 / 4 / 2 === 2;", None),
    ("negation-takes-a-sum", "check if !1 + 2 === 3;", None),
    ("negation-of-a-method", 'check if !"a".starts_with("b");', None),
    ("methods-chain", "check if {1}.union({2}).intersection({1}).length() === 1;", None),
    ("method-on-negative", "check if -1.type() == \"integer\";", None),
    ("strict-and-lenient", "check if 1 == 1, 1 != 2, 1 === 1, 1 !== 2;", None),
    ("eager-forms", "check if true &&! false ||! true;", None),
    ("closures", "check if [1].all($p -> $p > 0 && [2].any($q -> $p < $q));", None),
    ("try-or", "check if (1 / 0 == 1).try_or(true);", None),
    ("get", 'check if {"a": [1]}.get("a").get(0) == 1;', None),
    ("extern", 'check if "a".extern::f(), 1.extern::ns:g(2);', None),
    ("parameters", "n({a}, [{b}], {\"k\": {c}}); check if n($x) trusting {key};", None),
    ("parameter-in-expression", "check if n($x), $x == {limit};", None),
]  # fmt: skip

# name, source, code, line, column
REFUSED: list[tuple[str, str, str, int, int]] = [
    ("not-datalog", "hello", "language.parse", 1, 1),
    ("fact-without-terms", "n();", "language.parse", 1, 3),
    ("unclosed-parenthesis", "n(1;", "language.parse", 1, 4),
    ("unclosed-string", 'n(1);\nn("a);', "language.parse", 2, 3),
    ("unclosed-comment", "n(1); /* a", "language.parse", 1, 7),
    ("unknown-escape", r'n("a\t");', "language.parse", 1, 5),
    ("stray-character", "n(1);\n  @", "language.parse", 2, 3),
    ("integer-too-large", "n(9223372036854775808);", "language.parse", 1, 3),
    ("integer-too-small", "n(1, -9223372036854775809);", "language.parse", 1, 6),
    ("odd-hex", "n(hex:abc);", "language.parse", 1, 3),
    ("date-that-is-none", "n(2023-02-29T00:00:00Z);", "language.parse", 1, 3),
    ("date-before-1970", "n(1969-12-31T23:59:59Z);", "language.parse", 1, 3),
    ("date-after-9999", "n(9999-12-31T23:59:59-01:00);", "language.parse", 1, 3),
    ("set-of-mixed-types", 'n({1, "a"});', "language.parse", 1, 3),
    ("set-of-sets", "n({{1, 2}});", "language.parse", 1, 3),
    ("variable-in-a-fact", "n($x);", "language.parse", 1, 3),
    ("variable-in-an-array", "check if n([$x]);", "language.parse", 1, 13),
    ("chained-comparison", "check if 1 < 2 < 3;", "language.parse", 1, 16),
    ("unknown-method", "check if 1.size() == 1;", "language.parse", 1, 12),
    ("check-without-query", "check if ;", "language.parse", 1, 10),
    ("unknown-scope", "check if n(1) trusting nobody;", "language.parse", 1, 24),
    ("key-too-short", "check if n(1) trusting ed25519/00ff;", "language.parse", 1, 24),
    ("upper-case-trusting", "check if n(1) Trusting authority;", "language.parse", 1, 15),
    ("second-block-clause", "trusting authority; trusting previous;", "language.parse", 1, 21),
    ("nesting-too-deep", f"n({'[' * 40}{']' * 40});", "language.parse", 1, 10),
    ("unbound-head", "m($y) <- n($x);", "language.parse", 1, 3),
    ("unbound-expression", "check if n($x), $y > 1;", "language.parse", 1, 17),
    ("unbound-policy", "allow if $y == 1;", "language.parse", 1, 10),
]  # fmt: skip


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for name, source, printed in PRINTED:
        about = f"`{source}` parses." if printed is None else f"`{source}` parses and prints otherwise."
        yield parse_vector(name, " ".join(about.split()), source, printed=expected(source, printed))
    for name, source, code, line, column in REFUSED:
        yield parse_vector(
            f"refused-{name}", "An error is reported at its place.", source, code, line=line, column=column
        )
    yield parse_vector("refused-policy-in-a-block", "A block holds no policies.", "n(1); allow if true;",
                       "language.parse", form="block", line=1, column=7)  # fmt: skip
    yield parse_vector("refused-several", "Every mistake is reported, not the first alone.",
                       "n(;\nm(1);\ncheck if 1 <;\nk($x);", "language.parse", line=1, column=3,
                       lines=[1, 3, 4])  # fmt: skip


def expected(source: str, printed: str | None) -> str:
    """Returns what a source prints as, each statement on a line of its own."""
    if printed is None:
        printed = source.replace("; ", ";\n")
    return printed + "\n" if printed else ""
