"""The views of the Django project of the tests."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from capability.integrations.django import grant_of, requires
from capability.integrations.gate import Grant


def shown(grant: Grant) -> dict[str, Any]:
    return {"subject": grant.subject, "operations": list(grant.operations)}


def item(request: HttpRequest, id: int) -> HttpResponse:
    return JsonResponse(shown(grant_of(request)))


async def item_async(request: HttpRequest, id: int) -> HttpResponse:
    return JsonResponse(shown(grant_of(request)))


@requires("refund")
def refund(request: HttpRequest) -> HttpResponse:
    return JsonResponse(shown(grant_of(request)))


@requires("refund")
async def refund_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse(shown(grant_of(request)))


def asks(request: HttpRequest) -> HttpResponse:
    settings.CAP_GUARD.require(grant_of(request).token, operation="nuke")
    return HttpResponse("never")


def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("well")


urlpatterns = [
    path("items/<int:id>", item),
    path("async/<int:id>", item_async),
    path("refund", refund),
    path("refund/async", refund_async),
    path("asks", asks),
    path("healthz", health),
]
