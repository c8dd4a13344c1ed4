"""FastAPI, in uvicorn."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Security, WebSocket
from fastapi.testclient import TestClient
from starlette.requests import Request
from websockets.exceptions import InvalidStatus

from capability.integrations.fastapi import CapSecurity, Grant
from tests.integrations.contract import HTTPContract, Service
from tests.integrations.issuer import Issuer
from tests.integrations.servers import asgi_server, websocket


def make_app(issuer: Issuer, *, install: bool = True, api_key: bool = False) -> FastAPI:
    app = FastAPI()
    cap = CapSecurity(issuer.guard, api_key=api_key)
    if install:
        cap.install(app)

    def shown(grant: Grant) -> dict[str, Any]:
        return {"subject": grant.subject, "operations": list(grant.operations)}

    def item(id: int, grant: Annotated[Grant, Security(cap)]) -> dict[str, Any]:
        return shown(grant)

    for method in ("GET", "HEAD", "POST", "DELETE"):
        app.add_api_route("/items/{id}", item, methods=[method])

    @app.get("/async/{id}")
    async def item_async(id: int, grant: Annotated[Grant, Security(cap, scopes=["read"])]) -> dict[str, Any]:
        return shown(grant)

    @app.post("/refund")
    def refund(grant: Annotated[Grant, Security(cap, scopes=["refund"])]) -> dict[str, Any]:
        return shown(grant)

    @app.get("/asks")
    def asks(grant: Annotated[Grant, Security(cap)]) -> None:
        issuer.guard.require(grant.token, operation="nuke")

    @app.get("/healthz")
    def health() -> str:
        return "well"

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418)

    @app.websocket("/echo")
    async def echo(websocket: WebSocket, grant: Annotated[Grant, Security(cap, scopes=["read"])]) -> None:
        await websocket.accept()
        await websocket.send_text(str(grant.subject))
        await websocket.close()

    router = APIRouter(dependencies=[Security(cap, scopes=["read"])])

    @router.post("/both")
    def both(grant: Annotated[Grant, Security(cap, scopes=["refund"])]) -> dict[str, Any]:
        return shown(grant)

    app.include_router(router, prefix="/below")
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


class TestFastAPI(HTTPContract):
    def test_every_scope_must_be_allowed(self, service: Service) -> None:
        assert service.ask(service.issuer.token(), "/below/both", "POST").status == 200
        for operation in ("read", "refund"):
            narrow = service.issuer.narrowed(operations=[operation])
            assert service.ask(narrow, "/below/both", "POST").status == 403

    def test_errors_of_the_application_stay_its_own(self, service: Service) -> None:
        assert service.ask(None, "/teapot").status == 418

    def test_openapi_shows_it(self, service: Service) -> None:
        document = service.ask(None, "/openapi.json").json
        assert document["components"]["securitySchemes"] == {
            "capability token": {"type": "http", "scheme": "bearer", "bearerFormat": "biscuit"}
        }
        assert document["paths"]["/refund"]["post"]["security"] == [{"capability token": ["refund"]}]

    def test_openapi_shows_x_api_key_where_it_was_switched_on(self, keyed: Service) -> None:
        document = keyed.ask(None, "/openapi.json").json
        assert document["components"]["securitySchemes"]["capability token as X-API-Key"] == {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-Key",
        }
        either = [{"capability token": ["refund"]}, {"capability token as X-API-Key": ["refund"]}]
        assert document["paths"]["/refund"]["post"]["security"] == either
        assert "parameters" not in document["paths"]["/refund"]["post"]

    def test_websockets(self, service: Service) -> None:
        with websocket(
            service.port, "/echo", ("Authorization", f"Bearer {service.issuer.token()}")
        ) as socket:
            assert socket.recv() == "alice"
        with pytest.raises(InvalidStatus) as caught, websocket(service.port, "/echo"):
            pass
        assert caught.value.response.status_code == 401
        narrow = ("Authorization", f"Bearer {service.issuer.narrowed(operations=['write'])}")
        with pytest.raises(InvalidStatus) as caught, websocket(service.port, "/echo", narrow):
            pass
        assert caught.value.response.status_code == 403


def test_without_install_status_and_challenge_are_the_same() -> None:
    issuer = Issuer()
    with TestClient(make_app(issuer, install=False)) as client:
        answer = client.get("/items/7")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="cap"')
        issuer.revocations.down = True
        down = client.get("/items/7", headers={"Authorization": f"Bearer {issuer.token()}"})
        assert (down.status_code, down.headers["retry-after"]) == (503, "5")


def test_the_grant_is_narrowed_for_the_next_service() -> None:
    issuer = Issuer()
    app = FastAPI()
    cap = CapSecurity(issuer.guard)

    @app.get("/items/7")
    def item(request: Request, grant: Annotated[Grant, Security(cap, scopes=["read"])]) -> str:
        return grant.delegate(operation="read", resource="/stock", expires=60)

    with TestClient(app) as client:
        token = client.get("/items/7", headers={"Authorization": f"Bearer {issuer.token()}"}).json()
    assert issuer.guard.check(token, operation="read", resource="/stock/7").allowed
    assert not issuer.guard.check(token, operation="read", resource="/items/7").allowed
    assert not issuer.guard.check(token, operation="write", resource="/stock/7").allowed
