"""What could leave a route of FastAPI open: each is tried for real, and is refused or does not start."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Security, WebSocket
from fastapi.staticfiles import StaticFiles
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import WebSocketDenialResponse

from capability.integrations import asgi
from capability.integrations.fastapi import CapSecurity, Grant
from capability.integrations.starlette import CapMiddleware, grant_of, requires
from tests.integrations import deferred_annotations
from tests.integrations.issuer import Issuer


class Shop:
    """An application behind a guard, and who asks it."""

    def __init__(self, **application: Any) -> None:
        self.issuer = Issuer()
        self.cap = CapSecurity(self.issuer.guard)
        self.app = FastAPI(**application)
        self.cap.install(self.app)

    def status(self, path: str, token: str | None = None, method: str = "GET", **more: Any) -> int:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with TestClient(self.app, raise_server_exceptions=False) as client:
            return client.request(method, path, headers=headers, **more).status_code

    def opens(self, path: str, token: str | None = None) -> int:
        """Returns the status of a WebSocket's handshake, 101 where it opens."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        with TestClient(self.app) as client:
            try:
                with client.websocket_connect(path, headers=headers):
                    return 101
            except WebSocketDenialResponse as denied:
                return denied.status_code


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def said(request: Request) -> Response:
    return PlainTextResponse("open")


def assert_does_not_start(app: FastAPI | Starlette, match: str) -> None:
    """Fails unless neither the application starts, nor a request is answered where the server goes on."""
    with pytest.raises(RuntimeError, match=match), TestClient(app):
        pass
    client = TestClient(app)  # which sends no lifespan
    for path in ("/refund", "/items"):
        with pytest.raises(RuntimeError, match=match):
            client.post(path)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("install", [True, False])
def test_requires_above_what_routes_to_it(asynchronous: bool, install: bool) -> None:
    """FastAPI has the endpoint as it was before: `requires` would never be asked."""
    issuer = Issuer()
    app = FastAPI()
    if install:
        CapSecurity(issuer.guard).install(app)
    else:
        app.add_middleware(CapMiddleware, guard=issuer.guard)
    if asynchronous:

        @requires("refund")
        @app.post("/refund")
        async def refund(request: Request) -> str:
            return "refunded"

    else:

        @requires("refund")
        @app.post("/refund")
        def refund_in_a_thread(request: Request) -> str:
            return "refunded"

    assert_does_not_start(app, "is open at /refund: write @requires")


