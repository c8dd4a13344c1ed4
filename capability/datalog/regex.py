"""Regular expressions in linear time: RE2, held to the patterns that the ecosystem's dialect reads alike.

The ecosystem's engine uses Rust's regex syntax, in which an invalid pattern matches nothing. RE2's syntax
is nearly the same, not quite, and a pattern read in two ways is a check that two verifiers decide
differently; a refusal read as "no match" fails open under `!`. So a scanner reads each pattern first:
what both dialects would refuse as plainly malformed is false, what they may read in different ways is an
EvaluationError, and only the rest reaches RE2. One difference is left: `\\w \\d \\s \\b` are ASCII here.
"""

import re
from functools import lru_cache
from typing import Any, Final

import re2

from capability.datalog.errors import EvaluationError, EvaluationReason
from capability.datalog.immutable import immutable
from capability.datalog.limits import Meter
from capability.datalog.terms import byte_length

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True
_OPTIONS.max_mem = 512 * 1024

_MAX_GROUPS: Final = 200
_MAX_REPEAT: Final = 1000
_MAX_WORK: Final = 32_768
"""About 20 ms of compiling."""
_WIDE: Final = 6
"""What an item of a class, or a character of several bytes, costs to compile; a plain one costs 1."""
_PROPERTY_WORK: Final = 300

_GROUP: Final = re.compile(r"\(\?(?:P?<([A-Za-z_][A-Za-z0-9_]*)>|([imsU]*)(?:-([imsU]+))?([:)]))")
_REPEAT: Final = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_HEX: Final = re.compile(r"\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,8})\})")
_PROPERTY: Final = re.compile(r"\\[pP](?:([LMNPSZ])|\{([A-Z][A-Za-z_]*)\})")
_POSIX_CLASS: Final = re.compile(
    r"\[:\^?(?:alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit):\]"
)
_CONTROL: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ESCAPABLE: Final = frozenset(" !\"#$%&'()*+,-./:;=?@[\\]^_`{|}~")


class _Malformed(Exception):
    """Both dialects refuse the pattern."""


class _Unsupported(Exception):
    """The dialects may differ, or RE2 cannot say."""


