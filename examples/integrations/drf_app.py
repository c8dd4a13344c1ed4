"""Django's REST framework behind a guard, in one file.

CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none python drf_app.py runserver
"""

import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.urls import path

from capability import Guard

if not settings.configured:  # the framework reads them when it is imported
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["rest_framework"],
        REST_FRAMEWORK={
            "EXCEPTION_HANDLER": "capability.integrations.drf.exception_handler",
            "UNAUTHENTICATED_USER": None,
        },
        CAP_GUARD=Guard.from_env,
        SECRET_KEY="unused: there are no sessions",
    )

from rest_framework.response import Response
from rest_framework.views import APIView

from capability.integrations.drf import CapAuthentication, Requires


class Item(APIView):
    authentication_classes = (CapAuthentication,)
    permission_classes = (Requires("read"),)

    def get(self, request: Any, id: int) -> Response:
        return Response({"item": id, "for": request.user.username})


class Refund(APIView):
    authentication_classes = (CapAuthentication,)
    permission_classes = (Requires("refund"),)

    def post(self, request: Any, id: int) -> Response:
        return Response({"refunded": id, "for": request.user.username})


urlpatterns = [path("items/<int:id>", Item.as_view()), path("items/<int:id>/refund", Refund.as_view())]


def make_app() -> Callable[..., Any]:
    """Returns the WSGI application, with a guard by the environment."""
    return get_wsgi_application()


if __name__ == "__main__":
    make_app()
    execute_from_command_line(sys.argv)
