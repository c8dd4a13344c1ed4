"""The sidecar as ASGI 3 applications, for those who run uvicorn or granian.

    uvicorn --factory capability.sidecar.asgi:application

makes the check one; `api` and `admin` are the other listeners of `cap serve`. A process that serves several
makes them of one Sidecar, so that they decide, count and reload together:

    sidecar = Sidecar.from_env()
    check, admin = sidecar.check(), sidecar.admin()

Those servers bound less than ours does (docs/sidecar.md): put them behind a proxy that does.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self

from capability.errors import CapabilityError
from capability.http.problems import malformed
from capability.settings import read_config, read_prefixes
from capability.sidecar.addresses import parse_address
from capability.sidecar.bounds import THREADS
from capability.sidecar.configured import Flags, configured, unrevoked
from capability.sidecar.messages import Handler
from capability.sidecar.packages import OF, missing
from capability.sidecar.profiles import PROFILES
from capability.sidecar.scopes import Message, Receive, Send, rewritten, serve
from capability.sidecar.service import NOT_READY, Refusal, Service
from capability.sidecar.settings import Listener, Serves, Settings, SettingsError
from capability.sidecar.tally import Board
from capability.sidecar.watching import Watch, stamps

_ELSEWHERE: Final = "tcp:0"
"""Stands for the address, which is the server's to open."""

_LOGGER: Final = logging.getLogger("capability.sidecar")

_WHO_ASKS: Final = "the server takes X-Forwarded-For for who connects: start it with --no-proxy-headers"


def application() -> "Application":
    """Returns the check that the environment and cap.toml describe, as `cap serve` reads them.

    Raises what `Sidecar.from_env` and `Sidecar.check` raise.
    """
    return Sidecar.from_env().check()


def api() -> "Application":
    """Returns the API: AuthZEN, introspection, revocation, token exchange and keys.

    Raises what `Sidecar.from_env` raises.
    """
    return Sidecar.from_env().api()


def admin() -> "Application":
    """Returns /livez, /readyz, /metrics and /status, of the process that it is served in and no other.

    Raises what `Sidecar.from_env` raises.
    """
    return Sidecar.from_env().admin()


class Sidecar:
    """What decides in one process, and its surfaces as applications, which are made before the first begins.

    It runs from the first application's start to the last one's end; or, for applications that are mounted in
    another one, which is told of no start, as long as `async with sidecar` lasts. All of that happens in one
    event loop. The environment and files are read by `read`, at first and whenever one of `files` changes.
    """

    def __init__(self, read: Callable[[], Settings], files: Sequence[str] = ()) -> None:
        self._read = read
        self._files = files
        self._seen = stamps(read(), files)
        self._settings = read()  # again: what changed since the look would never be seen to change
        self._makes: list[Callable[[Settings], Listener]] = []
        self._applications: list[Application] = []
        self._changing = asyncio.Lock()
        self._users = 0
        self.running: _Running | None = None
        """What decides; None before the first start and after the last end."""

    @classmethod
    def from_env(cls) -> Self:
        """Returns the sidecar that the environment and cap.toml describe, as `cap serve` reads them.

        Raises SettingsError, ConfigurationError and StoreError.
        """
        file = read_config(os.environ.get("CAP_CONFIG")).file
        return cls(_settings, [] if file is None else [str(file.absolute())])

    def check(self, behind: str | None = None) -> "Application":
        """Returns the check, for a server that only this proxy can connect to.

        Where none is named, $CAP_BEHIND names it, or the listeners of the check do, if they agree. Raises
        SettingsError.
        """
        return self._application(lambda settings: _check_listener(settings, behind))

    def api(self) -> "Application":
        """Returns the API: AuthZEN, introspection, revocation, token exchange and keys."""
        return self._application(lambda settings: _listener(Serves.API))

    def admin(self) -> "Application":
        """Returns /livez, /readyz, /metrics and /status, of this process.

        Raises SettingsError where a package is missing that they need.
        """
        package = missing(OF[Serves.ADMIN])
        if package is not None:
            raise SettingsError(f"{package.lack}: {package.hint}")
        return self._application(lambda settings: _listener(Serves.ADMIN))

    async def __aenter__(self) -> Self:
        """Begins to decide. Raises CapabilityError, SettingsError, and OSError for a log."""
        async with self._changing:
            if self.running is None:
                self.running = await self._start()
            elif self.running.loop is not asyncio.get_running_loop():
                raise RuntimeError("a sidecar runs in one event loop")
            self._users += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        """Ends, where nobody else has begun it; until they end too, /readyz says that it is shutting down."""
        async with self._changing:
            self._users -= 1
            running = self.running
            assert running is not None
            running.service.draining = True
            if self._users == 0:
                self.running = None
                await running.stop()

    def _application(self, make: Callable[[Settings], Listener]) -> "Application":
        if self.running is not None:
            raise RuntimeError("the sidecar has begun already: make its applications before")
        made = Application(self, make(self._settings))
        self._makes.append(make)
        self._applications.append(made)
        return made

    def _listening(self, settings: Settings) -> Settings:
        """Returns the settings with the applications in place of the listeners."""
        return replace(settings, listen=tuple(make(settings) for make in self._makes))

    async def _start(self) -> "_Running":
        settings = self._listening(self._settings)
        warning = unrevoked(settings, "CAP_STORE=none")
        if warning is not None:
            _LOGGER.warning(warning)
        # it opens a store that is asked on every request
        service = await asyncio.to_thread(Service, settings, Board(1), 0, warn=_LOGGER.warning)
        handlers: dict[Application, Handler] = {}

        def hand_out() -> None:
            for each in self._applications:
                handlers[each] = service.handler(each.listener)

        service.live.changed = lambda state: hand_out()
        await asyncio.to_thread(service.start)
        hand_out()
        watch = Watch(service.live, self._reread, self._files, self._seen)
        tasks = [asyncio.create_task(each) for each in (watch.run(), service.refresh())]
        for task in tasks:
            task.add_done_callback(partial(_noticed, service))
        executor = ThreadPoolExecutor(THREADS, "cap-check")
        return _Running(asyncio.get_running_loop(), service, handlers, tasks, executor)

    def _reread(self) -> Settings:
        """Returns what the files say now; raises SettingsError for whatever is wrong with them."""
        try:
            return self._listening(self._read())
        except CapabilityError as error:
            raise SettingsError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Running:
    """What there is between a sidecar's start and its end.

    The handlers are here, so that a reload which is under way at the end hands out none that anybody asks.
    """

    loop: asyncio.AbstractEventLoop
    service: Service
    handlers: "Mapping[Application, Handler]"
    tasks: Sequence[asyncio.Task[None]]
    executor: ThreadPoolExecutor

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.executor.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.service.close)