class _Scanner:
    """Reads one pattern from left to right; raises at the first thing that is not common to both dialects.

    `work` estimates what compiling costs, in units of a literal. `spaces` has the places of `\\s` and
    `\\S` and what RE2 must read there: its own `\\s` lacks the vertical tab.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.names: set[str] = set()
        self.spaces: list[tuple[int, str]] = []
        self.work = 0

    def translated(self) -> str:
        """Returns the pattern for RE2; raises when it is malformed or unsupported."""
        self._scan()
        if self.work > _MAX_WORK:
            raise _Unsupported("too large")
        pieces: list[str] = []
        end = 0
        for start, posix in self.spaces:
            pieces += (self.pattern[end:start], posix)
            end = start + 2
        return "".join((*pieces, self.pattern[end:]))

    def _scan(self) -> None:
        groups: list[int] = []
        repeatable = False
        before = 0
        while self.position < len(self.pattern):
            char = self.pattern[self.position]
            if char in "*+?{":
                times = self._repetition(repeatable)
                self.work = before + (self.work - before) * times
                continue
            if char == ")":
                if not groups:
                    raise _Malformed
                before = groups.pop()
                self.position += 1
                repeatable = True
                continue
            before = self.work
            repeatable = True
            if char == "(":
                if self._group():
                    groups.append(before)
                if len(groups) > _MAX_GROUPS:
                    raise _Unsupported("groups nested too deeply")
                repeatable = False
            elif char == "|":
                self.position += 1
                repeatable = False
            elif char == "[":
                self._class()
            elif char == "\\":
                self._escape()
            else:
                self.position += 1
                self.work += 1 if char.isascii() and char != "." else _WIDE
        if groups:
            raise _Malformed

    def _group(self) -> bool:
        """Reads what opens a group; returns False for flags that stand alone."""
        if not self.pattern.startswith("(?", self.position):
            self.position += 1
            return True
        match = _GROUP.match(self.pattern, self.position)
        if match is None:
            raise _Unsupported("unknown kind of group")
        self.position = match.end()
        name, on, off, end = match.groups()
        if name is not None:
            if name in self.names:
                raise _Unsupported("two groups of one name")
            self.names.add(name)
            return True
        flags = on + (off or "")
        if len(set(flags)) != len(flags) or (end == ")" and not flags):
            raise _Unsupported("flags that only one dialect reads")
        return bool(end == ":")

    def _repetition(self, repeatable: bool) -> int:
        """Reads a repetition; returns how many copies of its operand it makes."""
        times = 1
        if self.pattern[self.position] == "{":
            match = _REPEAT.match(self.pattern, self.position)
            if match is None:
                raise _Unsupported("a brace that is not a repetition")
            least = _bound(match.group(1))
            most = _bound(match.group(3)) if match.group(3) else least
            if least > most:
                raise _Malformed
            if most > _MAX_REPEAT:
                raise _Unsupported("more than 1000 repetitions")
            times = most + 1
            self.position = match.end()
        else:
            self.position += 1
        if not repeatable:
            raise _Malformed
        if self.pattern.startswith("?", self.position):
            self.position += 1
        if self.position < len(self.pattern) and self.pattern[self.position] in "*+?{":
            raise _Unsupported("a repetition of a repetition")
        return times

    def _escape(self) -> None:
        char = self.pattern[self.position + 1 : self.position + 2]
        if char in ("A", "z", "B", "b"):
            self.position += 2
            self.work += 1
            # `\b{start}` is a word boundary of another kind in Rust's dialect.
            if char in "Bb" and self.pattern.startswith("{", self.position):
                raise _Unsupported("a word boundary with a brace")
        else:
            self._character("[", "]")

    def _character(self, opening: str = "", closing: str = "") -> str | None:
        """Reads an escape that stands for one character (returned) or for a class (None)."""
        at = self.position
        char = self.pattern[at + 1 : at + 2]
        self.work += _WIDE
        if char and char in "dDwWsS":
            if char in "sS":
                posix = "[:space:]" if char == "s" else "[:^space:]"
                self.spaces.append((at, f"{opening}{posix}{closing}"))
            self.position += 2
            return None
        if char and char in "pP":
            match = _PROPERTY.match(self.pattern, at)
            if match is None or match.group(2) in ("C", "Cs", "Cn"):
                raise _Unsupported("a Unicode class that the dialects do not share")
            self.position = match.end()
            self.work += _PROPERTY_WORK
            return None
        if char == "x":
            match = _HEX.match(self.pattern, at)
            code = int(match.group(1) or match.group(2), 16) if match else -1
            if match is None or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise _Unsupported("not a character code")
            self.position = match.end()
            return chr(code)
        if char in _CONTROL:
            self.position += 2
            return _CONTROL[char]
        if char in _ESCAPABLE:
            self.position += 2
            return char
        raise _Unsupported("an escape that the dialects do not share")

    def _class(self) -> None:
        self.position += 1
        if self.pattern.startswith("^", self.position):
            self.position += 1
        first = self.position
        while True:
            rest = self.pattern[self.position : self.position + 2]
            if not rest:
                raise _Malformed
            if rest in ("&&", "--", "~~"):
                raise _Unsupported("a set operation in a class")
            if rest[0] == "]" and self.position > first:
                self.position += 1
                return
            # A hyphen that is neither a range nor at an end is read in two ways.
            if rest[0] == "-" and self.position > first and rest != "-]":
                raise _Unsupported("a hyphen in the middle of a class")
            low = self._class_item()
            after = self.pattern[self.position : self.position + 2]
            if after[:1] != "-" or after in ("-", "-]"):
                continue
            if low is None or after == "--":
                raise _Unsupported("a range without a first character")
            self.position += 1
            high = self._class_item()
            if high is None:
                raise _Unsupported("a range without a last character")
            if low > high:
                raise _Malformed

    def _class_item(self) -> str | None:
        """Reads one member of a class: a character (returned) or a class (None)."""
        char = self.pattern[self.position]
        if char == "\\":
            return self._character()
        self.work += _WIDE
        if char == "[":
            match = _POSIX_CLASS.match(self.pattern, self.position)
            if match is None:
                raise _Unsupported("a class in a class")
            self.position = match.end()
            return None
        self.position += 1
        return char


def _bound(digits: str) -> int:
    return int(digits) if len(digits) <= 9 else 10**9


@immutable
class _Compiled:
    """`pattern` is None when it matches nothing, or when `unsupported` says why it is not read."""

    pattern: Any
    size: int
    work: int
    unsupported: str = ""


@lru_cache(maxsize=128)
def _compile(pattern: str) -> _Compiled:
    scanner = _Scanner(pattern)
    try:
        translated = scanner.translated()
        compiled = re2.compile(translated, _OPTIONS)
    except _Malformed:
        return _Compiled(None, 0, len(pattern))
    except _Unsupported as reason:
        return _Compiled(None, 0, len(pattern), str(reason))
    except re2.error:
        return _Compiled(None, 0, scanner.work, "refused by RE2")
    return _Compiled(compiled, compiled.programsize, scanner.work)


def match_pattern(pattern: str, text: str, meter: Meter) -> bool:
    """Returns whether `pattern` matches somewhere in `text`; False for a plainly malformed pattern.

    Raises EvaluationError (UNSUPPORTED_REGEX) for one that other engines may read in another way. Compiling
    is charged once for each pattern, and a search for its worst case, each instruction for each byte.
    """
    meter.charge(1 + (len(pattern) >> 4))
    compiled = _compile(pattern)
    meter.charge_once(pattern, 2 * compiled.work)
    if compiled.unsupported:
        message = f"Unsupported regular expression: {compiled.unsupported}"
        raise EvaluationError(EvaluationReason.UNSUPPORTED_REGEX, message)
    if compiled.pattern is None:
        return False
    meter.charge(byte_length(text) * compiled.size >> 6)
    return compiled.pattern.search(text) is not None
