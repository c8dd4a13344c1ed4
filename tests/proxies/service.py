"""The service behind a proxy, which keeps what reached it, and a client that writes what it pleases."""

import base64
import contextlib
import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, TypeAlias

from tests.sidecar.processes import TIMEOUT

PATIENCE: Final = 3.0
"""Seconds that the client waits for an answer where none may come."""

_WEBSOCKET: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a server adds to the key before it hashes it (RFC 6455 section 1.3)."""

Pairs: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the service got it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: str

    def values(self, name: str) -> list[str]:
        """Returns the values of the header `name` and of its other spellings, as services read them."""
        return [value for key, value in self.headers if key.lower().replace("_", "-") == name.lower()]


class Service:
    """What has reached the service, in order."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[Received] = []


@contextlib.contextmanager
def service() -> Iterator[Service]:
    """Runs a service on a free port until the end of the block. It says 200, and 101 to who asks for that."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            # parse_request would make /a of //a
            method, target, _ = self.requestline.split(" ")
            found.received.append(Received(method, target, tuple(self.headers.items()), body))
            upgrade = self.headers.get("Upgrade")
            self.send_response_only(101 if upgrade else 200)
            if upgrade:
                key = self.headers.get("Sec-WebSocket-Key", "") + _WEBSOCKET
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                self.send_header("Upgrade", upgrade)
                self.send_header("Connection", "Upgrade")
                self.send_header("Sec-WebSocket-Accept", accept)
                self.close_connection = True
            else:
                self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing: a proxy may reset its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        found = Service(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def send(
    port: int, method: str, target: str, headers: Pairs, body: str = "", *, patience: float = TIMEOUT
) -> tuple[int, dict[str, str]] | None:
    """Sends just these headers; returns status and headers of the answer, None when none comes in time."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as client:
        answer = http.client.HTTPResponse(client, method=method)
        try:
            client.sendall("\r\n".join([*lines, "", body]).encode("latin-1"))
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        except TimeoutError:
            return None
        except (BrokenPipeError, ConnectionResetError, http.client.BadStatusLine):
            # refused without a word
            return 0, {}
        finally:
            answer.close()
