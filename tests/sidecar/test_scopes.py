"""What ASGI's scopes and messages mean to a handler."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from capability.sidecar import scopes
from capability.sidecar.bounds import Bounds
from capability.sidecar.messages import Answer, Headers


class Echo:
    """Answers with what it was asked, and remembers it."""

    def __init__(self, *, max_body: int = 0, blocking: bool = False) -> None:
        self.max_body = max_body
        self.blocking = blocking
        self.asked: list[tuple[str, str, bytes, str | None]] = []

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        self.asked.append((method, target, body, peer))
        return Answer(200, (), b"answer")


def http(path: str = "/a", **more: Any) -> dict[str, Any]:
    """Returns a scope as servers make it."""
    made = {"type": "http", "http_version": "1.1", "method": "GET", "headers": [], "client": ("192.0.2.1", 5)}
    return {**made, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", **more}


def part(body: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


LENGTH = (b"content-length", b"9")


def ask(echo: Echo, scope: dict[str, Any], *received: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what is sent in answer; who asks for more than `received` waits for ever."""
    sent: list[dict[str, Any]] = []
    messages: Iterator[dict[str, Any]] = iter(received)

    async def receive() -> Any:
        found = next(messages, None)
        if found is None:
            await asyncio.Event().wait()
        return found

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(scopes.serve(echo, scope, receive, send), 5))
    return sent


@pytest.mark.parametrize("blocking", [False, True])
def test_a_request_is_handed_on_as_it_came(blocking: bool) -> None:
    echo = Echo(max_body=9, blocking=blocking)
    scope = http("/a/%2e%2e/b%2fc", method="POST", query_string=b"x=%20", headers=[LENGTH])
    start, body = ask(echo, scope, part(b"one ", more=True), part(b"two"))
    assert echo.asked == [("POST", "/a/%2e%2e/b%2fc?x=%20", b"one two", "192.0.2.1")]
    assert (start["status"], start["headers"], body["body"]) == (200, [(b"content-length", b"6")], b"answer")


def test_without_a_body_nothing_is_waited_for() -> None:
    echo = Echo()
    assert ask(echo, http())[0]["status"] == 200
    assert ask(echo, http(http_version="2"), part())[0]["status"] == 200


def test_head_has_the_length_and_no_body() -> None:
    start, body = ask(Echo(), http(method="HEAD"))
    assert (start["headers"], body["body"]) == ([(b"content-length", b"6")], b"")


@pytest.mark.parametrize("client", [None, ("", "0")])
def test_who_connects_by_a_socket_file_has_no_address(client: object) -> None:
    echo = Echo()
    ask(echo, http(client=client))
    assert echo.asked[0][3] is None


def test_a_request_that_is_not_whole_is_not_decided() -> None:
    echo = Echo(max_body=9)
    gone = {"type": "http.disconnect"}
    assert ask(echo, http(headers=[LENGTH]), part(b"token=", more=True), gone) == []
    assert echo.asked == []


@pytest.mark.parametrize(("wanted", "size"), [(9, 10), (0, (1 << 20) + 1)])
def test_a_body_that_is_too_large_is_refused(wanted: int, size: int) -> None:
    echo = Echo(max_body=wanted)
    start, _ = ask(echo, http(headers=[LENGTH]), part(b"a" * size, more=True))
    assert (start["status"], echo.asked) == (413, [])
    assert (b"connection", b"close") in start["headers"]


def test_a_body_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "DEFAULT", Bounds(request_time=0.01))
    echo = Echo()
    start, _ = ask(echo, http(headers=[LENGTH]), part(b"a", more=True))
    assert (start["status"], echo.asked) == (408, [])


def test_a_refusal_over_http_2_ends_no_connection_by_a_header() -> None:
    start, _ = ask(Echo(), http(http_version="2", headers=[(b"x", b"a" * 20_000)]))
    assert (start["status"], start["headers"]) == (431, [(b"content-length", b"0")])


@pytest.mark.parametrize(
    ("path", "target"),
    [("/at/a", "/a"), ("/at", "/"), ("/at/", "/"), ("/at/at/a", "/at/a")],
)
def test_where_it_is_mounted_is_no_part_of_the_path(path: str, target: str) -> None:
    for root in ("/at", "/at/"):
        echo = Echo()
        ask(echo, http(path, root_path=root))
        assert echo.asked[0][1] == target


@pytest.mark.parametrize("path", ["/a", "/attic/a", "/%61t/a", "/"])
def test_a_path_that_is_not_where_it_is_mounted_is_refused(path: str) -> None:
    echo = Echo()
    assert ask(echo, http(path, root_path="/at"))[0]["status"] == 400
    assert echo.asked == []


def test_a_server_that_decodes_paths_is_not_served() -> None:
    with pytest.raises(ValueError, match="raw_path"):
        ask(Echo(), http(raw_path=None))


def test_a_handshake_is_answered_in_http_or_refused() -> None:
    scope = {**http(), "type": "websocket"}
    del scope["method"]
    connect = {"type": "websocket.connect"}
    assert ask(Echo(), scope, connect) == [{"type": "websocket.close"}]
    echo = Echo()
    start, body = ask(echo, {**scope, "extensions": {"websocket.http.response": {}}}, connect)
    assert [each["type"].rpartition(".")[0] for each in (start, body)] == ["websocket.http.response"] * 2
    assert (start["status"], echo.asked[0][:2]) == (200, ("GET", "/a"))


@pytest.mark.parametrize(
    ("forwarded", "is_unclear"),
    [
        ((), False),
        ((b"198.51.100.7",), False),
        ((b"192.0.2.1",), True),
        ((b"198.51.100.7", b"10.0.0.1, 192.0.2.1:4711"), True),
    ],
)
def test_who_connects_is_unclear_where_a_client_may_have_written_it(
    forwarded: tuple[bytes, ...], is_unclear: bool
) -> None:
    headers = [(b"X-Forwarded-For", each) for each in forwarded]
    assert scopes.rewritten(http(headers=headers)) is is_unclear
    assert not scopes.rewritten(http(headers=headers, client=None))
