"""One worker: an event loop that serves sockets, and the threads that keep its keys and revocations fresh."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from capability.http.problems import Problem
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.revocation import RevisedSource
from capability.sidecar.addresses import Inherited, Tcp
from capability.sidecar.admin import Admin, health
from capability.sidecar.api import API
from capability.sidecar.check import Check, CheckSettings
from capability.sidecar.feed import Bounded, Feed
from capability.sidecar.keysource import KeySource, KeysUnavailable
from capability.sidecar.live import Live, State
from capability.sidecar.logs import LineLog
from capability.sidecar.messages import Answer, Handler, Headers
from capability.sidecar.oauth import Revoker
from capability.sidecar.profiles import PROFILES
from capability.sidecar.protocol import Connections
from capability.sidecar.settings import Listener, Logged, Serves, Settings, SettingsError
from capability.sidecar.storelog import StoreLog
from capability.sidecar.tally import Board

if TYPE_CHECKING:
    from capability.sidecar.extauthz import Server as GRPCServer

SWEEP: Final = 0.25
WATCH: Final = 1.0
LAST_CALL: Final = 0.5
"""Seconds in which answers say that their connection ends, before idle ones are closed: a request may be on
its way.
"""
THREADS: Final = 16
"""How many requests of one worker may wait for a store that is asked on every request."""

_NOT_READY: Final = Problem(
    name="not-ready",
    status=503,
    title="The check is not ready",
    detail="keys or policies were not read yet",
    retry_after=1,
)

Stamps: TypeAlias = list[tuple[str, int, int, int] | None]
"""What tells a file from what it was: path, time of change, inode, size; None for one that is not there."""


class NotReady:
    """Answers while there is nothing to decide by."""

    blocking = False
    max_body = 0

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        """Returns 503."""
        sent = [(name.lower().encode(), value.encode()) for name, value in _NOT_READY.headers("cap")]
        return Answer(_NOT_READY.status, tuple(sent), _NOT_READY.body())


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
        warn: Callable[[str, str], None] = lambda route, warning: None,
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._board = board
        self._number = number
        self._tally = board.row(number)
        self._reread = reread
        self._files = files
        self._seen = seen
        self._draining = False
        self._stopped = asyncio.Event()
        self._feed, strict = self._revocations()
        self._strict = strict
        self._live = Live(settings, self._tally, self._feed, strict=strict, warn=warn)
        self._live.changed = self._changed
        self._log = self._decision_log()
        self._revoker = self._store_to_revoke_in()
        self._executor = ThreadPoolExecutor(THREADS, "cap-check")
        self._connections = [
            (listener, Connections(NotReady(), executor=self._executor))
            for listener, _ in sockets
            if listener.serves is not Serves.GRPC
        ]
        self._grpc: list[tuple[Listener, GRPCServer]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._counted: dict[str, int] = {}

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serves until it is told to stop. Raises SettingsError for what can never work, and OSError."""
        loop = asyncio.get_running_loop()
        if self._feed is not None:
            self._feed.start()
        if self._log is not None:
            self._log.start()
        try:
            self._live.load()
        except KeysUnavailable as error:
            self._live.problem = str(error)
        over_http = [bound for listener, bound in self._sockets if listener.serves is not Serves.GRPC]
        for (listener, connections), bound in zip(self._connections, over_http, strict=True):
            connections.handler = self._handler(listener)
            self._servers.append(await loop.create_server(connections, sock=bound))
        await self._serve_grpc()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        tasks = [loop.create_task(each) for each in (self._sweep(), self._watch(), self._refresh())]
        ready()
        try:
            await self._stopped.wait()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._close()

    async def _serve_grpc(self) -> None:
        for listener, bound in self._sockets:
            if listener.serves is Serves.GRPC:
                from capability.sidecar.extauthz import Server as GRPCServer

                address = listener.address
                assert not isinstance(address, Inherited)
                if isinstance(address, Tcp):
                    address = replace(address, port=bound.getsockname()[1])
                server = GRPCServer(address, self._handler(listener))
                await server.start()
                self._grpc.append((listener, server))

    def stop(self) -> None:
        """Begins to drain; what has begun is answered."""
        self._stopped.set()

    def _revocations(self) -> tuple[Feed | None, RevisedSource | None]:
        """Returns what follows the store, or the store itself where every request asks it."""
        url = self._settings.store
        if url is None:
            return None, None
        from capability.store import open_store

        if self._settings.follow:
            return Feed(lambda: open_store(url), poll=self._settings.poll), None
        return None, open_store(url)

    def _store_to_revoke_in(self) -> Revoker | None:
        url = self._settings.store
        if url is None:
            return None
        from capability.store import open_store

        return Revoker(lambda: open_store(url))

    def _decision_log(self) -> LineLog | StoreLog | None:
        settings = self._settings
        if settings.log == "store":
            from capability.store import open_store

            url = settings.store or ""
            return StoreLog(
                lambda: open_store(url),
                self._number,
                logged=settings.decisions,
                capacity=settings.log_capacity,
                when_full=settings.when_full,
            )
        if settings.decisions is Logged.NONE:
            return None
        return LineLog(
            settings.log,
            logged=settings.decisions,
            capacity=settings.log_capacity,
            when_full=settings.when_full,
            dropped=lambda: self._tally.happened("log_dropped"),
        )

    def _handler(self, listener: Listener) -> Handler:
        """Returns what answers on a listener, by the state that holds now."""
        live = self._live
        if listener.serves is Serves.ADMIN:
            return Admin(live, self._feed, self._board, draining=lambda: self._draining)
        if live.state is None:
            return NotReady()
        settings = live.state.settings
        if listener.serves is Serves.API:
            assert live.state.api is not None
            return API(
                live.state.api,
                self._keys,
                settings.api,
                self._tally,
                revoker=self._revoker,
                log=self._log,
                realm=settings.realm,
            )
        source = self._strict if self._feed is None else Bounded(self._feed, settings.max_stale)
        check = CheckSettings(
            # over gRPC Envoy says everything in fields of their own
            profile=PROFILES["plain" if listener.serves is Serves.GRPC else listener.behind],
            paths=listener.paths,
            chosen=tuple(each.encode("ascii") for each in settings.headers),
            realm=settings.realm,
            api_key=settings.api_key,
            source=source,
            blocking=self._strict is not None,
        )
        return Check(live.state.routes, check, self._tally, self._log)

    def _keys(self) -> KeySet | PublicKey:
        """Returns the keys that hold now; fetched ones are replaced without anything else."""
        assert self._live.state is not None
        return self._live.state.keys

    def _changed(self, state: State) -> None:
        """Lets every listener answer by a new state. An assignment, so a request sees the old or the new."""
        for listener, connections in self._connections:
            if listener.serves is not Serves.ADMIN:
                connections.handler = self._handler(listener)
        for listener, server in self._grpc:
            server.handler = self._handler(listener)

    def _hang_up(self) -> None:
        if self._log is not None:
            self._log.reopen()
        asyncio.get_running_loop().run_in_executor(None, self._reload)

    def _reload(self) -> None:
        try:
            settings = self._reread()
        except SettingsError as error:
            self._live.refused(str(error))
            return
        self._live.reload(settings)

    async def _sweep(self) -> None:
        """Closes what is late, and says to the board how this worker is."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            for _, connections in self._connections:
                connections.sweep(loop.time())
            self._say()

    def _say(self) -> None:
        tally, feed = self._tally, self._feed
        now = health(self._live, feed, self._live.settings, draining=self._draining)
        tally.says("ready", int(now.ready))
        found = {
            "connections_refused": sum(each.refused for _, each in self._connections),
            "connections_late": sum(each.late for _, each in self._connections),
        }
        if isinstance(self._log, StoreLog):
            found["log_dropped"] = self._log.dropped
        if feed is not None:
            found["refresh_failures_store"] = feed.failures
            tally.says("revocation_entries", len(feed))
            tally.says("revocation_revision", feed.revision() or 0)
            age = feed.age()
            if age is not None:
                tally.says("revocation_success_ms", round((time.time() - age) * 1000))
        if self._live.state is not None:
            stats = [guard.stats().tokens for guard in self._live.state.guards]
            found["cache_hits"] = sum(each.hits for each in stats)
            found["cache_misses"] = sum(each.misses for each in stats)
        for event, count in found.items():
            # a new state's guards begin to count from nothing
            tally.happened(event, max(count - self._counted.get(event, 0), 0))
            self._counted[event] = count

    async def _watch(self) -> None:
        """Reloads when a file that the state was made of has changed."""
        seen = self._seen
        while True:
            await asyncio.sleep(WATCH)
            now = stamps(self._live.settings, self._files)
            if now != seen:
                seen = now
                await asyncio.to_thread(self._reload)

    async def _refresh(self) -> None:
        """Fetches remote keys again and again, often as long as there are none."""
        while True:
            settings = self._live.settings
            missing = self._live.state is None
            await asyncio.sleep(1.0 if missing else settings.keys_refresh)
            if settings.keys is not None and (missing or KeySource(settings.keys).is_remote):
                await asyncio.to_thread(self._live.refresh_keys)

    async def _drain(self) -> None:
        """Answers what has begun, for `drain_time` at most; new connections are not taken."""
        self._draining = True
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
        if self._feed is not None:
            self._feed.close()
        if self._log is not None:
            self._log.close()
        if self._revoker is not None:
            self._revoker.close()


def stamps(settings: Settings, files: Sequence[str]) -> Stamps:
    """Returns how the files that decide look now: `files`, and those that the settings name."""
    policies = [*(each.policy for each in settings.routes), settings.api.policy, settings.api.callers]
    named = [*files, *(each for each in policies if each is not None)]
    if settings.keys is not None and not KeySource(settings.keys).is_remote:
        named.append(settings.keys)
    return [_stamp(each) for each in dict.fromkeys(named)]


def _stamp(path: str) -> tuple[str, int, int, int] | None:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return path, found.st_mtime_ns, found.st_ino, found.st_size
    return None
