"""Paths that mean one thing: what a policy compares must be what the service behind the proxy serves.

A path is handed on as it came. One that some program on the way could read in another way is refused: then a
policy about `/admin` cannot be got around by `/x/../admin`, `/%61dmin`, `//admin` or `/admin;x`.
"""

import re
from enum import StrEnum
from typing import Final

from capability.sidecar.messages import BadRequest

MAX_SEGMENTS: Final = 64
MAX_PARAMETERS: Final = 64

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
_NOT_IN_A_TARGET: Final = re.compile(r"[^!-~]")


class Paths(StrEnum):
    """Which paths a listener takes."""

    STRICT = "strict"
    RAW = "raw"
    """Ambiguous ones too: for services that tell them apart as the policy does."""


def split(target: str, paths: Paths) -> tuple[str, str]:
    """Returns the path of a request's target, and its query without the `?`.

    Raises BadRequest for what is no path (a whole URL, `*`), and for an ambiguous one unless they are taken.
    """
    if _PLAIN.fullmatch(target) is not None:
        return target, ""
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        raise BadRequest("request.target", "the target of the request is no path")
    if _NOT_IN_A_TARGET.search(target) is not None:
        raise BadRequest("request.target", "the target of the request holds characters that no URL has")
    if paths is Paths.STRICT and _AMBIGUOUS.search(path) is not None:
        raise BadRequest("request.path", "the path of the request can be read in several ways")
    return path, query


def segments(path: str) -> list[str]:
    """Returns what stands between the slashes, as it came; the path `/` has none.

    Raises BadRequest for more than MAX_SEGMENTS.
    """
    found = path[1:].split("/") if path != "/" else []
    if len(found) > MAX_SEGMENTS:
        raise BadRequest("request.path", f"the path of the request has more than {MAX_SEGMENTS} segments")
    return found


def parameters(query: str) -> list[tuple[str, str]]:
    """Returns the names and values of a query, decoded; raises BadRequest for more than MAX_PARAMETERS."""
    from urllib.parse import parse_qsl

    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError as error:
        raise BadRequest("request.query", "the query of the request cannot be read") from error
