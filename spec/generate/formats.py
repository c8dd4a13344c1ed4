"""Tokens as they may look: keys, signature versions, block versions, tables, proofs, text."""

from collections.abc import Iterator
from typing import Any

from spec.generate.datalog import (
    ADD,
    ALL,
    BIT_AND,
    EQ,
    GET,
    MUL,
    PREVIOUS,
    STRICT_EQ,
    STRICT_NE,
    TYPE_OF,
    Closure,
    RawTerm,
    Set,
    Statement,
    Symbol,
    Tokens,
    Unary,
    Var,
    block,
    check,
    p,
    q,
    rule,
)
from spec.generate.protobuf import message
from spec.generate.signing import Chain, Part, chain, ed25519, key_text, low_s, p256, text, twin
from spec.generate.vectors import Vector, refused, token_vector

P256_ROOT = p256("root")
RIGHT = p("right", "orders", "read")
PLAIN = block(RIGHT)
X = Var("x")


def chains() -> Iterator[Vector]:
    """Yields chains of every kind of key, signature and proof."""
    one = chain(PLAIN)
    tokens = Tokens()
    blocks = [tokens.block(p("n", number)) for number in range(3)]
    three = chain(*blocks)
    yield token_vector(
        "one-block", "A token of one block, open, all Ed25519, signature version 0.", one,
        sources=['right("orders", "read");\n'], signature_versions=[0], sealed=False,
    )  # fmt: skip
    yield token_vector(
        "three-blocks", "Blocks chained by their next keys.", three,
        sources=["n(0);\n", "n(1);\n", "n(2);\n"], signature_versions=[0, 0, 0],
    )  # fmt: skip
    yield token_vector(
        "sealed", "A sealed token verifies by its final signature.", three.sealed(),
        revocation_ids=[signature.hex() for signature in three.signatures], sealed=True,
    )  # fmt: skip
    yield token_vector(
        "sealed-p256", "The final signature is made with the last next key, P-256 here.",
        chain(Part(PLAIN, next=p256("next"))).sealed(), sealed=True,
    )  # fmt: skip
    yield token_vector(
        "root-key-id", "The root key id is a hint for the verifier and is not signed.",
        one.open(root_key_id=4_294_967_295), root_key_id=4_294_967_295,
    )  # fmt: skip
    yield token_vector(
        "p256-root", "A P-256 root key; its signature makes the block's signature version 1.",
        chain(PLAIN, root=P256_ROOT), root=P256_ROOT, signature_versions=[1],
    )  # fmt: skip
    tokens = Tokens()
    mixed = chain(
        Part(tokens.block(p("n", 0)), next=p256("next 0")),
        tokens.block(p("n", 1)),
        tokens.block(p("n", 2)),
    )
    yield token_vector(
        "mixed-keys", "A P-256 key in an Ed25519 chain; signature version 1 stays from there on.",
        mixed, signature_versions=[1, 1, 1],
    )  # fmt: skip
    tokens = Tokens()
    late = chain(tokens.block(p("n", 0)), tokens.block(check((1, 1, EQ)), version=6), tokens.block(p("n", 2)))
    yield token_vector(
        "signature-version-rises-with-datalog",
        "Datalog 6 is signed with version 1, and so is every block after it.",
        late, signature_versions=[0, 1, 1],
    )  # fmt: skip
    tokens = Tokens()
    first, second = tokens.block(p("n", 0)), tokens.block(p("n", 1))
    yield token_vector(
        "signature-version-one-early", "Signature version 1 is read for any block.",
        chain(Part(first, version=1), Part(second, version=1)), signature_versions=[1, 1],
    )  # fmt: skip
    yield token_vector(
        "signature-version-back-to-zero", "A version 0 signature after one of version 1 is read.",
        chain(Part(first, version=1), Part(second, version=0)), signature_versions=[1, 0],
    )  # fmt: skip
    yield token_vector(
        "third-party-block", "A block with an external signature, between first-party blocks.",
        chain(first, Part(block(p("m", 1), version=5), external=ed25519("alice")), second),
        sources=["n(0);\n", "m(1);\n", "n(1);\n"], signature_versions=[0, 1, 1],
        external_keys=[None, key_text(ed25519("alice").public), None],
    )  # fmt: skip
    yield token_vector(
        "third-party-block-sealed", "A token that ends in a third-party block can be sealed.",
        chain(first, Part(block(p("m", 1), version=5), external=p256("bob"))).sealed(), sealed=True,
    )  # fmt: skip
    high = high_s_chain()
    yield token_vector(
        "ecdsa-high-s", "An ECDSA signature with the larger s verifies; its canonical id has the smaller.",
        high, root=P256_ROOT, canonical_revocation_ids=[low_s(high.signatures[0]).hex()],
    )  # fmt: skip
    yield token_vector(
        "sixty-four-blocks", "As many blocks as may be.", chain(PLAIN, *[block(version=3)] * 63),
    )  # fmt: skip
    yield token_vector(
        "third-party-twice", "One third party may sign several blocks; a key names them all.",
        chain(
            block(check(p("m", 1), p("m", 2), scopes=[ed25519("alice").public]), version=4),
            Part(block(p("m", 1), version=5), external=ed25519("alice")),
            Part(block(p("m", 2), version=5), external=ed25519("alice")),
        ),
    )  # fmt: skip


