"""Starlette and plain ASGI, in uvicorn."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from capability import Fact, Guard
from capability.integrations.asgi import SCOPE_KEY, Access, CapMiddleware
from capability.integrations.gate import Gate, Grant
from capability.integrations.starlette import grant_of, requires
from capability.store.memory import MemoryStore
from tests.integrations.contract import HTTPContract, Service, assert_problem
from tests.integrations.issuer import Issuer
from tests.integrations.servers import asgi_server, websocket


def shown(grant: Grant) -> Response:
    return JSONResponse({"subject": grant.subject, "operations": list(grant.operations)})


def item(request: Request) -> Response:
    return shown(grant_of(request))


async def item_async(request: Request) -> Response:
    return shown(grant_of(request))


@requires("refund")
async def refund(request: Request) -> Response:
    return shown(grant_of(request))


@requires("refund")
def refund_in_a_thread(request: Request) -> Response:
    return shown(grant_of(request))


class Refunds(HTTPEndpoint):
    @requires("refund")
    async def post(self, request: Request) -> Response:
        return shown(grant_of(request))


async def health(request: Request) -> Response:
    return PlainTextResponse("well")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(str(grant_of(websocket).subject))
    await websocket.close()


@requires("refund")
async def echo_refund(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def make_app(issuer: Issuer, *, api_key: bool = False) -> Starlette:
    async def asks(request: Request) -> Response:
        issuer.guard.require(grant_of(request).token, operation="nuke")
        raise AssertionError("nobody may nuke")

    async def asks_late(websocket: WebSocket) -> None:
        await websocket.accept()
        issuer.guard.require(grant_of(websocket).token, operation="nuke")

    below = Starlette(routes=[Route("/items/{id}", item), Route("/healthz", item)])
    app = Starlette(
        routes=[
            Route("/items/{id}", item, methods=["GET", "POST", "OPTIONS", "DELETE"]),
            Route("/async/{id}", item_async),
            Route("/refund", refund, methods=["POST"]),
            Route("/refund/thread", refund_in_a_thread, methods=["POST"]),
            Route("/refund/class", Refunds),
            Route("/asks", asks),
            Route("/healthz", health),
            WebSocketRoute("/echo", echo),
            WebSocketRoute("/echo/refund", echo_refund),
            WebSocketRoute("/late", asks_late),
            Mount("/mounted", below),
        ]
    )
    app.add_middleware(CapMiddleware, guard=issuer.guard, public=["/healthz"], api_key=api_key)
    return app


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    issuer = Issuer()
    with asgi_server(make_app(issuer)) as port:
        yield Service(issuer, port)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Service]:
    issuer = Issuer()
    with asgi_server(make_app(issuer, api_key=True)) as port:
        yield Service(issuer, port)


class TestStarlette(HTTPContract):
    @pytest.mark.parametrize("path", ["/refund/thread", "/refund/class"])
    def test_other_kinds_of_endpoints(self, service: Service, path: str) -> None:
        assert service.ask(service.issuer.token(), path, "POST").json["operations"] == ["refund"]
        narrow = service.issuer.narrowed(operations=["read", "write"])
        assert_problem(service.ask(narrow, path, "POST"), 403, "denied", "insufficient_scope")

    def test_a_mounted_application_is_behind_the_guard(self, service: Service) -> None:
        assert_problem(service.ask(None, "/mounted/items/7"), 401, "token-missing", None)
        assert service.ask(None, "/mounted/healthz").status == 401
        below = service.issuer.narrowed(resources=["/mounted"])
        assert service.ask(below, "/mounted/items/7").status == 200
        assert service.ask(below, "/items/7").status == 403
        assert service.ask(service.issuer.narrowed(resources=["/items"]), "/mounted/items/7").status == 403


class TestWebSockets:
    def refused(self, service: Service, path: str, token: str | None) -> int:
        headers = [] if token is None else [("Authorization", f"Bearer {token}")]
        with pytest.raises(InvalidStatus) as caught, websocket(service.port, path, *headers):
            pass
        return caught.value.response.status_code

    def test_a_token_lets_in(self, service: Service) -> None:
        with websocket(
            service.port, "/echo", ("Authorization", f"Bearer {service.issuer.token()}")
        ) as socket:
            assert socket.recv() == "alice"

    def test_refused_before_it_is_open(self, service: Service) -> None:
        assert self.refused(service, "/echo", None) == 401
        assert self.refused(service, "/echo", service.issuer.expired()) == 401
        assert self.refused(service, "/echo", service.issuer.narrowed(operations=["read"])) == 403
        assert self.refused(service, "/healthz/../echo", None) in (400, 401)

    def test_a_named_operation_is_needed(self, service: Service) -> None:
        narrow = service.issuer.narrowed(operations=["read", "write"])
        assert self.refused(service, "/echo/refund", narrow) == 403

    def test_an_error_once_it_is_open_closes_it(self, service: Service) -> None:
        with websocket(
            service.port, "/late", ("Authorization", f"Bearer {service.issuer.token()}")
        ) as socket:
            with pytest.raises(ConnectionClosed):
                socket.recv()
            assert socket.close_code == 1008


def run(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """Sends one scope to an ASGI application; returns what it sent."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(app(scope, receive, send))
    return sent


