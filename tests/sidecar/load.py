"""Clients that ask a sidecar on and on, and miss no answer that they do not get."""

import contextlib
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from capability.sidecar.worker import LAST_CALL
from tests.sidecar.processes import TIMEOUT, Sidecar

SOAK: Final = os.environ.get("CAP_SOAK") == "1"
"""Whether this is `make soak`."""

SILENCE: Final = 0.8 * LAST_CALL
"""Seconds without a word from a client, after which a sidecar that ends may hang up before it asks again."""


@contextlib.contextmanager
def load(
    server: Sidecar, token: str, clients: int = 4, *, headers: str = ""
) -> Iterator["Counter[int | str]"]:
    """Asks from several connections until the end of the block, or of the server. Counts the statuses, and
    what was "cut" off or "lost"; "silent" are those where the machine held the client up for too long.

    After an answer that says that the connection ends a new one is opened, as proxies do.
    """
    counts: Counter[int | str] = Counter()
    stop = threading.Event()
    request = f"GET /orders/7 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{headers}\r\n".encode()

    def ask() -> None:
        while not stop.is_set():
            heard = time.monotonic()
            try:
                client = connected(server.addresses[0])
            except OSError:
                return  # it has ended
            with client:
                last = False
                while not stop.is_set() and not last:
                    begun = time.monotonic()
                    found, last = exchange(client, request)
                    if found in ("cut", "lost") and time.monotonic() - heard > SILENCE:
                        found = "silent"
                    counts[found] += 1
                    heard = begun  # or later

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield counts
    finally:
        stop.set()
        for each in threads:
            each.join(2 * TIMEOUT)


def exchange(client: socket.socket, request: bytes) -> tuple[int | str, bool]:
    """Returns a status, "cut" for half of an answer, "lost" for none; and whether that was the last."""
    received = b""
    try:
        client.sendall(request)
        while b"\r\n\r\n" not in received:
            part = client.recv(65_536)
            if not part:
                return ("cut" if received else "lost"), True
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        while len(body) < length:
            part = client.recv(65_536)
            if not part:
                return "cut", True
            body += part
    except OSError:
        return ("cut" if received else "lost"), True
    return int(received[9:12]), b"connection: close" in head


def connected(address: str) -> socket.socket:
    """Returns a connection to `unix:/path` or `tcp:host:port`; raises OSError."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        try:
            client.connect(address.removeprefix("unix:"))
        except OSError:
            client.close()
            raise
        return client
    return socket.create_connection(tcp(address), timeout=TIMEOUT)


def tcp(address: str) -> tuple[str, int]:
    """Returns host and port of `tcp:host:port`."""
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    return host, int(port)


def resident(process: int) -> int:
    """Returns the bytes of memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
