"""Requests made to be read in two ways: by the sidecar, and by the proxy before or the service behind it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from capability.sidecar.messages import Answer, BadRequest, Headers
from capability.sidecar.paths import Paths, readings
from capability.sidecar.settings import RouteSettings, SettingsError
from capability.sidecar.table import read_settings
from tests.sidecar.serving import exchange, served, statuses
from tests.sidecar.tokens import make_check, mint

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Asked:
    """Remembers what it was asked."""

    def __init__(self, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self.max_body = 1000
        self.requests: list[tuple[str, Headers, bytes]] = []

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        self.requests.append((target, headers, body))
        return Answer(200)


def send(*parts: bytes, blocking: bool = False) -> tuple[list[int], Asked]:
    """Returns the statuses of the answers, and what the handler was asked."""
    asked = Asked(blocking=blocking)
    with served(asked) as (port, _):
        received = exchange(port, *parts)
    return statuses(received), asked


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n", id="token in a trailer"),
        pytest.param(CHUNKED + b"0\r\nX-Original-URI: /public\r\n\r\n", id="path in a trailer"),
        pytest.param(CHUNKED + b"0\r\nContent-Length: 5\r\n\r\nhello", id="length in a trailer"),
        pytest.param(CHUNKED + b"3;a\nabc\r\n0\r\n\r\n", id="extension that ends in a line feed"),
        pytest.param(CHUNKED + b'3;a="x\r\ny"\r\nabc\r\n0\r\n\r\n', id="line end in an extension"),
        pytest.param(CHUNKED + b"3\r\nabc\n0\r\n\r\n", id="chunk that ends in a line feed"),
        pytest.param(CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", id="chunk longer than its length"),
        pytest.param(CHUNKED + b"10000000000000000003\r\nabc\r\n0\r\n\r\n", id="length beyond 64 bits"),
        pytest.param(CHUNKED + b"FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n", id="length of 64 bits"),
        pytest.param(CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", id="length with a prefix"),
        pytest.param(CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", id="negative length"),
        pytest.param(CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", id="space behind a length"),
        pytest.param(HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", id="control before chunked"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", id="chunked with parameter"),
        pytest.param(HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", id="identity"),
        pytest.param(
            b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="chunks in HTTP/1.0",
        ),
        pytest.param(HEAD + b"Content-Length: 3, 3\r\n\r\nabc", id="list of lengths"),
        pytest.param(HEAD + b"Content-Length: 18446744073709551616\r\n\r\n", id="content beyond 64 bits"),
        pytest.param(HEAD + b"X: a\rb\r\n\r\n", id="carriage return in a value"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", id="one line feed"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\n", id="line feed at the end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", id="header without a name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nA\x00: x\r\n\r\n", id="zero byte in a name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nA: \x1b[2J\r\n\r\n", id="escape of a terminal"),
        pytest.param(b"GET /\r\n", id="HTTP/0.9"),
        pytest.param(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", id="long target, no header"),
    ],
)
def test_framing_that_two_programs_read_differently(sent: bytes) -> None:
    answers, asked = send(sent + NEXT)
    assert answers in ([400], [431], [])
    assert asked.requests == []


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", id="expectation"),
        pytest.param(CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n", id="extension"),
        pytest.param(HEAD + b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", id="underscore"),
    ],
)
def test_a_body_ends_where_it_ends(sent: bytes) -> None:
    answers, asked = send(sent + NEXT)
    assert answers == [200, 200]
    assert [(target, body) for target, _, body in asked.requests] == [("/", b"abc"), ("/next", b"")]


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", id="CONNECT"),
        pytest.param(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", id="h2c"),
        pytest.param(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", id="websocket"),
    ],
)
def test_behind_another_protocol_no_request_is_read(sent: bytes, blocking: bool) -> None:
    answers, asked = send(sent + NEXT, blocking=blocking)
    assert answers == [200]
    assert len(asked.requests) == 1


def test_garbage_behind_a_good_request_is_none() -> None:
    answers, asked = send(NEXT + b"\x00\x01garbage\r\n\r\n" + NEXT)
    assert answers == [200, 400]
    assert len(asked.requests) == 1


# Which policy decides: a request must not fall to a laxer one.


def routes(folder: Path) -> list[RouteSettings]:
    """Returns a policy for all, which allows, and two for root alone: of a host, and of a path."""
    (folder / "lax").write_text("allow if true;")
    (folder / "strict").write_text('allow if user("root");')
    return [
        RouteSettings(name="any", policy=str(folder / "lax")),
        RouteSettings(name="host", policy=str(folder / "strict"), host="admin.example.com"),
        RouteSettings(name="v6", policy=str(folder / "strict"), host="[::1]"),
        RouteSettings(name="path", policy=str(folder / "strict"), path="/admin"),
    ]


def status(
    folder: Path,
    target: str = "/x",
    host: bytes | None = b"a.example",
    *more: tuple[bytes, bytes],
    behind: str = "plain",
    paths: Paths = Paths.STRICT,
    only: Sequence[RouteSettings] | None = None,
) -> int:
    check = make_check(*(routes(folder) if only is None else only), behind=behind, paths=paths)
    sent = [(b"Authorization", f"Bearer {mint()}".encode()), *more]
    return check.handle("GET", target, sent if host is None else [(b"Host", host), *sent], b"", None).status


@pytest.mark.parametrize(
    "host",
    [
        *(b"ADMIN.example.com", b"admin.example.com.", b"admin.example.com:8443", b"admin.example.com.:1"),
        *(b"[::1]", b"[::1]:80", b"[0:0:0:0:0:0:0:1]", b"[0::1]:8443"),
    ],
)
def test_a_host_is_known_in_each_spelling(host: bytes, tmp_path: Path) -> None:
    assert status(tmp_path, host=host) == 403


@pytest.mark.parametrize(
    "host",
    [
        *(None, b"", b".", b":80", b"user@admin.example.com", b"admin.example.com..", b"admin.example.com:"),
        *(
            b"admin.example.com:123456",
            b"http://admin.example.com",
            b"admin.example.com,a",
            b"[::1].",
            b"[:]",
        ),
        *(b"[::1%25lo]", b"admin.example.com\t", b"admin.example.com#a", "ädmin.example.com".encode()),
    ],
)
def test_a_host_that_may_be_any_is_refused(host: bytes | None, tmp_path: Path) -> None:
    assert status(tmp_path, host=host) == 400


def test_without_policies_for_hosts_none_is_needed(tmp_path: Path) -> None:
    assert status(tmp_path, host=None, only=[RouteSettings(name="any")]) == 200


@pytest.mark.parametrize("behind", ["nginx", "traefik", "caddy", "haproxy"])
@pytest.mark.parametrize("left_out", ["method", "uri", "host"])
def test_what_a_proxy_must_say_is_not_taken_from_elsewhere(
    behind: str, left_out: str, tmp_path: Path
) -> None:
    prefix = "X-Original-" if behind in ("nginx", "haproxy") else "X-Forwarded-"
    said = {"method": "GET", "uri": "/x", "host": "a.example"}
    told = {name: (f"{prefix}{name}".encode(), value.encode()) for name, value in said.items()}
    refused = 401 if behind == "nginx" else 400
    assert status(tmp_path, "/x", b"a.example", *told.values(), behind=behind) == 200
    del told[left_out]
    assert status(tmp_path, "/x", b"a.example", *told.values(), behind=behind) == refused


@pytest.mark.parametrize(
    "target",
    [
        *("", "*", " /x", "/x ", "http://a.example/admin", "https:///admin", "//admin", "/x/../admin"),
        *("/x#/admin", "/x?a=1#b", "/x#", "/admin?#", "a.example:443"),
    ],
)
@pytest.mark.parametrize("behind", ["plain", "traefik"])
def test_targets_that_are_no_path_or_hold_a_fragment(behind: str, target: str, tmp_path: Path) -> None:
    told = [(b"X-Forwarded-Method", b"GET"), (b"X-Forwarded-Uri", target.encode())]
    told.append((b"X-Forwarded-Host", b"a.example"))
    at, more = ("/", told) if behind == "traefik" else (target, [])
    assert status(tmp_path, at, b"a.example", *more, behind=behind) == 400


def test_below_a_path_is_what_follows_a_slash_and_case_counts(tmp_path: Path) -> None:
    found = {each: status(tmp_path, each) for each in ("/admin", "/admin/", "/admin/x", "/admin?a=b")}
    assert set(found.values()) == {403}
    found = {each: status(tmp_path, each) for each in ("/administrator", "/admin.", "/Admin", "/x/admin")}
    assert set(found.values()) == {200}


@pytest.mark.parametrize(
    "target",
    [
        *("//admin", "/./admin", "/x/../admin", "/%61dmin", "/%2561dmin", "/x%2f..%2fadmin", "/admin%2fx"),
        *("/admin;a=b", "/;a/admin", "/x\\..\\admin", "/x/..;/admin", "/admin%00", "/admin%3fx", "/admin%23"),
        *("/x/%2e%2e/admin", "/x/%c0%ae%c0%ae/admin", "/x/..%c0%afadmin", "/x/..%e0%80%afadmin"),
        *("/x/..%f0%80%80%afadmin", "/admin/../x", "/admin/..%2fx"),
        # for programs that take out dots and leave escapes, parameters or slashes as they are
        *("/x/../admin/%2e%2e/y", "/x/../admin/..;/y", "/x//../../admin", "/x//../admin"),
    ],
)
def test_a_raw_path_is_for_one_policy_however_it_is_read(target: str, tmp_path: Path) -> None:
    assert status(tmp_path, target, paths=Paths.RAW) == 400
    assert status(tmp_path, target, paths=Paths.RAW, only=[RouteSettings(name="any")]) == 200


@pytest.mark.parametrize("target", ["/a%2fb", "/x//y", "/x/./y", "/x;a=b", "/x/%41", "/x/y/../z"])
def test_a_raw_path_below_one_policy_is_taken(target: str, tmp_path: Path) -> None:
    assert status(tmp_path, target, paths=Paths.RAW) == 200


def test_how_a_path_may_be_read() -> None:
    assert list(readings("/orders/7")) == []
    assert {"/a;b/..//c\\d", "/a/..//c/d", "/a/../c/d", "/c/d"} <= set(readings("/a;b/%252e%252e//c\\d"))


def test_a_raw_path_below_the_only_policy_is_not_read_as_one_that_nobody_may_ask_for(tmp_path: Path) -> None:
    only = [RouteSettings(name="below", path="/a")]
    for target, expected in (("/a/x", 200), ("/a//x", 200), ("/b", 403), ("/a/../b", 400), ("/b/../a", 400)):
        assert status(tmp_path, target, paths=Paths.RAW, only=only) == expected


@pytest.mark.parametrize("target", ["/%" + "25" * 20 + "41", "/%" + "25" * 7000 + "2e"])
def test_escapes_of_escapes_without_end_are_refused_before_all_are_read(target: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        list(readings(target))
    assert status(tmp_path, target, paths=Paths.RAW) == 400


@pytest.mark.parametrize(
    "place",
    [
        *({"host": "api.example.com:8443"}, {"host": "api.example.com."}, {"host": "*.example.com"}),
        *({"host": "äpi.example.com"}, {"host": "[0:0:0:0:0:0:0:1]"}, {"host": "."}, {"host": "a b"}),
        *({"path": "/admin/*"}, {"path": "/admin?x"}, {"path": "/%61dmin"}, {"path": "//admin"}),
        *({"path": "/a/../admin"}, {"path": "/ä"}, {"path": "/admin#"}),
    ],
)
def test_a_policy_that_no_request_could_reach_is_refused(place: dict[str, str], tmp_path: Path) -> None:
    """It would be passed over, and another one decide."""
    with pytest.raises(SettingsError, match="no request has the"):
        make_check(*read_settings({"route": [place]}, tmp_path).routes)


def test_hosts_in_capitals_are_the_same(tmp_path: Path) -> None:
    assert (
        read_settings({"route": [{"host": "API.example.com"}]}, tmp_path).routes[0].host == "api.example.com"
    )


# Whose request it is.


@pytest.mark.parametrize("behind", ["traefik", "caddy"])
def test_the_client_is_who_connected_to_the_proxy(behind: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text('allow if client_ip("192.0.2.1");')
    only = [RouteSettings(name="any", policy=str(policy))]
    told = [(b"X-Forwarded-Method", b"GET"), (b"X-Forwarded-Uri", b"/x"), (b"X-Forwarded-Host", b"a")]

    def by(*addresses: bytes) -> int:
        sent = [*told, *((b"X-Forwarded-For", each) for each in addresses)]
        return status(tmp_path, "/", b"a", *sent, behind=behind, only=only)

    assert by(b"192.0.2.1") == by(b"203.0.113.9, 192.0.2.1") == by(b"::ffff:192.0.2.1") == 200
    assert by(b"192.0.2.1, 203.0.113.9") == by(b"192.0.2.1,") == by() == 403
    assert by(b"203.0.113.9", b"192.0.2.1") == 400


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip"])
def test_a_client_that_connects_itself_cannot_say_who_it_is(name: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text('allow if client_ip("192.0.2.1");')
    only = [RouteSettings(name="any", policy=str(policy))]
    assert status(tmp_path, "/x", b"a", (name.encode(), b"192.0.2.1"), only=only) == 403


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-API-Key", "x_api_key"])
def test_no_fact_holds_a_token(name: str, tmp_path: Path) -> None:
    """A fact is shown where a check on it fails: in the log, and to who asks why."""
    with pytest.raises(SettingsError, match="token"):
        read_settings({"headers": [name]}, tmp_path)


@pytest.mark.parametrize("name", ["a b", "x:y", "x\r\ny", "x-té", ""])
def test_names_of_headers_are_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"serve\.headers"):
        read_settings({"headers": [name]}, tmp_path)


@pytest.mark.parametrize("mode", ["-1", "7777", "0o660", "6_60", "66", "rw", "1660"])
def test_a_socket_is_open_to_those_who_were_named(mode: str, tmp_path: Path) -> None:
    """-1 would be everybody."""
    with pytest.raises(SettingsError, match="mode"):
        read_settings({"listen": [{"address": "unix:/run/cap/cap.sock", "mode": mode}]}, tmp_path)