def test_requires_above_another_decorator_and_a_router() -> None:
    issuer = Issuer()
    app = FastAPI()
    app.add_middleware(CapMiddleware, guard=issuer.guard)
    router = APIRouter()

    def noted(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(endpoint)(lambda *args, **kwargs: endpoint(*args, **kwargs))

    @requires("refund")
    @noted
    @router.post("/refund")
    def refund(request: Request) -> str:
        return "refunded"

    app.include_router(router)
    assert_does_not_start(app, "is open at /refund")


def test_requires_above_a_route_that_comes_late_or_is_mounted() -> None:
    issuer = Issuer()
    app = FastAPI()
    app.add_middleware(CapMiddleware, guard=issuer.guard)
    client = TestClient(app)
    assert client.post("/refund").status_code == 401
    below = FastAPI()

    @requires("refund")
    @below.post("/refund")
    def refund(request: Request) -> str:
        return "refunded"

    app.mount("/below", below)
    with pytest.raises(RuntimeError, match="is open at /refund"):
        client.post("/refund")


def test_requires_in_starlette_around_what_is_routed_to_bare() -> None:
    @requires("refund")
    def wrapped(request: StarletteRequest) -> Response:
        return PlainTextResponse("refunded")

    bare: Any = wrapped.__wrapped__  # type: ignore[attr-defined]
    for route in (
        Route("/refund", bare),
        Mount("/below", routes=[Route("/refund", functools.partial(bare))]),
    ):
        app = Starlette(routes=[route])
        around: Any = CapMiddleware(app, guard=Issuer().guard)
        assert_does_not_start(around, "is open at /refund")
        app.add_middleware(CapMiddleware, guard=Issuer().guard)
        assert_does_not_start(app, "is open at /refund")


def test_requires_below_what_routes_to_it(shop: Shop) -> None:
    shop.app.add_middleware(CapMiddleware, guard=shop.issuer.guard)

    @shop.app.post("/refund")
    @requires("write")
    @requires("refund")
    def refund(request: Request) -> str:
        return str(grant_of(request).subject)

    @shop.app.post("/async/refund")
    @requires("refund")
    async def refund_async(request: Request) -> str:
        return str(grant_of(request).subject)

    for path in ("/refund", "/async/refund"):
        assert shop.status(path, shop.issuer.token(), "POST") == 200
        narrow = shop.issuer.narrowed(operations=["read", "write"])
        assert shop.status(path, narrow, "POST") == 403
        assert shop.status(path, None, "POST") == 401


def test_annotations_that_are_strings() -> None:
    with TestClient(deferred_annotations.at_the_top()) as client:
        assert client.get("/items").status_code == 401
        headers = {"Authorization": f"Bearer {deferred_annotations.ISSUER.token()}"}
        assert client.get("/items", headers=headers).json() == "alice"


@pytest.mark.parametrize("kind", ["get", "post", "below", "websocket"])
def test_annotations_that_fastapi_cannot_read(kind: str) -> None:
    """It takes them for parameters of the query, which whoever asks may fill in."""
    assert_does_not_start(
        deferred_annotations.in_a_function(kind), "'grant' at /(items|again): what it names"
    )


def test_a_grant_is_never_read_from_a_request(shop: Shop) -> None:
    """Without Security it would be the body, and whoever asks would say who he is."""
    cap: Any = shop.cap
    for wrong in (Grant, Grant | None, list[Grant], Annotated[Grant, "of the token"], Annotated[Grant, cap]):

        def endpoint(grant: Any) -> str:
            return str(grant)

        endpoint.__annotations__["grant"] = wrong
        with pytest.raises(TypeError, match=r"write .*Security\(cap\)"):
            shop.app.post("/items")(endpoint)
    with pytest.raises(TypeError, match=r"write Security\(cap\)"):

        @shop.app.get("/any")
        def anything(grant: Annotated[Any, cap]) -> str:
            return "open"

    with pytest.raises(TypeError, match="no part of a request or an answer"):

        @shop.app.get("/told")
        def told(grant: Annotated[Grant, Security(cap)]) -> Grant:
            return grant


def test_a_security_that_is_a_default_does_not_start(shop: Shop) -> None:
    """FastAPI takes it for the default of a parameter of the query, which anybody may name."""
    cap = shop.cap

    @shop.app.get("/items")
    def items(grant=cap):  # type: ignore[no-untyped-def]
        return "open"

    assert_does_not_start(shop.app, "'grant' at /items is open")


def test_below_other_dependencies_every_scope_on_the_way_counts(shop: Shop) -> None:
    cap = shop.cap

    def reader(grant: Annotated[Grant, Security(cap, scopes=["read"])]) -> Grant:
        return grant

    def plain(grant: Annotated[Grant, Depends(cap)]) -> Grant:
        return grant

    class Refunds:
        def __init__(self, grant: Annotated[Grant, Security(reader, scopes=["refund"])]) -> None:
            self.grant = grant

    @shop.app.get("/reader")
    def through_reader(reading: Annotated[Any, Depends(reader)]) -> list[str]:
        return list(reading.operations)

    @shop.app.get("/plain")
    def through_plain(refunding: Annotated[Any, Security(plain, scopes=["refund"])]) -> list[str]:
        return list(refunding.operations)

    @shop.app.get("/class")
    def through_class(refunds: Annotated[Any, Depends(Refunds)]) -> list[str]:
        return list(refunds.grant.operations)

    @shop.app.get("/both")
    def through_both(
        reading: Annotated[Any, Depends(reader)], writing: Annotated[Any, Security(plain, scopes=["write"])]
    ) -> None:
        return None

    needed = {
        "/reader": {"read"},
        "/plain": {"refund"},
        "/class": {"read", "refund"},
        "/both": {"read", "write"},
    }
    for path, operations in needed.items():
        assert shop.status(path) == 401
        assert shop.status(path, shop.issuer.narrowed(operations=sorted(operations))) == 200
        for operation in operations:
            others = sorted({"read", "write", "refund"} - {operation})
            assert shop.status(path, shop.issuer.narrowed(operations=others)) == 403


def test_dependencies_of_applications_and_routers_reach_their_routes_and_websockets() -> None:
    shop = Shop()
    cap = shop.cap
    app = FastAPI(dependencies=[Security(cap)])
    cap.install(app)
    shop.app = app
    router = APIRouter(dependencies=[Security(cap, scopes=["refund"])])
    nested = APIRouter()

    @app.get("/items")
    def items() -> str:
        return "items"

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app.add_api_websocket_route("/echo", echo)
    router.add_api_websocket_route("/echo/refund", echo)
    nested.add_api_websocket_route("/echo/nested", echo)
    nested.add_api_route("/nested", items)
    router.include_router(nested)
    app.include_router(router)
    router.add_api_route("/late", items)

    token, reader = shop.issuer.token(), shop.issuer.narrowed(operations=["read", "write"])
    assert (shop.status("/items"), shop.status("/items", reader)) == (401, 200)
    assert (shop.opens("/echo"), shop.opens("/echo", reader)) == (401, 101)
    for path in ("/echo/refund", "/echo/nested"):
        assert (shop.opens(path), shop.opens(path, reader), shop.opens(path, token)) == (401, 403, 101)
    for path in ("/nested", "/late"):
        statuses = [shop.status(path, each) for each in (None, reader, token)]
        # before FastAPI included routers as they are, what came late was not routed to
        assert statuses in ([401, 403, 200], [404, 404, 404])
    assert shop.status("/nested", token) == 200
    assert shop.status("/openapi.json") == 200


@pytest.mark.parametrize("where", ["application", "router", "included"])
@pytest.mark.parametrize("what", ["mount", "static", "route", "websocket"])
def test_what_dependencies_do_not_reach_does_not_start(where: str, what: str, tmp_path: Path) -> None:
    """FastAPI gives none of them to what is mounted, nor to routes that are Starlette's own."""
    cap = CapSecurity(Issuer().guard)
    decided = [Security(cap)]

    def make(public: list[str]) -> FastAPI:
        app = FastAPI(dependencies=decided if where == "application" else [])
        cap.install(app, public=public)
        router = APIRouter(dependencies=decided if where == "router" else [])
        inner: Any = app if where == "application" else router
        if what == "mount":
            inner.mount("/below", FastAPI())
        elif what == "static":
            inner.mount("/below", StaticFiles(directory=tmp_path))
        elif what == "route":
            inner.add_route("/below", said)
        else:
            getattr(inner, "router", inner).add_websocket_route("/below", said)
        app.include_router(router, dependencies=decided if where == "included" else [])
        return app

    assert_does_not_start(make([]), "what is at /below is open")
    with TestClient(make(["/below"])):
        pass
    guarded = make([])
    guarded.add_middleware(asgi.CapMiddleware, guard=Issuer().guard)
    with TestClient(guarded) as client:
        assert client.get("/below").status_code == 401


def test_a_mounted_application_decides_by_the_whole_path(shop: Shop) -> None:
    below = FastAPI()

    @below.get("/items")
    def items(grant: Annotated[Grant, Security(shop.cap)]) -> str | None:
        return grant.subject

    shop.app.mount("/below", below)
    assert shop.status("/below/items") == 401
    assert shop.status("/below/items", shop.issuer.narrowed(resources=["/below"])) == 200
    assert shop.status("/below/items", shop.issuer.narrowed(resources=["/items"])) == 403


def test_a_websocket_without_install_is_refused_as_well() -> None:
    shop = Shop()
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(websocket: WebSocket, grant: Annotated[Grant, Security(shop.cap)]) -> None:
        await websocket.accept()
        await websocket.close()

    shop.app = app
    assert (shop.opens("/echo"), shop.opens("/echo", shop.issuer.token())) == (401, 101)


def test_background_tasks_of_a_refused_request_do_not_run(shop: Shop) -> None:
    done: list[str | None] = []

    def prepare(tasks: BackgroundTasks) -> None:
        tasks.add_task(done.append, "prepared")

    @shop.app.post("/refund", dependencies=[Depends(prepare)])
    def refund(
        tasks: BackgroundTasks, grant: Annotated[Grant, Security(shop.cap, scopes=["refund"])]
    ) -> None:
        tasks.add_task(done.append, grant.subject)

    assert shop.status("/refund", None, "POST") == 401
    assert shop.status("/refund", shop.issuer.narrowed(operations=["write"]), "POST") == 403
    assert done == []
    assert shop.status("/refund", shop.issuer.token(), "POST") == 200
    assert done == ["prepared", "alice"]