def high_s_chain() -> Chain:
    """Returns a chain under a P-256 root whose signature has the larger s."""
    good = chain(PLAIN, root=P256_ROOT)
    entry = good.links[0]
    changed = type(entry)(entry.payload, entry.next_key, twin(entry.signature), None, entry.version)
    return Chain((changed,), good.last)


def contents() -> Iterator[Vector]:
    """Yields what blocks may hold, beside what the other topics have in them."""
    yield token_vector(
        "context", "A block's context is free text that decides nothing.",
        chain(block(RIGHT, context="for the nightly export")), contexts=["for the nightly export"],
    )  # fmt: skip
    yield token_vector(
        "empty-block", "A block may be empty but for its version.", chain(block()), sources=[""],
    )  # fmt: skip
    yield token_vector(
        "default-symbols-only", "The default symbols are not declared.",
        chain(block(p("right", "read"))), sources=['right("read");\n'], symbols=[[]],
    )  # fmt: skip
    yield token_vector(
        "unused-symbols", "Symbols that nothing uses may be declared.",
        chain(block(RIGHT, extra_symbols=["nobody", "uses", "these"])),
        symbols=[["nobody", "uses", "these", "orders"]],
    )  # fmt: skip
    yield token_vector(
        "symbol-twice-in-one-block", "A symbol declared twice in one block has two numbers.",
        chain(block(p("n", Symbol(1024), Symbol(1025)), extra_symbols=["a", "a"])),
        sources=['n("a", "a");\n'],
    )  # fmt: skip
    yield token_vector(
        "names-with-digits-and-colons", "Names are any run of letters, digits, `_` and `:`.",
        chain(block(p("1a", 1), p(":b:c", 2), check(p("1a", Var("0"))))),
        sources=["1a(1);\n:b:c(2);\ncheck if 1a($0);\n"],
    )  # fmt: skip
    yield token_vector(
        "keywords-are-names", "Keywords are not reserved.",
        chain(block(p("or", 1), p("if", 1), p("true", 1), check(p("or", 1), p("if", 1)))),
        sources=["or(1);\nif(1);\ntrue(1);\ncheck if or(1), if(1);\n"],
    )  # fmt: skip
    yield token_vector(
        "every-type-in-a-fact", "A fact of each type of term.",
        chain(block(*every_type(), version=6)),
        sources=[
            'n(-1);\nn("text");\nn(1970-01-01T00:00:00Z);\nn(hex:00ff);\nn(hex:);\nn(true);\n'
            'n({1, 2});\nn({,});\nn(null);\nn([1, "a"]);\nn([]);\nn({1: "a", "k": 2});\nn({});\n'
        ],
    )  # fmt: skip
    yield token_vector(
        "integers-at-the-ends", "The smallest and the largest integer.",
        chain(block(p("n", -(2**63)), p("n", 2**63 - 1))),
        sources=["n(-9223372036854775808);\nn(9223372036854775807);\n"],
    )  # fmt: skip
    yield token_vector(
        "last-date", "The last second that a date can name.",
        chain(block(p("n", date(253402300799)))), sources=["n(9999-12-31T23:59:59Z);\n"],
    )  # fmt: skip
    yield token_vector(
        "map-key-twice", "Of two entries with one key the last wins.",
        chain(block(p("m", RawTerm(map_with_key_twice())), check(p("m", {"read": 2})), version=6)),
        sources=['m({"read": 2});\ncheck if m({"read": 2});\n'],
    )  # fmt: skip
    yield token_vector(
        "nesting-at-the-bound", "Terms may nest 32 deep.",
        chain(block(p("n", nested(32)), version=6)), sources=[f"n({'[' * 31 + '1' + ']' * 31});\n"],
    )  # fmt: skip
    yield token_vector(
        "expression-without-parentheses", "What needs parentheses and has none by wire is printed with them.",
        chain(block(check((1, 2, ADD, 3, MUL, 9, STRICT_EQ)))), sources=["check if (1 + 2) * 3 === 9;\n"],
        reparses=False, peer_prints=False,
    )  # fmt: skip


