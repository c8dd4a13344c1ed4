"""gRPC servers, of threads and on asyncio, each streaming kind; without generated code."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest

from capability import Fact
from capability.integrations import grpc_aio
from capability.integrations.gate import Refused
from capability.integrations.grpc import CallGate, CapInterceptor, Operations, current_grant
from tests.integrations.issuer import Issuer

KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
OPERATIONS: Operations = {
    **{f"/svc.Items/{kind}": ["read", "refund"] for kind in KINDS},
    "/svc.Items/Plain": "read",
    "/svc.Items/Writes": "read",
    "/svc.Items/Asks": "read",
    "/svc.Items/Open": None,
}


def who() -> bytes:
    return str(current_grant().subject).encode()


class Threads:
    """Handlers of threads."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        return who()

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield who()
        yield who()

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        return who() + b"".join(requests)

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield who() + request

    def asks(self, request: bytes, context: Any) -> bytes:
        self.issuer.guard.require(current_grant().token, operation="nuke")
        return b"never"

    def opened(self, request: bytes, context: Any) -> bytes:
        return b"open"


class Tasks(Threads):
    """Handlers on asyncio."""

    async def unary_unary(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return who()

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        yield who()
        yield who()

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:  # type: ignore[override]
        return who() + b"".join([request async for request in requests])

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for request in requests:
            yield who() + request

    async def writes(self, request: bytes, context: Any) -> None:
        await context.write(who())


def handlers(service: Threads) -> grpc.GenericRpcHandler:
    named: dict[str, Any] = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(service.unary_unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(service.unary_stream),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(service.stream_unary),
        "StreamStream": grpc.stream_stream_rpc_method_handler(service.stream_stream),
        "Plain": grpc.unary_unary_rpc_method_handler(Threads(service.issuer).unary_unary),
        "Asks": grpc.unary_unary_rpc_method_handler(service.asks),
        "Open": grpc.unary_unary_rpc_method_handler(service.opened),
        "Unlisted": grpc.unary_unary_rpc_method_handler(service.opened),
    }
    if isinstance(service, Tasks):
        named["Writes"] = grpc.unary_stream_rpc_method_handler(service.writes)
    return grpc.method_handlers_generic_handler("svc.Items", named)


class Running:
    """A running server, and how its methods are called."""

    def __init__(self, issuer: Issuer, port: int, *, on_asyncio: bool) -> None:
        self.issuer = issuer
        self.on_asyncio = on_asyncio
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, kind: str, *metadata: tuple[str, str]) -> list[bytes]:
        method = f"/svc.Items/{kind}"
        sent: Any = iter([b"1", b"2"]) if kind.startswith("Stream") else b"1"
        if kind.startswith("Stream"):
            stub: Any = self.channel.stream_stream if kind.endswith("Stream") else self.channel.stream_unary
        else:
            many = kind.endswith("Stream") or kind == "Writes"
            stub = self.channel.unary_stream if many else self.channel.unary_unary
        answer = stub(method)(sent, metadata=metadata, timeout=60)
        return [answer] if isinstance(answer, bytes) else list(answer)

    def refused(self, kind: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(kind, *metadata)
        error: Any = caught.value
        trailing = dict(error.trailing_metadata() or ())
        return error.code(), str(trailing.get("cap-problem", "")).rpartition(":")[2]


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


def serve_in_threads(issuer: Issuer) -> Iterator[Running]:
    interceptor = CapInterceptor(issuer.guard, OPERATIONS)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[interceptor])
    server.add_generic_rpc_handlers([handlers(Threads(issuer))])
    running = Running(issuer, server.add_insecure_port("127.0.0.1:0"), on_asyncio=False)
    server.start()
    yield running
    running.channel.close()
    server.stop(None).wait()


def serve_on_asyncio(issuer: Issuer) -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        server = grpc.aio.server(
            ThreadPoolExecutor(2), interceptors=[grpc_aio.CapInterceptor(issuer.guard, OPERATIONS)]
        )
        server.add_generic_rpc_handlers([handlers(Tasks(issuer))])
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await done.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(60)
    running = Running(issuer, ports[0], on_asyncio=True)
    yield running
    running.channel.close()
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


@pytest.fixture(scope="module", params=[serve_in_threads, serve_on_asyncio])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    yield from request.param(Issuer())


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("UnaryUnary", [b"alice"]),
        ("UnaryStream", [b"alice", b"alice"]),
        ("StreamUnary", [b"alice12"]),
        ("StreamStream", [b"alice1", b"alice2"]),
    ],
)
def test_each_streaming_kind(running: Running, kind: str, answer: list[bytes]) -> None:
    assert running.call(kind, bearer(running.issuer.token())) == answer
    assert running.refused(kind) == (grpc.StatusCode.UNAUTHENTICATED, "token-missing")
    narrow = bearer(running.issuer.narrowed(operations=["read"]))
    assert running.refused(kind, narrow) == (grpc.StatusCode.PERMISSION_DENIED, "denied")