class Application:
    """One surface of a sidecar: answers while the sidecar runs, and with 503 before and after."""

    def __init__(self, sidecar: Sidecar, listener: Listener) -> None:
        self.listener = listener
        self._sidecar = sidecar
        self._by_peer = listener.serves is Serves.CHECK and PROFILES[listener.behind].client is None

    @property
    def handler(self) -> Handler:
        """What answers now."""
        running = self._sidecar.running
        return NOT_READY if running is None else running.handlers[self]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers; raises ValueError for what is neither HTTP nor the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise ValueError(f"this application speaks HTTP, not {scope['type']}")
        handler, running = self.handler, self._sidecar.running
        if running is not None and self.listener.serves is Serves.ADMIN:
            running.service.say()
        if running is not None and rewritten(scope):
            if self._by_peer:
                handler = Refusal(malformed(_WHO_ASKS), running.service.live.settings.realm)
            scope = {**scope, "client": None}  # or the log would name whom the client did
        await serve(handler, scope, receive, send, None if running is None else running.executor)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as begun:
            try:
                await begun.enter_async_context(self._sidecar)
            except (CapabilityError, SettingsError, OSError) as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _noticed(service: Service, task: asyncio.Task[None]) -> None:
    """Has it said that files or keys are followed no more: else it would go on by old ones in silence."""
    if not task.cancelled() and task.exception() is not None:
        service.live.refused(f"changes are followed no more: {type(task.exception()).__name__}")


def _settings() -> Settings:
    environment = os.environ
    config = read_config(environment.get("CAP_CONFIG"))
    flags = Flags(store=environment.get("CAP_STORE") or None)
    return configured(environment, config, read_prefixes(environment, config), flags)


def _listener(serves: Serves) -> Listener:
    return Listener(address=parse_address(_ELSEWHERE), serves=serves)


def _check_listener(settings: Settings, behind: str | None) -> Listener:
    """Returns how the check reads requests; raises SettingsError where that is not clear."""
    named = behind or os.environ.get("CAP_BEHIND")
    if named:
        if named not in PROFILES:
            raise SettingsError(f"CAP_BEHIND is one of {', '.join(PROFILES)}, not {named[:40]!r}")
        return replace(_listener(Serves.CHECK), behind=named)
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
