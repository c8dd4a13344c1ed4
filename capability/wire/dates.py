"""The bytes of a statement without its dates, by which those that differ in nothing else are known."""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

Literals: TypeAlias = tuple[bytes, ...]
"""What stands before, between and behind the dates."""

FIRST: Final = 2**28
"""The least number that takes five bytes."""

_DATE: Final = re.compile(rb"\x06\x20([\x80-\xff]{4}[\x01-\x7f])", re.DOTALL)
"""What may be a term with a date after 1978: its length, its tag, and a number of five bytes."""


def split(form: bytes) -> tuple[Literals, list[int]]:
    """Returns what bytes must have in common to fit one stencil, and what stands between: maybe dates."""
    parts = _DATE.split(form)
    return tuple(parts[::2]), list(map(_number, parts[1::2]))


def join(literals: Literals, dates: Sequence[int]) -> bytes:
    """Returns the bytes that `split` takes apart into these; the dates are numbers of five bytes."""
    parts = [literals[0]]
    for date, literal in zip(dates, literals[1:], strict=True):
        parts += (
            b"\x06\x20",
            bytes([(date >> 7 * at & 127) | (128 if at < 4 else 0) for at in range(5)]),
            literal,
        )
    return b"".join(parts)


def _number(form: bytes) -> int:
    first, second, third, fourth, fifth = form
    return first & 127 | (second & 127) << 7 | (third & 127) << 14 | (fourth & 127) << 21 | fifth << 28
