"""The same handlers as an ASGI 3 application, for those who run uvicorn or granian.

Those servers bound less than ours does (docs/sidecar.md): put them behind a proxy that does.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from capability.sidecar.messages import Answer, Handler

Message: TypeAlias = MutableMapping[str, Any]


class ASGIApplication:
    """An ASGI application that answers every HTTP request by `handler`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers; raises ValueError for what is neither HTTP nor the server's start and end."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"this application speaks HTTP, not {scope['type']}")
        handler = self._handler
        body = await _body(receive, handler.max_body)
        if body is None:
            await _send(send, Answer(413))
            return
        query = scope.get("query_string", b"")
        path = scope.get("raw_path") or scope["path"].encode()
        target = (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")
        client = scope.get("client")
        arguments = (scope["method"], target, list(scope["headers"]), body, client[0] if client else None)
        if handler.blocking:
            answer = await asyncio.to_thread(handler.handle, *arguments)
        else:
            answer = handler.handle(*arguments)
        await _send(send, answer)


async def _body(receive: Callable[[], Awaitable[Message]], limit: int) -> bytes | None:
    """Returns the body as far as it is wanted, None when it is longer."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        part = message.get("body", b"")
        size += len(part)
        if limit:
            if size > limit:
                return None
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Callable[[Message], Awaitable[None]], answer: Answer) -> None:
    length = (b"content-length", b"%d" % len(answer.body))
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    await send({"type": "http.response.body", "body": answer.body})


async def _live(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
