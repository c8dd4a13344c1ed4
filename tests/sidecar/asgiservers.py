"""The sidecar's ASGI applications under the servers that people run, each a process of its own."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn

from tests.sidecar.processes import ROOT, TIMEOUT, Sidecar, connect, wait_until

COMMANDS: Final = {
    "uvicorn": ("uvicorn", "--http", "httptools", "--no-access-log"),
    "uvicorn with h11": ("uvicorn", "--http", "h11", "--no-access-log"),
    "granian": ("granian", "--interface", "asgi"),
}
"""The servers, by the name that a test has for them."""


@contextlib.contextmanager
def asgi_process(
    server: str, factory: str, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Sidecar]:
    """Runs `factory` of capability.sidecar.asgi behind a Unix socket in `folder`, until the block ends."""
    words = [*COMMANDS[server], "--uds", "check.sock", "--factory", f"capability.sidecar.asgi:{factory}"]
    with started(words, folder, environment) as running:
        yield running


@contextlib.contextmanager
def started(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Sidecar]:
    """Runs a server, named by its module, whose socket is check.sock in `folder`, until the block ends."""
    errors = folder / "server.err"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAP_")}
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(folder), **(environment or {})},
            stdout=file,
            stderr=file,
            text=True,
        )
    try:
        address = f"unix:{folder}/check.sock"
        assert wait_until(lambda: _answers(address)), errors.read_text()
        yield Sidecar(process, [address], errors)
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    with contextlib.closing(connect(address)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().status > 0


@contextlib.contextmanager
def together(*applications: Any) -> Iterator[list[int]]:
    """Runs a uvicorn for each application, all in one event loop; yields their ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in applications]
    servers = [
        uvicorn.Server(uvicorn.Config(each, log_level="error", proxy_headers=False)) for each in applications
    ]

    async def serve() -> None:
        pairs = zip(servers, listeners, strict=True)
        await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in pairs))

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert wait_until(lambda: all(each.started for each in servers) or not thread.is_alive())
        assert thread.is_alive(), "uvicorn did not start"
        yield [each.getsockname()[1] for each in listeners]
    finally:
        for server in servers:
            server.should_exit = True
        thread.join()
        for listener in listeners:
            listener.close()
