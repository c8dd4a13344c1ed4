"""From ASGI's scopes and messages to a handler, and back: what `protocol` is for our own server.

Whatever the server lets through, a request has one meaning here or is refused.

| what | then |
| --- | --- |
| request line and headers of more than 16 KiB | 431, closed |
| a body that is not wanted, of more than 1 MiB, or of more than the handler takes | 413, closed |
| a body that takes longer than 10 s | 408, closed |
| Content-Length beside Transfer-Encoding, or twice | 400, closed |
| an encoding that is not chunked, or in HTTP/1.0 | 400, closed |
| a path that is not where the application is mounted | 400 |
| an end of the connection within a body | nothing is decided |
| a handshake of a WebSocket | answered like any request, and not taken |
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from capability.sidecar.bounds import DEFAULT, MAX_DROPPED_BODY, Refused, has_body
from capability.sidecar.messages import Answer, Handler, Headers

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

FORWARDED_FOR: Final = b"x-forwarded-for"
_DENIAL: Final = "websocket.http.response"
"""The extension by which a handshake is answered in HTTP."""


class Disconnected(Exception):
    """The client went away before its request was whole."""


async def serve(
    handler: Handler, scope: Message, receive: Receive, send: Send, executor: Executor | None = None
) -> None:
    """Answers the request of an `http` or `websocket` scope; what is `blocking` is asked in `executor`.

    Raises ValueError for a scope without what deciding needs.
    """
    prefix = "http.response"
    method, headers = scope.get("method", "GET"), list(scope["headers"])
    if scope["type"] == "websocket":
        await receive()
        if _DENIAL not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close"})
            return
        prefix = _DENIAL
    closing: tuple[tuple[bytes, bytes], ...] = ()
    try:
        target = _target(scope, headers)
        # in HTTP/2 a body needs no header that announces it
        version: str = scope.get("http_version", "1.1")
        follows = has_body(headers, lambda: version) or not version.startswith("1")
        body = await _body(receive, handler.max_body) if follows and prefix != _DENIAL else b""
        client = scope.get("client")
        arguments = (method, target, headers, body, (client[0] or None) if client else None)
        if handler.blocking:
            answer = await asyncio.get_running_loop().run_in_executor(executor, handler.handle, *arguments)
        else:
            answer = handler.handle(*arguments)
    except Refused as refused:
        answer = Answer(refused.status)
        if scope.get("http_version", "1.1").startswith("1"):
            closing = ((b"connection", b"close"),)
    except Disconnected:
        return
    length = (b"content-length", b"%d" % len(answer.body))
    sent = [*answer.headers, length, *closing]
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": sent})
    await send({"type": f"{prefix}.body", "body": b"" if method == "HEAD" else answer.body})


def rewritten(scope: Message) -> bool:
    """Returns whether the client's address may be what a client wrote into X-Forwarded-For.

    uvicorn puts it there for peers that it trusts, the loopback unless it is told otherwise, and then nobody
    can tell who connected.
    """
    client = scope.get("client")
    if not client:
        return False
    address = client[0].encode("latin-1", "replace")  # as the servers decode headers
    return any(name.lower() == FORWARDED_FOR and address in value for name, value in scope["headers"])


def _target(scope: Message, headers: Headers) -> str:
    """Returns path and query as they came, without where the application is mounted; raises Refused.

    The decoded path of a scope will not do: in it `%2f` and `/` are the same.
    """
    raw: bytes | None = scope.get("raw_path")
    query: bytes = scope.get("query_string", b"")
    if raw is None:
        raise ValueError("the server hands on no raw_path, so paths cannot be told apart")
    size = len(raw) + len(query) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > DEFAULT.header_bytes:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    path = raw.partition(b"?")[0]
    root = scope.get("root_path", "").rstrip("/").encode()
    if root:
        if path != root and not path.startswith(root + b"/"):
            raise Refused(HTTPStatus.BAD_REQUEST)
        path = path[len(root) :] or b"/"
    return (path + (b"?" + query if query else b"")).decode("latin-1")


async def _body(receive: Receive, wanted: int) -> bytes:
    """Returns the body as far as it is wanted; raises Refused and Disconnected."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(DEFAULT.request_time):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                size += len(part)
                if size > (wanted or MAX_DROPPED_BODY):
                    raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                if wanted:
                    parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT) from None
