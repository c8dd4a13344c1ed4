"""What a request may cost, and where its body ends, whichever server reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from capability.sidecar.messages import Headers

MAX_DROPPED_BODY: Final = 1 << 20
"""Bytes of a body that is not wanted, read so that the connection can be used again."""

THREADS: Final = 16
"""How many requests of one process may wait for a store that is asked on every request."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may cost: bytes, seconds, and how many there are."""

    header_bytes: int = 16 * 1024
    header_time: float = 2.0
    request_time: float = 10.0
    idle_time: float = 75.0
    connections: int = 1024


DEFAULT: Final = Bounds()


class Refused(Exception):
    """Ends a request that no handler sees; `status` is the answer, and the connection's last."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def has_body(headers: Headers, version: Callable[[], str]) -> bool:
    """Returns whether a body follows; raises Refused where two programs could see its end elsewhere.

    That is where Content-Length stands beside Transfer-Encoding, where one of them is there twice, where the
    encoding is not chunked, and where the `version` of HTTP, as in "1.1", has none (RFC 9112 sections 6.1
    and 6.3).
    """
    length = encoding = None
    for name, value in headers:
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            if length is not None:
                raise Refused(HTTPStatus.BAD_REQUEST)
            length = value
        elif size == 17 and name.lower() == b"transfer-encoding":
            if encoding is not None or value.lower() != b"chunked":
                raise Refused(HTTPStatus.BAD_REQUEST)
            encoding = value
    if encoding is not None and (length is not None or version() != "1.1"):
        raise Refused(HTTPStatus.BAD_REQUEST)
    return (length is not None and length != b"0") or encoding is not None
