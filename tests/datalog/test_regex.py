"""Regular expressions: read alike or refused, never read in two ways."""

import os
import random
import subprocess
import sys

import pytest

from capability.datalog.errors import EvaluationError, EvaluationReason, LimitExceeded
from capability.datalog.limits import GUARD_LIMITS, Limits, Meter
from capability.datalog.regex import match_pattern
from tests.datalog import peer


def match(pattern: str, text: str) -> bool:
    return match_pattern(pattern, text, Meter(Limits()))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        ("a$", "a\n", False),
        ("(?m)a$", "a\n", True),
        (".", "\n", False),
        ("(?s).", "\n", True),
        ("^.$", "é", True),
        ("^..$", "é", False),
        ("(?i)É", "é", True),
        (r"^\s$", "\v", True),
        (r"^\S$", "\v", False),
        (r"^[\s-]$", "\v", True),
        (r"^[^\s]$", "\v", False),
        (r"^[\S]$", "\v", False),
        (r"\w", "é", False),
        ("", "", True),
        ("[]a]", "]", True),
        ("[^]a]", "]", False),
        ("[a-]", "-", True),
        ("[[:alpha:]]", "a", True),
        ("(?P<name>a)", "a", True),
        ("(?<name>a)", "a", True),
        (r"\x41\x{e9}", "Aé", True),
        (r"^\p{Greek}+\pN$", "α1", True),
        (r"\z", "a", True),
        ("a{1000}", "a" * 1000, True),
        ("a\x00b", "a\x00b", True),
        ("(" * 100 + ")" * 100, "", True),
    ],
)
def test_matches(pattern: str, text: str, expected: bool) -> None:
    assert match(pattern, text) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "[a",
        "[",
        "[]",
        "[^]",
        "(",
        "(a",
        "(?:a",
        "a)",
        ")",
        "*",
        "+a",
        "(*)",
        "a|*",
        "(?i)*",
        "[b-a]",
        "a{2,1}",
    ],
)
def test_a_plainly_malformed_pattern_matches_nothing(pattern: str) -> None:
    assert match(pattern, "a") is False
    assert peer.holds("{text}.matches({pattern})", {"text": "a", "pattern": pattern}) is False


@pytest.mark.parametrize(
    "pattern",
    [
        "a{1001}",
        "a{0,99999999999999999999}",
        "a**",
        "a+?+",
        "a{2}{3}",
        "a{1}*",
        "(?x) a",
        "(?R)a",
        "(?ii)a",
        "(?)a",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?P=n)",
        "(?P<1>a)",
        "(?P<é>a)",
        "(?P<n>a)(?P<n>b)",
        "(?",
        r"\u0061",
        r"\U00000061",
        r"\<a",
        r"a\>",
        r"\b{start}a",
        r"\Qa.b\E",
        r"\C",
        r"\Z",
        r"\G",
        r"\K",
        r"\R",
        r"\X",
        r"\h",
        r"\e",
        r"\1",
        r"\0",
        r"\012",
        r"\x4",
        r"\x{110000}",
        r"\x{d800}",
        r"\pC",
        r"\p{C}",
        r"\p{^Lu}",
        r"\p{Letter}",
        r"\p{Alphabetic}",
        r"\p{sc=Greek}",
        r"\p{NoSuchScript}",
        "\\",
        "a{",
        "a{,2}",
        "a{x}",
        "{",
        "[a-z&&[^b]]",
        "[a&&b]",
        "[a--b]",
        "[a~~b]",
        "[[a]b]",
        "[[:nope:]]",
        "[[=a=]]",
        "[a-c-e]",
        r"[\d-z]",
        r"[a-\d]",
        r"[\b]",
        r"[\A]",
        "(" * 201 + ")" * 201,
        "(a{1000}){1000}",
        r"\pL{100}",
        "x" * 40_000,
    ],
)
def test_a_pattern_that_may_be_read_in_two_ways_is_an_error(pattern: str) -> None:
    with pytest.raises(EvaluationError) as raised:
        match(pattern, "a")
    assert raised.value.reason is EvaluationReason.UNSUPPORTED_REGEX


