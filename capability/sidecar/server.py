"""The process of `cap serve`: opens the sockets, starts the workers, and sees to it that they run.

The sockets are opened before there is a worker, so that a port in use is an error at the start; all workers
accept from the same ones. A worker that dies is replaced.
"""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from capability.sidecar.addresses import Inherited, Tcp, Unix
from capability.sidecar.settings import Listener, Serves, Settings, SettingsError
from capability.sidecar.tally import Board
from capability.sidecar.watching import stamps
from capability.sidecar.worker import Worker

BACKLOG: Final = 1024
EXIT_CANNOT_WORK: Final = 78
"""How a worker's process ends when it could not even begin; another one would not do better."""

FIRST_DESCRIPTOR: Final = 3
"""The first socket that systemd hands over (sd_listen_fds(3))."""


class Server:
    """All workers of one `cap serve`. `warn` is told, once, what is odd or not used."""

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
        self._board = Board(settings.workers)

    def run(self, started: Callable[[Sequence[str]], None] = lambda addresses: None) -> None:
        """Serves until SIGTERM or SIGINT. `started` is told the addresses.

        Raises SettingsError for what can never work, and OSError for a socket that cannot be opened.
        """
        # one that comes before there is anything to reload must not end the process, as it would by default
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with contextlib.ExitStack() as opened:
            sockets = [(each, _entered(opened, each)) for each in self._settings.listen]

            def ready() -> None:
                _notify_ready()
                started([_shown(bound) for _, bound in sockets])

            if self._settings.workers == 1:
                self._work(sockets, 0, ready)
            else:
                _Supervisor(self, sockets).run(ready)

    def _work(
        self, sockets: Sequence[tuple[Listener, socket.socket]], number: int, ready: Callable[[], None]
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
                warn=self._warn if number == 0 else lambda warning: None,
            )
            await worker.run(ready)

        with asyncio.Runner(loop_factory=_new_loop()) as runner:
            runner.run(serve())

    @property
    def workers(self) -> int:
        """How many workers there are to be."""
        return self._settings.workers

    def work(self, sockets: Sequence[tuple[Listener, socket.socket]], number: int) -> None:
        """Runs one worker in this process."""
        self._work(sockets, number, lambda: None)


class _Supervisor:
    """Keeps workers running, one process each, and hands signals on."""

    def __init__(self, server: Server, sockets: Sequence[tuple[Listener, socket.socket]]) -> None:
        self._server = server
        self._sockets = sockets
        self._workers: dict[int, int] = {}
        self._stopping = False

    def run(self, ready: Callable[[], None]) -> None:
        for number in range(self._server.workers):
            self._start(number)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hand_on)
        ready()
        failures = 0
        while self._workers:
            process, status = os.wait()
            worker = self._workers.pop(process, None)
            if worker is None or self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code == EXIT_CANNOT_WORK:
                # what can never work in one worker works in none
                failures += 1
                self._stop(signal.SIGTERM, None)
                continue
            print(f"warning: worker {worker} ended with {code}, and is started again", file=sys.stderr)
            time.sleep(0.2)
            self._start(worker)
        if failures:
            raise SettingsError("the workers cannot start: what they said is above")

    def _start(self, number: int) -> None:
        process = os.fork()
        if process:
            self._workers[process] = number
            return
        code = 1
        try:
            self._server.work(self._sockets, number)
            code = 0
        except (SettingsError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            code = EXIT_CANNOT_WORK
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True
        # else the kernel would go on taking connections that nobody will accept
        for _, bound in self._sockets:
            bound.close()
        self._hand_on(signal.SIGTERM, frame)

    def _hand_on(self, number: int, frame: object) -> None:
        for process in list(self._workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def _entered(opened: contextlib.ExitStack, listener: Listener) -> socket.socket:
    """Returns the socket of a listener; raises OSError, which names the address."""
    try:
        return opened.enter_context(_open(listener))
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{listener.address}: {(error.strerror or '').lower()}") from error


@contextlib.contextmanager
def _open(listener: Listener) -> Iterator[socket.socket]:
    address = listener.address
    if listener.serves is Serves.GRPC:
        with _reserve(address) as reserved:
            yield reserved
        return
    if isinstance(address, Inherited):
        bound = _inherited(address.name)
    elif isinstance(address, Tcp):
        bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    else:
        bound = _bind(address)
    bound.listen(BACKLOG)
    bound.setblocking(False)
    mine = _inode(address.path) if isinstance(address, Unix) else None
    try:
        yield bound
    finally:
        # before it is closed: a successor may take the place of a socket that nobody serves any more
        if isinstance(address, Unix) and mine is not None and _inode(address.path) == mine:
            os.unlink(address.path)
        bound.close()


@contextlib.contextmanager
def _reserve(address: Unix | Tcp | Inherited) -> Iterator[socket.socket]:
    """Keeps an address for gRPC, which opens its sockets itself; nobody listens there yet."""
    if isinstance(address, Inherited):
        raise SettingsError(f"{address}: a gRPC listener cannot take a socket over, name an address")
    if isinstance(address, Unix):
        bound = _bind(address)
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # with SO_REUSEPORT alone a port that another `cap serve` has would look free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
            port = probe.getsockname()[1]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address.host, port))
    try:
        yield bound
    finally:
        bound.close()
        if isinstance(address, Unix):
            with contextlib.suppress(OSError):
                os.unlink(address.path)


def _bind(address: Unix) -> socket.socket:
    """Binds a socket file, with its mode from the first moment on, and replaces one that nobody serves."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(address.path).st_mode):
            raise OSError(f"{address.path!r} is there, and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)  # a queue of connections that is full is no sign that nobody serves
            try:
                with contextlib.suppress(TimeoutError, BlockingIOError):
                    probe.connect(address.path)
            except ConnectionRefusedError:
                os.unlink(address.path)
            else:
                raise OSError(f"somebody listens at {address.path!r} already")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~address.mode)
    try:
        bound.bind(address.path)
    finally:
        os.umask(before)
    return bound


def _inode(path: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_ino
    return None


def _inherited(name: str) -> socket.socket:
    """Returns the socket that systemd opened under a name; raises OSError when there is none."""
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    names = os.environ.get("LISTEN_FDNAMES", "").split(":") if mine else []
    if name not in names:
        raise OSError(f"no socket {name!r} was handed over: see FileDescriptorName= of the socket unit")
    return socket.socket(fileno=FIRST_DESCRIPTOR + names.index(name))


def _shown(bound: socket.socket) -> str:
    name = bound.getsockname()
    if isinstance(name, tuple):
        return str(Tcp(name[0], name[1]))
    return f"unix:{name}"


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