def http_scope(token: str | None, path: str, **more: Any) -> dict[str, Any]:
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    return {"type": "http", "method": "GET", "path": path, "headers": headers, **more}


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": f"{scope['type']}.reached"})


def test_the_lifespan_passes_and_what_nobody_knows_does_not() -> None:
    app = CapMiddleware(plain, guard=Issuer().guard)
    assert run(app, {"type": "lifespan"}) == [{"type": "lifespan.reached"}]
    with pytest.raises(ValueError, match="cannot be decided"):
        run(app, {"type": "smoke-signal", "path": "/", "headers": []})


def test_a_websocket_is_closed_where_the_server_cannot_answer_it() -> None:
    app = CapMiddleware(plain, guard=Issuer().guard)
    sent = run(app, {"type": "websocket", "path": "/", "headers": []})
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "token-missing"}]


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/api/healthz", "/api", None),
        ("/healthz", "/api", None),
        ("/healthz", "", None),
        ("/api/static/logo.png", "/api", None),
        ("/api/healthz", "", 401),
        ("/apihealthz", "/api", 401),
        ("/api", "/api", 401),
        ("/healthz/secret", "/healthz", 401),
        ("/healthz", "/healthz", 401),
        ("/static", "", 401),
        ("/static/../secret", "", 400),
        ("/healthz/", "", 401),
    ],
)
def test_public_paths_are_those_that_the_router_sees(path: str, root_path: str, status: int | None) -> None:
    app = CapMiddleware(plain, guard=Issuer().guard, public=["/healthz", "/static/"])
    sent = run(app, http_scope(None, path, root_path=root_path))
    assert sent[0].get("status") == status


def test_the_resource_is_the_whole_path_whatever_the_root_path() -> None:
    issuer = Issuer()
    app = CapMiddleware(plain, guard=issuer.guard)
    token = issuer.narrowed(resources=["/api/items"])
    assert run(app, http_scope(token, "/api/items/7", root_path="/api")) == [{"type": "http.reached"}]
    assert run(app, http_scope(token, "/items/7", root_path="/api"))[0]["status"] == 403


def test_what_is_stated_can_be_chosen() -> None:
    issuer = Issuer(
        policy='allow if user($u), operation("call"), resource("seven"), host("h"), application("orders")'
    )
    app = CapMiddleware(
        plain,
        guard=issuer.guard,
        application="orders",
        operations=lambda scope: ["call"],
        resource=lambda scope: "seven",
        facts=lambda scope: [Fact("host({host})", {"host": scope["server"]})],
    )
    assert run(app, http_scope(issuer.token(), "/a", server="h")) == [{"type": "http.reached"}]
    assert run(app, http_scope(issuer.token(), "/a", server="i"))[0]["status"] == 403


def test_only_a_source_that_waits_is_asked_in_another_thread() -> None:
    issuer = Issuer()
    threads: list[threading.Thread] = []

    def facts(scope: Any) -> list[Fact]:
        threads.append(threading.current_thread())
        return []

    in_memory = Guard(issuer.root.public_key, "allow if user($u)", MemoryStore())
    for guard in (in_memory, issuer.guard):
        access = Access(Gate(guard=guard), facts=facts)
        asyncio.run(access.admit(http_scope(issuer.token(), "/")))
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


def test_an_error_after_the_answer_has_begun_is_left_to_the_server() -> None:
    issuer = Issuer()

    async def begins(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        issuer.guard.require(scope[SCOPE_KEY].grant.token, operation="nuke")

    from capability import Denied

    with pytest.raises(Denied):
        run(CapMiddleware(begins, guard=issuer.guard), http_scope(issuer.token(), "/"))


def test_mistakes_are_told_at_once() -> None:
    guard = Issuer().guard
    with pytest.raises(TypeError, match="list of paths"):
        CapMiddleware(plain, guard=guard, public="/healthz")
    with pytest.raises(ValueError, match="begins with /"):
        CapMiddleware(plain, guard=guard, public=["healthz"])
    with pytest.raises(ValueError, match="realm"):
        CapMiddleware(plain, guard=guard, realm='a"b')
    with pytest.raises(TypeError, match="Guard"):
        CapMiddleware(plain, guard="guard")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name the operations"):
        requires()
    with pytest.raises(TypeError, match="no parameter"):
        requires("read")(lambda: None)


def test_an_endpoint_without_the_middleware_decides_nothing() -> None:
    with pytest.raises(RuntimeError, match="CapMiddleware"):
        asyncio.run(_await(refund(Request({"type": "http", "headers": []}))))
    with pytest.raises(RuntimeError, match="CapMiddleware"):
        refund_in_a_thread(Request({"type": "http", "headers": []}))


async def _await(awaitable: Any) -> Any:
    return await awaitable
