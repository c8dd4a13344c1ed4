"""Django and its REST framework: by WSGI in the standard library's server, by ASGI in uvicorn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.middleware.cache import FetchFromCacheMiddleware, UpdateCacheMiddleware
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page

from capability import Fact
from tests.integrations.contract import HTTPContract, Service, assert_problem
from tests.integrations.issuer import Issuer
from tests.integrations.servers import asgi_server, wsgi_server

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "testserver"],
        ROOT_URLCONF="tests.integrations.django_urls",
        MIDDLEWARE=["capability.integrations.django.CapMiddleware"],
        INSTALLED_APPS=["rest_framework"],
        SECRET_KEY="for the tests alone",
        CAP_PUBLIC=["/healthz"],
        REST_FRAMEWORK={
            "EXCEPTION_HANDLER": "capability.integrations.drf.exception_handler",
            "UNAUTHENTICATED_USER": None,
        },
        LOGGING_CONFIG=None,
    )
    django.setup()

from capability.integrations.django import CapMiddleware, admit, requires

REST: dict[str, Any] = {"ROOT_URLCONF": "tests.integrations.django_rest_urls", "MIDDLEWARE": []}


@contextmanager
def running(kind: str, **more: Any) -> Iterator[Service]:
    issuer = Issuer()
    with override_settings(CAP_GUARD=issuer.guard, **more):
        server = (
            wsgi_server(get_wsgi_application()) if kind == "wsgi" else asgi_server(get_asgi_application())
        )
        with server as port:
            yield Service(issuer, port)


class TestDjango(HTTPContract):
    @pytest.fixture(scope="class", params=["wsgi", "asgi"])
    @classmethod
    def service(cls, request: pytest.FixtureRequest) -> Iterator[Service]:
        with running(request.param) as service:
            yield service

    @pytest.fixture(params=["wsgi", "asgi"])
    def keyed(self, request: pytest.FixtureRequest) -> Iterator[Service]:
        """Lives for one test: the settings of a process are those of one service."""
        with running(request.param, CAP_API_KEY=True) as service:
            yield service

    def test_async_views_that_name_an_operation(self, service: Service) -> None:
        assert service.ask(service.issuer.token(), "/refund/async", "GET").json["operations"] == ["refund"]
        narrow = service.issuer.narrowed(operations=["read", "write"])
        assert_problem(service.ask(narrow, "/refund/async"), 403, "denied", "insufficient_scope")


class TestRestFramework(HTTPContract):
    @pytest.fixture(scope="class")
    @classmethod
    def service(cls) -> Iterator[Service]:
        with running("wsgi", **REST) as service:
            yield service

    @pytest.fixture
    def keyed(self) -> Iterator[Service]:
        with running("wsgi", **REST, CAP_API_KEY=True) as service:
            yield service

    def test_only_the_named_operation_is_needed(self, service: Service) -> None:
        assert service.ask(service.issuer.narrowed(operations=["refund"]), "/refund", "POST").status == 200

    def test_a_view_without_permissions_is_not_open(self, service: Service) -> None:
        assert_problem(service.ask(None, "/unsaid"), 401, "token-missing", None)
        assert service.ask(service.issuer.token(), "/unsaid").status == 200
        assert service.ask(None, "/open").status == 200


def test_what_is_stated_can_be_chosen() -> None:
    issuer = Issuer(policy='allow if operation("read"), host("testserver"), application("orders")')

    def facts(request: Any) -> list[Fact]:
        return [Fact("host({host})", {"host": request.get_host()})]

    with override_settings(CAP_GUARD=lambda: issuer.guard, CAP_FACTS=facts, CAP_APPLICATION="orders"):
        request = RequestFactory().get("/", headers={"Authorization": f"Bearer {issuer.token()}"})
        assert admit(request).operations == ("read",)


def test_a_prefix_that_a_proxy_passes_on_changes_nothing_that_is_stated() -> None:
    issuer = Issuer()
    headers = {"Authorization": f"Bearer {issuer.narrowed(resources=['/public'])}"}
    with override_settings(CAP_GUARD=issuer.guard):
        request = RequestFactory().get("/items/7", headers=headers, SCRIPT_NAME="/public")
        assert CapMiddleware(lambda request: None)(request).status_code == 403


@pytest.mark.parametrize("guard", [None, 7, "tests.integrations.issuer.POLICY"])
def test_a_mistake_in_the_settings_is_told_when_the_server_starts(guard: object) -> None:
    with override_settings(CAP_GUARD=guard), pytest.raises(ImproperlyConfigured):
        CapMiddleware(lambda request: None)


def test_a_secret_in_the_place_of_the_switch_is_told() -> None:
    secret = override_settings(CAP_GUARD=Issuer().guard, CAP_API_KEY="sk_live")
    with secret, pytest.raises(ImproperlyConfigured, match="CAP_API_KEY is True or False"):
        CapMiddleware(lambda request: None)


def test_a_cache_outside_the_decision_keeps_nothing() -> None:
    """It would answer one token's request with another's, and go on when the token was revoked."""
    issuer = Issuer()
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    ask = RequestFactory().get

    def view(request: Any) -> HttpResponse:
        return HttpResponse("for alice")

    with override_settings(CAP_GUARD=issuer.guard, CACHES=caches):
        guarded = requires("read")(view)
        outside: tuple[Callable[[Any], Any], ...] = (
            cache_page(60)(guarded),
            UpdateCacheMiddleware(FetchFromCacheMiddleware(CapMiddleware(view))),
            UpdateCacheMiddleware(CapMiddleware(cache_page(60)(guarded))),
        )
        for number, answers in enumerate(outside):
            assert answers(ask(f"/cached/{number}", headers=headers)).status_code == 200
            assert answers(ask(f"/cached/{number}")).status_code == 401
        inside = requires("read")(cache_page(60)(view))
        assert [inside(ask("/inside", headers=headers)).status_code for _ in range(2)] == [200, 200]
        issuer.revoke(issuer.alice)
        for number, answers in enumerate(outside):
            assert answers(ask(f"/cached/{number}", headers=headers)).status_code == 401
        assert inside(ask("/inside", headers=headers)).status_code == 401
