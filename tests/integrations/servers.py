"""Real servers on free loopback ports, and a client that sends what it is told, byte for byte."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn
from websockets.sync.client import ClientConnection, connect

PATIENCE = 60.0
"""Seconds until an answer counts as none, on a machine that is busy with other tests."""


@dataclass(frozen=True)
class Answer:
    """What a server answered; the names of headers are in lower case, `problem` is the body's JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, method: str, path: str, headers: list[tuple[str, str]]) -> Answer:
    """Sends a request whose path and headers are taken as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if method not in ("GET", "HEAD"):
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        names = [name.lower() for name, _ in response.getheaders()]
        assert len(set(names)) == len(names), names
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def websocket(port: int, path: str, *headers: tuple[str, str]) -> ClientConnection:
    """Opens a WebSocket; raises InvalidStatus where it is refused."""
    return connect(
        f"ws://127.0.0.1:{port}{path}",
        additional_headers=headers,
        open_timeout=PATIENCE,
        close_timeout=PATIENCE,
        ping_interval=None,
    )


@contextmanager
def asgi_server(app: Any, **options: Any) -> Iterator[int]:
    """Runs an ASGI application in uvicorn; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    # A connection that a client keeps is not closed while it is about to be used again.
    options = {"timeout_keep_alive": 600, **options}
    config = uvicorn.Config(app, log_level="error", ws="websockets-sansio", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive(), "uvicorn did not start"
            assert time.monotonic() < deadline, "uvicorn did not start in time"
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def celery_worker(app: Any, loglevel: str) -> Iterator[None]:
    """Runs a worker of a Celery application in a thread."""
    from celery.contrib.testing.worker import start_worker

    with start_worker(
        app, pool="solo", perform_ping_check=False, loglevel=loglevel, shutdown_timeout=PATIENCE
    ):
        yield


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return None


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    """Runs a WSGI application in the standard library's server; yields its port."""
    server = make_server("127.0.0.1", 0, app, WSGIServer, _Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
