"""Envoy's questions and answers as bytes: those that Envoy wrote, and others written by its field numbers.

Nothing here is made or read by the definitions under test, in which a wrong number would fit itself.
"""

import asyncio
from collections.abc import Iterable

import grpc
import pytest

from capability.sidecar import extauthz_pb2
from capability.sidecar.addresses import Tcp
from capability.sidecar.extauthz import Server
from capability.sidecar.messages import Answer, Headers
from tests.servers import free_port
from tests.sidecar.processes import TIMEOUT

METHOD = "/envoy.service.auth.v3.Authorization/Check"

OF_ENVOY = bytes.fromhex("""
    0aa6030a130a110a0f12093132372e302e302e3118fa990312130a110a0f12093132372e302e302e31188dee0222f5020a0b08d0
    968bd80610b8f2da4712e5020a133430313030353836323535333632343837393812034745541a190a0d617574686f72697a6174
    696f6e120842656172657220741a0f0a073a736368656d651204687474701a190a11782d666f727761726465642d70726f746f12
    04687474701a340a0c782d726571756573742d6964122437326339346534352d353464622d343763392d613031342d6431386134
    373032613638611a0e0a073a6d6574686f6412034745541a190a053a7061746812102f6f72646572732f373f706167653d321a1d
    0a0a3a617574686f72697479120f6170692e6578616d706c652e636f6d1a0a0a03782d611203312c321a250a18782d656e766f79
    2d65787465726e616c2d6164647265737312093132372e302e302e311a1c0a0f782d666f727761726465642d666f721209313932
    2e302e322e3222102f6f72646572732f373f706167653d322a0f6170692e6578616d706c652e636f6d3204687474705208485454
    502f312e315a006a00
""")
"""What Envoy 1.40 asked about `GET /orders/7?page=2` of api.example.com with the headers in HEADERS."""

RAW_OF_ENVOY = bytes.fromhex("""
    0ab3030a130a110a0f12093132372e302e302e311888b80312130a110a0f12093132372e302e302e3118e3da032282030a0c08d2
    968bd80610b0bbbd8a0112f1020a143135393931353534313737323235393431353830120347455422102f6f72646572732f373f
    706167653d322a0f6170692e6578616d706c652e636f6d3204687474705208485454502f312e316aa0020a1d0a0a3a617574686f
    726974791a0f6170692e6578616d706c652e636f6d0a190a053a706174681a102f6f72646572732f373f706167653d320a0e0a07
    3a6d6574686f641a034745540a0f0a073a736368656d651a04687474700a190a0d617574686f72697a6174696f6e1a0842656172
    657220740a080a03782d611a01310a080a03782d611a01320a1c0a0f782d666f727761726465642d666f721a093139322e302e32
    2e320a190a11782d666f727761726465642d70726f746f1a04687474700a250a18782d656e766f792d65787465726e616c2d6164
    64726573731a093132372e302e302e310a340a0c782d726571756573742d69641a2433656363343761362d336235622d34353435
    2d396266632d3534633564313838653161395a006a00
""")
"""The same with `encode_raw_headers: true`."""

HEADERS = [(b"authorization", b"Bearer t"), (b"x-a", b"1"), (b"x-a", b"2")]

REFUSED = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
"""What a server that cannot read a question says of it, in one version of grpcio or another."""

Asked = tuple[str, str, Headers, bytes, str | None]
"""What a handler was asked: method, target, headers, body, peer."""


def field(number: int, content: bytes = b"") -> bytes:
    """Returns a field that is a text, bytes or a message."""
    assert number < 16
    assert len(content) < 128
    return bytes((number << 3 | 2, len(content))) + content


def pair(name: bytes, value: bytes) -> bytes:
    return field(1, name) + field(2, value)


def option(name: bytes, value: bytes) -> bytes:
    """Returns a header that replaces those of its name, and stays where it is empty."""
    # an empty text is not written
    return field(1, pair(name, value) if value else field(1, name)) + bytes.fromhex("18 02  20 01")


def question(http: bytes, source: bytes = b"", beside: bytes = b"") -> bytes:
    return field(1, field(1, field(1, source)) + field(4, field(2, http)) + beside)


HTTP = field(2, b"GET") + field(4, b"/a") + field(5, b"h")
HOST = (b"host", b"h")
AUTHORIZATION = field(3, pair(b"authorization", b"Bearer t"))
SOCKET = field(1, field(2, b"192.0.2.1"))
PIPE = field(2, field(1, b"/run/envoy.sock"))
INTERNAL = field(3, field(1, b"listener"))


class Listening:
    """A handler that keeps what it is asked."""

    blocking = False
    max_body = 0

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []

    def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
        self.asked.append((method, target, headers, body, peer))
        return self.answer


def exchange(
    questions: Iterable[bytes], answer: Answer | None = None
) -> tuple[list[Asked], list[bytes | None]]:
    """Sends bytes to a server; returns what its handler was asked, and the answers, None for an error."""
    handler = Listening(answer or Answer(200))

    async def ask() -> list[bytes | None]:
        port = free_port()
        server = Server(Tcp("127.0.0.1", port), handler)
        await server.start()
        answers: list[bytes | None] = []
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
                for each in questions:
                    try:
                        answers.append(await check(each, timeout=TIMEOUT, wait_for_ready=True))
                    except grpc.aio.AioRpcError as error:
                        if error.code() not in REFUSED:
                            raise
                        answers.append(None)
        finally:
            await server.stop(0)
        return answers

    return handler.asked, asyncio.run(ask())


