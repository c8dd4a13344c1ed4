"""What an attacker writes in a block: to fake, to mislead the reader, to burn time or the stack."""

from collections.abc import Iterator

from spec.generate.datalog import (
    LE,
    REGEX,
    STRICT_EQ,
    Date,
    RawTerm,
    Tokens,
    Var,
    block,
    check,
    p,
    rule,
)
from spec.generate.protobuf import message
from spec.generate.signing import (
    chain,
)
from spec.generate.vectors import Vector, refused, token_vector


def time_attacks() -> Iterator[Vector]:
    """Yields attempts to fake what the authorizer alone may state, and to burn its time."""
    expiry = check(p("time", Var("t")), (Var("t"), Date(1_700_000_000), LE), kind=1)
    tokens = Tokens()
    yield token_vector(
        "time-stated-by-a-later-block", "A time that the holder states does not reach the authority's check.",
        chain(tokens.block(expiry, version=4), tokens.block(p("time", Date(0)))), "expired",
        authorizer="time(2024-01-01T00:00:00Z); allow if true;", policy=0, failed=[(0, 0)],
    )  # fmt: skip
    tokens = Tokens()
    yield token_vector(
        "time-stated-twice", "`check all` fails when one of several times is too late.",
        chain(tokens.block(), tokens.block(expiry, p("time", Date(0)), version=4)), "expired",
        authorizer="time(2024-01-01T00:00:00Z); allow if true;", policy=0, failed=[(1, 0)],
    )  # fmt: skip
    yield token_vector(
        "regex-that-backtracks",
        "A pattern that is exponential when it backtracks takes linear time.",
        chain(block(p("s", "a" * 5000 + "!"), check(p("s", Var("s")), (Var("s"), "^(a+)+$", REGEX)))),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    names = "abc"
    cross = rule(p("all", *(Var(name) for name in names)), *(p("n", Var(name)) for name in names))
    yield token_vector(
        "rule-that-floods-the-world", "A rule that derives 27,000 facts from thirty is stopped.",
        chain(block(*(p("n", number) for number in range(30)), cross)), "limit.facts", peer="cannot",
        limits={"max_facts": 10_000},
    )  # fmt: skip
    cross_check = check(*(p("n", Var(name)) for name in "abcdefgh"), (Var("a"), -1, STRICT_EQ))
    yield token_vector(
        "join-that-explodes", "A check that joins thirty facts eight times is stopped inside the join.",
        chain(block(*(p("n", number) for number in range(30)), cross_check)), "limit.steps", peer="cannot",
        limits={"max_steps": 50_000},
    )  # fmt: skip


def display_attacks() -> Iterator[Vector]:
    """Yields strings that try to look like something else when they are printed."""
    fakes: list[tuple[str, str, str, str]] = [
        ("quote", "A string that closes its own quotes.", '"); admin("', 'n("\\"); admin(\\"");\n'),
        ("newline", "A string with a line that looks like a check.", "a\ncheck if true;",
         'n("a\\ncheck if true;");\n'),
        ("backslash", "A string that ends in a backslash.", "a\\", 'n("a\\\\");\n'),
    ]  # fmt: skip
    for name, about, content, source in fakes:
        yield token_vector(f"printed-{name}", about, chain(block(p("n", content))), sources=[source],
                           peer=None)  # fmt: skip
    hidden: list[tuple[str, str, str, str]] = [
        ("control", "An escape sequence for terminals.", 'n("\x1b[2J");', 'n("\\u{1b}[2J");'),
        ("bidirectional", "Characters that turn the direction of text.", 'n("\u202eab\u2066");',
         'n("\\u{202e}ab\\u{2066}");'),
        ("carriage-return", "A return to the start of the line.", 'n("a\rb");', 'n("a\\u{d}b");'),
        ("zero-width", "A space that nobody sees.", 'n("a\u200bb");', 'n("a\\u{200b}b");'),
        ("accents", "Letters of any script are shown as they are.", 'n("é日");', 'n("é日");'),
    ]  # fmt: skip
    for name, about, source, shown in hidden:
        yield {"name": f"shown-{name}", "about": about, "kind": "display", "text": source, "shown": shown}


def stack_bombs() -> Iterator[Vector]:
    """Yields messages that nest to exhaust a stack."""
    term = message((2, 1))
    for _ in range(32):
        term = message((9, message((1, term))))
    yield refused("nesting-too-deep", "Terms that nest 33 deep.",
                  chain(block(p("n", RawTerm(term)), version=6)).open(), "format.nesting")  # fmt: skip
    for _ in range(3000):
        term = message((9, message((1, term))))
    yield refused("nesting-far-too-deep", "Terms that nest three thousand deep.",
                  chain(block(p("n", RawTerm(term)), version=6)).open(), "format.wire")  # fmt: skip
    op = message((1, message((6, 1))))
    for _ in range(33):
        op = message((4, message((2, op))))
    expression = message((1, op), (1, op))
    body = message((1, message((1, 27))), (3, expression))
    nested = message((3, 6), (6, message((1, body))))
    yield refused("closures-too-deep", "Closures that nest 33 deep.", chain(nested).open(), "format.nesting")
    bomb = b"\x0b" * 5000
    yield refused("groups", "Groups of the oldest protobuf, opened five thousand times.", bomb, "format.wire")


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (time_attacks, display_attacks, stack_bombs):
        yield from topic()
