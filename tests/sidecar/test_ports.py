"""What clients may send means the same at our own port and under the ASGI servers."""

import contextlib
import http.client
import socket
from collections.abc import Iterator

import pytest

from tests.sidecar.asgiservers import COMMANDS, asgi_process
from tests.sidecar.processes import TIMEOUT, Sidecar, sidecar, wait_until
from tests.sidecar.test_server import KEY
from tests.sidecar.tokens import mint

OURS = "cap serve"
CONFIG = f'public_key = "{KEY}"\nstore = "none"\n[serve]\nheaders = ["x-team"]\nlog = "log"\n'
TOKEN = mint()
BEARER = f"Authorization: Bearer {TOKEN}"


@pytest.fixture(scope="module", params=[OURS, *COMMANDS])
def port(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Sidecar]]:
    """A server with the check on a Unix socket, by name; each serves all tests of this file."""
    folder = tmp_path_factory.mktemp("port")
    (folder / "cap.toml").write_text(CONFIG)
    if request.param == OURS:
        running = sidecar(folder, "--listen", f"unix:{folder}/check.sock")
    else:
        running = asgi_process(request.param, "application", folder)
    with running as server:
        assert wait_until(lambda: server.ask(token=TOKEN)[0] == 200)
        yield request.param, server
        assert "Traceback" not in server.errors.read_text()


def status_of(server: Sidecar, sent: bytes) -> int:
    """Returns the status of the answer to some bytes."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(TIMEOUT)
        client.connect(server.addresses[0].removeprefix("unix:"))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have closed already
            client.sendall(sent)
        with contextlib.closing(http.client.HTTPResponse(client)) as answer:
            answer.begin()
            return answer.status


def get(target: str, *lines: str, method: str = "GET") -> bytes:
    """Returns a request of these header lines, with a Host."""
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: api.example.com", *lines, "", "")).encode(
        "latin-1"
    )


SAME = {
    "a token that allows it": (get("/orders/7?x=1", BEARER), 200),
    "no token": (get("/orders/7"), 401),
    "two tokens": (get("/", BEARER, BEARER), 400),
    "two tokens in one header": (get("/", f"{BEARER}, Bearer {TOKEN}"), 400),
    "a header that means something twice": (
        get("/", BEARER, "X-Cap-Min-Revision: 0", "X-Cap-Min-Revision: 0"),
        400,
    ),
    "a header that is stated twice": (get("/", BEARER, "X-Team: a", "x-team: b"), 400),
    "two hosts": (get("/", BEARER, "Host: other.example.com"), 400),
    "an alias of an identity header": (get("/", BEARER, "X_Cap_Subject: root"), 400),
    "an alias of a header that is stated": (get("/", BEARER, "x_team: a"), 400),
    "an alias of a header that means nothing": (get("/", BEARER, "X_Other: a"), 200),
    "two dots": (get("/a/../b", BEARER), 400),
    "two encoded dots": (get("/a/%2e%2e/b", BEARER), 400),
    "an encoded slash": (get("/a%2fb", BEARER), 400),
    "two slashes": (get("/a//b", BEARER), 400),
    "a backslash": (get("/a\\b", BEARER), 400),
    "a path parameter": (get("/a;b", BEARER), 400),
    "a byte that is not ASCII": (get("/\xe9", BEARER), 400),
    "an asterisk": (get("*", BEARER, method="OPTIONS"), 400),
    "headers of 15 KiB": (get("/", BEARER, "X: " + "a" * 14_500), 200),
    "one header of more than 16 KiB": (get("/", BEARER, "X: " + "a" * 17_000), 431),
    "many headers of more than 16 KiB": (get("/", BEARER, *["X: a"] * 3_000), 431),
    "a target of more than 16 KiB": (get("/" + "a" * 17_000, BEARER), 431),
    "a query of more than 16 KiB": (get("/?" + "a" * 17_000, BEARER), 431),
    "a body that nobody wants": (get("/", BEARER, "Content-Length: 3") + b"abc", 200),
    "a body of more than 1 MiB": (get("/", BEARER, "Content-Length: 1100000") + b"a" * 1_100_000, 413),
    "an encoding that is not chunked": (
        get("/", BEARER, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        400,
    ),
    "a handshake": (
        get(
            "/",
            BEARER,
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        200,
    ),
    "a handshake without a token": (
        get(
            "/",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        401,
    ),
}
"""What is sent, and the status that all answer."""

CHUNKED = "Transfer-Encoding: chunked"
SEEN_BY_FEW = {
    "a whole URL": (get("http://api.example.com/a", BEARER), {OURS, "uvicorn with h11"}),
    "a fragment": (get("/a#b", BEARER), {OURS, "uvicorn with h11"}),
    "a length beside chunks": (
        get("/", BEARER, "Content-Length: 5", CHUNKED) + b"0\r\n\r\n",
        {*COMMANDS, OURS} - {"granian"},
    ),
    "a length twice": (get("/", BEARER, *["Content-Length: 1"] * 2) + b"a", {OURS, "uvicorn"}),
}
"""What is refused with 400 by some; the others take it apart themselves, and tell the application of one
meaning only: the path, the chunks, the one length.
"""


@pytest.mark.parametrize("case", SAME)
def test_it_is_answered_alike(port: tuple[str, Sidecar], case: str) -> None:
    sent, status = SAME[case]
    assert status_of(port[1], sent) == status


@pytest.mark.parametrize("case", SEEN_BY_FEW)
def test_what_a_server_does_not_hand_on_is_refused_by_the_others(
    port: tuple[str, Sidecar], case: str
) -> None:
    sent, seen_by = SEEN_BY_FEW[case]
    assert status_of(port[1], sent) == (400 if port[0] in seen_by else 200)
