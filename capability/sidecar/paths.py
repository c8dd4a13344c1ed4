"""Paths that mean one thing: what a policy compares must be what the service behind the proxy serves.

A path is handed on as it came. One that some program on the way could read in another way is refused: then a
policy about `/admin` cannot be got around by `/x/../admin`, `/%61dmin`, `//admin` or `/admin;x`.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache, partial
from typing import Final, NamedTuple

from capability.sidecar.messages import BadRequest

MAX_TARGET: Final = 16 * 1024
"""Bytes of a path and its query; over HTTP the headers are bounded to as much."""
MAX_SEGMENTS: Final = 64
MAX_PARAMETERS: Final = 64

MAX_SHOWN: Final = 64
"""Characters of a segment from which on it is written nowhere: names are shorter, and secrets longer."""

_SHORT: Final = 256
_REMEMBERED: Final = 1024
"""Targets of up to so many characters are remembered, and how many of them: clients choose them."""

_AMBIGUOUS: Final = re.compile(
    r"//|[\\;#]"
    r"|/\.{1,2}(?=/|\Z)"
    r"|%(?![0-9A-Fa-f]{2})"
    # what is escaped although it need not be, what ends or splits a path, control characters, and an escape
    # of an escape
    r"|%(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|2[DdEe]|5[Ff]|7[EeFf]|[01].|2[35Ff]|3[BbFf]|5[Cc])"
    # ASCII in more bytes than UTF-8 allows, which some programs decode all the same: %C0%AF is a slash then
    r"|%(?:[Cc][01]|[Ee]0%[89]|[Ff]0%8)"
)
_PLAIN: Final = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?")
"""What most paths are, and nobody could read in two ways."""
_LONG_ASCII: Final = re.compile("(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81])[\x80-\xbf]")
_MOST_ESCAPES: Final = 8
"""How often a path may be decoded until nothing is left to decode, counting the pass that finds nothing."""
_MOST_READINGS: Final = 32
"""How many readings of one path are looked at."""
_NOT_IN_A_TARGET: Final = re.compile(r"[^!-~]")


class Paths(StrEnum):
    """Which paths a listener takes."""

    STRICT = "strict"
    RAW = "raw"
    """Ambiguous ones too, unless they may be for several routes, or for one and none: for services that tell
    them apart as the policy does."""


class Target(NamedTuple):
    """What a request asks for: the path as it came, its segments by their place, the query's parameters."""

    path: str
    segments: tuple[tuple[int, str], ...]
    parameters: tuple[tuple[str, str], ...]


class Targets:
    """Reads targets. Short ones are remembered, as many clients ask for the same thing again and again."""

    def __init__(self, paths: Paths) -> None:
        # not methods of this object: it would refer to itself, and outlive the state that it is part of
        self._read = partial(_read, paths)
        self._remembered = lru_cache(_REMEMBERED)(self._read)

    def read(self, target: str) -> Target:
        """Returns what a target says.

        Raises BadRequest for what is no path (a whole URL, `*`), for an ambiguous path unless they are taken,
        for a query that cannot be decoded, and for what is too long or has too many segments or parameters.
        """
        return self._remembered(target) if len(target) <= _SHORT else self._read(target)


def readings(path: str) -> Iterator[str]:
    """Yields what programs on the way may take an ambiguous path for: each may change it in some of four
    ways, one after another.

    Raises BadRequest where that is too much to look at.

    >>> list(readings("/x/../admin/%2e%2e/y"))
    ['/x/../admin/../y', '/admin/%2e%2e/y', '/admin/../y', '/y']
    """
    if _AMBIGUOUS.search(path) is None:
        return
    found = {path}
    waiting = [path]
    while waiting:
        before = waiting.pop()
        for change in (_decoded, _without_parameters, _with_single_slashes, _without_dots):
            after = change(before)
            if after in found:
                continue
            if len(found) > _MOST_READINGS:
                raise _too_many_readings()
            found.add(after)
            waiting.append(after)
            yield after


def _read(paths: Paths, target: str) -> Target:
    if len(target) > MAX_TARGET:
        raise BadRequest("request.target", "the target of the request is too long")
    path, query = target, ""
    if _PLAIN.fullmatch(target) is None:
        path, _, query = target.partition("?")
        if not path.startswith("/"):
            raise BadRequest("request.target", "the target of the request is no path")
        if _NOT_IN_A_TARGET.search(target) is not None:
            raise BadRequest("request.target", "the target of the request holds characters that no URL has")
        if paths is Paths.STRICT:
            if _AMBIGUOUS.search(path) is not None:
                raise BadRequest("request.path", "the path of the request can be read in several ways")
            if "#" in query:
                raise BadRequest("request.query", "the query of the request can be read in several ways")
    return Target(
        path, tuple(enumerate(_segments(path))), tuple(dict.fromkeys(_parameters(query))) if query else ()
    )


def _decoded(path: str) -> str:
    """Returns a path without escapes, those of an escape and of ASCII in more bytes than one included.

    Raises BadRequest for escapes of escapes without end: each is another pass, and a path has room for
    thousands.
    """
    from urllib.parse import unquote

    for _ in range(_MOST_ESCAPES):
        before, path = path, _LONG_ASCII.sub(_as_ascii, unquote(path, "latin-1"))
        if before == path:
            return path
    raise _too_many_readings()


def _too_many_readings() -> BadRequest:
    return BadRequest("request.path", "the path of the request can be read in too many ways")


def _as_ascii(found: re.Match[str]) -> str:
    return chr((ord(found[0][-2]) & 1) << 6 | ord(found[0][-1]) & 0x3F)


def _without_parameters(path: str) -> str:
    return re.sub(r"[;?#\x00][^/]*", "", path.replace("\\", "/"))


def _with_single_slashes(path: str) -> str:
    return re.sub(r"/+", "/", path)


def _without_dots(path: str) -> str:
    found: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del found[-1:]
        elif segment != ".":
            found.append(segment)
    return "/" + "/".join(found)


def shown(target: str) -> str:
    """Returns the path of a target as it may be written down: without the query, and no long segment.

    >>> shown("/reset/" + "s" * 65 + "/confirm?to=me")
    '/reset/.../confirm'
    """
    path = target.partition("?")[0]
    if len(path) <= MAX_SHOWN:
        return path
    return "/".join(each if len(each) <= MAX_SHOWN else "..." for each in path.split("/"))


def _segments(path: str) -> list[str]:
    """Returns what stands between the slashes, as it came; the path `/` has none."""
    found = path[1:].split("/") if path != "/" else []
    if len(found) > MAX_SEGMENTS:
        raise BadRequest("request.path", f"the path of the request has more than {MAX_SEGMENTS} segments")
    return found


def _parameters(query: str) -> list[tuple[str, str]]:
    """Returns the names and values of a query, decoded."""
    from urllib.parse import parse_qsl

    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError as error:
        raise BadRequest("request.query", "the query of the request cannot be read") from error
