"""The port: answers keep their order, and nothing that is sent costs more than its bounds."""

import asyncio
import contextlib
import random
import socket
import threading

import pytest

from capability.sidecar.bounds import Bounds
from capability.sidecar.messages import Answer, Headers
from tests.sidecar.processes import TIMEOUT, wait_until
from tests.sidecar.serving import exchange, read_all, served, statuses


class Echo:
    """Answers with what it was asked; a target that names a wait is answered in a thread, once it goes on."""

    def __init__(self, *, blocking: bool = False, max_body: int = 0) -> None:
        self.blocking = blocking
        self.max_body = max_body
        self.asked: list[str] = []
        self.begun = threading.Event()
        self.goes_on = threading.Event()

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        self.asked.append(target)
        if target.startswith("/wait"):
            self.begun.set()
            assert self.goes_on.wait(TIMEOUT)
        return Answer(200, ((b"x-target", target.encode("latin-1")),), method.encode() + b" " + body)


GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


def test_pipelined_requests_are_answered_in_order() -> None:
    with served(Echo()) as (port, _):
        received = exchange(port, b"".join(GET % b"/%d" % n for n in range(200)))
    assert [line for line in received.split(b"\r\n") if line.startswith(b"x-target")] == [
        b"x-target: /%d" % n for n in range(200)
    ]


def test_answers_of_threads_keep_the_order_of_their_requests() -> None:
    echo = Echo(blocking=True)
    with served(echo) as (port, _):
        threading.Timer(0.2, echo.goes_on.set).start()
        received = exchange(port, GET % b"/wait" + GET % b"/second" + GET % b"/third")
    assert echo.asked == ["/wait", "/second", "/third"]
    assert statuses(received) == [200, 200, 200]


def test_a_request_may_come_in_single_bytes() -> None:
    with served(Echo()) as (port, _):
        received = exchange(port, *(bytes([each]) for each in GET % b"/slow"))
    assert statuses(received) == [200]


def test_head_has_the_length_and_no_body() -> None:
    with served(Echo()) as (port, _):
        received = exchange(port, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length: 5\r\n" in received
    assert received.endswith(b"\r\n\r\n")


def test_a_body_is_given_to_who_wants_it_and_dropped_otherwise() -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with served(Echo(max_body=10)) as (port, _):
        assert exchange(port, post).endswith(b"POST hello")
        assert exchange(port, chunked).endswith(b"POST hello")
    with served(Echo()) as (port, _):
        assert exchange(port, post).endswith(b"POST ")
        assert statuses(exchange(port, post + GET % b"/next")) == [200, 200]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"a" * (3 << 20), 413),
    ],
)
def test_what_is_no_request_is_refused_once_and_closed(sent: bytes, status: int) -> None:
    echo = Echo()
    with served(echo) as (port, _):
        try:
            received = exchange(port, sent + GET % b"/smuggled")
        except (BrokenPipeError, ConnectionResetError):
            received = b""  # it was closed while we still wrote
    assert statuses(received) in ([status], [])
    assert "/smuggled" not in echo.asked
    assert echo.asked == []


def test_whoever_is_slow_with_a_request_is_told_so_and_closed() -> None:
    with served(Echo(), Bounds(header_time=0.1)) as (port, connections):
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHo")
            assert statuses(read_all(client)) == [408]
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client:
            client.sendall(GET % b"/first" + b"GET /sec")
            assert statuses(read_all(client)) == [200, 408]
    assert connections.late == 2


def test_a_byte_now_and_then_does_not_keep_a_request_alive() -> None:
    with (
        served(Echo(), Bounds(header_time=0.2)) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client,
    ):
        client.settimeout(0.05)
        received = None
        left = iter(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 300)
        while received is None:
            with contextlib.suppress(TimeoutError):
                client.sendall(bytes([next(left)]))
                received = client.recv(1000)
    # bytes are counted: what takes so many is fifteen seconds at least
    assert statuses(received) == [408]


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with (
        served(Echo(), Bounds(idle_time=0.1)) as (port, _),
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as client,
    ):
        assert read_all(client) == b""


def test_connections_beyond_the_bound_are_closed_at_once() -> None:
    with served(Echo(), Bounds(connections=2)) as (port, connections):
        kept = [socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) for _ in range(2)]
        for each in kept:
            each.sendall(GET % b"/")
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as third:
            assert read_all(third) == b""
        for each in kept:
            each.close()
    assert connections.refused == 1


def test_who_does_not_read_the_answers_is_not_read_from_and_closed() -> None:
    class Large(Echo):
        def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
            self.asked.append(target)
            return Answer(200, (), b"a" * 100_000)

    large = Large()
    with (
        served(large, Bounds(request_time=0.3)) as (port, connections),
        socket.create_connection(("127.0.0.1", port), timeout=1) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 100_000:
                client.sendall(GET % b"/")
                sent += 1
        assert wait_until(lambda: not connections.open)
    assert len(large.asked) < 100_000


def test_a_connection_that_asks_to_close_is_closed() -> None:
    echo = Echo()
    with served(echo) as (port, _):
        received = exchange(port, b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n" + GET % b"/b")
        assert statuses(received) == [200]
        assert statuses(exchange(port, b"GET /c HTTP/1.0\r\n\r\n" + GET % b"/d")) == [200]
    assert echo.asked == ["/a", "/c"]


def test_a_handshake_of_another_protocol_is_answered_and_nothing_else_is_spoken() -> None:
    upgrade = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    echo = Echo()
    with served(echo) as (port, _):
        received = exchange(port, upgrade + GET % b"/b")
        assert statuses(received) == [200]
        assert b"connection: close" in received
    assert echo.asked == ["/a"]


def test_draining_answers_what_has_begun_and_closes_the_rest() -> None:
    echo, loop = Echo(blocking=True), asyncio.new_event_loop()
    with served(echo, loop=loop) as (port, connections):
        idle = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        busy = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        busy.sendall(GET % b"/wait")
        assert echo.begun.wait(TIMEOUT)
        loop.call_soon_threadsafe(connections.drain)
        assert wait_until(lambda: connections.draining)
        echo.goes_on.set()
        assert b"connection: close" in read_all(busy)
        assert read_all(idle) == b""
        idle.close()
        busy.close()


def test_garbage_is_answered_or_closed_and_the_next_client_is_served() -> None:
    random_bytes = random.Random(7)
    request = bytearray(GET % b"/orders/7?x=1")
    with served(Echo(), Bounds(header_time=0.2)) as (port, _):
        for _ in range(300):
            mutated = bytearray(request)
            for _ in range(random_bytes.randint(1, 6)):
                mutated[random_bytes.randrange(len(mutated))] = random_bytes.randrange(256)
            exchange(port, bytes(mutated))
            exchange(port, random_bytes.randbytes(random_bytes.randint(1, 200)))
        assert statuses(exchange(port, GET % b"/")) == [200]
