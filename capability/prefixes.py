"""What issuers put before the text of their tokens, so that people and leak scanners know whose they are.

`sk_live_EpoB...`: the prefix is no part of the token and nothing is decided by it. Its letters are those of
base64 too, so it is taken off only where it was configured, as it was configured, and once.
"""

import re
from collections.abc import Iterable
from typing import Final

from capability.errors import FormatError
from capability.wire.text import PREFIX

MAX_LENGTH: Final = 32

_PREFIX: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_.~-]{{0,{MAX_LENGTH - 2}}}[_.~-]")


def checked_prefix(prefix: str) -> str:
    """Returns a prefix that may be configured; raises ValueError for any other text.

    It has to end in `_`, `-`, `.` or `~`: letters alone could be the beginning of any token.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"a prefix is a str, not {type(prefix).__name__}")
    if not prefix:
        raise ValueError("a prefix is not empty")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"a prefix is at most {MAX_LENGTH} letters, digits and _ - . ~, begins with a letter, and ends in"
            " one of _ - . ~ as sk_live_ does"
        )
    return prefix


def checked_prefixes(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Returns prefixes in the order in which they are tried: the longest first."""
    if isinstance(prefixes, str):
        raise TypeError("prefixes are a list of str, not one str")
    return tuple(sorted({checked_prefix(each) for each in prefixes}, key=lambda each: (-len(each), each)))


def may_have_prefix(text: str) -> bool:
    """False when no prefix that may be configured is before `text`, as with most tokens that have none.

    A token's first bytes are ASCII as a rule, whose base64 has neither `_` nor `-`.
    """
    return _PREFIX.match(text) is not None


def split_prefix(text: str, prefixes: tuple[str, ...]) -> tuple[str, str]:
    """Returns the prefix of a text, "" if none of `prefixes` (of `checked_prefixes`) is, and the rest.

    A text that only looks as if it had one is left as it is. Raises FormatError for a second prefix.

    >>> split_prefix("sk_live_EpoB", checked_prefixes(["sk_", "sk_live_"]))
    ('sk_live_', 'EpoB')
    """
    for prefix in prefixes:
        if text.startswith(prefix):
            rest = text[len(prefix) :]
            if rest.startswith((*prefixes, PREFIX)):
                raise FormatError("two prefixes stand before the token", code="format.text")
            return prefix, rest
    return "", text
