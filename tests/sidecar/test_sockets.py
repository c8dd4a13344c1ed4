"""A socket that takes no more connections, and loses none that it has taken."""

import resource
import socket
import sys
from pathlib import Path

import pytest

from capability.sidecar.addresses import Tcp, Unix
from capability.sidecar.settings import Listener
from capability.sidecar.sockets import OTHER_FILES, opened, refuse, room, waiting


def client_of(bound: socket.socket) -> socket.socket:
    """Returns a connection, given up after a quarter of a second; raises OSError."""
    client = socket.socket(bound.family)
    client.settimeout(0.25)
    try:
        client.connect(bound.getsockname())
    except OSError:
        client.close()
        raise
    return client


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels go on taking connections")
@pytest.mark.parametrize("kind", ["unix", "127.0.0.1", "::1"])
def test_who_waits_is_accepted_and_nobody_else_comes(kind: str, tmp_path: Path) -> None:
    address = Unix(f"{tmp_path}/cap.sock") if kind == "unix" else Tcp(kind, 0)
    with opened(Listener(address=address)) as bound, client_of(bound) as early:
        early.sendall(b"early")
        for _ in range(2):  # each worker does so
            refuse(bound)
        with pytest.raises(OSError, match=r"refused|timed out"):
            client_of(bound)
        (taken,) = waiting(bound)
        with taken:
            taken.setblocking(True)
            assert taken.recv(5) == b"early"
            taken.sendall(b"answer")
            assert early.recv(6) == b"answer"
        assert list(waiting(bound)) == []


def test_connections_leave_files_for_everything_else() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert room(2, 100) == 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        assert room(2, 100) == 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200 + OTHER_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