def test_plain_functions(running: Running) -> None:
    assert running.call("Plain", bearer(running.issuer.token())) == [b"alice"]
    assert running.refused("Plain")[0] == grpc.StatusCode.UNAUTHENTICATED


def test_a_coroutine_that_writes_its_answers(running: Running) -> None:
    token = bearer(running.issuer.token())
    if not running.on_asyncio:
        assert running.refused("Writes", token)[0] == grpc.StatusCode.UNIMPLEMENTED
        return
    assert running.call("Writes", token) == [b"alice"]
    assert running.refused("Writes")[0] == grpc.StatusCode.UNAUTHENTICATED


def test_what_is_refused(running: Running) -> None:
    issuer, token = running.issuer, bearer(running.issuer.token())
    unauthenticated, invalid = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT
    assert running.refused("Plain", token, token) == (invalid, "request-malformed")
    assert running.refused("Plain", ("authorization", "Bearer a b")) == (invalid, "request-malformed")
    assert running.refused("Plain", bearer("nonsense")) == (unauthenticated, "token-invalid")
    assert running.refused("Plain", bearer(issuer.foreign())) == (unauthenticated, "token-invalid")
    assert running.refused("Plain", bearer(issuer.expired())) == (unauthenticated, "token-expired")
    assert running.refused("Asks", token) == (grpc.StatusCode.PERMISSION_DENIED, "denied")
    other = bearer(issuer.narrowed(resources=["/svc.Items/Other"]))
    assert running.refused("Plain", other) == (grpc.StatusCode.PERMISSION_DENIED, "denied")
    own = issuer.alice.attenuate(operations=["read"])
    issuer.revoke(own)
    assert running.refused("Plain", bearer(own.to_base64())) == (unauthenticated, "token-revoked")
    issuer.revocations.down = True
    down = running.refused("Plain", token)
    issuer.revocations.down = False
    assert down == (grpc.StatusCode.UNAVAILABLE, "revocations-unavailable")


def test_what_is_not_listed_is_refused_and_what_is_public_is_not(running: Running) -> None:
    token = bearer(running.issuer.token())
    assert running.refused("Unlisted", token) == (grpc.StatusCode.PERMISSION_DENIED, "denied")
    assert running.refused("Missing", token)[0] == grpc.StatusCode.UNIMPLEMENTED
    assert running.call("Open") == [b"open"]


def test_the_grant_of_a_call_does_not_outlive_it(running: Running) -> None:
    running.call("Plain", bearer(running.issuer.token()))
    with pytest.raises(RuntimeError, match="nothing was decided"):
        current_grant()


def test_facts_of_the_metadata() -> None:
    issuer = Issuer(policy='allow if operation("read"), region("eu"), application("orders")')

    def facts(method: str, metadata: Any) -> list[Fact]:
        return [Fact("region({region})", {"region": metadata.get("region", "")})]

    calls = CallGate(issuer.guard, {"/a.B/C": "read"}, application="orders", facts=facts)
    assert calls.admit("/a.B/C", [bearer(issuer.token()), ("region", "eu")]) is not None
    with pytest.raises(Refused):
        calls.admit("/a.B/C", [bearer(issuer.token())])


def test_an_api_key_in_the_metadata() -> None:
    issuer = Issuer()
    token, on = issuer.token(), CallGate(issuer.guard, {"/a.B/C": "read"}, api_key=True)
    off = CallGate(issuer.guard, {"/a.B/C": "read"})
    assert on.admit("/a.B/C", [("x-api-key", token)]) is not None
    assert on.admit("/a.B/C", [bearer(token)]) is not None
    assert off.admit("/a.B/C", [bearer(token), ("x-api-key", "another's")]) is not None
    for calls, metadata, name in (
        (off, [("x-api-key", token)], "token-missing"),
        (on, [("x-api-key", token), bearer(token)], "request-malformed"),
        (on, [("x-api-key", token), ("x-api-key", token)], "request-malformed"),
        (on, [("x_api_key", token)], "request-malformed"),
        (on, [("x-api-key-bin", token.encode())], "token-missing"),
    ):
        with pytest.raises(Refused) as caught:
            calls.admit("/a.B/C", metadata)
        assert caught.value.problem.name == name


@pytest.mark.parametrize("make", [CapInterceptor, grpc_aio.CapInterceptor])
def test_an_interceptor_takes_api_keys_where_that_was_switched_on(make: Callable[..., Any]) -> None:
    issuer = Issuer()
    calls: CallGate = make(issuer.guard, {"/a.B/C": "read"}, api_key=True)._calls
    assert calls.admit("/a.B/C", [("x-api-key", issuer.token())]) is not None


@pytest.mark.parametrize("operations", [{"svc.Items/Get": "read"}, {"/Get": "read"}, {"/a.B/C": []}])
@pytest.mark.parametrize("make", [CapInterceptor, grpc_aio.CapInterceptor])
def test_mistakes_are_told_at_once(make: Callable[..., Any], operations: Any) -> None:
    with pytest.raises(ValueError, match=r"named|names"):
        make(Issuer().guard, operations)
