"""Turns the literals of a source into terms: the part of `transform` that knows no operators.

A `Mistake` has an offset in the text of its statement, and terms bring their own offset along, so that
whatever is found wrong later can still be pointed at.
"""

import re
from collections.abc import Callable
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    DATE_MAX,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    MAX_DEPTH,
    NULL_TERM,
    PARAMETER,
    STRING,
    VARIABLE,
    Term,
    make_map,
    make_set,
)

if TYPE_CHECKING:
    from lark import Token

Children: TypeAlias = list[Any]

_WORDS: Final[dict[str, Term]] = {"true": (BOOL, True), "false": (BOOL, False), "null": NULL_TERM}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"\\": "\\", '"': '"', "n": "\n"}
_EPOCH: Final = datetime(1970, 1, 1)


class Mistake(NamedTuple):
    """Something wrong at an offset of the statement."""

    offset: int
    message: str
    expected: tuple[str, ...] = ()


class Mistakes(Exception):
    """A statement that the grammar accepts and that still means nothing."""

    def __init__(self, *mistakes: Mistake) -> None:
        self.mistakes = mistakes
        super().__init__(mistakes)


class Located(NamedTuple):
    """A term, where it starts, and how many levels it has."""

    term: Term
    offset: int
    depth: int = 1


class TermTransform:
    """The methods for the terminals and the rules of terms; see `transform.Transform`."""

    def array(self, children: Children) -> Located:
        return _container(children[0], children[1:], "an array", lambda terms: (ARRAY, tuple(terms)))

    def set(self, children: Children) -> Located:
        return _container(children[0], children[1:], "a set", make_set)

    def map(self, children: Children) -> Located:
        return _container(
            children[0],
            [list(chain.from_iterable(entries)) for entries in children[1:]],
            "a map",
            lambda terms: make_map(zip(terms[::2], terms[1::2], strict=True)),
        )

    def entry(self, children: Children) -> Children:
        return children

    def INTEGER(self, token: "Token") -> Located:  # noqa: N802
        # The length is looked at first, because Python itself refuses to convert thousands of digits.
        value = int(token) if len(token) < 4000 else INTEGER_MAX + 1
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise Mistakes(Mistake(start_of(token), "this integer does not fit in 64 bits"))
        return Located((INTEGER, value), start_of(token))

    def STRING(self, token: "Token") -> Located:  # noqa: N802
        text = str(token[1:-1])
        if "\\" in text:
            for match in _ESCAPE.finditer(text):
                if match[1] not in _ESCAPES:
                    offset = start_of(token) + 1 + match.start()
                    expected = ("`\\\\`", '`\\"`', "`\\n`")
                    raise Mistakes(Mistake(offset, f"unknown escape `\\{match[1]}` in a string", expected))
            text = _ESCAPE.sub(lambda match: _ESCAPES[match[1]], text)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Mistakes(Mistake(start_of(token), "this string is not valid Unicode")) from error
        return Located((STRING, text), start_of(token))

    def BYTES(self, token: "Token") -> Located:  # noqa: N802
        digits = token[len("hex:") :]
        if len(digits) % 2:
            raise Mistakes(Mistake(start_of(token), "bytes need an even number of hexadecimal digits"))
        return Located((BYTES, bytes.fromhex(digits)), start_of(token))

    def DATE(self, token: "Token") -> Located:  # noqa: N802
        try:
            seconds = _seconds(token.upper())
        except ValueError as error:
            raise Mistakes(Mistake(start_of(token), f"there is no such date: {error}")) from error
        if not 0 <= seconds <= DATE_MAX:
            raise Mistakes(Mistake(start_of(token), "dates reach from 1970 to the end of 9999"))
        return Located((DATE, seconds), start_of(token))

    def WORD(self, token: "Token") -> Located:  # noqa: N802
        return Located(_WORDS[token], start_of(token))

    def VARIABLE(self, token: "Token") -> Located:  # noqa: N802
        return Located((VARIABLE, str(token[1:])), start_of(token))

    def PARAMETER(self, token: "Token") -> Located:  # noqa: N802
        return Located((PARAMETER, str(token[1:-1].strip())), start_of(token))


def start_of(token: "Token") -> int:
    return token.start_pos or 0


def _container(
    opening: "Token", contents: list[list[Located]], what: str, make: Callable[[list[Term]], Term]
) -> Located:
    """Returns what `make` makes of the terms; `contents` holds one list of them, or nothing."""
    offset = start_of(opening)
    terms: list[Term] = []
    depth = 0
    for term, start, nested in chain.from_iterable(contents):
        if term[0] == VARIABLE:
            raise Mistakes(Mistake(start, f"{what} cannot hold the variable ${term[1]}"))
        depth = max(depth, nested)
        terms.append(term)
    if depth >= MAX_DEPTH:
        raise Mistakes(Mistake(offset, f"terms are nested more than {MAX_DEPTH} deep"))
    try:
        return Located(make(terms), offset, depth + 1)
    except ValueError as error:
        raise Mistakes(Mistake(offset, str(error))) from error


def _seconds(text: str) -> int:
    """Returns the seconds since 1970 of an RFC 3339 date; drops fractions, and makes 59 of 60 seconds."""
    local, offset = (text[:-1], "+00:00") if text.endswith("Z") else (text[:-6], text[-6:])
    local = local.split(".")[0]
    if local.endswith(":60"):
        local = local[:-2] + "59"
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError("offset out of range")
    elapsed = datetime.fromisoformat(local) - _EPOCH
    east = (hours * 60 + minutes) * 60
    return elapsed.days * 86400 + elapsed.seconds - (east if offset[0] == "+" else -east)
