"""httpx and requests against a real service."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from capability import SealedError, UnverifiedBiscuit
from capability.integrations.clients import CapAuth, to_request
from capability.integrations.starlette import CapMiddleware, grant_of
from tests.integrations.contract import Service
from tests.integrations.issuer import Issuer
from tests.integrations.servers import PATIENCE, asgi_server


def item(request: Request) -> Response:
    return JSONResponse(list(grant_of(request).revocation_ids))


def away(request: Request) -> Response:
    return RedirectResponse(str(request.query_params["to"]))


def echo(request: Request) -> Response:
    return JSONResponse(request.headers.get("authorization", ""))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    issuer = Issuer()
    routes = [Route("/items/{id}", item, methods=["GET", "POST"]), Route("/away", away), Route("/echo", echo)]
    app = Starlette(routes=routes)
    app.add_middleware(CapMiddleware, guard=issuer.guard, public=["/echo"])
    with asgi_server(app) as port:
        yield Service(issuer, port)


def url(service: Service, path: str = "/items/7") -> str:
    return f"http://127.0.0.1:{service.port}{path}"


def test_each_request_has_a_token_of_its_own(service: Service) -> None:
    auth = CapAuth(service.issuer.token(), attenuate={"operation": "read"})
    with httpx.Client(auth=auth, timeout=PATIENCE) as client:
        first, second = client.get(url(service)), client.get(url(service))
        assert client.post(url(service)).status_code == 403
    assert first.json()[0] == second.json()[0]
    assert first.json()[1] != second.json()[1]
    with requests.Session() as session:
        session.auth = auth
        third = session.get(url(service), timeout=PATIENCE)
        assert session.post(url(service), timeout=PATIENCE).status_code == 403
    assert third.json()[0] == first.json()[0]
    assert third.json()[1] not in (first.json()[1], second.json()[1])


def test_async_httpx(service: Service) -> None:
    auth = CapAuth(service.issuer.token, attenuate=to_request)

    async def ask() -> int:
        async with httpx.AsyncClient(auth=auth, timeout=PATIENCE) as client:
            return (await client.post(url(service))).status_code

    assert asyncio.run(ask()) == 200


def test_a_token_for_one_request(service: Service) -> None:
    auth = CapAuth(service.issuer.alice, attenuate=to_request)
    assert httpx.get(url(service, "/items/a%20b?x=/items/8"), auth=auth, timeout=PATIENCE).status_code == 200
    token = auth.token_for("get", url(service, "/items/a%20b?x=1"))
    check = service.issuer.guard.check
    assert check(token, operation="read", resource="/items/a b").allowed
    assert not check(token, operation="write", resource="/items/a b").allowed
    assert not check(token, operation="read", resource="/items/8").allowed


def test_it_lives_for_a_minute_unless_told_otherwise(service: Service) -> None:
    def expiry(auth: CapAuth) -> datetime | None:
        return service.issuer.guard.check(auth.token_for("GET", url(service)), operation="read").expires_at

    soon = expiry(CapAuth(service.issuer.token()))
    assert soon is not None
    assert timedelta(0) < soon - datetime.now(UTC) <= timedelta(seconds=60)
    later = expiry(CapAuth(service.issuer.token(), attenuate={"expires": timedelta(hours=1)}))
    assert later is not None
    assert later - datetime.now(UTC) > timedelta(minutes=59)
    assert expiry(CapAuth(service.issuer.token(), expires=None)) is None


def test_a_sealed_token_is_sent_as_it_is_or_not_at_all(service: Service) -> None:
    sealed = service.issuer.alice.seal().to_base64()
    assert httpx.get(url(service), auth=CapAuth(sealed, expires=None), timeout=PATIENCE).status_code == 200
    with pytest.raises(SealedError):
        httpx.get(url(service), auth=CapAuth(sealed), timeout=PATIENCE)


def test_a_redirect_to_another_origin_takes_no_token_along(service: Service) -> None:
    elsewhere = f"http://localhost:{service.port}/echo"
    auth = CapAuth(service.issuer.token())
    assert (
        httpx.get(
            url(service, f"/away?to={elsewhere}"), auth=auth, follow_redirects=True, timeout=PATIENCE
        ).json()
        == ""
    )
    assert requests.get(url(service, f"/away?to={elsewhere}"), auth=auth, timeout=PATIENCE).json() == ""


def test_a_client_s_token_goes_to_the_origins_that_were_named(service: Service) -> None:
    auth = CapAuth(service.issuer.token(), origins=[f"http://127.0.0.1:{service.port}/anything"])
    with httpx.Client(auth=auth, timeout=PATIENCE) as client:
        assert client.get(url(service)).status_code == 200
        for other in ("http://localhost", "https://127.0.0.1", "http://127.0.0.1.example"):
            with pytest.raises(ValueError, match="not taken to"):
                client.get(f"{other}:{service.port}/items/7")


def test_an_address_is_not_taken_for_another_one_with_a_port(service: Service) -> None:
    auth = CapAuth(service.issuer.token(), origins=["https://[::1]:8443"])
    assert auth.token_for("GET", "https://[::1]:8443/")
    with pytest.raises(ValueError, match="none of the origins"):
        auth.token_for("GET", "https://[::1:8443]/")


def test_mistakes_are_told_at_once(service: Service) -> None:
    with pytest.raises(TypeError, match="no 'operations'"):
        CapAuth(service.issuer.token(), attenuate={"operations": "read"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="an origin is like"):
        CapAuth(service.issuer.token(), origins=["orders.example"])
    with pytest.raises(TypeError, match="list"):
        CapAuth(service.issuer.token(), origins="https://orders.example")


def test_nothing_shows_the_token(service: Service) -> None:
    assert repr(CapAuth(service.issuer.token())) == "<CapAuth>"


def test_the_header_that_was_there_is_replaced(service: Service) -> None:
    auth = CapAuth(service.issuer.token())
    answer = httpx.get(
        url(service, "/echo"), headers={"authorization": "Bearer other"}, auth=auth, timeout=PATIENCE
    ).json()
    assert UnverifiedBiscuit.from_base64(answer.removeprefix("Bearer ")).block_count() == 2