def test_what_envoy_wrote_is_read() -> None:
    (joined, raw), _ = exchange([OF_ENVOY, RAW_OF_ENVOY])
    for method, target, headers, body, peer in (joined, raw):
        assert (method, target, body, peer) == ("GET", "/orders/7?page=2", b"", "127.0.0.1")
        assert headers[0] == (b"host", b"api.example.com")
        assert sorted({name for name, _ in headers}) == [
            *(b"authorization", b"host", b"x-a", b"x-envoy-external-address", b"x-forwarded-for"),
            *(b"x-forwarded-proto", b"x-request-id"),
        ]
    assert {(b"authorization", b"Bearer t"), (b"x-a", b"1,2")} <= set(joined[2])
    assert [each for each in raw[2] if each[0] in (b"authorization", b"x-a")] == HEADERS


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (question(HTTP), ("GET", "/a", [HOST], None)),
        (question(HTTP + AUTHORIZATION), ("GET", "/a", [HOST, (b"authorization", b"Bearer t")], None)),
        (question(HTTP + field(7, b"q")), ("GET", "", [HOST], None)),
        (question(HTTP + field(8, b"f")), ("GET", "", [HOST], None)),
        (
            question(
                HTTP
                + AUTHORIZATION
                + field(
                    13,
                    field(1, field(1, b"x") + field(3, b"\xff"))
                    + field(1, pair(b"x", b"text"))
                    + field(1, pair(b"y", b"text") + field(3, b"raw")),
                )
            ),
            ("GET", "/a", [HOST, (b"x", b"\xff"), (b"x", b"text"), (b"y", b"raw")], None),
        ),
        (question(HTTP, SOCKET), ("GET", "/a", [HOST], "192.0.2.1")),
        (question(HTTP, SOCKET + PIPE), ("GET", "/a", [HOST], None)),
        (question(HTTP, SOCKET + INTERNAL), ("GET", "/a", [HOST], None)),
        (question(HTTP, PIPE + INTERNAL + SOCKET), ("GET", "/a", [HOST], "192.0.2.1")),
        (question(HTTP + field(2, b"PUT") + field(4, b"/b")), ("PUT", "/b", [HOST], None)),
        (b"", ("", "", [(b"host", b"")], None)),
    ],
    ids=[
        *("least", "headers", "query", "fragment", "raw headers"),
        *("socket", "pipe", "internal address", "last address", "said twice", "nothing"),
    ],
)
def test_each_field_is_read_by_its_number(asked: bytes, told: tuple[str, str, Headers, str | None]) -> None:
    ((method, target, headers, body, peer),), _ = exchange([asked])
    assert (method, target, headers, peer) == told
    assert body == b""


def test_what_is_not_read_changes_nothing() -> None:
    of_http = b"".join(
        [
            *(field(1, b"id"), field(6, b"https"), bytes.fromhex("48 05"), field(10, b"HTTP/1.1")),
            *(field(11, b"\xff"), field(12, b"\xff"), field(14, b"\xff"), field(15, b"\xff")),
        ]
    )
    destination = field(2, field(1, field(1, field(2, b"192.0.2.9"))))
    beside = (
        destination + field(3, b"\xff") + field(10, pair(b"host", b"other")) + field(12, field(1, b"sni"))
    )
    alone, among = question(HTTP, SOCKET), question(of_http + HTTP, SOCKET, beside) + field(2, b"later")
    asked, answers = exchange([alone, among])
    assert asked[0] == asked[1] == ("GET", "/a", [HOST], b"", "192.0.2.1")
    assert answers[0] == answers[1]


def test_what_cannot_be_read_is_not_decided() -> None:
    odd = b"\xff"
    unreadable = [
        *(question(HTTP + field(number, odd)) for number in (2, 4, 5, 7, 8)),
        *(question(HTTP + field(3, each)) for each in (pair(odd, b"a"), pair(b"a", odd))),
        *(question(HTTP + field(13, field(1, each))) for each in (pair(odd, b"a"), pair(b"a", odd))),
        question(HTTP, field(1, field(2, odd))),
        question(HTTP)[:-1],
        question(HTTP) + odd,
    ]
    asked, answers = exchange([*unreadable, question(HTTP)])
    assert answers[:-1] == [None] * len(unreadable)
    assert answers[-1] is not None
    assert len(asked) == 1


def test_answers_are_written_as_envoy_reads_them() -> None:
    headers = [(b"x-cap-subject", b"ann"), (b"x-cap-tenant", b"")]
    options = b"".join(field(2, option(*each)) for each in headers)
    removed = field(5, b"x_cap_subject") + field(5, b"x_cap_tenant")
    yes = bytes.fromhex("0a 00") + field(3, options + removed)
    assert exchange([question(HTTP)], Answer(200, headers, b"unsaid"))[1] == [yes]

    headers = [(b"x-cap-reason", "\u00f6".encode("latin-1"))]
    told = field(2, option(b"x-cap-reason", "\u00f6".encode())) + field(3, b"why")
    for status, written in (
        (401, bytes.fromhex("0a 02 08 10") + field(2, bytes.fromhex("0a 03 08 91 03") + told)),
        (403, bytes.fromhex("0a 02 08 07") + field(2, bytes.fromhex("0a 03 08 93 03") + told)),
        (503, bytes.fromhex("0a 02 08 07") + field(2, bytes.fromhex("0a 03 08 f7 03") + told)),
    ):
        assert exchange([question(HTTP)], Answer(status, headers, b"why"))[1] == [written]


def test_envoys_names_are_left_to_envoys_own_definitions() -> None:
    """Two definitions of one name in a process are an error of protobuf's, whichever is imported last."""
    file = extauthz_pb2.DESCRIPTOR
    assert (file.name, file.package) == ("capability/sidecar/extauthz.proto", "capability.sidecar")
