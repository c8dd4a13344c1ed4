"""One worker: an event loop that serves sockets, and the threads that keep its keys and revocations fresh."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from capability.sidecar import garbage
from capability.sidecar.addresses import Inherited, Tcp
from capability.sidecar.bounds import DEFAULT, THREADS
from capability.sidecar.live import State
from capability.sidecar.protocol import Connections
from capability.sidecar.service import NOT_READY, Service
from capability.sidecar.settings import Listener, Serves, Settings
from capability.sidecar.sockets import BACKLOG, HANDSHAKE, refuse, room, waiting
from capability.sidecar.tally import Board
from capability.sidecar.watching import Stamps, Watch

if TYPE_CHECKING:
    from capability.sidecar.extauthz import Server as GRPCServer

SWEEP: Final = 0.25
"""Seconds between two looks for connections that are late."""

LAST_CALL: Final = 0.5
"""Seconds in which answers say that their connection ends, before idle ones are closed: a request may be on
its way.
"""


class Worker:
    """Serves `sockets`, each for its listener, until SIGTERM; with a `leash` until its other end is closed.

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
        leash: int | None = None,
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._sockets = sockets
        self._leash = leash
        self._stopped = asyncio.Event()
        self._service = Service(settings, board, number, warn=warn)
        self._live = self._service.live
        self._live.changed = self._changed
        self._watch = Watch(self._live, reread, files, seen)
        self._executor = ThreadPoolExecutor(THREADS, "cap-check")
        over_http = [listener for listener, _ in sockets if listener.serves is not Serves.GRPC]
        bounds = replace(DEFAULT, connections=room(len(over_http), DEFAULT.connections))
        self._connections = [
            (listener, Connections(NOT_READY, bounds, executor=self._executor)) for listener in over_http
        ]
        self._grpc: list[tuple[Listener, GRPCServer]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._queues: list[tuple[Connections, socket.socket]] = []
        """The sockets whose queue of connections nobody else accepts from once this process has ended."""

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serves until it is told to stop. Raises SettingsError for what can never work, and OSError."""
        loop = asyncio.get_running_loop()
        self._service.start()
        over_http = [bound for listener, bound in self._sockets if listener.serves is not Serves.GRPC]
        for (listener, connections), bound in zip(self._connections, over_http, strict=True):
            connections.handler = self._service.handler(listener)
            # a copy of its own, that the server can close: what is left in the queue is accepted after it
            mine = bound.dup()
            self._servers.append(await loop.create_server(connections, sock=mine, backlog=BACKLOG))
            if not isinstance(listener.address, Inherited):
                self._queues.append((connections, bound))
        await self._serve_grpc()
        if self._leash is None:
            loop.add_signal_handler(signal.SIGTERM, self.stop)
            loop.add_signal_handler(signal.SIGINT, self.stop)
        else:
            loop.add_reader(self._leash, self.stop)
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
        if self._leash is not None:
            asyncio.get_running_loop().remove_reader(self._leash)
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
        """Closes what is late, says to the board how this worker is, and collects garbage after a change."""
        loop = asyncio.get_running_loop()
        state = self._live.state
        while True:
            await asyncio.sleep(SWEEP)
            for _, connections in self._connections:
                connections.sweep(loop.time())
            every = [each for _, each in self._connections]
            self._service.say(
                refused=sum(each.refused for each in every), late=sum(each.late for each in every)
            )
            if self._live.state is not state:
                state = self._live.state
                garbage.collect_all()

    async def _drain(self) -> None:
        """Answers all who are connected, for `drain_time` at most, and takes nobody else."""
        self._service.draining = True
        drain_time = self._live.settings.drain_time
        end = time.monotonic() + drain_time
        await self._stop_listening()
        for _, connections in self._connections:
            connections.draining = True
        last_call = min(time.monotonic() + LAST_CALL, end)
        while any(each.open for _, each in self._connections) and time.monotonic() < last_call:
            await asyncio.sleep(0.02)
        for _, connections in self._connections:
            connections.drain()
        await asyncio.gather(*(server.stop(drain_time) for _, server in self._grpc))
        while any(each.open for _, each in self._connections) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        for _, connections in self._connections:
            connections.sweep(float("inf"))
            connections.sweep(float("inf"))

    async def _stop_listening(self) -> None:
        """Closes the sockets, and accepts who was connected already. What systemd opened stays as it is:
        who waits there waits for the next process. So it is where this worker ends and the others go on:
        what is done to a socket is done to theirs, and to that of whoever takes its place.
        """
        for server in self._servers:
            server.close()
        if self._leash is not None and not self._stopped.is_set():
            return
        for _, bound in self._queues:
            refuse(bound)
        await asyncio.sleep(HANDSHAKE)
        loop = asyncio.get_running_loop()
        for connections, bound in self._queues:
            for taken in waiting(bound):
                with contextlib.suppress(OSError):  # it has gone meanwhile
                    await loop.connect_accepted_socket(connections, taken)
            bound.close()

    def _close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._service.close()
