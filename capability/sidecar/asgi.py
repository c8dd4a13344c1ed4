"""The check as an ASGI 3 application, for those who run uvicorn or granian.

    uvicorn --factory capability.sidecar.asgi:application

Those servers bound less than ours does (docs/sidecar.md): put them behind a proxy that does.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from capability.errors import CapabilityError
from capability.settings import read_config, read_prefixes
from capability.sidecar.addresses import parse_address
from capability.sidecar.configured import Flags, configured
from capability.sidecar.live import State
from capability.sidecar.messages import Answer, Handler
from capability.sidecar.service import NotReady, Service
from capability.sidecar.settings import Listener, Serves, Settings, SettingsError
from capability.sidecar.tally import Board

Message: TypeAlias = MutableMapping[str, Any]

_ELSEWHERE: Final = "tcp:0"
"""Stands for the address, which is the server's to open."""


def application() -> "ASGIApplication":
    """Returns the check that the environment and cap.toml describe, as `cap serve` reads them.

    Of the listeners only how they read requests counts: $CAP_BEHIND says it, or the listeners of the
    check do, if they agree. Raises SettingsError, ConfigurationError and StoreError.
    """
    environment = os.environ
    config = read_config(environment.get("CAP_CONFIG"))
    behind = environment.get("CAP_BEHIND") or None
    flags = Flags(
        listen=() if behind is None else (_ELSEWHERE,),
        behind=behind,
        store=environment.get("CAP_STORE") or None,
    )
    settings = configured(environment, config, read_prefixes(environment, config), flags)
    listener = _listener(settings)
    return ASGIApplication(replace(settings, listen=(listener,)), listener)


def _listener(settings: Settings) -> Listener:
    found = {
        replace(each, address=parse_address(_ELSEWHERE))
        for each in settings.listen
        if each.serves is Serves.CHECK
    }
    if len(found) != 1:
        raise SettingsError(
            "the listeners of the check differ in behind or paths: set CAP_BEHIND"
            if found
            else "no listener serves the check: set CAP_BEHIND"
        )
    return found.pop()


class ASGIApplication:
    """Answers every HTTP request by the check, between the server's start and its end; with 503 outside."""

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self._listener = listener
        self._service = Service(settings, Board(1), 0)
        self._handler: Handler = NotReady()
        self._refreshing: asyncio.Task[None] | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answers; raises ValueError for what is neither HTTP nor the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
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

    async def _live(
        self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        try:
            await self._start()
        except (CapabilityError, SettingsError, OSError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        self._service.live.changed = self._changed
        await asyncio.to_thread(self._service.start)
        self._refreshing = asyncio.create_task(self._service.refresh())

    async def _stop(self) -> None:
        self._handler = NotReady()
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.to_thread(self._service.close)

    def _changed(self, state: State) -> None:
        self._handler = self._service.handler(self._listener)


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
