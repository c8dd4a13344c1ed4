"""One worker: an event loop that serves sockets, and the threads that keep its keys and revocations fresh."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from capability.sidecar.addresses import Inherited, Tcp
from capability.sidecar.bounds import THREADS
from capability.sidecar.live import State
from capability.sidecar.protocol import Connections
from capability.sidecar.service import NOT_READY, Service
from capability.sidecar.settings import Listener, Serves, Settings
from capability.sidecar.tally import Board
from capability.sidecar.watching import Stamps, Watch

if TYPE_CHECKING:
    from capability.sidecar.extauthz import Server as GRPCServer

SWEEP: Final = 0.25
LAST_CALL: Final = 0.5
"""Seconds in which answers say that their connection ends, before idle ones are closed: a request may be on
its way.
"""


class Worker:
    """Serves `sockets`, each for its listener, until SIGTERM.

    `reread` reads the settings again, for SIGHUP and for files that change; it raises SettingsError. `seen`
    is how the files looked before the settings were first read.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: Sequence[tuple[Listener, socket.socket]],
        board: Board,
        number: int,
        *,
        reread: Callable[[], Settings],
        files: Sequence[str],
        seen: Stamps,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._sockets = sockets
        self._stopped = asyncio.Event()
        self._service = Service(settings, board, number, warn=warn)
        self._live = self._service.live
        self._live.changed = self._changed
        self._watch = Watch(self._live, reread, files, seen)
        self._executor = ThreadPoolExecutor(THREADS, "cap-check")
        self._connections = [
            (listener, Connections(NOT_READY, executor=self._executor))
            for listener, _ in sockets
            if listener.serves is not Serves.GRPC
        ]
        self._grpc: list[tuple[Listener, GRPCServer]] = []
        self._servers: list[asyncio.AbstractServer] = []

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serves until it is told to stop. Raises SettingsError for what can never work, and OSError."""
        loop = asyncio.get_running_loop()
        self._service.start()
        over_http = [bound for listener, bound in self._sockets if listener.serves is not Serves.GRPC]
        for (listener, connections), bound in zip(self._connections, over_http, strict=True):
            connections.handler = self._service.handler(listener)
            self._servers.append(await loop.create_server(connections, sock=bound))
        await self._serve_grpc()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self._service.say()  # who reads the metrics at once is told of this worker too
        tasks = [
            loop.create_task(each) for each in (self._sweep(), self._watch.run(), self._service.refresh())
        ]
        ready()
        stopped = loop.create_task(self._stopped.wait())
        try:
            # a worker that can follow its files no more would go on by old ones, and nobody would know
            await asyncio.wait((stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
            await self._drain()
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for each in (stopped, *tasks):
                each.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            self._close()

    async def _serve_grpc(self) -> None:
        for listener, bound in self._sockets:
            if listener.serves is Serves.GRPC:
                from capability.sidecar.extauthz import Server as GRPCServer

                address = listener.address
                assert not isinstance(address, Inherited)
                if isinstance(address, Tcp):
                    address = replace(address, port=bound.getsockname()[1])
                server = GRPCServer(address, self._service.handler(listener))
                await server.start()
                self._grpc.append((listener, server))

    def stop(self) -> None:
        """Begins to drain; what has begun is answered."""
        self._stopped.set()

    def _changed(self, state: State) -> None:
        """Lets every listener answer by a new state. An assignment, so a request sees the old or the new."""
        for listener, connections in self._connections:
            if listener.serves is not Serves.ADMIN:
                connections.handler = self._service.handler(listener)
        for listener, server in self._grpc:
            server.handler = self._service.handler(listener)

    def _hang_up(self) -> None:
        self._service.reopen_log()
        self._watch.look()

    async def _sweep(self) -> None:
        """Closes what is late, and says to the board how this worker is."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            for _, connections in self._connections:
                connections.sweep(loop.time())
            every = [each for _, each in self._connections]
            self._service.say(
                refused=sum(each.refused for each in every), late=sum(each.late for each in every)
            )

    async def _drain(self) -> None:
        """Answers what has begun, for `drain_time` at most; new connections are not taken."""
        self._service.draining = True
        end = time.monotonic() + self._live.settings.drain_time
        for server in self._servers:
            server.close()
        for _, connections in self._connections:
            connections.draining = True
        last_call = min(time.monotonic() + LAST_CALL, end)
        while any(each.open for _, each in self._connections) and time.monotonic() < last_call:
            await asyncio.sleep(0.02)
        for _, connections in self._connections:
            connections.drain()
        drain_time = self._live.settings.drain_time
        await asyncio.gather(*(server.stop(drain_time) for _, server in self._grpc))
        while any(each.open for _, each in self._connections) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for _, connections in self._connections:
            connections.sweep(float("inf"))
            connections.sweep(float("inf"))

    def _close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._service.close()
