"""Django REST framework: an authentication class, and permissions that name operations.

    class Item(APIView):
        authentication_classes = [CapAuthentication]
        permission_classes = [Requires("read")]

`request.user` is a CapUser and `request.auth` the Grant. With EXCEPTION_HANDLER set to
"capability.integrations.drf.exception_handler" a refusal is a problem document; without it, its status and
headers are the same. The settings are those of capability.integrations.django.
"""

from dataclasses import dataclass
from typing import Any

from capability.errors import AuthorizationError
from capability.http.problems import NO_TOKEN, Problem, problem_of_error
from capability.integrations.extras import extra
from capability.integrations.gate import Grant, Refused

with extra("drf"):
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.exceptions import APIException
    from rest_framework.permissions import BasePermission
    from rest_framework.request import Request
    from rest_framework.response import Response
    from rest_framework.settings import api_settings
    from rest_framework.views import APIView
    from rest_framework.views import exception_handler as default_handler

    from capability.integrations.django import admit, answer, gate

__all__ = ["CapAuthentication", "CapUser", "Requires", "exception_handler"]


@dataclass(frozen=True)
class CapUser:
    """Whom a token names: no row of a database, and with no rights but what its token allows."""

    subject: str | None
    is_authenticated: bool = True
    is_anonymous: bool = False
    is_active: bool = True
    is_staff: bool = False
    is_superuser: bool = False

    @property
    def username(self) -> str:
        """The subject, "" where the token names none."""
        return self.subject or ""


class RequestRefused(APIException):
    """A refusal in the words of the framework, whose own 403 would have no challenge."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.to_dict())
        self.problem = problem
        self.status_code = problem.status
        self.auth_header = problem.challenge(gate().realm)
        self.wait = problem.retry_after


class CapAuthentication(BaseAuthentication):
    """Decides a request by the operations that its view's `Requires` name, else by that of its method.

    A request without a token is left to the other authentication classes of the view, and to its permissions.
    Where neither the view nor DEFAULT_PERMISSION_CLASSES names any, it is refused: the framework would let
    everybody in.
    """

    def authenticate(self, request: Request) -> tuple[CapUser, Grant] | None:
        """Returns who asks and the grant, None without a token; raises RequestRefused."""
        view = (request.parser_context or {}).get("view")
        permissions = view.get_permissions() if view is not None else []
        named = [each.operations for each in permissions if isinstance(each, _Required)]
        try:
            grant = admit(request._request, tuple(dict.fromkeys(sum(named, ()))))
        except Refused as error:
            if error.problem == NO_TOKEN and _says_who(view):
                return None
            raise RequestRefused(error.problem) from error
        return CapUser(grant.subject), grant

    def authenticate_header(self, request: Request) -> str:
        """Returns the challenge for a request without credentials."""
        return NO_TOKEN.challenge(gate().realm) or "Bearer"


def _says_who(view: Any) -> bool:
    """True unless nobody said who may use a view, so that its permissions are the framework's own default."""
    said = "DEFAULT_PERMISSION_CLASSES" in api_settings.user_settings
    return said or view is None or view.permission_classes is not APIView.permission_classes


class _Required(BasePermission):
    operations: tuple[str, ...] = ()

    def has_permission(self, request: Request, view: Any) -> bool:
        """True when the token allows every operation; raises RequestRefused otherwise."""
        grant = request.auth
        if isinstance(grant, Grant) and self.operations and set(self.operations) <= set(grant.operations):
            return True
        try:
            admit(request._request, self.operations)
        except Refused as error:
            raise RequestRefused(error.problem) from error
        return True


def Requires(*operations: str) -> type[BasePermission]:  # noqa: N802 - used as a permission class
    """Returns the permission class of views for which each of `operations` must be allowed.

    Without any, that of the method must be.
    """
    if not all(isinstance(operation, str) for operation in operations):
        raise TypeError('name the operations that are needed: Requires("read")')
    return type("Requires", (_Required,), {"operations": operations})


def exception_handler(error: Exception, context: dict[str, Any]) -> Any:
    """Answers refusals, and any AuthorizationError of a view, by a problem document, else as ever."""
    if isinstance(error, RequestRefused):
        problem = error.problem
    elif isinstance(error, AuthorizationError):
        problem = problem_of_error(error)
    else:
        found: Response | None = default_handler(error, context)
        return found
    return answer(context["request"]._request, problem)
