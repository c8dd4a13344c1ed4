"""What the service behind the proxy is told of who asks."""

import re
from collections.abc import Iterable
from typing import Final

_PLAIN: Final = re.compile(r"[!-$&-+\--~](?:[ !-$&-+\--~]*[!-$&-+\--~])?")


def header_value(value: str) -> bytes:
    """Returns text as a header's value: percent-encoded (UTF-8) where it is not printable ASCII.

    `%` and `,` are encoded as well, and so is white space at the ends, which programs on the way would drop.
    So two texts never look alike, and none can end its line.

    >>> header_value("ann@example.com"), header_value("Zo\\u00eb, admin")
    (b'ann@example.com', b'Zo%C3%AB%2C admin')
    """
    if _PLAIN.fullmatch(value) is not None:
        return value.encode("ascii")
    inner = value.strip(" \t")
    start = value.index(inner) if inner else 0
    plain = range(start, start + len(inner))
    return "".join(
        each if at in plain and " " <= each <= "~" and each not in "%," else _escaped(each)
        for at, each in enumerate(value)
    ).encode("ascii")


def joined(values: Iterable[str]) -> bytes:
    """Returns several values as one, with commas between them, in a fixed order."""
    return b",".join(sorted(header_value(value) for value in values))


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