def date(seconds: int) -> Any:
    """Returns the term of a date."""
    return RawTerm(message((4, seconds)))


def every_type() -> list[Statement]:
    """Returns a fact of each type, and of each empty container."""
    values: list[Any] = [-1, "text", date(0), b"\0\xff", b"", True, Set([1, 2]), Set()]
    values += [None, [1, "a"], [], {1: "a", "k": 2}, {}]
    return [p("n", value) for value in values]


def map_with_key_twice() -> bytes:
    """Returns the map {"read": 1, "read": 2}."""
    entries = [message((1, message((2, 0))), (2, message((2, value)))) for value in (1, 2)]
    return message((10, message(*((1, entry) for entry in entries))))


def nested(depth: int) -> Any:
    """Returns an integer inside arrays, `depth` terms in all."""
    term: Any = 1
    for _ in range(depth - 1):
        term = [term]
    return term


def versions() -> Iterator[Vector]:
    """Yields the version that contents need: as written, and as read."""
    read: list[tuple[str, str, int, tuple[Statement, ...]]] = [
        ("plain", "facts, rules and `check if`", 3, (RIGHT, check(RIGHT))),
        ("strict-not-equal", "`!==`", 4, (check((1, 2, STRICT_NE)),)),
        ("bitwise", "`&`", 4, (check((1, 1, BIT_AND, 1, STRICT_EQ)),)),
        ("check-all", "`check all`", 4, (p("n", 1), check(p("n", Var("x")), kind=1))),
        ("scope", "a rule's `trusting`", 4, (rule(p("m", X), p("n", X), scopes=[PREVIOUS]),)),
        ("reject-if", "`reject if`", 6, (check((False,), kind=2),)),
        ("null", "null", 6, (p("n", None),)),
        ("lenient-equality", "`==`", 6, (check((1, 1, EQ)),)),
        ("closure", "a closure", 6, (check(([], Closure(("x",), (True,)), ALL)),)),
        ("type", "`.type()`", 6, (check((1, TYPE_OF, "integer", STRICT_EQ)),)),
        ("extern", "an extern call", 6, (check(p("m", 1), (1, Unary(4, "f"), 1, STRICT_EQ)),)),
    ]  # fmt: skip
    for name, what, version, statements in read:
        expect = "denied" if name == "extern" else "allowed"
        yield token_vector(
            f"version-{name}", f"A block with {what} declares {version}.",
            chain(block(*statements, version=version)), expect, versions=[version],
            policy=0, failed=[(0, 0)] if expect == "denied" else (),
        )  # fmt: skip
        if version > 3:
            yield refused(
                f"version-{name}-too-low",
                f"A block with {what} that declares {version - 1} is refused.",
                chain(block(*statements, version=version - 1)).open(),
                "format.version",
            )
    arrays = block(p("n", [1]), p("m", {"k": None}), check(([1], 0, GET, 1, STRICT_EQ)), version=3)
    yield token_vector(
        "version-arrays-and-maps-count-for-nothing",
        "Arrays, maps, what is inside them and `.get` are read from version 3 up.",
        chain(arrays), versions=[3],
    )  # fmt: skip
    yield token_vector(
        "version-higher-than-needed", "A block may declare a version higher than it needs.",
        chain(block(RIGHT, version=6)), versions=[6],
    )  # fmt: skip
    yield token_vector(
        "explicit-check-if", "An explicit kind 0 is `check if`, in any version.",
        chain(explicit_check_if()), sources=['right("read");\ncheck if right("read");\n'],
        peer="differs: check-kind-zero",
    )  # fmt: skip
    written: list[tuple[str, str, bool, int]] = [
        ("plain", 'right("orders", "read"); check if 1 < 2;', False, 3),
        ("scope", "check if n(1) trusting previous;", False, 4),
        ("block-scope", "trusting previous; n(1);", False, 4),
        ("check-all", "check all n($x), $x > 1;", False, 4),
        ("bitwise", "check if 1 | 2 === 3;", False, 4),
        ("third-party", "n(1);", True, 5),
        ("third-party-scope", "check if n(1) trusting authority;", True, 5),
        ("reject-if", "reject if n(1);", False, 6),
        ("lazy", "check if true && true;", False, 6),
        ("lenient", "check if 1 != 2;", False, 6),
        ("null-in-a-set", "n({null});", False, 6),
        ("array", "n([1]);", False, 6),
        ("map", 'n({"a": 1});', False, 6),
        ("try-or", "check if true.try_or(false);", False, 6),
        ("third-party-null", "n(null);", True, 6),
    ]
    for name, source, third_party, version in written:
        yield {
            "name": f"write-version-{name}",
            "about": f"`{source}` is written as version {version}.",
            "kind": "version",
            "source": source,
            "third_party": third_party,
            "version": version,
        }


