"""The process of `cap serve`: opens the sockets, starts the workers, and sees to it that they run.

The sockets are opened before there is a worker, so that a port in use is an error at the start; all workers
accept from the same ones. A worker that dies is replaced.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from capability.sidecar import garbage
from capability.sidecar.settings import FIXED, Listener, Settings, SettingsError
from capability.sidecar.sockets import opened, shown
from capability.sidecar.tally import Board
from capability.sidecar.watching import stamps
from capability.sidecar.worker import Worker

EXIT_CANNOT_WORK: Final = 78
"""How a worker's process ends when it could not even begin. At the start that ends all; of one that is to
replace another it is tried again, while the others go on.
"""
PAUSE: Final = 0.5
"""Seconds before a worker that ended is started again."""

_SIGNALS: Final = frozenset({signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM})


class Server:
    """All workers of one `cap serve`. `warn` is told, once, what is odd or not used.

    Raises SettingsError where `reread` does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reread: Callable[[], Settings],
        files: Sequence[str] = (),
        warn: Callable[[str], None] = lambda warning: None,
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._files = files
        self._warn = warn
        self._seen = stamps(settings, files)
        self.read_again()  # what changed since it was first read would never be seen to change
        self._board = Board(settings.workers)

    def run(self, started: Callable[[Sequence[str]], None] = lambda addresses: None) -> None:
        """Serves until SIGTERM or SIGINT. `started` is told the addresses.

        Raises SettingsError for what can never work, and OSError for a socket that cannot be opened.
        """
        # one that comes before there is anything to reload must not end the process, as it would by default
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        garbage.begin()
        with contextlib.ExitStack() as listening:
            sockets = [(each, _entered(listening, each)) for each in self._settings.listen]

            def ready() -> None:
                _notify_ready()
                started([shown(bound) for _, bound in sockets])

            if self._settings.workers == 1:
                self._work(sockets, 0, None, ready)
            else:
                _Supervisor(self, sockets).run(ready)

    @property
    def workers(self) -> int:
        """How many workers there are to be."""
        return self._settings.workers

    def work(self, sockets: Sequence[tuple[Listener, socket.socket]], number: int, leash: int) -> None:
        """Runs one worker in this process, until the other end of `leash` is closed."""
        self._work(sockets, number, leash, lambda: None)

    def read_again(self) -> None:
        """Reads the settings anew, as far as they can change; raises SettingsError.

        A worker that replaces another begins with what is written now: keys that were taken back meanwhile
        are not to be trusted again, not even for the moment until it looks for changes.
        """
        begun_with = {name: getattr(self._settings, name) for name in FIXED}
        self._settings = replace(self._reread(), **begun_with)

    def _work(
        self,
        sockets: Sequence[tuple[Listener, socket.socket]],
        number: int,
        leash: int | None,
        ready: Callable[[], None],
    ) -> None:
        async def serve() -> None:
            worker = Worker(
                self._settings,
                sockets,
                self._board,
                number,
                reread=self._reread,
                files=self._files,
                seen=self._seen,
                leash=leash,
                warn=self._warn if number == 0 else lambda warning: None,
            )
            await worker.run(ready)

        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            runner.run(serve())


class _Supervisor:
    """Keeps workers running, one process each, and hands SIGHUP on.

    All workers hold one end of a pipe, and end when its other end, which only this process has, is closed:
    when it says so, and when it is gone, however that came. So a signal to all processes of a group (a
    terminal's, or systemd's) has no worker stop taking connections while others still send them its way.

    Signals are taken one by one where they are waited for, and interrupt nothing.
    """

    def __init__(self, server: Server, sockets: Sequence[tuple[Listener, socket.socket]]) -> None:
        self._server = server
        self._sockets = sockets
        self._leash, self._held = os.pipe()
        self._workers: dict[int, _Place] = {}
        self._missing: list[_Place] = []
        self._stopping = False
        self._cannot_work = False

    def run(self, ready: Callable[[], None]) -> None:
        for each in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(each, lambda number, frame: None)  # what is ignored may not be waited for
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for number in range(self._server.workers):
            self._start(_Place(number, 0))
        ready()
        while self._workers or self._missing:
            if self._missing and not signal.sigpending() & _SIGNALS:
                time.sleep(PAUSE)
                self._start_missing()
                continue
            number = signal.sigwait(_SIGNALS)
            if number == signal.SIGHUP:
                self._hang_up()
            elif number == signal.SIGCHLD:
                self._look_after()
            else:
                self._stop()
        if self._cannot_work:
            raise SettingsError("the workers cannot start: what they said is above")

    def _start(self, place: "_Place") -> None:
        """Makes the process of a worker; raises OSError."""
        process = os.fork()
        if process:
            self._workers[process] = place
            return
        code = 1
        try:
            os.close(self._held)
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            if place.generation:
                self._server.read_again()
            self._server.work(self._sockets, place.number, self._leash)
            code = 0
        except (SettingsError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            code = EXIT_CANNOT_WORK
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _start_missing(self) -> None:
        while self._missing:
            try:
                self._start(self._missing[-1])
            except OSError as error:  # no memory, or too many processes: not for ever
                print(f"warning: a worker cannot be started: {error}", file=sys.stderr)
                return
            self._missing.pop()

    def _look_after(self) -> None:
        """Sees which workers have ended, and notes those that are to be replaced."""
        while self._workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            place = self._workers.pop(process, None)
            if place is None or self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code == EXIT_CANNOT_WORK and not place.generation:
                # what can never work in one worker works in none
                self._cannot_work = True
                self._stop()
                continue
            print(f"warning: worker {place.number} ended with {code}, and is started again", file=sys.stderr)
            self._missing.append(_Place(place.number, place.generation + 1))

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._missing.clear()
        os.close(self._held)
        # the workers close theirs; with this one open the port would stay taken until the last has ended
        for _, bound in self._sockets:
            bound.close()

    def _hang_up(self) -> None:
        for process in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGHUP)


def _entered(listening: contextlib.ExitStack, listener: Listener) -> socket.socket:
    """Returns the socket of a listener; raises OSError, which names the address."""
    try:
        return listening.enter_context(opened(listener))
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{listener.address}: {(error.strerror or '').lower()}") from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Which worker a process is, and how many were in this place before it."""

    number: int
    generation: int


def _notify_ready() -> None:
    """Tells systemd that requests are taken (sd_notify(3)); nobody is told where nobody asked."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + path[1:] if path[0] == "@" else path)
            sender.sendall(b"READY=1")


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Returns uvloop's event loop where it is installed: it takes half the time for a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
