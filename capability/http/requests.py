"""What a method and a path say to a policy, where nobody says more."""

import re
from collections.abc import Sequence
from typing import Final

READ: Final = "read"
WRITE: Final = "write"

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_AMBIGUOUS: Final = re.compile(r"//|\\|;|%2e|%2f|%5c|%00|[\x00-\x1f\x7f]|(?:^|/)\.\.?(?:/|$)", re.IGNORECASE)


def operations_of(method: str) -> Sequence[str]:
    """Returns the operations that a request with `method` is: reading for the safe methods (RFC 9110 9.2.1).

    TRACE is not among them, as it sends the token back; a method that nobody knows may do anything.
    """
    return (READ,) if method in _READING else (WRITE,)


def is_ambiguous(path: str) -> bool:
    """True for a path that the next program on the way may read as another one.

    Dot segments, empty segments, backslashes, parameters (`;`), control characters, and what is one of these
    once more is decoded: a token for /orders must not open /orders/../admin.

    >>> is_ambiguous("/orders/7"), is_ambiguous("/orders/../admin"), is_ambiguous("/orders/%2e%2e/admin")
    (False, True, True)
    """
    if _AMBIGUOUS.search(path):
        return True
    try:
        path.encode()
    except UnicodeEncodeError:
        return True
    return False
