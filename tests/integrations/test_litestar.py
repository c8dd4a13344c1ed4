"""Litestar, in uvicorn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Controller, Litestar, Request, Router, WebSocket, asgi, get, head, post, route
from litestar import websocket as websocket_route
from litestar.config.cors import CORSConfig
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ImproperlyConfiguredException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath
from litestar.static_files import create_static_files_router
from litestar.testing import TestClient
from litestar.types import Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus

from capability import Fact
from capability.integrations.litestar import CapPlugin, Grant, grant_of, requires
from tests.integrations.contract import API_KEY, HTTPContract, Service, assert_problem
from tests.integrations.issuer import Issuer
from tests.integrations.servers import asgi_server, websocket

Shown = dict[str, Any]


def shown(grant: Grant) -> Shown:
    return {"subject": grant.subject, "operations": list(grant.operations)}


@route("/items/{id:int}", http_method=["GET", "POST", "DELETE"], status_code=200, sync_to_thread=True)
def item(request: Request[Any, Any, Any], id: FromPath[int]) -> Shown:
    return shown(grant_of(request))


@head("/items/{id:int}")
async def item_head(id: FromPath[int]) -> None:
    return None


@get("/async/{id:int}")
async def item_async(id: FromPath[int], grant: NamedDependency[Grant]) -> Shown:
    return shown(grant)


@post("/refund", guards=[requires("refund")], status_code=200)
async def refund(grant: NamedDependency[Grant]) -> Shown:
    return shown(grant)


class Refunds(Controller):
    path = "/controller"
    guards = (requires("refund"),)

    @post("/refund", status_code=200)
    async def post(self, grant: NamedDependency[Grant]) -> Shown:
        return shown(grant)


@get("/healthz", security=[{}])
async def health() -> str:
    return "well"


@websocket_route("/echo")
async def echo(socket: WebSocket[Any, Any, Any], grant: NamedDependency[Grant]) -> None:
    await socket.accept()
    await socket.send_text(str(grant.subject))
    await socket.close()


@websocket_route("/echo/refund", guards=[requires("refund")])
async def echo_refund(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.close()


@asgi("/mounted", is_mount=True, copy_scope=True)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"mounted", "more_body": False})


def make_app(issuer: Issuer, *, api_key: bool = False, **more: Any) -> Litestar:
    @get("/asks")
    async def asks(grant: NamedDependency[Grant]) -> None:
        issuer.guard.require(grant.token, operation="nuke")

    @websocket_route("/late")
    async def late(socket: WebSocket[Any, Any, Any], grant: NamedDependency[Grant]) -> None:
        await socket.accept()
        issuer.guard.require(grant.token, operation="nuke")

    below = Router("/below", route_handlers=[refund], guards=[requires("read")])
    return Litestar(
        [
            *(item, item_head, item_async, refund, Refunds, asks, health, below),
            *(echo, echo_refund, late, mounted, *more.pop("route_handlers", ())),
        ],
        plugins=[CapPlugin(issuer.guard, public=["/healthz"], api_key=api_key)],
        **more,
    )


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


class TestLitestar(HTTPContract):
    def test_controllers_and_routers_name_operations_too(self, service: Service) -> None:
        for path in ("/controller/refund", "/below/refund"):
            assert service.ask(service.issuer.token(), path, "POST").json["operations"] == ["refund"]
            narrow = service.issuer.narrowed(operations=["read", "write"])
            assert_problem(service.ask(narrow, path, "POST"), 403, "denied", "insufficient_scope")
        narrow = service.issuer.narrowed(operations=["refund", "write"])
        assert service.ask(narrow, "/controller/refund", "POST").status == 200
        assert service.ask(narrow, "/below/refund", "POST").json["required"] == ["read"]

    def test_a_slash_at_the_end_changes_nothing(self, service: Service) -> None:
        seventh = service.issuer.narrowed('check if resource("/items/7")')
        assert service.ask(seventh, "/items/7/").status == 200
        assert service.ask(None, "/healthz/").status == 200

    def test_a_mounted_application_is_behind_the_guard(self, service: Service) -> None:
        """Litestar routes whatever begins with the path of a mount, and tells it no more than the rest."""
        assert_problem(service.ask(None, "/mounted"), 401, "token-missing", None)
        assert service.ask(None, "/mounted/healthz").status == 401
        below = service.issuer.narrowed(resources=["/mounted"])
        assert service.ask(below, "/mounted").status == 200
        assert service.ask(below, "/mounted/items/7").status == 200
        assert service.ask(below, "/items/7").status == 403
        assert service.ask(service.issuer.narrowed(resources=["/items"]), "/mounted/items/7").status == 403
        assert service.ask(service.issuer.token(), "/mountedtoo").status == 400

    def test_openapi(self, service: Service, keyed: Service) -> None:
        assert_problem(service.ask(None, "/schema/openapi.json"), 401, "token-missing", None)
        bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "biscuit"}
        key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        document = service.ask(service.issuer.token(), "/schema/openapi.json").json
        assert document["components"]["securitySchemes"] == {"capability token": bearer}
        assert document["security"] == [{"capability token": []}]
        assert document["paths"]["/healthz"]["get"]["security"] == [{}]
        assert "parameters" not in document["paths"]["/refund"]["post"]
        document = keyed.ask(keyed.issuer.token(), "/schema/openapi.json").json
        assert document["components"]["securitySchemes"]["capability token as X-API-Key"] == key
        assert document["security"] == [{"capability token": []}, {"capability token as X-API-Key": []}]


class TestWebSockets:
    def refused(self, service: Service, path: str, *headers: tuple[str, str]) -> int:
        with pytest.raises(InvalidStatus) as caught, websocket(service.port, path, *headers):
            pass
        return caught.value.response.status_code

    def test_a_token_lets_in(self, service: Service) -> None:
        with websocket(
            service.port, "/echo", ("Authorization", f"Bearer {service.issuer.token()}")
        ) as socket:
            assert socket.recv() == "alice"

    def test_refused_before_it_is_open(self, service: Service, keyed: Service) -> None:
        """Litestar closes what a guard refuses, which a server tells as 403."""
        assert self.refused(service, "/echo") == 403
        reader = ("Authorization", f"Bearer {service.issuer.narrowed(operations=['read'])}")
        assert self.refused(service, "/echo", reader) == 403
        both = ("Authorization", f"Bearer {service.issuer.narrowed(operations=['read', 'write'])}")
        assert self.refused(service, "/echo/refund", both) == 403
        token = keyed.issuer.token()
        assert self.refused(keyed, "/echo", (API_KEY, token), ("Authorization", f"Bearer {token}")) == 403

    def test_an_error_once_it_is_open_closes_it(self, service: Service) -> None:
        header = ("Authorization", f"Bearer {service.issuer.token()}")
        with websocket(service.port, "/late", header) as socket, pytest.raises(ConnectionClosed):
            socket.recv()


def authorized(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_static_files_late_routes_and_preflights(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_text("logo")
    issuer = Issuer()
    static = create_static_files_router(path="/static", directories=[tmp_path])
    cors = CORSConfig(allow_origins=["https://shop.example"])
    app = make_app(issuer, route_handlers=[static], cors_config=cors)

    @get("/registered-late")
    async def late() -> str:
        return "late"

    app.register(late)
    with TestClient(app) as client:
        for path in ("/static/logo.png", "/registered-late"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=authorized(issuer.token())).status_code == 200
        asks = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        assert client.options("/refund", headers=asks).status_code == 204
        assert client.options("/refund").status_code == 401


def test_what_is_stated_can_be_chosen() -> None:
    issuer = Issuer(
        policy='allow if operation("read"), resource("/it"), host("h.local"), application("orders")'
    )
    plugin = CapPlugin(
        issuer.guard,
        application="orders",
        resource=lambda scope: str(scope["path"]),
        facts=lambda scope: [Fact("host({host})", {"host": scope["server"][0]})],
    )
    with TestClient(Litestar([get("/it")(_nothing)], plugins=[plugin]), "http://h.local") as client:
        assert client.get("/it/?resource=/other", headers=authorized(issuer.token())).status_code == 200
        assert client.get("http://i.local/it", headers=authorized(issuer.token())).status_code == 403


async def _nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/api/items/7", "/api", 200),
        ("/items/7", "/api", 403),
        ("/api/async/7", "/api", 403),
        ("/public/api/items/7", "/api", 400),
        ("/apiitems/7", "/api", 400),
    ],
)
def test_a_root_path_leads_nowhere_else(path: str, root_path: str, status: int) -> None:
    """Litestar cuts it off wherever it stands in a path: what is before it would be stated, not routed."""
    issuer = Issuer()
    token = issuer.narrowed(resources=["/api/items", "/public"])
    with TestClient(make_app(issuer), root_path=root_path) as client:
        assert client.get(path, headers=authorized(token)).status_code == status


def test_a_path_that_was_rewritten_is_refused() -> None:
    issuer = Issuer()
    app: Any = make_app(issuer)

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": "/async/7"}, receive, send)

    with TestClient(app) as client:
        client.app = rewriting
        token = issuer.narrowed(resources=["/items"])
        assert client.get("/items/7", headers=authorized(token)).status_code == 400


def test_a_server_that_does_not_tell_the_path_as_it_came_is_told_so() -> None:
    app: Any = make_app(Issuer())

    async def forgetful(scope: Any, receive: Any, send: Any) -> None:
        await app({key: value for key, value in scope.items() if key != "raw_path"}, receive, send)

    with TestClient(app, raise_server_exceptions=False) as client:
        client.app = forgetful
        assert client.get("/items/7").status_code == 500


def test_other_answers_and_another_grant_of_the_application_stay_its_own() -> None:
    issuer = Issuer()

    async def grants() -> str:
        return "for research"

    @get("/grants")
    async def granted(grant: NamedDependency[str]) -> str:
        return grant

    shown = OpenAPIConfig(
        "shop", "1", components=Components(security_schemes={"other": SecurityScheme(type="mutualTLS")})
    )
    app = make_app(
        issuer, route_handlers=[granted], dependencies={"grant": Provide(grants)}, openapi_config=shown
    )
    with TestClient(app) as client:
        headers = authorized(issuer.token())
        assert client.get("/grants", headers=headers).text == "for research"
        document = client.get("/schema/openapi.json", headers=headers).json()
        assert set(document["components"]["securitySchemes"]) == {"other", "capability token"}
    assert shown.security is None


def test_nothing_is_open_by_mistake() -> None:
    issuer = Issuer()
    headers = authorized(issuer.token())
    bare = post("/bare", guards=[requires("refund")])(_nothing)
    with TestClient(Litestar([bare]), raise_server_exceptions=False) as client:
        assert client.post("/bare", headers=headers).status_code == 500
    with pytest.raises(ImproperlyConfiguredException, match="grant"):
        Litestar([refund])
    uncalled: Any = [requires]
    forgotten = get("/forgotten", guards=uncalled)(_nothing)
    with TestClient(make_app(issuer, route_handlers=[forgotten]), raise_server_exceptions=False) as client:
        assert client.get("/forgotten", headers=headers).status_code == 500
    with pytest.raises(TypeError, match="name the operations"):
        requires()
    with pytest.raises(TypeError):
        requires("refund")(_nothing)  # type: ignore[call-arg, arg-type]


def test_a_public_path_has_no_grant() -> None:
    @get("/open")
    async def opened(grant: NamedDependency[Grant]) -> None:
        return None

    app = Litestar([opened], plugins=[CapPlugin(Issuer().guard, public=["/open"])])
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/open").status_code == 500
