"""HTTP/1.1 for a port that anybody on the host may knock at: small, in order, and bounded everywhere.

A connection is parsed by llhttp (through httptools). What bounds it:

| what | bound | then |
| --- | --- | --- |
| a request's line and headers | 16 KiB | 431, closed |
| a body | what the handler takes; what is dropped unread: 1 MiB | 413, closed |
| time from a request's first byte to its last | 2 s for the headers, 10 s in all | 408, closed |
| time without a request | 75 s | closed |
| connections | 1,024 (a worker), fewer where files are scarce | closed at once |
| answers that nobody reads | the transport's buffer | reading stops; after 10 s closed |
| Content-Length beside Transfer-Encoding, or twice; an encoding that is not chunked | none | 400, closed |
| an encoding in HTTP/1.0; fields behind a body | none | 400, closed |
"""

import asyncio
import math
import select
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from email.utils import formatdate
from http import HTTPStatus
from time import monotonic
from typing import Final, cast

import httptools

from capability.sidecar.bounds import DEFAULT, MAX_DROPPED_BODY, Bounds, Refused, has_body
from capability.sidecar.messages import Answer, Handler, Headers

CLOSING_TIME: Final = 5.0
"""Seconds for the other side to read the last answer."""


class Connections:
    """All connections of a listener, and what they have in common.

    `sweep` closes those that are late; somebody calls it every quarter of a second or so. One timer for all
    costs a request nothing, where a timer for each would be set and cancelled every time.
    """

    def __init__(
        self, handler: Handler, bounds: Bounds = DEFAULT, *, executor: Executor | None = None
    ) -> None:
        self.handler = handler
        self.bounds = bounds
        self.executor = executor
        self.open: set[Connection] = set()
        self.draining = False
        self.refused = 0
        """Connections that were closed at once because there were too many."""
        self.late = 0
        """Connections that were closed because they took too long."""
        self._starts: dict[int, bytes] = {}
        self._second = 0

    def __call__(self) -> "Connection":
        """Returns the protocol of a new connection; an event loop's factory."""
        return Connection(self)

    def start(self, status: int) -> bytes:
        """Returns what every answer of a status begins with: its line and the date, made once a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._starts.clear()
        start = self._starts.get(status)
        if start is None:
            phrase = HTTPStatus(status).phrase
            text = f"HTTP/1.1 {status:d} {phrase}\r\ndate: {formatdate(second, usegmt=True)}\r\n"
            start = self._starts[status] = text.encode()
        return start

    def sweep(self, now: float) -> None:
        """Closes the connections whose time is up; `now` is the event loop's time."""
        for connection in [each for each in self.open if each.deadline <= now]:
            self.late += 1
            connection.late()

    def drain(self) -> None:
        """Closes what is idle, and everything else after its next answer."""
        self.draining = True
        for connection in list(self.open):
            connection.drain()


