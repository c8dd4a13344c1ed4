"""Django behind a guard, in one file.

CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none python django_app.py runserver
"""

import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from capability import Guard
from capability.integrations.django import grant_of, requires


def item(request: HttpRequest, id: int) -> HttpResponse:
    return JsonResponse({"item": id, "for": grant_of(request).subject})


@requires("refund")
def refund(request: HttpRequest, id: int) -> HttpResponse:
    return JsonResponse({"refunded": id, "for": grant_of(request).subject})


urlpatterns = [path("items/<int:id>", item), path("items/<int:id>/refund", refund)]


def make_app() -> Callable[..., Any]:
    """Returns the WSGI application, with a guard by the environment."""
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["capability.integrations.django.CapMiddleware"],
        CAP_GUARD=Guard.from_env,
        SECRET_KEY="unused: there are no sessions",
    )
    return get_wsgi_application()


if __name__ == "__main__":
    make_app()
    execute_from_command_line(sys.argv)
