"""The sockets that listen: opened before there is a worker, and closed without a connection lost.

The kernel completes connections by itself, and keeps them in a queue until somebody accepts them. Closing a
socket resets what waits there, although its clients were told that they are connected and may have asked
already. So whoever stops listening first has the kernel take no more (`refuse`), then accepts what waits
(`waiting`), and only then closes.
"""

import contextlib
import os
import resource
import socket
import stat
import struct
import sys
from array import array
from collections.abc import Iterator
from typing import Final

from capability.sidecar.addresses import Inherited, Tcp, Unix
from capability.sidecar.settings import Listener, Serves, SettingsError

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""

HANDSHAKE: Final = 0.05
"""Seconds for the handshakes that had begun when `refuse` was called."""

OTHER_FILES: Final = 64
"""Files that a process may open besides its connections: the store's, the log's, policies and keys."""

FIRST_DESCRIPTOR: Final = 3
"""The first socket that systemd hands over (sd_listen_fds(3))."""

_SO_ATTACH_FILTER: Final = 26
_SYN: Final = 0x02
_SYN_ACK: Final = 0x12
_FLAGS: Final = 13
"""Where a segment's flags are (RFC 9293, 3.1)."""
_NO_NEW: Final = (
    # opcode, jump if true, jump if false, operand: the kernel's classic packet filter
    (0x30, 0, 0, _FLAGS),  # load a byte
    (0x54, 0, 0, _SYN_ACK),  # and
    (0x15, 0, 1, _SYN),  # equal?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFF_FFFF),  # take it
)
"""Drops what begins a connection and nothing else, the end of a handshake least of all."""


@contextlib.contextmanager
def opened(listener: Listener) -> Iterator[socket.socket]:
    """Listens where `listener` says until the end of the block; raises OSError and SettingsError."""
    address = listener.address
    if listener.serves is Serves.GRPC:
        with _reserved(address) as reserved:
            yield reserved
        return
    if isinstance(address, Inherited):
        bound = _inherited(address.name)
    elif isinstance(address, Tcp):
        bound = socket.socket(_family(address), socket.SOCK_STREAM)
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


def refuse(bound: socket.socket) -> None:
    """Has the kernel take no more connections, whichever process has this socket too; those that wait stay.

    Who connects to a Unix socket is refused at once. What would begin a TCP connection is dropped, so that
    its client tries again a second later, and meets a successor or a closed port. Handshakes that have begun
    go on: see HANDSHAKE. Where the kernel cannot do so (it is Linux that can) nothing happens.
    """
    with contextlib.suppress(OSError):
        if bound.family == socket.AF_UNIX:
            bound.shutdown(socket.SHUT_RD)
        elif sys.platform == "linux":
            program = array("B", b"".join(struct.pack("=HBBI", *each) for each in _NO_NEW))
            there, _ = program.buffer_info()
            bound.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_NO_NEW), there))


def waiting(bound: socket.socket) -> Iterator[socket.socket]:
    """Accepts the connections that wait, until there are none."""
    while True:
        try:
            taken, _ = bound.accept()
        except ConnectionAbortedError:
            continue
        except OSError:
            return
        taken.setblocking(False)
        yield taken


def room(listeners: int, wanted: int) -> int:
    """Returns how many connections each of so many listeners may have, `wanted` at most.

    Files are as scarce as the process's limit says, which is raised as far as that is allowed. A listener
    that is crowded leaves those of the others, and of everything else: the store, the log, a reload.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = listeners * wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    else:
        soft = needed
    return max((soft - min(OTHER_FILES, soft // 2)) // max(listeners, 1), 1)


def shown(bound: socket.socket) -> str:
    """Returns the address as it is written in a configuration."""
    name = bound.getsockname()
    if isinstance(name, tuple):
        return str(Tcp(name[0], name[1]))
    return f"unix:{name}"


@contextlib.contextmanager
def _reserved(address: Unix | Tcp | Inherited) -> Iterator[socket.socket]:
    """Keeps an address for gRPC, which opens its sockets itself; nobody listens there yet."""
    if isinstance(address, Inherited):
        raise SettingsError(f"{address}: a gRPC listener cannot take a socket over, name an address")
    if isinstance(address, Unix):
        bound = _bind(address)
    else:
        with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
            # with SO_REUSEPORT alone a port that another `cap serve` has would look free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
            port = probe.getsockname()[1]
        bound = socket.socket(_family(address), socket.SOCK_STREAM)
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


def _family(address: Tcp) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


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