# Pieces that are read alike, and pieces that tempt one of the dialects to read them in its own way.
_WORDS = r"""
\d \D \w \W \s \S \b \B \A \z \. \- \_ \< \> \n \t \x41 \x{e9} \pL \P{L} \p{Lu} \p{Greek}
\Q \E \C \1 \0 \u0061 \a \f \v \/ \# \& \~ \] \{ \} \Z \h \R
(?i) (?m) (?s) (?U) (?x) (?: (?P<n> (?<n> (?i: (?-i) (?i-s: (?=a) () (|a)
{2} {1,2} {,2} {2,1} {0} {1,} && -- ~~
[a-c] [^a] [^]a] []a] [a-] [-a] [\d] [\w-] [[:alpha:]] [[:^digit:]] [a&&b] [a[b]] [^\s] [\]a] [\-a] [+-.]
"""
_PIECES = ("\\ ", *"ab1_ é\n.^$|()[]{}*+?-&~#%,/<>:=!", *_WORDS.split())
_TEXTS = (
    "",
    "a",
    "b",
    "ab",
    "A",
    "aab",
    "1",
    "_",
    "é",
    "a\n",
    "\na\nb",
    "a-b",
    "[a]",
    "{2}",
    "-",
    "&",
    "α",
    "\\",
    "\v",
    "<",
)


def test_random_patterns_match_as_in_the_rust_engine_or_are_refused() -> None:
    rng = random.Random(20)
    decided = 0
    for _ in range(4000):
        pattern = "".join(rng.choices(_PIECES, k=rng.randint(1, 5)))
        for text in rng.sample(_TEXTS, 3):
            try:
                ours = match(pattern, text)
            except EvaluationError:
                break
            decided += 1
            if text.isascii() or not any(unicode in pattern for unicode in (r"\w", r"\W", r"\b", r"\B")):
                assert ours is peer.holds("{text}.matches({pattern})", {"text": text, "pattern": pattern}), (
                    pattern
                )
    assert decided > 4000


def test_every_ascii_escape_is_read_alike_or_refused() -> None:
    for code in range(128):
        for pattern in (f"^\\{chr(code)}$", f"^[\\{chr(code)}]$", f"^[a\\{chr(code)}]$"):
            for other in range(128):
                try:
                    ours = match(pattern, chr(other))
                except EvaluationError:
                    break
                assert ours is peer.holds(
                    "{text}.matches({pattern})", {"text": chr(other), "pattern": pattern}
                ), pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("((x|a|b){0,30}){20}y", "ab" * 30_000),
        ("(a{0,100}){0,9}b", "a" * 60_000),
        ("(.{1,40}a.{1,40}){4}z", "ab" * 30_000),
        ("(x+x+)+y", "x" * 60_000 * 100),
    ],
)
def test_a_search_is_charged_for_its_worst_case_before_it_runs(pattern: str, text: str) -> None:
    with pytest.raises(LimitExceeded):
        match_pattern(pattern, text, Meter(GUARD_LIMITS))


def test_many_patterns_that_are_slow_to_compile_reach_the_limit() -> None:
    meter = Meter(GUARD_LIMITS)
    patterns = iter(rf"\pL{{20}}{number}" for number in range(100))
    with pytest.raises(LimitExceeded):
        any(match_pattern(pattern, "a", meter) for pattern in patterns)
    assert next(patterns, None) is not None


def test_steps_do_not_depend_on_what_is_cached() -> None:
    first, second = Meter(Limits()), Meter(Limits())
    match_pattern("never seen before by (any|other) test", "text", first)
    match_pattern("never seen before by (any|other) test", "text", second)
    assert first.steps == second.steps
    again = first.steps
    match_pattern("never seen before by (any|other) test", "text", first)
    assert first.steps - again < again, "a pattern is compiled once"


def test_nothing_is_printed_about_a_refused_pattern() -> None:
    program = (
        "from capability.datalog.limits import Limits, Meter\n"
        "from capability.datalog.regex import match_pattern\n"
        "from capability.datalog.errors import EvaluationError\n"
        "for pattern in ('(', r'\\pL{1000}', 'a{1001}', r'\\p{Nope}'):\n"
        "    try: match_pattern(pattern, 'a', Meter(Limits()))\n"
        "    except EvaluationError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout, done.stderr) == (b"", b"")
