"""Texts of both engines in one form: the items of sets and maps sorted, the escapes taken away.

Rows `printing-order` and `printing-escapes` of spec/DIFFERENCES.md: the peer prints sets and maps in the
order of its symbol table, and strings as they are.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import TypeVar

from tests.differential.expressions import QUOTED

_UNESCAPED = '"a"b\\c\nd"'
_PLAIN = '"needs escapes"'
_OPENING = {"{": "}", "[": "]", "(": ")"}

_Texts = TypeVar("_Texts", str, list[str], tuple[str, ...])


def canonical(text: _Texts) -> _Texts:
    """Returns a text as if both engines printed alike; for a list all of its texts, for a tuple sorted."""
    if isinstance(text, list):
        return list(map(canonical, text))
    if isinstance(text, tuple):
        return tuple(sorted(map(canonical, text)))
    plain = text.replace(QUOTED, _PLAIN).replace(_UNESCAPED, _PLAIN)
    if "{" not in plain:
        return plain
    return "\n\n".join(_sorted_lines(part) for part in "".join(_sorted(iter(plain), "")).split("\n\n"))


def _sorted(chars: Iterator[str], closing: str) -> list[str]:
    """Returns what stands before `closing`, the items of sets and maps in alphabetical order."""
    found: list[str] = []
    items: list[str] = []
    for char in chars:
        if char == closing:
            break
        if char == '"':
            found.append(_string(chars))
        elif char in _OPENING:
            found += [char, *_sorted(chars, _OPENING[char]), _OPENING[char]]
        elif char == "," and closing == "}":
            items.append("".join(found).strip())
            found = []
        else:
            found.append(char)
    if closing != "}":
        return found
    return [", ".join(sorted([*items, "".join(found).strip()]))]


def _string(chars: Iterator[str]) -> str:
    text = '"'
    for char in chars:
        text += char
        if char == '"':
            break
    return text


def _sorted_lines(section: str) -> str:
    """Returns a section of a dump with each block's facts and rules sorted once more, by the new text."""
    if not section.startswith(("// Facts:", "// Rules:")):
        return section
    groups = groupby(section.splitlines(), key=lambda line: line.startswith("//"))
    return "\n".join(line for heading, lines in groups for line in (lines if heading else sorted(lines)))
