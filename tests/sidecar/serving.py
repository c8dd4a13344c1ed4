"""A handler behind a real socket, and clients that send bytes as they please."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from capability.sidecar.bounds import DEFAULT, Bounds
from capability.sidecar.messages import Handler
from capability.sidecar.protocol import Connections
from tests.sidecar.processes import TIMEOUT

PATIENT: Final = replace(DEFAULT, header_time=TIMEOUT, request_time=TIMEOUT)
"""Bounds for what is not about time."""


@contextlib.contextmanager
def served(
    handler: Handler, bounds: Bounds = PATIENT, *, loop: asyncio.AbstractEventLoop | None = None
) -> Iterator[tuple[int, Connections]]:
    """Serves on a free loopback port until the end of the block; yields the port and the connections.

    It does so in `loop`, if there is one that is to be used for something else too, which it closes.
    """
    loop = loop or asyncio.new_event_loop()
    connections = Connections(handler, bounds)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.02)
            connections.sweep(loop.time())

    server = loop.run_until_complete(loop.create_server(connections, "127.0.0.1", 0))
    sweeping = loop.create_task(sweep())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:

        async def stop() -> None:
            sweeping.cancel()
            server.close()
            for connection in list(connections.open):
                connection.late()
                connection.late()
            await loop.shutdown_default_executor()

        asyncio.run_coroutine_threadsafe(stop(), loop).result(TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def exchange(port: int, *parts: bytes) -> bytes:
    """Sends `parts`, says that nothing follows, and returns what comes back until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
        for part in parts:
            client.sendall(part)
        with contextlib.suppress(OSError):  # it may have closed already, before the last part was read
            client.shutdown(socket.SHUT_WR)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Returns all bytes until the other side closes."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            received += chunk
    return bytes(received)


def statuses(received: bytes) -> list[int]:
    """Returns the status of each answer in a stream."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
