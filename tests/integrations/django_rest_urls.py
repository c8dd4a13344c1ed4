"""The same views by Django's REST framework."""

from typing import Any

from django.conf import settings
from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.views import APIView

from capability.integrations.drf import CapAuthentication, Requires
from tests.integrations.django_urls import shown


class Item(APIView):
    authentication_classes = (CapAuthentication,)
    permission_classes = (Requires(),)

    def get(self, request: Any, id: int) -> Response:
        return Response({**shown(request.auth), "subject": request.user.username})

    post = delete = get


class Read(Item):
    permission_classes = (Requires("read"),)


class Refund(APIView):
    authentication_classes = (CapAuthentication,)
    permission_classes = (Requires("refund"),)

    def post(self, request: Any) -> Response:
        return Response(shown(request.auth))


class Asks(Item):
    def get(self, request: Any, id: int = 0) -> Response:
        settings.CAP_GUARD.require(request.auth.token, operation="nuke")
        return Response("never")


class Health(APIView):
    authentication_classes = ()
    permission_classes = ()

    def get(self, request: Any) -> Response:
        return Response("well")


class Unsaid(APIView):
    """Who may use it is said nowhere."""

    authentication_classes = (CapAuthentication,)

    def get(self, request: Any) -> Response:
        return Response("well")


class Open(Unsaid):
    permission_classes = (AllowAny,)


urlpatterns = [
    path("items/<int:id>", Item.as_view()),
    path("async/<int:id>", Read.as_view()),
    path("refund", Refund.as_view()),
    path("asks", Asks.as_view()),
    path("healthz", Health.as_view()),
    path("unsaid", Unsaid.as_view()),
    path("open", Open.as_view()),
]
