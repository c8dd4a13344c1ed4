"""What a server hands to a handler, and what it gets back, whichever server it is."""

from typing import NamedTuple, Protocol, TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names and values as they came, in their order, twice where they came twice."""


class Answer(NamedTuple):
    """An HTTP response. `headers` hold no Content-Length: the server that writes the body says it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


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
