"""What a server hands to a handler, and what it gets back, whichever server it is."""

from collections.abc import Iterable
from typing import Protocol, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names and values as they came, in their order, twice where they came twice."""


class Answer:
    """An HTTP response. Its headers hold no Content-Length: the server that writes the body says it.

    `lines` are the headers as they are written, each with its end; who answers the same again and again keeps
    them.
    """

    __slots__ = ("body", "lines", "status")

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        lines: bytes | None = None,
    ) -> None:
        self.status = status
        self.lines = lines_of(headers) if lines is None else lines
        self.body = body

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The names and values, for a server that writes them itself."""
        found = []
        for line in self.lines.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            found.append((name, value))
        return tuple(found)


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns headers as they are written."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Handler(Protocol):
    """Answers requests. It never raises for what a client sends.

    A handler that is `blocking` may wait for a store, and is called in a thread; any other one is called in
    the event loop, and does no input or output. Bodies of up to `max_body` bytes are kept; where that is 0
    they are read and dropped.
    """

    @property
    def blocking(self) -> bool: ...

    @property
    def max_body(self) -> int: ...

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns the answer. `peer` is the address of who connected, None for a Unix socket."""
        ...


class BadRequest(Exception):
    """A request refused before its token is looked at; `reason` is for people, `code` for programs."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