def explicit_check_if() -> bytes:
    """Returns a block whose check has an explicit kind 0."""
    tokens = Tokens()
    query = tokens.tables.rule(q(p("right", "read")))
    fact = message((1, tokens.tables.predicate(p("right", "read"))))
    return message((3, 3), (4, fact), (6, message((1, query), (2, 0))))


def texts() -> Iterator[Vector]:
    """Yields the text forms of a token."""
    token = text(chain(block(p("right", "read", 1))).open())
    assert token.endswith("="), "the vector needs padding"
    plain = token.rstrip("=")
    yield token_vector("padding", "The text form is padded.", token)
    yield token_vector("no-padding", "Missing padding is accepted.", plain)
    yield token_vector(
        "prefix", "The prefix `biscuit:` is accepted.", "biscuit:" + token, peer="differs: text-prefix"
    )
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters[letters.index(plain[-1]) + 1]
    padding = token[len(plain) :]
    wrong: list[tuple[str, str, str]] = [
        ("standard-alphabet", "The standard alphabet's `+` is refused.", "+" + token[1:]),
        ("white-space", "White space inside is refused.", token[:20] + "\n" + token[20:]),
        ("trailing-space", "White space at the end is refused.", token + "\n"),
        ("partial-padding", "Too much padding is refused.", token + "="),
        ("trailing-bits", "Bits after the last byte must be zero.", plain[:-1] + last + padding),
        ("impossible-length", "One letter past a group is no byte.", "A" * (5 - len(plain) % 4) + plain),
        ("prefix-of-another-case", "The prefix is lower case.", "Biscuit:" + token),
    ]  # fmt: skip
    for name, about, given in wrong:
        yield refused(name, about, given, "format.text")
    yield refused("empty", "No text at all is no token.", "", "format.missing")


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (chains, contents, versions, texts):
        yield from topic()