class Connection(asyncio.Protocol):
    """One connection. A request is answered before the next one is looked at, so answers keep their order."""

    __slots__ = (
        "_all",
        "_begun",
        "_body",
        "_busy",
        "_clogged",
        "_closing",
        "_headers",
        "_in_body",
        "_out",
        "_parser",
        "_peer",
        "_received",
        "_size",
        "_target",
        "_transport",
        "_waiting",
        "deadline",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._peer: str | None = None
        self._closing = False
        self._busy = False
        """A thread works on an answer."""
        self._clogged = False
        """Nobody reads what was answered."""
        self._waiting: deque[tuple[str, str, Headers, bytes, bool]] = deque()
        self._out: list[bytes] = []
        self.deadline = 0.0
        self._received = 0
        self._clear()

    def _clear(self) -> None:
        self._begun = False
        self._in_body = False
        self._target = b""
        self._headers: Headers = []
        self._size = 0
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport by class
        self._transport = cast(asyncio.Transport, transport)
        everyone = self._all
        if len(everyone.open) >= everyone.bounds.connections:
            everyone.refused += 1
            self._closing = True
            self._transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else None
        self.deadline = monotonic() + everyone.bounds.idle_time
        everyone.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._all.open.discard(self)
        self._waiting.clear()
        # the parser refers to the connection too, which would be freed only when somebody looks for garbage
        del self._parser

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # nothing else is spoken here: the connection ends with the answer, which a thread may still owe
            self._closing = not (self._busy or self._waiting)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Refused):
                raise
            self._refuse(error.__context__.status)
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST)
        else:
            if self._received > self._all.bounds.header_bytes and not self._in_body:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._waiting:
            self._answer_waiting()
        self._flush()

    def eof_received(self) -> bool:
        if self._busy or self._waiting:
            return True
        self._closing = True
        self._flush()
        return False

    def pause_writing(self) -> None:
        self._clogged = True
        self.deadline = monotonic() + self._all.bounds.request_time
        self._set_reading()

    def resume_writing(self) -> None:
        self._clogged = False
        self.deadline = monotonic() + self._all.bounds.idle_time
        self._set_reading()

    # What llhttp calls.

    def on_message_begin(self) -> None:
        self._begun = True
        self.deadline = monotonic() + self._all.bounds.header_time

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            # llhttp hands on what stands behind a chunked body like a header: a token or a path there is none
            raise Refused(HTTPStatus.BAD_REQUEST)
        self._size += len(name) + len(value) + 4
        if self._size > self._all.bounds.header_bytes:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._size > self._all.bounds.header_bytes:
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if has_body(self._headers, self._parser.get_http_version):
            self.deadline = monotonic() + self._all.bounds.request_time
        self._in_body = True
        self._size = 0  # from here on the size of the body

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        kept = self._all.handler.max_body
        if self._size > (kept or MAX_DROPPED_BODY):
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if kept:
            self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        # llhttp reads nothing behind a request for another protocol, so its answer is the connection's last
        keep = parser.should_keep_alive() and not parser.should_upgrade()
        method = parser.get_method().decode("ascii")
        target, headers, body = self._target.decode("latin-1"), self._headers, b"".join(self._body)
        self._received = 0
        self._clear()
        handler = self._all.handler
        if self._closing:
            return  # an answer said so, and whatever came behind its request is not served
        if handler.blocking:
            self._waiting.append((method, target, headers, body, keep))
        else:
            self._reply(handler.handle(method, target, headers, body, self._peer), method, keep)

    # Answers.

    def _answer_waiting(self) -> None:
        """Starts on the next request that has to be answered in a thread; the others wait for it."""
        if self._busy or self._closing:
            return
        method, target, headers, body, keep = self._waiting.popleft()
        self._busy = True
        self.deadline = math.inf
        self._set_reading()
        handle: Callable[..., Answer] = self._all.handler.handle
        future = asyncio.get_running_loop().run_in_executor(
            self._all.executor, handle, method, target, headers, body, self._peer
        )
        future.add_done_callback(lambda done: self._answered(done, method, keep))

    def _answered(self, done: "asyncio.Future[Answer]", method: str, keep: bool) -> None:
        self._busy = False
        if self not in self._all.open:
            return
        if done.cancelled() or done.exception() is not None:
            self._reply(Answer(HTTPStatus.INTERNAL_SERVER_ERROR), method, keep=False)
        else:
            self._reply(done.result(), method, keep)
        if self._waiting:
            self._answer_waiting()
        self._flush()
        self._set_reading()

    def _reply(self, answer: Answer, method: str, keep: bool) -> None:
        out, everyone, body = self._out, self._all, answer.body
        out.append(everyone.start(answer.status))
        out.append(answer.lines)
        if not keep or everyone.draining:
            self._closing = True
            self._waiting.clear()
            out.append(b"connection: close\r\n")
        if body:
            out.append(b"content-length: %d\r\n\r\n" % len(body))
            if method != "HEAD":
                out.append(body)
        else:
            out.append(b"content-length: 0\r\n\r\n")
        self.deadline = monotonic() + everyone.bounds.idle_time

    def _refuse(self, status: int) -> None:
        """Answers what is no request, behind what was answered before, and closes."""
        if not self._closing and not self._busy and not self._waiting:
            self._reply(Answer(status), "GET", keep=False)
        self._closing = True
        self._waiting.clear()

    def _flush(self) -> None:
        transport = self._transport
        assert transport is not None
        if self._out:
            written = b"".join(self._out)
            self._out.clear()
            transport.write(written)
        if self._closing and not self._busy:
            self.deadline = monotonic() + CLOSING_TIME
            transport.close()

    def _set_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = not (self._busy or self._clogged)
        if wanted is not transport.is_reading():
            transport.resume_reading() if wanted else transport.pause_reading()

    def late(self) -> None:
        """Ends a connection whose time is up: with a word if a request had begun, the second time at once."""
        assert self._transport is not None
        if self._closing or self._clogged:
            self._transport.abort()
            return
        if self._begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        self._closing = True
        self._flush()

    def drain(self) -> None:
        """Closes the connection when no request has begun nor arrived; the others end with their next answer.

        Bytes that arrived and were not read yet would be lost, and have the kernel reset the connection.
        """
        if self._begun or self._busy or self._waiting or self._closing:
            return
        transport = self._transport
        assert transport is not None
        if not transport.is_closing() and not _has_arrived(transport):
            self._closing = True
            self._flush()


def _has_arrived(transport: asyncio.Transport) -> bool:
    looking = select.poll()
    looking.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(looking.poll(0))
